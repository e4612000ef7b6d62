"""`0trust pin …`: PINs with which visitors enter a host name."""

from typing import Annotated

import typer

from zerotrust.cli.access_output import PinFile
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

app = CommandGroup(
    "Set the PIN that opens a host name. Its rule allows `pin: true`. Run these commands on the"
    " server's machine."
)

PinHost = Annotated[str, typer.Argument(metavar="HOST", help="The host name.")]


@app.command("set")
def set_pin(
    host: PinHost, *, pin_file: PinFile = None, config: Config = SERVER_FILE, socket: Socket = None
) -> None:
    """Set the PIN of a host name, from a prompt.

    It has 6 to 32 digits. Visitors who entered the former PIN have to enter the new one.
    """
    from zerotrust.cli.access_output import read_pin, show_warnings
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import access_admin

    channel = connect(config, socket)
    wanted = question(access_admin.SetPinRequest, host=host, pin=read_pin(pin_file))
    done = channel.post("/v1/pins/set", access_admin.PinResult, wanted)
    show_warnings(done.warnings)
    typer.echo(f"the PIN of {done.host} is set")


@app.command()
def clear(host: PinHost, *, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Clear the PIN of a host name.

    Visitors who entered it lose access within a second.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.model import access_admin

    which = question(access_admin.PinRequest, host=host)
    done = connect(config, socket).post("/v1/pins/clear", access_admin.PinResult, which)
    typer.echo(f"the PIN of {done.host} is cleared" if done.changed else f"{done.host} had no PIN")


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List the host names with a PIN."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import access_admin

    found = connect(config, socket).get("/v1/pins", access_admin.PinList)
    if as_json:
        show_json(found)
        return
    show(
        ("HOST", "SET (UTC)"),
        ((one.host, moment(one.set_at)) for one in found.pins),
        none="no PINs",
    )
