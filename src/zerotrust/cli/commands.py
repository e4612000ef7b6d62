"""All commands of `0trust`. Each imports what it needs when it runs, so `--help` is fast.

`agent` and `server` are about the process on this machine. `agents`, `tokens`, `grants` and `audit`
ask the running server, so they are used on the server's machine.
"""

from typing import Annotated

import typer

from zerotrust import __version__
from zerotrust.cli import agent, agents, audit, ca, caddy, config, grants, server, tokens
from zerotrust.cli.command_group import CommandGroup

SUMMARY = "Publish private services through one outbound mTLS tunnel, with Caddy at the edge."

app = CommandGroup(SUMMARY, completion=True)
app.add_typer(server.app, name="server")
app.add_typer(agent.app, name="agent")
app.add_typer(agents.app, name="agents")
app.add_typer(tokens.app, name="tokens")
app.add_typer(grants.app, name="grants")
app.add_typer(audit.app, name="audit")
app.add_typer(ca.app, name="ca")
app.add_typer(config.app, name="config")
app.add_typer(caddy.app, name="caddy")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"0trust {__version__}")
        raise typer.Exit


@app.callback(help=SUMMARY)
def root(
    _version_asked: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Accept the options of `0trust` itself."""
