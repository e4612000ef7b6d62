"""`0trust grants …`: the host names that agents may serve."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, Agent, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.model import admin

app = CommandGroup(
    "Control the host names agents may serve. Run these commands on the server's machine."
)

Hosts = Annotated[
    list[str],
    typer.Argument(
        metavar="HOST...",
        help="Host names, '*.NAME' for all names one label longer, or '*' for a service that takes"
        " what is left.",
    ),
]


@app.command()
def add(agent: Agent, hosts: Hosts, *, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Allow an agent to serve host names.

    Effective immediately. The agent may join later.
    """
    for done in _changes("/v1/grants/add", agent, hosts, config, socket):
        typer.echo(f"{done.host} is granted to {done.agent}{'' if done.changed else ' already'}")


@app.command()
def remove(
    agent: Agent, hosts: Hosts, *, config: Config = SERVER_FILE, socket: Socket = None
) -> None:
    """Withdraw host names from an agent.

    Effective immediately.
    """
    for done in _changes("/v1/grants/remove", agent, hosts, config, socket):
        typer.echo(f"{done.host} is no longer granted to {done.agent}")


def _changes(
    path: str, agent: str, hosts: list[str], config: Path, socket: Path | None
) -> "Iterator[admin.GrantResult]":
    """Change one grant after the other. Those before an error stay changed, and were printed."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import admin

    asked = [question(admin.GrantRequest, agent=agent, host=host) for host in hosts]
    channel = connect(config, socket)
    for one in asked:
        done = channel.post(path, admin.GrantResult, one)
        for warning in done.warnings:
            typer.echo(f"warning: {warning}", err=True)
        yield done


@app.command("list")
def show_all(
    *,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="ID", help="Only the grants of this agent.")
    ] = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """List grants, from commands and the file."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    whose = question(admin.AgentFilter, agent=agent)
    found = connect(config, socket).get("/v1/grants", admin.GrantList, whose)
    if as_json:
        show_json(found)
        return
    rows = (
        (grant.agent, grant.host, grant.source, moment(grant.created_at)) for grant in found.grants
    )
    show(("AGENT", "HOST", "SOURCE", "SINCE (UTC)"), rows, none="no grants")
