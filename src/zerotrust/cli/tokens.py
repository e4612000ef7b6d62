"""`0trust tokens …`: join tokens for agents."""

from typing import Annotated

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

app = CommandGroup(
    "Create, list and cancel join tokens. A join token lets one machine join the server as an"
    " agent, once. Run these commands on the server's machine."
)


@app.command()
def create(
    *,
    agent: Annotated[str, typer.Option("--agent", metavar="ID", help="The id of the new agent.")],
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help=(
                "Host name that the agent may serve, or '*.NAME' for all names one label longer"
                " (repeatable)."
            ),
        ),
    ] = None,
    expires: Annotated[
        str,
        typer.Option(
            "--expires",
            metavar="DURATION",
            help="Lifetime of the join token, for example 30m or 24h.",
        ),
    ] = "1h",
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="HOST:PORT", help="Address at which agents reach the server."
        ),
    ] = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Create a join token and print it. It is a secret until it has been used."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import moment, show_json
    from zerotrust.model import admin

    wanted = question(
        admin.CreateTokenRequest, agent=agent, hosts=host or [], expires=expires, server=server
    )
    made = connect(config, socket).post("/v1/tokens/create", admin.CreatedToken, wanted)
    for warning in made.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        show_json(made)
        return
    hosts = ", ".join(made.hosts) or "no host name yet"
    typer.echo(
        f"join token for agent {made.agent} ({hosts}), valid once and until"
        f" {moment(made.expires_at)} UTC; on the agent's machine: 0trust agent join TOKEN",
        err=True,
    )
    typer.echo(made.line)


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List join tokens of the last 30 days.

    Their secrets are not stored.
    """
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    found = connect(config, socket).get("/v1/tokens", admin.TokenList)
    if as_json:
        show_json(found)
        return
    show(
        ("NUMBER", "AGENT", "STATE", "MADE (UTC)", "ENDS", "USED", "HOSTS"),
        (
            (
                token.number,
                token.agent,
                token.state,
                moment(token.created_at),
                moment(token.expires_at),
                moment(token.used_at),
                ", ".join(token.hosts),
            )
            for token in found.tokens
        ),
        none="no join tokens",
    )


@app.command()
def cancel(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The number in `tokens list`.")],
    *,
    config: Config = SERVER_FILE,
    socket: Socket = None,
) -> None:
    """Cancel an unused join token."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import admin

    which = question(admin.TokenRequest, number=number)
    done = connect(config, socket).post("/v1/tokens/cancel", admin.TokenInfo, which)
    typer.echo(f"join token {done.number} for agent {done.agent} is cancelled")
