"""`0trust connection …`: open WebSockets and long requests."""

from typing import TYPE_CHECKING, Annotated

import typer

from zerotrust.cli.captures import Reason, Time
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.model.traffic_admin import ConnectionInfo

app = CommandGroup(
    "List, end and capture open connections. They are WebSockets, and requests that have run for"
    " more than 3 seconds. Run these commands on the server's machine."
)


@app.command("list")
def show_all(  # noqa: PLR0913 - filters, and the options of all commands
    *,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="NAME", help="Only connections to this host name."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", metavar="NAME", help="Only connections of this user, or of machine:NAME."
        ),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="ID", help="Only connections to this agent.")
    ] = None,
    before: Annotated[
        int | None,
        typer.Option("--before", metavar="NUMBER", help="The page after the row with this number."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="ROWS", help="Rows on a page, at most 1000.")
    ] = 100,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """List open connections, newest first."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted, moment, show, show_json
    from zerotrust.model import traffic_admin

    wanted = question(
        traffic_admin.ConnectionQuery,
        host=host,
        user=user,
        agent=agent,
        before=before,
        limit=limit,
    )
    found = connect(config, socket).get("/v1/connections", traffic_admin.ConnectionList, wanted)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            one.id,
            one.kind,
            f"{one.host}{one.path}",
            one.user or "-",
            one.client or "-",
            one.agent,
            moment(one.since),
            one.received,
            one.sent,
            frames(one),
            round_trips(one),
        )
        for one in found.connections
    ]
    columns = ("ID", "KIND", "URL", "USER", "CLIENT", "AGENT", "SINCE", "RECEIVED", "SENT")
    show((*columns, "FRAMES", "ROUND TRIPS"), rows, none="no open connections")
    if len(rows) < found.total:
        last = found.connections[-1].number if rows else 0
        typer.echo(f"{counted(found.total, 'connection')} in all; go on with --before {last}")


@app.command()
def end(
    connection_id: Annotated[
        str, typer.Argument(metavar="ID", help="The ID in `connection list`.")
    ],
    *,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """End one connection.

    A WebSocket is closed with status 1008. Its client may connect again. To keep a user out, use
    `0trust user disable`.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import traffic_admin

    wanted = question(traffic_admin.EndConnectionRequest, id=connection_id)
    done = connect(config, socket).post(
        "/v1/connections/end", traffic_admin.EndedConnection, wanted
    )
    if as_json:
        show_json(done)
    else:
        of_user = f" of {done.user}" if done.user else ""
        typer.echo(f"connection {done.id} to {done.host}{of_user} ended")


@app.command()
def capture(
    connection_id: Annotated[
        str, typer.Argument(metavar="ID", help="The ID of a WebSocket in `connection list`.")
    ],
    *,
    reason: Reason,
    time: Time = "10m",
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Capture the messages of a WebSocket.

    They are printed as they come. The agent's file must allow it: `access.inspection: payload` of
    the service. The first 1 KiB of each message is kept, in the server's memory alone. Ctrl-C ends
    the capture.
    """
    from zerotrust.cli import captures
    from zerotrust.cli.admin_client import question
    from zerotrust.model.capture_admin import StartCaptureRequest

    wanted = question(StartCaptureRequest, connection=connection_id, reason=reason, time=time)
    captures.capture(wanted, config=config, socket=socket, as_json=as_json)


def frames(one: "ConnectionInfo") -> str:
    """Return the numbers of frames from and to the client."""
    return "-" if one.frames_received is None else f"{one.frames_received} / {one.frames_sent}"


def round_trips(one: "ConnectionInfo") -> str:
    """Return the known round trips, in milliseconds."""
    known = (
        ("link", one.round_trip),
        ("client", one.client_round_trip),
        ("backend", one.backend_round_trip),
    )
    shown = (f"{name} {1000 * trip:.1f} ms" for name, trip in known if trip is not None)
    return ", ".join(shown) or "-"
