"""`0trust token …`: invitations for agents."""

from typing import Annotated

import typer

from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

app = typer.Typer(no_args_is_help=True, help="Invite agents: one line lets one machine join, once.")


@app.callback()
def group() -> None:
    """Invite agents: one line lets one machine join, once."""


@app.command()
def create(
    *,
    agent: Annotated[str, typer.Option("--agent", help="The id that the agent gets.")],
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="A host name that it may serve, or '*.NAME' for one label (may be repeated)."),
    ] = None,
    expires: Annotated[str, typer.Option("--expires", help="How long the line may wait to be used.")] = "1h",
    server: Annotated[str | None, typer.Option("--server", help="Where agents reach the server, host:port.")] = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Print the line with which an agent joins. It is a secret until it has been used."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import moment, show_json
    from zerotrust.model import admin

    wanted = question(admin.TokenWanted, agent=agent, hosts=host or [], expires=expires, server=server)
    made = connect(config, socket).post("/v1/tokens/create", admin.NewToken, wanted)
    for warning in made.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        show_json(made)
        return
    hosts = ", ".join(made.hosts) or "no host name yet"
    typer.echo(
        f"for agent {made.agent} ({hosts}), good once and until {moment(made.expires_at)} UTC; "
        "on its machine: 0trust agent join LINE",
        err=True,
    )
    typer.echo(made.line)


@app.command("list")
def show_all(*, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show the invitations of the last 30 days, without their secrets, which nobody knows any more."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    found = connect(config, socket).get("/v1/tokens", admin.Tokens)
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
        none="no tokens",
    )


@app.command()
def cancel(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As `token list` shows it.")],
    *,
    config: Config = SERVER_FILE,
    socket: Socket = None,
) -> None:
    """Take an invitation back that nobody has used."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import admin

    which = question(admin.WhichToken, number=number)
    done = connect(config, socket).post("/v1/tokens/cancel", admin.TokenInfo, which)
    typer.echo(f"token {done.number} for agent {done.agent} is cancelled")
