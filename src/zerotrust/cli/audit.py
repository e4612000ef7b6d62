"""`0trust audit …`: who decided what about whom."""

import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.model import admin

app = typer.Typer(no_args_is_help=True, help="Every decision about identity, in records that are only added.")

OfAgent = Annotated[str | None, typer.Option("--agent", help="Only about this agent.")]
OfAction = Annotated[str | None, typer.Option("--action", help="Only of this kind, for example agent.joined.")]
PAGE = 1000
"""Records in one answer."""
BROKEN: Final = 3
"""The exit status that means this and nothing else: 1 also says that there is no server."""


@app.callback()
def group() -> None:
    """Every decision about identity, in records that are only added."""


@app.command("list")
def show_some(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, at most 1000.")] = 50,
    after: Annotated[
        int | None, typer.Option("--after", help="The first ones after this number, and not the last of all.")
    ] = None,
    agent: OfAgent = None,
    action: OfAction = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Show the last records."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    asked = question(admin.RecordsAsked, after=after, limit=limit, agent=agent, action=action)
    found = connect(config, socket).get("/v1/audit", admin.AuditRecords, asked)
    if as_json:
        show_json(found)
        return
    rows = (
        (record.number, moment(record.at), record.actor, record.action, record.agent or "-", _details(record))
        for record in found.records
    )
    show(("NUMBER", "TIME (UTC)", "ACTOR", "ACTION", "AGENT", "DETAILS"), rows, none="no records")


@app.command()
def verify(*, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False) -> None:
    """Check that no record was changed, inserted or removed. Exit status 3 where one was."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import admin

    chain = connect(config, socket).post("/v1/audit/verify", admin.AuditChain)
    if as_json:
        show_json(chain)
    elif chain.broken is None:
        typer.echo(f"{counted(chain.records, 'record')}, all as they were written; the last one's hash is {chain.head}")
        typer.echo("who has noted that hash elsewhere can tell later that none of these was removed", err=True)
    else:
        typer.echo(
            f"record {chain.broken} is broken: {chain.reason}; the {counted(chain.records, 'record')} before it "
            "are as they were written"
        )
    if chain.broken is not None:
        raise typer.Exit(BROKEN)


@app.command()
def export(*, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Print all records, one JSON object a line, with their hashes."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import admin

    channel, after = connect(config, socket), 0
    while page := channel.text("/v1/audit/export", question(admin.RecordsAsked, after=after, limit=PAGE)):
        typer.echo(page, nl=False)
        after = json.loads(page.splitlines()[-1])["number"]


def _details(record: "admin.AuditRecord") -> str:
    details = record.details if isinstance(record.details, dict) else {"": record.details}
    return " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in sorted(details.items())
    )
