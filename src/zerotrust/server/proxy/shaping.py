"""Bandwidth shaping of a relay, by back-pressure: no byte is dropped.

A `ShapedRelay` stands between a relay and its two ends, only where the service has bandwidth
limits. Bytes that may not pass yet wait here, and their source is stopped. Of an upload one read
waits, because the connection is not read any further. Of a download the stream's window waits,
because the agent gets no credit for bytes that have not passed. Nothing overtakes: ends, trailers
and resets wait for the bytes before them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from zerotrust.limits.shaper import Flow
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.server.agents.service_shaping import DirectionShaper, ServiceShaping
from zerotrust.server.proxy.relay import Relay
from zerotrust.server.proxy.request_context import RequestContext
from zerotrust.tunnel.codes import Code


class ShapedBuffer(Flow):
    """Bytes of one direction of a stream that may not pass yet."""

    __slots__ = ("_after", "_ended", "_loop", "_offset", "_pieces", "_relay", "_shaper")

    def __init__(
        self, relay: Relay, shaper: DirectionShaper, client: bytes, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(shaper.shaper.queue_for(client, loop.time()))
        self._relay = relay
        self._shaper = shaper
        self._loop = loop
        self._pieces: deque[bytes] = deque()
        self._offset = 0
        self._ended = False
        self._after: deque[Callable[[], None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def ends(self) -> bool:
        """The end of the direction waits behind bytes."""
        return self._ended and bool(self._pieces)

    def put(self, data: bytes, *, end: bool) -> None:
        """Send the bytes that may pass, and buffer the rest."""
        self._ended = end
        if data:
            self._pieces.append(data)
            self._shaper.shaper.enqueue(self, len(data))
            self._shaper.run(self._loop)
        elif not self._pieces:
            self._send(b"", end=end)

    def then(self, act: Callable[[], None]) -> None:
        """Call `act` when all buffered bytes have passed, or now where there are none."""
        if self._pieces:
            self._after.append(act)
        else:
            act()

    def drop(self) -> None:
        """Drop all that waits."""
        self._pieces.clear()
        self._offset = 0
        self._after.clear()
        self._shaper.shaper.cancel(self)

    def passed(self, count: int) -> None:
        pieces = self._pieces
        while count and pieces:
            piece, first = pieces[0], self._offset
            last = min(first + count, len(piece))
            count -= last - first
            self._offset = last
            if last == len(piece):
                pieces.popleft()
                self._offset = 0
            self._send(piece[first:last], end=self._ended and not pieces)
        while self._after and not pieces:
            self._after.popleft()()

    def _send(self, data: bytes, *, end: bool) -> None:
        raise NotImplementedError


class Upload(ShapedBuffer):
    """Bytes from the client to the agent."""

    __slots__ = ()

    def _send(self, data: bytes, *, end: bool) -> None:
        # The stream may be over while the end of its answer still waits in the other direction.
        if self._relay.takes_more:
            self._relay.body(data, end=end)
        else:
            self.drop()


class Download(ShapedBuffer):
    """Bytes from the agent to the client."""

    __slots__ = ()

    def _send(self, data: bytes, *, end: bool) -> None:
        self._relay.data(data, end=end)


class ShapedRelay:
    """Wrapper of a relay that delays its bytes; it has the same callers."""

    __slots__ = ("_connection", "_down", "_up", "relay")

    def __init__(
        self,
        relay: Relay,
        connection: HttpServerConnection,
        shaping: ServiceShaping,
        *,
        client: bytes,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.relay = relay
        self._connection = connection
        self._up = Upload(relay, shaping.up, client, loop) if shaping.up is not None else None
        self._down = (
            Download(relay, shaping.down, client, loop) if shaping.down is not None else None
        )
        relay.stream.sink = self

    # ---- from the client

    def body(self, data: bytes, *, end: bool) -> None:
        up = self._up
        if not self.relay.takes_more:
            self._connection.pause_reading()
        elif up is None:
            self.relay.body(data, end=end)
        else:
            up.put(data, end=end)
            if up:
                self._connection.pause_reading()
                up.then(self._resume_reading)

    def body_trailers(self, fields: bytes) -> None:
        if self._up is None:
            self._send_trailers(fields)
        else:
            self._up.then(partial(self._send_trailers, fields))

    def aborted(self) -> None:
        self._drop()
        self.relay.aborted()

    def drained(self) -> None:
        self.relay.drained()

    # ---- from the agent

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        self.relay.head(payload, end=end, interim=interim)

    def data(self, payload: bytes, *, end: bool) -> None:
        if self._down is None:
            self.relay.data(payload, end=end)
        else:
            self._down.put(payload, end=end)

    def trailers(self, payload: bytes) -> None:
        if self._down is None:
            self.relay.trailers(payload)
        else:
            self._down.then(partial(self.relay.trailers, payload))

    def reset(self, code: Code, reason: str) -> None:
        if self._up is not None:
            if self._up:
                self.relay.stop_replay()
            self._up.drop()
        down = self._down
        if down is None:
            self.relay.reset(code, reason)
        elif self.relay.delivers_rest(code, ended=down.ends):
            down.then(partial(self.relay.reset, code, reason))
        else:
            down.drop()
            self.relay.reset(code, reason)

    def writable(self) -> None:
        if not self._up:
            self.relay.writable()

    # ---- from the server (server.agents.session_control.OpenRequest)

    @property
    def registered_host(self) -> str:
        """The host name or wildcard of the service that the request belongs to."""
        return self.relay.registered_host

    @property
    def context(self) -> RequestContext:
        """The request."""
        return self.relay.context

    @property
    def over(self) -> bool:
        """The relay no longer uses the connection."""
        return self.relay.over

    def withdraw(self, reason: str) -> None:
        """End the request at once, with all that waits: its client may not go on with it."""
        self._drop()
        self.relay.withdraw(reason)

    def cut(self, reason: str) -> None:
        """End the request at once, with all that waits."""
        self._drop()
        self.relay.cut(reason)

    def depart(self, *, by_agent: bool) -> None:
        """End an upgraded connection where its protocol allows it."""
        self.relay.depart(by_agent=by_agent)

    # ---- inside

    def _drop(self) -> None:
        for buffer in (self._up, self._down):
            if buffer is not None:
                buffer.drop()

    def _send_trailers(self, fields: bytes) -> None:
        if self.relay.takes_more:
            self.relay.body_trailers(fields)

    def _resume_reading(self) -> None:
        if not self.relay.over and not self.relay.stream.blocked:
            self._connection.resume_reading()
