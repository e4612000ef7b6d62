"""`0trust ca …`: create a certificate authority (CA) and issue certificates."""

import datetime
import json
import stat
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import AsJson

if TYPE_CHECKING:
    from zerotrust.pki.ca_directory import CertificateSummary

app = CommandGroup("Create a CA and issue certificates.")
issue = CommandGroup("Issue a certificate and its key.")
app.add_typer(issue, name="issue")

Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The directory of the CA.")]
AgentName = Annotated[str, typer.Argument(metavar="NAME", help="The agent's id.")]
ServerName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="DNS name or IP address at which agents reach the server."),
]
Days = Annotated[
    int, typer.Option("--days", metavar="N", help="Validity of the certificate in days.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing certificate and key.")]
Passphrase = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Encrypt the keys of the CA with the first line of FILE.",
    ),
]
RootPassphrase = Annotated[
    Path | None,
    typer.Option(
        "--root-passphrase-file",
        metavar="FILE",
        help="Passphrase file for the root key, if different.",
    ),
]
PermitDns = Annotated[
    list[str] | None,
    typer.Option(
        "--permit-dns",
        metavar="NAME",
        help="Limit server certificates to this DNS name and its subdomains (repeatable).",
    ),
]
PermitIp = Annotated[
    list[str] | None,
    typer.Option(
        "--permit-ip",
        metavar="IP",
        help="Limit server certificates to this IP address (repeatable).",
    ),
]


@app.command()
def init(
    *,
    folder: Folder = Path("certs"),
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the CA.")
    ] = "0Trust CA",
    permit_dns: PermitDns = None,
    permit_ip: PermitIp = None,
    passphrase_file: Passphrase = None,
    root_passphrase_file: RootPassphrase = None,
) -> None:
    """Create a CA: root and issuing certificate."""
    from zerotrust.pki import ca_directory, profile

    root, issuer = ca_directory.create_authority(
        folder,
        name=name,
        permitted=profile.alternative_names(dns=permit_dns or [], ip=permit_ip or []),
        root_passphrase=_passphrase(root_passphrase_file or passphrase_file),
        passphrase=_passphrase(passphrase_file),
    )
    typer.echo(f"{root.certificate}: CA certificate; the server and all agents need it")
    typer.echo(
        f"{root.key}: its private key; only 0trust ca rotate needs it, so move it off this machine"
    )
    typer.echo(f"{issuer.certificate}: issuing certificate")
    typer.echo(
        f"{issuer.key}: its private key; keep it secret: it can issue certificates for any agent"
    )


@app.command()
def rotate(
    *,
    folder: Folder = Path("certs"),
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", metavar="DIR", help="The directory with ca.crt and ca.key, if different."
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option("--days", metavar="N", help="Validity of the issuing certificate in days."),
    ] = None,
    permit_dns: PermitDns = None,
    permit_ip: PermitIp = None,
    passphrase_file: Passphrase = None,
    root_passphrase_file: RootPassphrase = None,
) -> None:
    """Replace the issuing certificate.

    Certificates that the old one issued stay valid until they expire.
    """
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
    typer.echo(f"{made.certificate}: new issuing certificate, used from now on")
    typer.echo(f"{made.key}: its private key; the old key was deleted")
    if kept is not None:
        typer.echo(
            f"{kept}: old issuing certificate; certificates that it issued stay valid until they"
            " expire"
        )


@issue.command()
def agent(
    name: AgentName,
    *,
    folder: Folder = Path("certs"),
    days: Days = 365,
    passphrase_file: Passphrase = None,
    force: Force = False,
) -> None:
    """Issue the certificate of an agent."""
    from zerotrust.pki import ca_directory

    _warn_if_open(passphrase_file)
    made = ca_directory.issue_agent(
        folder, name, days=days, passphrase_file=passphrase_file, force=force
    )
    typer.echo(f"{made.certificate}: certificate of agent {name}")
    typer.echo(f"{made.key}: its private key; copy both files and ca.crt to the agent")


@issue.command()
def server(
    name: ServerName,
    *,
    dns: Annotated[
        list[str] | None,
        typer.Option("--dns", metavar="NAME", help="Additional DNS name (repeatable)."),
    ] = None,
    ip: Annotated[
        list[str] | None,
        typer.Option("--ip", metavar="IP", help="Additional IP address (repeatable)."),
    ] = None,
    folder: Folder = Path("certs"),
    days: Days = 365,
    passphrase_file: Passphrase = None,
    force: Force = False,
) -> None:
    """Issue the certificate of a server."""
    from zerotrust.pki import ca_directory
    from zerotrust.pki.issuer import ServerNames

    _warn_if_open(passphrase_file)
    names = ServerNames(dns=dns or [], ip=ip or [])
    made = ca_directory.issue_server(
        folder, name, names, days=days, passphrase_file=passphrase_file, force=force
    )
    typer.echo(f"{made.certificate}: certificate of server {name}")
    typer.echo(f"{made.key}: its private key; copy both files and ca.crt to the server")


@app.command()
def show(*, folder: Folder = Path("certs"), as_json: AsJson = False) -> None:
    """Show all certificates in a directory."""
    from zerotrust.pki import ca_directory

    certificates = ca_directory.describe(folder)
    if as_json:
        typer.echo(
            json.dumps({"certificates": [_record(found) for found in certificates]}, indent=2)
        )
        return
    now = datetime.datetime.now(datetime.UTC)
    for found in certificates:
        left = (found.not_after - now).days
        state = f"{left} days left" if left >= 0 else "EXPIRED"
        typer.echo(f"{found.path}: {found.role} {found.name}")
        if found.names:
            typer.echo(f"  for          {', '.join(found.names)}")
        typer.echo(f"  valid until  {found.not_after:%Y-%m-%d %H:%M} UTC ({state})")
        typer.echo(f"  serial       {found.serial}")
        typer.echo(f"  SHA-256      {found.fingerprint}")
        typer.echo(f"  private key  {'here' if found.has_key else 'elsewhere'}")


def _record(found: "CertificateSummary") -> dict[str, Any]:
    """Return a certificate for JSON, with times in seconds since 1970."""
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
        typer.echo(
            f"warning: all users of this machine can read {file}; run: chmod o-rwx {file}", err=True
        )
