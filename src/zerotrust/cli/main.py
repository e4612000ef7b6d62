"""The command `0trust`: where it begins and where all errors end.

An error is one line for a person, never a traceback, and that holds for Ctrl-C while the commands are still being
imported: so this module imports next to nothing itself. Exit status 1 for what the user can correct, 2 for a
wrong command line, 70 for a fault of ours, 130 after Ctrl-C.
"""

import gc
import importlib
import os
import sys
from collections.abc import Sequence

from zerotrust.errors import ZeroTrustError

FAILED = 1
INTERNAL = 70
INTERRUPTED = 130
TRACEBACK = "ZEROTRUST_TRACEBACK"


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    _import_cheaply()
    sys.exit(status(sys.argv[1:] if args is None else list(args)))


def _import_cheaply() -> None:
    # What imports make stays: at its default pace the collector would look through all of it again and again, for a
    # fifth of the time that a start takes.
    gc.set_threshold(50_000, 20, 20)
    # pydantic would read the metadata of every installed package to find plugins, and we want none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")


def status(args: list[str]) -> int:
    """Run the command line of `0trust` and return its exit status."""
    return status_of("zerotrust.cli.commands", args, prog_name="0trust")


def status_of(module: str, args: list[str], *, prog_name: str) -> int:
    """Run the command line of the typer `app` in a module and return its exit status."""
    try:
        code = importlib.import_module(module).app(args=args, prog_name=prog_name, standalone_mode=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where it can become a sentence
        return _usage(error) or _explain(error)
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> int | None:
    """The status of a wrong command line, said; None for any other error."""
    from typer.exceptions import Abort, TyperException

    if isinstance(error, Abort):
        return INTERRUPTED
    if not isinstance(error, TyperException):
        return None
    show = getattr(error, "show", None)
    if show is not None:
        show()
    else:
        _say(f"error: {error.format_message()}")
    return error.exit_code


def _explain(error: Exception) -> int:
    if os.environ.get(TRACEBACK):
        import traceback

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


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
