"""`0trust agents …`: the agents of the running server, and which of them may connect."""

from typing import TYPE_CHECKING, Annotated

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, Agent, AsJson, Config, Serial, Socket

if TYPE_CHECKING:
    from zerotrust.model import admin

app = CommandGroup("List, revoke and restore agents. Run these commands on the server's machine.")


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List agents and their sessions."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    found = connect(config, socket).get("/v1/agents", admin.AgentList)
    if as_json:
        show_json(found)
        return
    rows = (
        (
            agent.id,
            agent.state,
            len(agent.sessions),
            sum(session.streams for session in agent.sessions),
            agent.hosts,
            moment(agent.certificate_ends_at),
            moment(agent.joined_at),
        )
        for agent in found.agents
    )
    show(
        ("AGENT", "STATE", "SESSIONS", "STREAMS", "HOSTS", "CERTIFICATE ENDS (UTC)", "JOINED"),
        rows,
        none="no agents",
    )


@app.command("show")
def show_one(
    agent: Agent, *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """Show all details of an agent."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import admin

    which = question(admin.AgentRequest, agent=agent)
    found = connect(config, socket).get("/v1/agents/show", admin.AgentDetails, which)
    if as_json:
        show_json(found)
    else:
        _describe(found)


@app.command()
def revoke(
    agent: Agent,
    *,
    serial: Serial = None,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="Reason for the audit log and `agents show`."
        ),
    ] = "",
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Revoke an agent, or one of its certificates.

    Its sessions and streams end at once. Its open join tokens are cancelled.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import admin

    wanted = question(admin.RevokeRequest, agent=agent, serial=serial, reason=reason)
    done = connect(config, socket).post("/v1/agents/revoke", admin.RevokeResult, wanted)
    if as_json:
        show_json(done)
        return
    cut = f"{counted(done.sessions, 'session')} and {counted(done.streams, 'stream')} were cut"
    whom = done.agent if done.serial is None else f"certificate {done.serial} of {done.agent}"
    typer.echo(f"{whom} is revoked; {cut if done.sessions else 'it was not connected'}")


@app.command()
def restore(
    agent: Agent,
    *,
    serial: Serial = None,
    reissue: Annotated[
        bool,
        typer.Option(
            "--reissue", help="Keep its old certificates revoked; the agent must join again."
        ),
    ] = False,
    config: Config = SERVER_FILE,
    socket: Socket = None,
) -> None:
    """Undo a revocation."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import admin

    wanted = question(admin.RestoreRequest, agent=agent, serial=serial, reissue=reissue)
    connect(config, socket).post("/v1/agents/restore", admin.Confirmation, wanted)
    whom = agent if serial is None else f"certificate {serial} of {agent}"
    typer.echo(
        f"{whom} is no longer revoked"
        + (f"; it can join again with: 0trust tokens create --agent {agent}" * reissue)
    )


def _describe(found: "admin.AgentDetails") -> None:
    from zerotrust.cli.tables import moment, show

    agent = found.agent
    typer.echo(f"{agent.id}: {agent.state}")
    typer.echo(f"  known since       {moment(agent.created_at)}")
    typer.echo(f"  joined            {moment(agent.joined_at)}")
    typer.echo(f"  certificate ends  {moment(agent.certificate_ends_at)}")
    show(
        ("SESSION", "SINCE (UTC)", "FROM", "SOFTWARE", "SERVICES", "STREAMS", "CERTIFICATE"),
        (
            (
                one.generation,
                moment(one.since),
                one.peer if one.connected else f"{one.peer} (lost)",
                one.software,
                one.services,
                one.streams,
                one.serial,
            )
            for one in agent.sessions
        ),
        none="  no sessions",
    )
    if found.grants:
        show(("HOST", "SOURCE"), ((grant.host, grant.source) for grant in found.grants), none="")
    else:
        typer.echo("  no grants")
    if found.certificates:
        rows = (
            (one.serial, moment(one.issued_at), moment(one.ends_at)) for one in found.certificates
        )
        show(("CERTIFICATE", "ISSUED (UTC)", "ENDS"), rows, none="")
    if found.revocations:
        out = (
            (one.serial or "whole agent", moment(one.revoked_at), one.reason)
            for one in found.revocations
        )
        show(("REVOKED", "SINCE (UTC)", "REASON"), out, none="")
    if found.tokens:
        open_ones = (
            (token.number, token.state, moment(token.expires_at)) for token in found.tokens
        )
        show(("JOIN TOKEN", "STATE", "ENDS (UTC)"), open_ones, none="")
