"""Logs: one event a line, for people (console) or programs (json), to stderr, stdout or a file.

A module calls `log = logger("server.tunnel")` at its top, and `log.info("agent connected",
agent=name)` later: lower-case events, values as fields, no f-strings. Records of the standard
library and of other packages go to the same destination.

A call below the configured level costs a look-up and an empty function. `configure` also applies
to loggers that were made before.
"""

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from zerotrust.errors import SetupError
from zerotrust.model.logging import Logging
from zerotrust.telemetry.plain_structlog import structlog

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}

# These packages log each request, selector or passkey at info and debug.
_VERBOSE: Final = ("alembic", "asyncio", "fido2", "httpcore2", "httpx2")


class _Sink:
    """Destination of the lines. Loggers keep it when `configure` opens another file."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._owned = False

    def redirect(self, file: TextIO, *, owned: bool) -> None:
        self.close()
        self._file, self._owned = file, owned

    def write(self, text: str) -> None:
        # A full disk or a closed pipe loses log lines, but must not stop the traffic.
        with contextlib.suppress(OSError, ValueError):
            (self._file or sys.stderr).write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            (self._file or sys.stderr).flush()

    def close(self) -> None:
        if self._owned and self._file is not None:
            self.flush()
            self._file.close()
        self._file, self._owned = None, False


SINK: Final = _Sink()
"""Destination of all log lines."""
LOGGERS: Final[dict[str, Any]] = {}
"""Each logger by its name."""


class _Writer(structlog.WriteLogger):
    """Writes to the sink; has the name of its logger."""

    def __init__(self, name: str = "") -> None:
        super().__init__(SINK)  # type: ignore[arg-type]
        self.name = name


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of this name. The same name gives the same logger."""
    if name not in LOGGERS:
        LOGGERS[name] = structlog.get_logger(name)
    found: structlog.typing.FilteringBoundLogger = LOGGERS[name]
    return found


def configure(settings: Logging) -> None:
    """Send all logs to the configured output, in the configured format; may be called again.

    Raises:
        SetupError: the file cannot be opened.
    """
    file, owned = _open(settings.output)
    SINK.redirect(file, owned=owned)
    level = LEVELS[settings.level]
    shared: list[structlog.typing.Processor] = [
        _named,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = _renderers(settings.format, colors=file.isatty())
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Writer,
        cache_logger_on_first_use=True,
    )
    for proxy in LOGGERS.values():
        vars(proxy).pop("bind", None)  # drop the logger that was cached with the old settings
    _route_standard_library(level, shared, renderers)


def close() -> None:
    """Close the log file, if there is one; later events go to stderr."""
    SINK.close()


def _open(output: str) -> tuple[TextIO, bool]:
    if output in ("stderr", ""):
        return sys.stderr, False
    if output == "stdout":
        return sys.stdout, False
    try:
        return Path(output).open("a", encoding="utf-8", errors="backslashreplace"), True
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SetupError(
            f'cannot open the log file "{output}": {reason}; '
            "create its folder and make it writable, or set logging.output to stderr"
        ) from error


def _renderers(form: str, *, colors: bool) -> list[structlog.typing.Processor]:
    if form == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    return [
        _printable,
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _named(
    logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Add the logger's name to an event."""
    if name := getattr(logger, "name", ""):
        event["logger"] = name
    return event


def _printable(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape control characters, so that a client's input cannot control the reader's terminal."""
    for key, value in event.items():
        if isinstance(value, str) and key not in ("exception", "stack"):
            event[key] = escape_controls(value)
    return event


def escape_controls(text: str) -> str:
    """Return a text with its control characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _route_standard_library(
    level: int,
    shared: list[structlog.typing.Processor],
    renderers: list[structlog.typing.Processor],
) -> None:
    handler = logging.StreamHandler(SINK)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
