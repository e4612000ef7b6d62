"""All commands of `0trust`. Each imports what it needs when it runs, so `--help` is fast.

`agent` and `server` are about the process on this machine; `ca`, `config` and `caddy` work on
files. All others ask the running server, so they are used on the server's machine.
"""

from typing import Annotated

import typer

from zerotrust import __version__
from zerotrust.cli import (
    access,
    agent,
    agents,
    apps,
    audit,
    ca,
    caddy,
    captures,
    config,
    connections,
    doctor,
    grants,
    machines,
    pairing,
    pins,
    server,
    service_list,
    sessions,
    shares,
    tokens,
    users,
)
from zerotrust.cli.command_group import CommandGroup

SUMMARY = "Publish private services through one outbound mTLS tunnel, with Caddy at the edge."

app = CommandGroup(SUMMARY, completion=True)
PEOPLE = "People, machines and access"

for heading, groups in {
    "Server and agent": {"server": server.app, "agent": agent.app},
    "Agents and host names": {
        "agents": agents.app,
        "tokens": tokens.app,
        "grants": grants.app,
        "services": service_list.app,
        "connection": connections.app,
        "capture": captures.app,
        "audit": audit.app,
    },
    PEOPLE: {
        "user": users.users,
        "group": users.groups,
        "session": sessions.app,
        "machine": machines.app,
        "app": apps.app,
        "share": shares.app,
        "pin": pins.app,
        "access": access.app,
    },
    "Files": {"ca": ca.app, "config": config.app, "caddy": caddy.app},
}.items():
    for name, group in groups.items():
        app.add_typer(group, name=name, rich_help_panel=heading)
app.command("doctor", rich_help_panel="Server and agent")(doctor.doctor)
app.command("pair", rich_help_panel=PEOPLE)(pairing.pair)


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
