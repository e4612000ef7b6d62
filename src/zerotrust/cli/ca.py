"""`0trust ca …`: the authority and the certificates that it issues."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Create the authority, issue certificates.")
issue = typer.Typer(no_args_is_help=True, help="Issue a certificate and its key.")
app.add_typer(issue, name="issue")

Folder = Annotated[Path, typer.Option("--dir", help="The folder of the authority.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]
Days = Annotated[int, typer.Option("--days", help="How long the certificate is good.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing certificate and key.")]


@app.command()
def init(
    folder: Folder = Path("certs"),
    name: Annotated[str, typer.Option("--name", help="What the authority is called.")] = "0Trust CA",
) -> None:
    """Create an authority: ca.crt and ca.key."""
    from zerotrust.pki import files

    made = files.create_authority(folder, name=name)
    typer.echo(f"{made.certificate}: certificate of the authority; server and agents need it")
    typer.echo(f"{made.key}: key of the authority; keep it safe, whoever has it can admit agents")


@issue.command()
def agent(name: Name, folder: Folder = Path("certs"), days: Days = 365, force: Force = False) -> None:
    """Issue the certificate of the agent NAME."""
    from zerotrust.pki import files

    made = files.issue_agent(folder, name, days=days, force=force)
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
    force: Force = False,
) -> None:
    """Issue the certificate of a server; NAME is the DNS name or IP address at which agents reach it."""
    from zerotrust.pki import files

    made = files.issue_server(folder, name, dns=dns or [], ip=ip or [], days=days, force=force)
    typer.echo(f"{made.certificate}: certificate of the server {name}, good for TLS servers")
    typer.echo(f"{made.key}: its key; copy both and ca.crt to the server")


@app.command()
def show(folder: Folder = Path("certs")) -> None:
    """Show every certificate of the folder."""
    from zerotrust.pki import files

    now = datetime.datetime.now(datetime.UTC)
    for found in files.describe(folder):
        left = (found.not_after - now).days
        state = f"{left} days left" if left >= 0 else "ENDED"
        typer.echo(f"{found.path}: {found.role} {found.name}")
        if found.names:
            typer.echo(f"  for          {', '.join(found.names)}")
        typer.echo(f"  good until   {found.not_after:%Y-%m-%d %H:%M} UTC ({state})")
        typer.echo(f"  serial       {found.serial}")
        typer.echo(f"  SHA-256      {found.fingerprint}")
        typer.echo(f"  private key  {'here' if found.has_key else 'elsewhere'}")
