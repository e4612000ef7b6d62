"""Server-sent events: lateness of each event, which carries its send time (monotonic clock)."""

import asyncio
import re
import time
from typing import Final, cast

from benchmarks.load.jobs import Endpoint
from benchmarks.load.loops import CompletionSink

_EVENT: Final = re.compile(rb"data: (\d+)\n\n")
_KEPT: Final = 64
"""Bytes kept of the last read, which may be the start of an event."""


class EventStream(asyncio.Protocol):
    """One event stream; `taken` has the lateness of each event in seconds."""

    def __init__(self, endpoint: Endpoint, path: str, sink: CompletionSink) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {endpoint.host}\r\nUser-Agent: 0trust-bench\r\n"
            "Accept: text/event-stream\r\n\r\n"
        ).encode()
        self._ends = sink
        self._rest = b""
        self._answered = False
        self._closing = False
        self.taken: list[float] = []

    def close(self) -> None:
        """Close the stream."""
        self._closing = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        data = self._rest + data
        if not self._answered:
            if not data.startswith(b"HTTP/1.1 200"):
                self._fail(data.partition(b"\r\n")[0].decode("latin-1"))
                return
            self._answered = True
        end = 0
        for event in _EVENT.finditer(data):
            self.taken.append((now - int(event[1])) / 1e9)
            end = event.end()
        self._rest = data[end:][-_KEPT:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._fail(f"a stream of events ended ({exc or 'without a reason'})")

    def _fail(self, reason: str) -> None:
        self._closing = True
        self._ends.failed(reason)
