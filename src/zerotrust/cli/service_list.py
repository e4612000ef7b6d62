"""`0trust services …`: the services of agents, who may enter, captures of their WebSockets."""

from typing import Annotated

import typer

from zerotrust.cli.captures import Reason, Time
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

app = CommandGroup(
    "List services, and capture their WebSockets. Run these commands on the server's machine."
)


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List host names, agents, and who may enter."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import show, show_json
    from zerotrust.model import admin

    found = connect(config, socket).get("/v1/services", admin.ServiceList)
    if as_json:
        show_json(found)
        return
    rows = (
        (
            one.host,
            one.state,
            one.agent,
            one.service,
            "; ".join([one.who, *map(_only, one.require)]),
        )
        for one in found.services
    )
    show(("HOST", "STATE", "AGENT", "SERVICE", "WHO"), rows, none="no services")


@app.command()
def capture(
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host name, or its wildcard.")],
    *,
    reason: Reason,
    time: Time = "10m",
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Capture the next WebSocket of a service.

    Its messages are printed as they come. The agent's file must allow it:
    `access.inspection: payload` of the service. The first 1 KiB of each message is kept, in the
    server's memory alone. Ctrl-C ends the capture.
    """
    from zerotrust.cli import captures
    from zerotrust.cli.admin_client import question
    from zerotrust.model.capture_admin import StartCaptureRequest

    wanted = question(StartCaptureRequest, host=host, reason=reason, time=time)
    captures.capture(wanted, config=config, socket=socket, as_json=as_json)


def _only(condition: str) -> str:
    """Return a condition of the agent's file, which it adds to the server's rule."""
    return f"only {condition}"
