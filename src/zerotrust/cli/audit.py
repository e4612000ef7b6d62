"""`0trust audit …`: the audit log of the running server."""

import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.model import admin

app = CommandGroup(
    "List, verify and export the audit log. Run these commands on the server's machine."
)

OfAgent = Annotated[
    str | None, typer.Option("--agent", metavar="ID", help="Only records about this agent.")
]
OfAction = Annotated[
    str | None,
    typer.Option(
        "--action", metavar="NAME", help="Only records of this action, for example agent.joined."
    ),
]
PAGE = 1000
"""Records in one answer of the server."""
BROKEN: Final = 3
"""Exit status if the log was changed. 1 also means that no server answers."""


@app.command("list")
def show_some(
    *,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", help="Number of records, at most 1000.")
    ] = 50,
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            metavar="N",
            help="List records with a number above N, oldest first (default: the newest).",
        ),
    ] = None,
    agent: OfAgent = None,
    action: OfAction = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """List records, by default the newest."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import admin

    asked = question(admin.AuditQuery, after=after, limit=limit, agent=agent, action=action)
    found = connect(config, socket).get("/v1/audit", admin.AuditRecordList, asked)
    if as_json:
        show_json(found)
        return
    rows = (
        (
            record.number,
            moment(record.at),
            record.actor,
            record.action,
            record.agent or "-",
            _details(record),
        )
        for record in found.records
    )
    show(("NUMBER", "TIME (UTC)", "ACTOR", "ACTION", "AGENT", "DETAILS"), rows, none="no records")


@app.command()
def verify(*, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False) -> None:
    """Check that no record was changed.

    Exit status 3 if one was changed, inserted or removed.
    """
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import admin

    chain = connect(config, socket).post("/v1/audit/verify", admin.AuditCheck)
    if as_json:
        show_json(chain)
    elif chain.broken is None:
        typer.echo(
            f"{counted(chain.records, 'record')}, all unchanged; the hash of the last is"
            f" {chain.head}"
        )
        typer.echo(
            "store this hash elsewhere: if a later export lacks it, records were removed", err=True
        )
    else:
        typer.echo(
            f"record {chain.broken} is broken: {chain.reason}; {counted(chain.records, 'record')}"
            " before it unchanged"
        )
    if chain.broken is not None:
        raise typer.Exit(BROKEN)


@app.command()
def export(*, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Print all records as JSON, one a line."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import admin

    channel, after = connect(config, socket), 0
    while page := channel.text(
        "/v1/audit/export", question(admin.AuditQuery, after=after, limit=PAGE)
    ):
        typer.echo(page, nl=False)
        after = json.loads(page.splitlines()[-1])["number"]


def _details(record: "admin.AuditRecord") -> str:
    details = record.details if isinstance(record.details, dict) else {"": record.details}
    return " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in sorted(details.items())
    )
