"""`0trust capture …`, and the captures that `connection capture` and `services capture` start."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.cli.admin_client import AdminClient
    from zerotrust.model.capture_admin import (
        CapturedMessageInfo,
        CapturedMessageList,
        StartCaptureRequest,
    )

INTERVAL: Final = 0.5
"""Seconds between two looks for new messages."""

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, for the audit log.")]
Time = Annotated[
    str, typer.Option("--time", metavar="DURATION", help="End after this time, at most 10m.")
]
CaptureId = Annotated[str, typer.Argument(metavar="ID", help="The ID in `capture list`.")]

app = CommandGroup(
    "List, show and stop captures of WebSockets. Start one with `connection capture` or `services"
    " capture`. Run these commands on the server's machine."
)


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List captures, newest first."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import capture_admin

    found = connect(config, socket).get("/v1/captures", capture_admin.CaptureList)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            one.id,
            one.state,
            one.host,
            one.connection or "-",
            one.actor,
            one.reason,
            moment(one.started_at),
            one.messages,
        )
        for one in found.captures
    ]
    columns = ("ID", "STATE", "HOST", "CONNECTION", "BY", "REASON", "SINCE", "MESSAGES")
    show(columns, rows, none="no captures")


@app.command("show")
def show_one(
    capture_id: CaptureId,
    *,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Show the messages of a capture.

    They are the newest ones, oldest first.
    """
    from zerotrust.cli.admin_client import connect

    client, after = connect(config, socket), 0
    found = _messages(client, capture_id, after)
    last = found.capture.messages  # a WebSocket may send faster than they are shown
    while found.messages and after < last:
        after = _print(found, after, as_json=as_json)
        found = _messages(client, capture_id, after)


@app.command()
def stop(
    capture_id: CaptureId,
    *,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Stop a capture. Its messages are forgotten."""
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import capture_admin

    wanted = question(capture_admin.CaptureRequest, id=capture_id)
    done = connect(config, socket).post("/v1/captures/stop", capture_admin.CaptureInfo, wanted)
    if as_json:
        show_json(done)
    else:
        typer.echo(f"capture {done.id} stopped after {counted(done.messages, 'message')}")


def capture(
    wanted: "StartCaptureRequest", *, config: Path, socket: Path | None, as_json: bool
) -> None:
    """Capture a WebSocket, and print its messages until the capture ends; Ctrl-C stops it."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.errors import CommandError
    from zerotrust.model import capture_admin

    client = connect(config, socket)
    started = client.post("/v1/captures/start", capture_admin.CaptureInfo, wanted)
    of = "the connection" if wanted.connection else "the next WebSocket of"
    typer.echo(
        f"capture {started.id} of {of} {wanted.connection or started.host}; Ctrl-C stops it",
        err=True,
    )
    try:
        over = _follow(client, started.id, as_json=as_json)
        typer.echo(f"capture {started.id} has ended: {over}", err=True)
    finally:
        wanted_end = capture_admin.CaptureRequest(id=started.id)
        with suppress(CommandError):  # it may have ended by itself
            client.post("/v1/captures/stop", capture_admin.CaptureInfo, wanted_end)


def _follow(client: "AdminClient", capture_id: str, *, as_json: bool) -> str:
    """Print messages until there can be no more; return the reason."""
    after = 0
    while True:
        found = _messages(client, capture_id, after)
        after = _print(found, after, as_json=as_json)
        if not found.messages:
            if found.capture.over:
                return found.capture.over
            time.sleep(INTERVAL)


def _messages(client: "AdminClient", capture_id: str, after: int) -> "CapturedMessageList":
    from zerotrust.cli.admin_client import question
    from zerotrust.model import capture_admin

    wanted = question(capture_admin.CapturedMessageQuery, id=capture_id, after=after)
    return client.get("/v1/captures/messages", capture_admin.CapturedMessageList, wanted)


def _print(found: "CapturedMessageList", after: int, *, as_json: bool) -> int:
    """Print messages; return the number of the last one."""
    import json

    for one in found.messages:
        if one.number > after + 1 and not as_json:
            typer.echo(f"… {one.number - after - 1} older messages are no longer kept")
        after = one.number
        typer.echo(json.dumps(one.model_dump()) if as_json else line(one))
    return after


def line(one: "CapturedMessageInfo") -> str:
    """Return a message as a line; bytes follow in lines of their own."""
    from zerotrust.http.hex_dump import hex_dump
    from zerotrust.tunnel.binary import printable

    at = datetime.fromtimestamp(one.at, UTC)
    parts = [f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {one.by:<7} {one.kind:<6} {one.size} B"]
    if one.code is not None:
        parts.append(str(one.code))
    if one.compressed:
        parts.append("compressed")
    if one.text:
        parts.append(printable(one.text))
    if one.cut:
        parts.append("(cut at 1 KiB)")
    dump = hex_dump(bytes.fromhex(one.hex)).splitlines()
    return "\n  ".join(["  ".join(parts), *dump])
