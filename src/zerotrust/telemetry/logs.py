"""Logs: one event a line, for a person (console) or a machine (json), to stderr, stdout or a file.

`log = logger("server.tunnel")` at the head of a module, then `log.info("agent connected", agent=name)`:
lower-case events, values as fields, never an f-string. What the standard library and other packages log takes the
same way out.

A call below the configured level costs a look-up and an empty function: the filtering logger has no code behind it.
Loggers made before `configure` follow it all the same.
"""

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from zerotrust.errors import SetupError
from zerotrust.model.logging import Logging

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}

# They log each request or each selector at info and debug: noise that buries our own events.
_CHATTY: Final = ("alembic", "asyncio", "httpx", "httpcore")


class _Sink:
    """Where lines go. It outlives reconfiguration, so that loggers in use follow to a new destination."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._owned = False

    def use(self, file: TextIO, *, owned: bool) -> None:
        self.close()
        self._file, self._owned = file, owned

    def write(self, text: str) -> None:
        # A full disk or a closed pipe loses log lines; it must not stop the traffic that is logged about.
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


_SINK: Final = _Sink()
_LOGGERS: Final[dict[str, Any]] = {}


class _Writer(structlog.WriteLogger):
    """Writes to the sink, and knows the name that the module gave itself."""

    def __init__(self, name: str = "") -> None:
        super().__init__(_SINK)  # type: ignore[arg-type]
        self.name = name


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a module. The same name gives the same logger."""
    if name not in _LOGGERS:
        _LOGGERS[name] = structlog.get_logger(name)  # noqa: TID251 - all others come here
    found: structlog.typing.FilteringBoundLogger = _LOGGERS[name]
    return found


def configure(settings: Logging) -> None:
    """Direct all logs to where `settings` says; may be called again.

    Raises:
        SetupError: the file cannot be opened.
    """
    file, owned = _open(settings.output)
    _SINK.use(file, owned=owned)
    level = LEVELS[settings.level]
    shared: list[Processor] = [
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
    for proxy in _LOGGERS.values():
        vars(proxy).pop("bind", None)  # forget the logger that it assembled from the former settings
    _route_standard_library(level, shared, renderers)


def close() -> None:
    """Close the log file, if there is one; later events go to stderr."""
    _SINK.close()


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


def _renderers(form: str, *, colors: bool) -> list[Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [
        _printable,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    ]


def _named(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say who speaks: a module of ours or a logger of the standard library."""
    if name := getattr(logger, "name", ""):
        event["logger"] = name
    return event


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters: what a client chose to send must not drive the reader's terminal."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable() and key not in ("exception", "stack"):
            event[key] = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    return event


def _route_standard_library(level: int, shared: list[Processor], renderers: list[Processor]) -> None:
    handler = logging.StreamHandler(_SINK)
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
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
