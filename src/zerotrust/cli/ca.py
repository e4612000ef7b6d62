"""`0trust ca …`: the authority and the certificates that it issues."""

import datetime
import json
import stat
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zerotrust.cli.options import AsJson

if TYPE_CHECKING:
    from zerotrust.pki.ca_directory import CertificateSummary

app = typer.Typer(no_args_is_help=True, help="Create the authority, issue certificates.")
issue = typer.Typer(no_args_is_help=True, help="Issue a certificate and its key.")
app.add_typer(issue, name="issue")

Folder = Annotated[Path, typer.Option("--dir", help="The folder of the authority.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]
Days = Annotated[int, typer.Option("--days", help="How long the certificate is good.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing certificate and key.")]
Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="A file whose first line encrypts the keys of the authority."),
]
RootPassphrase = Annotated[
    Path | None,
    typer.Option("--root-passphrase-file", help="The same for the root's key, where it is another one."),
]
PermitDns = Annotated[
    list[str] | None,
    typer.Option("--permit-dns", help="Servers only of this DNS name and what is below it (may be repeated)."),
]
PermitIp = Annotated[
    list[str] | None, typer.Option("--permit-ip", help="Servers only of this IP address (may be repeated).")
]


@app.command()
def init(
    *,
    folder: Folder = Path("certs"),
    name: Annotated[str, typer.Option("--name", help="What the authority is called.")] = "0Trust CA",
    permit_dns: PermitDns = None,
    permit_ip: PermitIp = None,
    passphrase_file: Passphrase = None,
    root_passphrase_file: RootPassphrase = None,
) -> None:
    """Create an authority: its root, and the issuing certificate below it."""
    from zerotrust.pki import ca_directory, profile

    root, issuer = ca_directory.create_authority(
        folder,
        name=name,
        permitted=profile.alternative_names(dns=permit_dns or [], ip=permit_ip or []),
        root_passphrase=_passphrase(root_passphrase_file or passphrase_file),
        passphrase=_passphrase(passphrase_file),
    )
    typer.echo(f"{root.certificate}: certificate of the authority; server and agents need it")
    typer.echo(f"{root.key}: its key; needed for 0trust ca rotate only, so take it off this machine")
    typer.echo(f"{issuer.certificate}: the issuing certificate; it is sent along with those that it issues")
    typer.echo(f"{issuer.key}: its key; keep it safe, whoever has it can admit agents")


@app.command()
def rotate(
    *,
    folder: Folder = Path("certs"),
    root: Annotated[Path | None, typer.Option("--root", help="The folder with ca.crt and ca.key.")] = None,
    days: Annotated[int | None, typer.Option("--days", help="How long the new issuing certificate is good.")] = None,
    permit_dns: PermitDns = None,
    permit_ip: PermitIp = None,
    passphrase_file: Passphrase = None,
    root_passphrase_file: RootPassphrase = None,
) -> None:
    """Make a new issuing certificate; what the old one has issued stays good until it ends."""
    from zerotrust.pki import ca, ca_directory, profile

    asked = profile.alternative_names(dns=permit_dns or [], ip=permit_ip or [])
    made, kept = ca_directory.rotate_issuer(
        folder,
        root=root,
        days=ca.ISSUER_DAYS if days is None else days,
        permitted=asked or None,
        root_passphrase=_passphrase(root_passphrase_file or passphrase_file),
        passphrase=_passphrase(passphrase_file),
    )
    typer.echo(f"{made.certificate}: the new issuing certificate; certificates are issued with it from now on")
    typer.echo(f"{made.key}: its key; the old one is gone")
    if kept is not None:
        typer.echo(f"{kept}: the old certificate, for the record; what it has issued stays good until it ends")


@issue.command()
def agent(
    name: Name,
    *,
    folder: Folder = Path("certs"),
    days: Days = 365,
    passphrase_file: Passphrase = None,
    force: Force = False,
) -> None:
    """Issue the certificate of the agent NAME."""
    from zerotrust.pki import ca_directory

    _warn_if_open(passphrase_file)
    made = ca_directory.issue_agent(folder, name, days=days, passphrase_file=passphrase_file, force=force)
    typer.echo(f"{made.certificate}: certificate of the agent {name}, good for TLS clients")
    typer.echo(f"{made.key}: its key; copy both and ca.crt to the agent")


@issue.command()
def server(
    name: Name,
    *,
    dns: Annotated[list[str] | None, typer.Option("--dns", help="A further DNS name (may be repeated).")] = None,
    ip: Annotated[list[str] | None, typer.Option("--ip", help="An IP address (may be repeated).")] = None,
    folder: Folder = Path("certs"),
    days: Days = 365,
    passphrase_file: Passphrase = None,
    force: Force = False,
) -> None:
    """Issue the certificate of a server; NAME is the DNS name or IP address at which agents reach it."""
    from zerotrust.pki import ca_directory
    from zerotrust.pki.issuer import ServerNames

    _warn_if_open(passphrase_file)
    names = ServerNames(dns=dns or [], ip=ip or [])
    made = ca_directory.issue_server(folder, name, names, days=days, passphrase_file=passphrase_file, force=force)
    typer.echo(f"{made.certificate}: certificate of the server {name}, good for TLS servers")
    typer.echo(f"{made.key}: its key; copy both and ca.crt to the server")


@app.command()
def show(folder: Folder = Path("certs"), *, as_json: AsJson = False) -> None:
    """Show every certificate of the folder."""
    from zerotrust.pki import ca_directory

    certificates = ca_directory.describe(folder)
    if as_json:
        typer.echo(json.dumps({"certificates": [_record(found) for found in certificates]}, indent=2))
        return
    now = datetime.datetime.now(datetime.UTC)
    for found in certificates:
        left = (found.not_after - now).days
        state = f"{left} days left" if left >= 0 else "ENDED"
        typer.echo(f"{found.path}: {found.role} {found.name}")
        if found.names:
            typer.echo(f"  for          {', '.join(found.names)}")
        typer.echo(f"  good until   {found.not_after:%Y-%m-%d %H:%M} UTC ({state})")
        typer.echo(f"  serial       {found.serial}")
        typer.echo(f"  SHA-256      {found.fingerprint}")
        typer.echo(f"  private key  {'here' if found.has_key else 'elsewhere'}")


def _record(found: "CertificateSummary") -> dict[str, Any]:
    """With times as the other commands have them: seconds since 1970."""
    return {
        **asdict(found),
        "path": str(found.path),
        "not_before": int(found.not_before.timestamp()),
        "not_after": int(found.not_after.timestamp()),
    }


def _passphrase(file: Path | None) -> bytes | None:
    from zerotrust.pki import keys

    if file is None:
        return None
    _warn_if_open(file)
    return keys.read_passphrase(file)


def _warn_if_open(file: Path | None) -> None:
    if file is not None and file.exists() and file.stat().st_mode & stat.S_IRWXO:
        typer.echo(f"warning: everybody on this machine can read {file}; chmod o-rwx {file}", err=True)
