"""Output of the commands about tokens and sessions, and the input of PINs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zerotrust.model import access_admin

OnHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        metavar="NAME",
        help="Host name, or '*.NAME', at which the token is good (repeatable; default: all that"
        " allow it by a rule).",
    ),
]
TokenLifetime = Annotated[
    str | None,
    typer.Option("--for", metavar="DURATION", help="Lifetime, for example 90d (default: no end)."),
]
Keep = Annotated[
    str,
    typer.Option(
        "--keep", metavar="DURATION", help="Time for which the former token is still good."
    ),
]
PinFile = Annotated[
    Path | None,
    typer.Option("--pin-file", metavar="FILE", help='Read the PIN from FILE, or "-" for stdin.'),
]

MAX_PIN_CHARACTERS = 64


def show_warnings(warnings: list[str]) -> None:
    """Print warnings of the server."""
    from zerotrust.tunnel.binary import printable

    for warning in warnings:
        typer.echo(f"warning: {printable(warning)}", err=True)


def show_created_token(made: "access_admin.CreatedAccessToken", what: str, *, hint: str) -> None:
    """Print a new token: the secret alone to stdout, its use to stderr.

    Args:
        what: kind and name of its holder, for example "machine frame".
        hint: another way to use it; empty for none.
    """
    from zerotrust.cli.tables import moment

    show_warnings(made.warnings)
    ends = "without end" if made.expires_at is None else f"until {moment(made.expires_at)} UTC"
    hosts = f" at {', '.join(made.hosts)}" if made.hosts else ""
    typer.echo(
        f"token of {what}, valid{hosts} {ends}; it is shown once. Use it as TOKEN in:", err=True
    )
    host = made.example or "HOST"
    typer.echo(f'  curl -H "X-0Trust-Token: TOKEN" https://{host}/', err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)
    typer.echo(made.secret)


def show_tokens(found: "access_admin.AccessTokenList", *, owners: bool, none: str) -> None:
    """Print a table of tokens.

    Args:
        owners: show the user of each token.
    """
    from zerotrust.cli.tables import moment, show

    columns = ["NAME", *(["USER"] * owners), "HOSTS", "MADE (UTC)", "ENDS", "LAST USED", "ID"]
    rows = (
        (
            f"{one.name} (admin)" if one.admin else one.name,
            *([one.user or "-"] * owners),
            ", ".join(one.hosts) or "all that allow it",
            moment(one.created_at),
            "never" if one.expires_at is None else moment(one.expires_at),
            moment(one.used_at),
            one.id,
        )
        for one in found.tokens
    )
    show(columns, rows, none=none)


def show_sign_ins(sessions: "list[access_admin.SignInView]", *, none: str) -> None:
    """Print a table of sign-ins."""
    from zerotrust.cli.tables import moment, show

    rows = (
        (
            one.number,
            one.user,
            one.provider or one.method,
            moment(one.created_at),
            moment(one.seen_at),
            moment(one.ends_at),
            one.client or "-",
            one.browser or "-",
        )
        for one in sessions
    )
    columns = ("NUMBER", "USER", "BY", "SINCE (UTC)", "LAST SEEN", "ENDS", "FROM", "BROWSER")
    show(columns, rows, none=none)


def read_pin(file: Path | None) -> str:
    """Return a PIN from a file, standard input or a prompt. It is never an argument.

    Raises:
        SetupError: the file cannot be read.
    """
    from zerotrust.errors import SetupError

    if file is None:
        return str(typer.prompt("PIN", hide_input=True, confirmation_prompt=True, err=True))
    try:
        if str(file) == "-":
            return sys.stdin.read(MAX_PIN_CHARACTERS)
        with file.open() as opened:
            return opened.read(MAX_PIN_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
        raise SetupError(f"{file}: cannot read the PIN: {reason}") from error
