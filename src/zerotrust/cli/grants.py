"""`0trust grant …`: which host names an agent may serve."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zerotrust.cli.options import SERVER_FILE, Agent, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.model import admin

app = typer.Typer(no_args_is_help=True, help="Which host names each agent may serve.")

Hosts = Annotated[list[str], typer.Argument(metavar="HOST...", help="Host names, or '*.NAME' for one label.")]


@app.callback()
def group() -> None:
    """Which host names each agent may serve."""


@app.command()
def add(agent: Agent, hosts: Hosts, *, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Let an agent serve host names. It need not exist yet; where it is connected, it serves them at once."""
    for done in _changes("/v1/grants/add", agent, hosts, config, socket):
        typer.echo(f"{done.host} is granted to {done.agent}{'' if done.changed else ' already'}")


@app.command()
def remove(agent: Agent, hosts: Hosts, *, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Take host names from an agent, at once."""
    for done in _changes("/v1/grants/remove", agent, hosts, config, socket):
        typer.echo(f"the grant of {done.host} to {done.agent} is gone")


def _changes(
    path: str, agent: str, hosts: list[str], config: Path, socket: Path | None
) -> "Iterator[admin.GrantChanged]":
    """One after the other: what was done before an error stays done, and was said."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import admin

    asked = [question(admin.GrantAsked, agent=agent, host=host) for host in hosts]
    channel = connect(config, socket)
    for one in asked:
        done = channel.post(path, admin.GrantChanged, one)
        for warning in done.warnings:
            typer.echo(f"warning: {warning}", err=True)
        yield done


@app.command("list")
def show_all(
    *,
    agent: Annotated[str | None, typer.Option("--agent", help="Only of this agent.")] = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Show what is granted, by the server's file or by commands."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    whose = question(admin.AboutAgent, agent=agent)
    found = connect(config, socket).get("/v1/grants", admin.Grants, whose)
    if as_json:
        show_json(found)
        return
    rows = ((grant.agent, grant.host, grant.source, moment(grant.created_at)) for grant in found.grants)
    show(("AGENT", "HOST", "SOURCE", "SINCE (UTC)"), rows, none="no grants")
