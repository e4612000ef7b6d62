"""Preparations that `0trust server run` and `0trust agent run` share."""

import signal
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zerotrust.config.diagnostics import Problem
    from zerotrust.model.logging import Logging

Level = Annotated[
    str | None,
    typer.Option(
        "--log-level", metavar="LEVEL", help="Log level: debug, info, warn, error or fatal."
    ),
]
Cert = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="Certificate of this server or agent.")
]
Key = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Private key of the certificate.")
]
Authority = Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="CA certificate.")]


def need(package: str) -> None:
    """Look for a package of the server before its file is read; do not import it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def ignore_reload_signal() -> None:
    """Ignore SIGHUP until the running program handles it. The file is about to be read anyway."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def ignore_restart_signal() -> None:
    """Ignore SIGUSR2, which is for the parent of this worker."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def overrides(options: Mapping[str, str | Path | None]) -> dict[str, str]:
    """Return the options that were given, with paths relative to the current directory."""
    return {
        key: str(value.absolute()) if isinstance(value, Path) else value
        for key, value in options.items()
        if value is not None
    }


def show_warnings(warnings: Iterable["Problem"]) -> None:
    """Print the warnings about a configuration file on stderr."""
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def configure_logging(logging: "Logging") -> None:
    """Write logs as the configuration says."""
    from zerotrust.telemetry import logs

    logs.configure(logging)
