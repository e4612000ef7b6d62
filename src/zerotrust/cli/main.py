"""The command `0trust`. What each command needs is imported when it runs: `--help` stays light.

Here all errors end: one line each for a person, never a traceback. Exit status 1 for what the user can correct, 2 for a
wrong command line, 70 for a fault of ours, 130 after Ctrl-C.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from zerotrust import __version__
from zerotrust.cli import ca, caddy, config, run
from zerotrust.errors import ZeroTrustError

FAILED = 1
INTERNAL = 70
INTERRUPTED = 130
TRACEBACK = "ZEROTRUST_TRACEBACK"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Publish private services through one outbound mTLS tunnel, with Caddy at the edge.",
)
app.add_typer(run.server, name="server")
app.add_typer(run.agent, name="agent")
app.add_typer(ca.app, name="ca")
app.add_typer(config.app, name="config")

edge = typer.Typer(no_args_is_help=True, help="The edge: what Caddy is told.")
edge.callback()(lambda: None)
edge.command("render")(caddy.render)
app.add_typer(edge, name="caddy")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"0trust {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version_asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Publish private services through one outbound mTLS tunnel, with Caddy at the edge."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(status(sys.argv[1:] if args is None else list(args)))


def status(args: list[str]) -> int:
    """Run the command line; its exit status."""
    try:
        code = app(args=args, prog_name="0trust", standalone_mode=False)
    except TyperException as error:
        _show_usage(error)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where it can become a sentence
        return _explain(error)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    causes = _causes(error)
    if all(isinstance(cause, ZeroTrustError) for cause in causes):
        for cause in causes:
            for line in str(cause).splitlines():
                _say(f"error: {line}")
        return FAILED
    for cause in causes:
        said = " ".join(str(cause).split()) or "no message"
        _say(f"0trust: internal error: {type(cause).__name__}: {said}; run with {TRACEBACK}=1 for the details")
    return INTERNAL


def _causes(error: BaseException) -> list[BaseException]:
    """The errors of a task group one by one; any other stands for itself."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    return [error]


def _show_usage(error: TyperException) -> None:
    show = getattr(error, "show", None)
    if show is not None:
        show()
    else:
        _say(f"error: {error.format_message()}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
