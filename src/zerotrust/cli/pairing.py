"""`0trust pair`: the way of a device without passkeys to a sign-in."""

import typer

from zerotrust.cli.options import SERVER_FILE, Config, Socket


def pair(*, config: Config = SERVER_FILE, socket: Socket = None) -> None:
    """Show how to let a device in by a code.

    Users make codes themselves, so that an administrator cannot sign in as a user.
    """
    from zerotrust.cli.admin_client import connect
    from zerotrust.model import access_admin
    from zerotrust.tunnel.binary import printable

    found = connect(config, socket).get("/v1/access", access_admin.HostAccessList)
    address = printable(found.auth_url)
    days = found.device_lifetime / 86400
    typer.echo(
        "A television, or the web view of an app, signs in without a passkey like this:\n"
        f"  1. In a browser where the user is signed in, open {address}/me and make a code.\n"
        f"  2. On the device, open {address}/pair and type the code. It is valid for 5 minutes.\n"
        f"The device stays signed in for {days:g} days; end it with: 0trust session end NUMBER"
    )
