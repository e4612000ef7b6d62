"""`0trust machine …`: tokens of machines."""

from typing import Annotated

import typer

from zerotrust.cli.access_output import Keep, OnHosts, TokenLifetime
from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

app = CommandGroup(
    "Create and revoke tokens of machines. A machine is a script, a sensor or another server that"
    " a rule allows by name. Run these commands on the server's machine."
)

Machine = Annotated[
    str, typer.Argument(metavar="NAME", help="The machine's name, as rules write it.")
]


@app.command()
def create(
    name: Machine,
    *,
    host: OnHosts = None,
    lifetime: TokenLifetime = None,
    admin: Annotated[
        bool,
        typer.Option("--admin", help="Let it use the admin API at access.admin_host, too."),
    ] = False,
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Create the token of a machine and print it.

    It goes into the header field X-0Trust-Token. The server keeps only its hash.
    """
    from zerotrust.cli.access_output import show_created_token
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    wanted = question(
        access_admin.CreateMachineRequest,
        name=name,
        hosts=host or [],
        lifetime=lifetime,
        admin=admin,
    )
    made = connect(config, socket).post(
        "/v1/machines/create", access_admin.CreatedAccessToken, wanted
    )
    if as_json:
        show_json(made)
    else:
        show_created_token(made, f"machine {made.name}", hint="")


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List the tokens of machines."""
    from zerotrust.cli.access_output import show_tokens
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    found = connect(config, socket).get("/v1/machines", access_admin.AccessTokenList)
    if as_json:
        show_json(found)
    else:
        show_tokens(found, owners=False, none="no machines")


@app.command()
def revoke(
    name: Machine, *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """Revoke all tokens of a machine.

    What they opened ends within a second.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import counted, show_json
    from zerotrust.model import access_admin

    which = question(access_admin.AccessTokenRequest, name=name)
    done = connect(config, socket).post(
        "/v1/machines/revoke", access_admin.RevokedAccessTokens, which
    )
    if as_json:
        show_json(done)
    else:
        typer.echo(f"{counted(done.revoked, 'token')} of machine {done.name} revoked")


@app.command()
def rotate(
    name: Machine,
    *,
    keep: Keep = "1d",
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Create a second token of a machine.

    The former one is good for another day, or as --keep says: give the machine the new one
    meanwhile.
    """
    from zerotrust.cli.access_output import show_created_token
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    wanted = question(access_admin.RotateRequest, name=name, keep=keep)
    made = connect(config, socket).post(
        "/v1/machines/rotate", access_admin.CreatedAccessToken, wanted
    )
    if as_json:
        show_json(made)
    else:
        show_created_token(made, f"machine {made.name}", hint=f"(the former token ends in {keep})")
