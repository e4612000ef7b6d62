"""`0trust session …`: the sign-ins of users."""

from typing import Annotated

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, OfUser, Socket

app = CommandGroup(
    "List and end the sign-ins of users. Run these commands on the server's machine."
)


@app.command("list")
def show_all(
    *,
    user: OfUser = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """List the sign-ins in force."""
    from zerotrust.cli.access_output import show_sign_ins
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    whose = question(access_admin.UserFilter, user=user)
    found = connect(config, socket).get("/v1/sessions", access_admin.SignInList, whose)
    if as_json:
        show_json(found)
    else:
        show_sign_ins(found.sessions, none="no sign-ins")


@app.command()
def end(
    number: Annotated[
        int | None, typer.Argument(metavar="NUMBER", help="The number in `session list`.")
    ] = None,
    *,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="End all sign-ins of this user.")
    ] = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """End one sign-in, or all of a user.

    What it opened ends within a second. The user may sign in again.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import access_admin

    if (number is None) is (user is None):
        raise typer.BadParameter("give a number or --user NAME", param_hint="NUMBER")
    wanted = question(access_admin.EndSessionRequest, number=number, user=user)
    done = connect(config, socket).post("/v1/sessions/end", access_admin.EndedSessions, wanted)
    if as_json:
        show_json(done)
    else:
        typer.echo(f"{counted(done.ended, 'sign-in')} ended")
