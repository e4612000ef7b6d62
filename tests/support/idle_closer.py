"""A backend that closes idle connections after a short time, as servers do.

    backend = await IdleCloser(0.05).start()
    backend.close_idle()          # or at the worst of all moments

It runs in the test's own loop and counts its requests.
"""

import asyncio
from collections import Counter
from typing import cast

from tests.support.ports import free_port

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class IdleCloser:
    """Answers "ok"; the last part of each target is the request's own id.

    Attributes:
        gets: how often each id was asked for with GET; `posts` with anything else.
        connections: all that were ever opened.
        closed_idle: those that it closed because nothing was asked.
        crossed: those of them on which a request came after that: the race.
    """

    def __init__(self, idle_timeout: float) -> None:
        self.port = free_port()
        self.idle_timeout = idle_timeout
        self.gets: Counter[bytes] = Counter()
        self.posts: Counter[bytes] = Counter()
        self.connections = self.closed_idle = self.crossed = 0
        self.idle: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> "IdleCloser":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024
        )
        return self

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.close_idle()

    def close_idle(self, since: float = 0.0) -> None:
        """Close connections that have been idle for this many seconds."""
        before = asyncio.get_running_loop().time() - since
        for connection in [each for each in self.idle if each.idle_since <= before]:
            connection.close_idle()


class _Connection(asyncio.Protocol):
    """One request at a time; the timer runs from each answer to the next request."""

    def __init__(self, backend: IdleCloser) -> None:
        self._backend = backend
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._backend.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._backend.crossed += 1
            self._transport.abort()
            return
        self._stop_timer()
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, length = head.lower().partition(b"\r\ncontent-length: ")
        if len(body) < int(length.partition(b"\r\n")[0] or 0):
            return
        self._buffer = b""
        method, target, _ = head.split(b" ", 2)
        counted = self._backend.gets if method == b"GET" else self._backend.posts
        counted[target.rpartition(b"/")[2]] += 1
        self._transport.write(_ANSWER)
        self._backend.idle.add(self)
        loop = asyncio.get_running_loop()
        self.idle_since = loop.time()
        self._timer = loop.call_later(self._backend.idle_timeout, self.close_idle)

    def close_idle(self) -> None:
        """Close like a reset: data in transit is never read and gets RST."""
        self._stop_timer()
        self._backend.closed_idle += 1
        self._closing = True
        self._transport.write_eof()

    def _stop_timer(self) -> None:
        self._backend.idle.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
