"""`0trust access …`: who may enter which host name, and why."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from zerotrust.cli.command_group import CommandGroup
from zerotrust.cli.options import SERVER_FILE, AsJson, Config, Socket

if TYPE_CHECKING:
    from zerotrust.model import access_admin

app = CommandGroup(
    "Show who may enter, and explain a verdict. Run these commands on the server's machine."
)

_VERDICTS: Final = {
    "allow": "may enter",
    "sign_in": "has to sign in",
    "prove_again": "has to prove their identity again",
    "deny": "may not enter",
}
_MARKS: Final = {True: "yes", False: "no", None: ""}


@app.command("list")
def show_all(
    *, config: Config = SERVER_FILE, socket: Socket = None, as_json: AsJson = False
) -> None:
    """List host names, and who may enter each.

    The rules are those of the running server.
    """
    from zerotrust.cli.admin_client import connect
    from zerotrust.cli.tables import show, show_json
    from zerotrust.model import access_admin

    found = connect(config, socket).get("/v1/access", access_admin.HostAccessList)
    if as_json:
        show_json(found)
        return
    show(("HOST", "WHO MAY ENTER"), ((one.host, one.who) for one in found.hosts), none="")


@app.command()
def explain(  # noqa: PLR0913 - one argument for each option
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The address, for example https://photos.example.com/a."
        ),
    ],
    *,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="A user who has signed in.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", metavar="NAME", help="The token of a machine.")
    ] = None,
    native_app: Annotated[
        str | None, typer.Option("--app", metavar="NAME", help="The token of an app.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="Identity provider of the user's sign-in (default: a passkey, if there is one).",
        ),
    ] = None,
    proven: Annotated[
        str,
        typer.Option(
            "--proven", metavar="DURATION", help="Time since the user's last proof of identity."
        ),
    ] = "0s",
    ip: Annotated[
        str | None, typer.Option("--ip", metavar="ADDRESS", help="IP address of the client.")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="HTTP method of the request.")
    ] = "GET",
    config: Config = SERVER_FILE,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Explain who may enter a URL, step by step.

    The request is not made. Without a user, machine or app it is one of a stranger.
    """
    from zerotrust.cli.admin_client import connect, question
    from zerotrust.cli.tables import show_json
    from zerotrust.model import access_admin

    asked = question(
        access_admin.ExplainRequest,
        url=url,
        user=user,
        machine=machine,
        app=native_app,
        provider=provider,
        proven=proven,
        ip=ip,
        method=method,
    )
    found = connect(config, socket).post("/v1/access/explain", access_admin.ExplanationView, asked)
    if as_json:
        show_json(found)
        return
    names = {"user": user, "machine": machine, "app": native_app}
    who = next((f"{kind} {name}" for kind, name in names.items() if name), "a stranger")
    _describe(who, found)
    if ip is None and any({"ip", "country"} & {*step.failed} for step in found.steps):
        typer.echo("note: no address was given; add --ip ADDRESS", err=True)


def _describe(who: str, found: "access_admin.ExplanationView") -> None:
    from zerotrust.cli.tables import show
    from zerotrust.tunnel.binary import printable

    verdict = _VERDICTS.get(found.verdict, f"gets the error {found.error}")
    typer.echo(printable(f"{who} {verdict}, by {found.reason}"))
    rows = (
        (
            _MARKS[step.held],
            step.place,
            step.text + (f" ({', '.join(step.failed)} does not hold)" if step.failed else ""),
        )
        for step in found.steps
    )
    show(("HOLDS", "PLACE", "STEP"), rows, none="")
