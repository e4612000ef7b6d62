"""`0trust share …`: links for people without an account."""

from typing import Annotated

import typer

from zerotrust.cli.access_output import PinFile
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

app = CommandGroup(
    "Create and revoke share links. Everybody with the link may see a path of a host name, until"
    " the link ends. Run these commands on the server's machine."
)


@app.command()
def create(  # noqa: PLR0913 - one argument for each option
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The path to share, for example https://photos.example.com/album/7."
        ),
    ],
    *,
    lifetime: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="Lifetime, at most 30d.")
    ] = "1d",
    uses: Annotated[
        int | None,
        typer.Option(
            "--uses", metavar="N", help="Number of browsers that may use it (default: no limit)."
        ),
    ] = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="Ask for a PIN, which is prompted for.")
    ] = False,
    pin_file: PinFile = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", metavar="NAME", help="HTTP method (repeatable; default: GET and HEAD)."
        ),
    ] = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Create a link to a path and print it.

    It opens the path and all below it. The rule of the host name must say `links: true`.
    """
    from zerotrust.cli.access_output import read_pin, show_warnings
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import moment, show_json
    from zerotrust.model import access_admin

    wanted = question(
        access_admin.CreateLinkRequest,
        url=url,
        lifetime=lifetime,
        uses=uses,
        pin=read_pin(pin_file) if pin or pin_file is not None else None,
        methods=method or [],
    )
    made = connect(config, socket).post("/v1/links/create", access_admin.CreatedLink, wanted)
    if as_json:
        show_json(made)
        return
    show_warnings(made.warnings)
    typer.echo(
        f"share link {made.id}, valid until {moment(made.expires_at)} UTC; take it back with:"
        f" 0trust share revoke {made.id}",
        err=True,
    )
    typer.echo(made.url)


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List the share links in force."""
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import moment, show, show_json
    from zerotrust.model import access_admin

    found = connect(config, socket).get("/v1/links", access_admin.LinkList)
    if as_json:
        show_json(found)
        return
    rows = (
        (
            one.id,
            f"{one.host}{one.path}",
            ", ".join(one.methods),
            moment(one.created_at),
            moment(one.expires_at),
            "no limit" if one.uses_left is None else one.uses_left,
            "yes" if one.pin else "no",
            one.created_by,
        )
        for one in found.links
    )
    columns = ("ID", "PATH", "METHODS", "MADE (UTC)", "ENDS", "USES LEFT", "PIN", "BY")
    show(columns, rows, none="no share links")


@app.command()
def revoke(
    link: Annotated[str, typer.Argument(metavar="ID", help="The id in `share list`.")],
    *,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a share link.

    Browsers that used it lose access within a second.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import access_admin

    which = question(access_admin.LinkRequest, id=link)
    done = connect(config, socket).post("/v1/links/revoke", access_admin.RevokedLink, which)
    if as_json:
        show_json(done)
    else:
        typer.echo(
            f"share link {done.id} is revoked; {counted(done.passes, 'browser')} lost access"
        )
