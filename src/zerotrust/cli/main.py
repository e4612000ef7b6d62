"""Entry point of the command `0trust`. Errors of all commands end here.

An error is printed as one line, never as a traceback. That also holds for Ctrl-C while the commands
are being imported, so this module imports next to nothing itself. Exit status: 1 for errors that
the user can correct, 2 for a wrong command line, 70 for a bug in 0Trust, 130 after Ctrl-C.
"""

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from zerotrust.cli.renamed import replace_old_spelling
from zerotrust.errors import ZeroTrustError

FAILED: Final = 1
INTERNAL: Final = 70
INTERRUPTED: Final = 130
TRACEBACK: Final = "ZEROTRUST_TRACEBACK"
SERVER_PACKAGES: Final = {
    "alembic",
    "argon2",
    "authlib",
    "bcrypt",
    "fido2",
    "jinja2",
    "markupsafe",
    "publicsuffixlist",
    "segno",
    "sqlalchemy",
    "starlette",
}
"""Packages that come with `pip install '0trust[server]'` and not with `pip install 0trust`."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    _speed_up_imports()
    sys.exit(status(sys.argv[1:] if args is None else list(args)))


def _speed_up_imports() -> None:
    # Imported objects are never freed. At its default pace the garbage collector would look through
    # them again and again, for a fifth of the start time.
    gc.set_threshold(50_000, 20, 20)
    # Without this, pydantic searches the metadata of every installed package for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")


def status(args: list[str]) -> int:
    """Run the command line of `0trust` and return its exit status."""
    args, warning = replace_old_spelling(args)
    if warning:
        _print_error(f"warning: {warning}")
    return status_of("zerotrust.cli.commands", args, prog_name="0trust")


def status_of(module: str, args: list[str], *, prog_name: str) -> int:
    """Run the command line of the typer `app` in a module and return its exit status."""
    try:
        code = importlib.import_module(module).app(
            args=args, prog_name=prog_name, standalone_mode=False
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - every error becomes a message
        return _report_usage(error) or _report(error)
    return code if isinstance(code, int) else 0


def _report_usage(error: Exception) -> int | None:
    """Print a usage error and return its exit status; None for other errors."""
    from typer.exceptions import Abort, TyperException

    if isinstance(error, Abort):
        return INTERRUPTED
    if not isinstance(error, TyperException):
        return None
    show = getattr(error, "show", None)
    if show is not None:
        show()
    else:
        _print_error(f"error: {error.format_message()}")
    return error.exit_code


def _report(error: Exception) -> int:
    """Print an error and return the exit status."""
    if os.environ.get(TRACEBACK):
        import traceback

        traceback.print_exception(error)
    causes = _causes(error)
    if all(isinstance(cause, ZeroTrustError) for cause in causes):
        for cause in causes:
            for line in str(cause).splitlines():
                _print_error(f"error: {line}")
        return FAILED
    if (
        isinstance(error, ModuleNotFoundError)
        and str(error.name).partition(".")[0] in SERVER_PACKAGES
    ):
        _print_error(
            "error: this command needs the server's packages; install them with: pip install"
            " '0trust[server]'"
        )
        return FAILED
    for cause in causes:
        text = " ".join(str(cause).split()) or "no message"
        _print_error(
            f"0trust: internal error: {type(cause).__name__}: {text}; run with {TRACEBACK}=1 for"
            " the details"
        )
    return INTERNAL


def _causes(error: BaseException) -> list[BaseException]:
    """Return the errors of a task group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    return [error]


def _print_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")
