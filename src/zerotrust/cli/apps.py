"""`0trust app …`: tokens of native apps, which belong to a user."""

from typing import Annotated

import typer

from zerotrust.cli.access_output import Keep, OnHosts, TokenLifetime
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, OfUser, Socket

app = CommandGroup(
    "Create and revoke tokens of native apps. An app may do what its user may, and no more. Run"
    " these commands on the server's machine."
)

HINT = "or as the password of HTTP Basic authentication, if the rule says basic: true"

App = Annotated[str, typer.Argument(metavar="NAME", help="The app's name.")]


@app.command()
def create(
    *,
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="The user that the app belongs to.")
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help='Name, for example "Anna\'s phone".')
    ],
    host: OnHosts = None,
    lifetime: TokenLifetime = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Create the token of a user's app and print it.

    It goes into a header field, or into the password of HTTP Basic authentication. The server
    keeps only its hash.
    """
    from zerotrust.cli.access_output import show_created_token
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    wanted = question(
        access_admin.CreateAppRequest, user=user, name=name, hosts=host or [], lifetime=lifetime
    )
    made = connect(config, socket).post("/v1/apps/create", access_admin.CreatedAccessToken, wanted)
    if as_json:
        show_json(made)
    else:
        show_created_token(made, f"app {made.name} of {user}", hint=HINT)


@app.command("list")
def show_all(
    *,
    user: OfUser = None,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """List the tokens of apps."""
    from zerotrust.cli.access_output import show_tokens
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    whose = question(access_admin.UserFilter, user=user)
    found = connect(config, socket).get("/v1/apps", access_admin.AccessTokenList, whose)
    if as_json:
        show_json(found)
    else:
        show_tokens(found, owners=True, none="no apps")


@app.command()
def revoke(
    name: App, *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """Revoke all tokens of an app.

    What they opened ends within a second.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import access_admin

    which = question(access_admin.AccessTokenRequest, name=name)
    done = connect(config, socket).post("/v1/apps/revoke", access_admin.RevokedAccessTokens, which)
    if as_json:
        show_json(done)
    else:
        typer.echo(f"{counted(done.revoked, 'token')} of app {done.name} revoked")


@app.command()
def rotate(
    name: App,
    *,
    keep: Keep = "1d",
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Create a second token of an app.

    The former one is good for another day, or as --keep says.
    """
    from zerotrust.cli.access_output import show_created_token
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    wanted = question(access_admin.RotateRequest, name=name, keep=keep)
    made = connect(config, socket).post("/v1/apps/rotate", access_admin.CreatedAccessToken, wanted)
    if as_json:
        show_json(made)
    else:
        show_created_token(made, f"app {made.name}", hint=HINT)
