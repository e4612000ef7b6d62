"""Access log: writes a line for each finished request, in a thread of its own.

The loop's thread only appends the record to a bounded queue. If the disk is slower than the
requests, records are lost and counted; no request waits.
"""

import contextlib
import json
import logging
import random
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from zerotrust.errors import SetupError
from zerotrust.model.access_log import AccessLog
from zerotrust.telemetry.logs import escape_controls
from zerotrust.telemetry.request_record import RequestRecord

MAX_QUEUED: Final = 16_384
"""Records that wait for the thread; with the longest targets 40 MiB."""
INTERVAL: Final = 0.25
"""Seconds in which the thread collects records for one write."""
_TURN: Final = 16
"""Lines after which the thread lets the loop run: formatting them takes 0.2 ms."""
_BATCH: Final = 512
"""Lines of one write."""
_CLOSE_TIMEOUT: Final = 2.0
_MODE: Final = 0o640

_PARTS: Final = ("policy", "tunnel", "connect", "backend", "body")
"""Parts of a request's duration, besides `waited`."""

_PLAIN: Final = re.compile(r'[^\s"=]+')

Fields = dict[str, str | int | float]


def fields_of(record: RequestRecord, *, query: bool) -> Fields:
    """Return the fields of a line; those without a value are left out.

    Args:
        query: with the query.
    """
    fields: Fields = {
        "time": _iso(record.time),
        "request": record.id,
        "client": record.client.decode("ascii", "replace"),
        "subject": record.subject,
        "method": record.method.decode("ascii", "replace"),
        "scheme": record.scheme.decode("ascii", "replace"),
        "host": record.host,
        "path": record.path,
        "query": record.query if query else "",
    }
    fields = {name: value for name, value in fields.items() if value != ""}
    fields |= {"status": record.status, "received": record.received, "sent": record.sent}
    fields["duration"] = round(record.duration, 6)
    if record.edge is not None:
        fields["edge"] = round(record.edge, 6)
    if record.waited:
        fields["wait"] = round(record.waited, 6)
    for part in _PARTS:
        seconds = getattr(record, part)
        if seconds is not None:
            fields[part] = round(seconds, 6)
    for name in ("agent", "service", "upstream", "error"):
        if value := getattr(record, name):
            fields[name] = value
    if record.trace is not None:
        fields["trace"] = f"{record.trace.trace_id:032x}"
    if record.tries > 1:
        fields["tries"] = record.tries
    fields["ended_by"] = record.ended_by
    return fields


def json_line(fields: Fields) -> str:
    """Return a line for programs, in ASCII."""
    return escape_controls(json.dumps(fields, separators=(",", ":")))


def console_line(fields: Fields) -> str:
    """Return a line for people."""
    rest = dict(fields)
    query = rest.pop("query", "")
    parts = [
        f"{rest.pop('time')} {rest.pop('status')} {rest.pop('method')} {rest.pop('scheme', '-')}://"
        f"{rest.pop('host', '-')}{rest.pop('path', '')}{'?' if query else ''}{query}"
    ]
    for name, value in rest.items():
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        parts.append(f"{name}={text if _PLAIN.fullmatch(text) else json.dumps(text)}")
    return escape_controls(" ".join(parts))


class AccessLogWriter:
    """Writes the access log. `add` belongs to the loop's thread.

    Attributes:
        lost: lines that were not written, by reason: `queue` (the queue was full) or `output` (the
            file or stream failed).

    Raises:
        SetupError: the file can't be opened.
    """

    def __init__(self, settings: AccessLog) -> None:
        self.lost: Counter[str] = Counter(queue=0, output=0)
        self._settings = settings
        self._queue: deque[RequestRecord] = deque()
        self._write = self._open(settings)
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of records that the thread has not taken."""
        return len(self._queue)

    def add(self, record: RequestRecord) -> None:
        """Write a line for a finished request, later."""
        sample = self._settings.sample
        if sample < 1.0 and not record.failed and random.random() >= sample:  # noqa: S311
            return
        if len(self._queue) >= MAX_QUEUED:
            self.lost["queue"] += 1
            return
        self._queue.append(record)
        if not self._awake.is_set():
            self._awake.set()

    def has_output_of(self, settings: AccessLog) -> bool:
        """Return True if other settings have the same file or stream, and the same rotation."""
        before = self._settings
        return (before.output, before.max_size, before.keep) == (
            settings.output,
            settings.max_size,
            settings.keep,
        )

    def reconfigure(self, settings: AccessLog) -> None:
        """Use other settings for the same output."""
        self._settings = settings

    def close(self) -> None:
        """Write what waits, for two seconds at most, and close the file."""
        self._closing.set()
        self._awake.set()
        self._thread.join(_CLOSE_TIMEOUT)

    # ---- the thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._awake.wait()
            self._closing.wait(INTERVAL)
            self._awake.clear()
            self._drain()
        self._drain()
        self._close_output()

    def _drain(self) -> None:
        while self._queue:
            settings = self._settings
            line = json_line if settings.format == "json" else console_line
            lines: list[str] = []
            while self._queue and len(lines) < _BATCH:
                lines.append(line(fields_of(self._queue.popleft(), query=settings.query)))
                if len(lines) % _TURN == 0:
                    time.sleep(0)  # gives the interpreter to the loop's thread
            try:
                self._write("\n".join(lines))
            except (OSError, ValueError):
                self.lost["output"] += len(lines)

    def _open(self, settings: AccessLog) -> Callable[[str], None]:
        self._handler: _RotatingFile | None = None
        if settings.output in ("stdout", "stderr"):
            return _to_stream(settings.output)
        name = settings.output or ""
        try:
            # To open a FIFO would block the server until somebody reads it.
            if Path(name).is_fifo():
                raise SetupError(
                    f'access_log.output: "{name}" is a FIFO; give the path of a file, or'
                    " set access_log.output to stdout"
                )
            self._handler = _RotatingFile(
                name,
                maxBytes=settings.max_bytes,
                backupCount=settings.keep,
                encoding="ascii",
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SetupError(
                f'access_log.output: cannot open "{name}": {reason}; create its folder and make it'
                " writable, or set access_log.output to stdout"
            ) from error
        return self._handler.write

    def _close_output(self) -> None:
        if self._handler is not None:
            with contextlib.suppress(OSError):  # what could not be written is counted already
                self._handler.close()


class _RotatingFile(RotatingFileHandler):
    """A file that is renamed when it is too large. Other users cannot read it."""

    def write(self, text: str) -> None:
        """Write lines.

        Raises:
            OSError: the disk is full, or the file can't be renamed.
        """
        self.emit(logging.makeLogRecord({"msg": text}))

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).touch(mode=_MODE)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - of the library
        """Let the caller of `write` know."""
        raise  # noqa: PLE0704 - called in an except block


def _to_stream(name: str) -> Callable[[str], None]:
    def write(text: str) -> None:
        # Looked up for each write, because tests and daemons replace the streams.
        stream = sys.stdout if name == "stdout" else sys.stderr
        stream.write(text + "\n")
        stream.flush()

    return write


def _iso(seconds: float) -> str:
    whole, fraction = divmod(seconds, 1)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{text}.{int(fraction * 1000):03}Z"
