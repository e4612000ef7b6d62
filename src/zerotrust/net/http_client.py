"""HTTP/1.1 client: keep-alive connections to one backend; after a 101, byte relays.

A connection is IDLE in its pool, waits for the HEAD of an answer, reads its BODY, and is IDLE
again; or it becomes a TUNNEL. It carries one request at a time.

A faulty backend may send more than one answer to one request. The next request on the connection
may be another client's, so these bytes must never count as its answer:

* After an answer without a body that a faulty backend may send a body with, the connection is
  closed.
* Bytes behind an answer, and bytes on an idle connection, close it.
* Bytes that arrive before the head of the next request is written fail that request on this
  connection. The owner sends it on a new connection if the old one has written none of it, or if it
  may be sent twice.
"""

import asyncio
import errno
import math
import resource
import select
import socket
import ssl
import sys
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final, Protocol

from zerotrust.errors import (
    ConnectTimeout,
    ForwardError,
    HttpError,
    UpstreamFailed,
    UpstreamsBusy,
    UpstreamUnreachable,
)
from zerotrust.http.body import Kind, Reader, reader_for, response_framing
from zerotrust.http.deviations import Forgive
from zerotrust.http.head import ResponseHead
from zerotrust.http.lenient_head import read_response_head
from zerotrust.model.upstream import UpstreamEndpoint
from zerotrust.net.awake_timeout import awake_timeout
from zerotrust.net.channel import BufferedChannel, Chunk, describe
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer

CONNECT_TIMEOUT: Final = 5.0
IDLE_TIMEOUT: Final = 4.0
"""Below the shortest keep-alive of common servers (Node: 5 s), so that a closing connection is
rarely used."""
MAX_IDLE: Final = 128
MAX_DIALS: Final = 128
"""Connections to one backend that are opened at the same time; further requests wait. A usual
listener queues as many connections that its program has not accepted (listen(2)), and a pool keeps
as many idle ones."""
RESERVED_DESCRIPTORS: Final = 128
"""Descriptors that backend connections never use. The metrics endpoint and the control socket take
32 connections each; the rest is for the tunnel's connections, the log and files."""
CAREFUL_IDLE: Final = 0.5
"""A request that cannot be sent again gets a connection that was used within this many seconds.
Servers keep idle connections for whole seconds."""
HASTY: Final = 60.0
"""Seconds for which a backend counts as hasty after it closed a kept connection before we did, or
sent bytes on it."""


class ResponseState(IntEnum):
    """State of a backend connection; see the module."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    TUNNEL = 3


class ResponseSink(Protocol):
    """Receiver of the answer to one request on a backend connection."""

    def response_interim(self, head: ResponseHead) -> None:
        """Handle a 1xx other than 101."""

    def response(self, head: ResponseHead, framing: tuple[Kind, int]) -> None:
        """Handle the final head."""

    def body(self, data: bytes, *, end: bool) -> None:
        """Handle bytes of the body, or of the new protocol after a 101."""

    def body_trailers(self, fields: bytes) -> None:
        """Handle the end of the answer with trailer fields."""

    def failed(self, error: ForwardError, *, untouched: bool, unsent: list[Chunk]) -> None:
        """Handle the failure of the connection.

        Args:
            untouched: no byte of an answer has arrived.
            unsent: the head of the request and the bytes sent behind it, if the connection has
                written none of them; else empty.
        """

    def drained(self) -> None:
        """Handle that the backend takes more: `congested` has become False."""


class ConnectionSink(Protocol):
    """Receiver of a new connection. One method is called, unless it withdraws before its turn."""

    def connected(self, connection: "BackendConnection") -> None:
        """Take the open connection; it is ready for `begin`."""

    def unreachable(self, error: ForwardError) -> None:
        """Handle a failed attempt; UpstreamsBusy if the reason is not the backend."""


class BackendConnection(BufferedChannel):
    """One connection to a backend.

    Attributes:
        idle_since: the loop's time of its return into the pool.
        keep: it may be used for another request.
        reused: it has carried a request before the current one.
        state: see ResponseState.
    """

    __slots__ = (
        "_behind_head",
        "_buffer",
        "_head_unwritten",
        "_heard",
        "_input_ended",
        "_method",
        "_poll",
        "_pool",
        "_reader",
        "_searched",
        "_sink",
        "idle_since",
        "keep",
        "reused",
        "state",
    )

    def __init__(self, coalescer: WriteCoalescer, pool: "BackendPool") -> None:
        super().__init__(coalescer)
        self._pool = pool
        self._sink: ResponseSink | None = None
        self._method = b""
        self._reader: Reader | None = None
        self._buffer = b""
        self._searched = 0
        self._heard = False
        self._head_unwritten = False
        self._behind_head = -1
        self._input_ended = False
        self._poll: select.poll | None = None
        self.state = ResponseState.IDLE
        self.keep = True
        self.reused = False
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """A request can be sent on the connection."""
        return (
            not (self._closing or self._input_ended or self.transport is None)
            and self.state is ResponseState.IDLE
        )

    def begin(self, sink: ResponseSink, method: bytes) -> None:
        """Start a request for the sink; its first `send` must be the request's head."""
        self._sink = sink
        self._method = method
        self._heard = False
        # On a new connection, early bytes can only be the answer to this request.
        self._head_unwritten = self.reused
        self._behind_head = -1
        self.state = ResponseState.HEAD

    def has_unread(self) -> bool:
        """Return True if the socket has bytes or an end of file that the loop has not read yet."""
        if self.transport is None:
            return False
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def release(self) -> None:
        """Return the connection to its pool: request and answer are complete."""
        self._sink = None
        if self._out or (self.transport is not None and self.transport.get_write_buffer_size()):
            # The answer came before the whole request was written. The backend may take the rest
            # for a request.
            self.abort()
            return
        self.resume_reading()
        self._pool.put(self)

    def detach(self) -> None:
        """Abort the connection, without further events for the sink."""
        self._sink = None
        self.abort()

    def finish(self) -> None:
        """Close the connection: both directions of its byte relay have ended."""
        self._sink = None
        self.close()

    def write(self) -> None:
        """Write the buffered bytes, unless the backend has sent unsolicited bytes: then fail the
        request."""
        if not self._head_unwritten or not self._out:
            super().write()
            return
        if self._behind_head < 0:
            if self._input_ended or self.has_unread():
                self._fail_unsolicited()
                return
            self._behind_head = -len(self._out[0])
        for chunk in self._out:
            self._behind_head += len(chunk)
        super().write()
        self._check_head_written()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._pool.connected()

    def data_received(self, data: bytes) -> None:
        state = self.state
        sink = self._sink
        if sink is None:
            # Bytes on an idle connection, or for a request that was given up.
            self.abort()
        elif state is ResponseState.TUNNEL:
            sink.body(data, end=False)
        elif state is ResponseState.BODY:
            self._read_body(data, sink)
        elif self._head_unwritten and not self._check_head_written():
            self._fail_unsolicited()
        else:
            self._buffer += data
            self._read_head(sink)

    def eof_received(self) -> bool:
        self._input_ended = True
        sink = self._sink
        if sink is None:
            return False
        if self.state is ResponseState.TUNNEL:
            sink.body(b"", end=True)
            return self.transport is not None and self.transport.can_write_eof()
        if self.state is ResponseState.BODY and self._reader is not None:
            try:
                self._reader.eof()
            except HttpError:
                self._fail(
                    UpstreamFailed("the backend closed the connection before the end of its answer")
                )
            else:
                self.state = ResponseState.IDLE
                sink.body(b"", end=True)
        return False

    def ended(self, error: Exception | None) -> None:
        self._pool.discard(self)
        if self.state is ResponseState.TUNNEL and error is None and not self._input_ended:
            # TLS has no half-close here: the end of the connection ends the backend's direction
            # too.
            self.eof_received()
        if self._sink is not None:
            untouched = self.state is ResponseState.HEAD and not self._buffer and not self._heard
            if untouched and self.reused:
                # The request and the close have crossed, so for the backend it was idle.
                self._pool.mark_hasty()
            self._fail(
                UpstreamFailed(f"the backend closed the connection: {describe(error)}"),
                untouched=untouched,
            )

    def drained(self) -> None:
        if self._sink is not None:
            self._sink.drained()

    # ---- inside

    def _check_head_written(self) -> bool:
        """Return whether the transport holds nothing of the head any more: at most what was sent
        behind it."""
        behind = self._behind_head
        if behind >= 0 and (
            self.transport is None or self.transport.get_write_buffer_size() <= behind
        ):
            self._head_unwritten = False
        return not self._head_unwritten

    def _fail_unsolicited(self) -> None:
        """Close: what has arrived is no answer to the request, which was not written yet."""
        self._pool.mark_hasty()
        self._fail(
            UpstreamFailed(
                "the backend closed a kept connection, or sent bytes on it, before the request was"
                " written"
            ),
            untouched=True,
            unsent=self._out if self._behind_head < 0 else [],
        )

    def _read_head(self, sink: ResponseSink) -> None:
        while (buffer := self._buffer) and self._sink is sink:
            try:
                end, head = read_response_head(buffer, self._searched, self._pool.forgive)
                if head is None:
                    self._searched = len(buffer)
                    return
                framing = response_framing(self._method, head)
            except HttpError as error:
                self._fail(UpstreamFailed(f"the backend's answer is not acceptable HTTP: {error}"))
                return
            self._buffer = buffer[end:]
            self._searched = 0
            if 100 <= head.status < 200 and head.status != 101:
                self._heard = True
                if head.announces_body:
                    self.keep = False
                sink.response_interim(head)
                continue
            rest, self._buffer = self._buffer, b""
            self._begin_body(head, framing, rest, sink)
            return

    def _begin_body(
        self, head: ResponseHead, framing: tuple[Kind, int], rest: bytes, sink: ResponseSink
    ) -> None:
        kind, length = framing
        if not head.keep_alive or (kind is Kind.NONE and (rest or _body_may_follow(head))):
            self.keep = False
        if kind is Kind.TUNNEL:
            self.state = ResponseState.TUNNEL
            self.keep = False
            sink.response(head, framing)
            if rest and self._sink is sink:
                sink.body(rest, end=False)
        elif kind is Kind.NONE:
            self.state = ResponseState.IDLE
            sink.response(head, framing)
        else:
            self.state = ResponseState.BODY
            self._reader = reader_for(kind, length, self._pool.forgive)
            sink.response(head, framing)
            if self._sink is sink:
                self._read_body(rest, sink)

    def _read_body(self, data: bytes, sink: ResponseSink) -> None:
        reader = self._reader
        assert reader is not None
        try:
            body, rest = reader.feed(data)
        except HttpError as error:
            self._fail(UpstreamFailed(f"the backend's answer is not acceptable HTTP: {error}"))
            return
        if rest is None:
            if body:
                sink.body(body, end=False)
            return
        self.state = ResponseState.IDLE
        self._reader = None
        if rest:
            self.keep = False
        if reader.trailers:
            if body:
                sink.body(body, end=False)
            sink.body_trailers(reader.trailers)
        else:
            sink.body(body, end=True)

    def _fail(
        self, error: ForwardError, *, untouched: bool = False, unsent: list[Chunk] | None = None
    ) -> None:
        sink, self._sink = self._sink, None
        self.abort()
        if sink is not None:
            sink.failed(error, untouched=untouched, unsent=unsent or [])


def _body_may_follow(head: ResponseHead) -> bool:
    """Return whether a backend that does not know that this answer has no body would send one,
    perhaps later."""
    if head.status in (204, 304):
        return head.announces_body
    # It answers HEAD: a GET would have a body unless its length is 0; without a length, until the
    # connection ends.
    return head.content_length != 0


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """Options of the connections to a backend.

    Attributes:
        endpoint: the backend's address.
        tls: the TLS context; None for plain HTTP.
        server_name: expected name in its certificate, if it is not the endpoint's host.
        connect_timeout: seconds to connect, with the TLS handshake.
        idle_timeout: seconds that an idle connection is kept for the next request.
        forgive: called with each deviation of an answer; None if answers are read strictly.
    """

    endpoint: UpstreamEndpoint
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    idle_timeout: float = IDLE_TIMEOUT
    forgive: Forgive | None = None


class DescriptorBudget:
    """Shares the process's file descriptors between the connections to all backends.

    A backend may have as many connections as are left for all. So one backend gets at most half of
    them, two get a third each, and some are always left for the next one.

    Attributes:
        limit: connections to all backends together.
        used: connections that are open or being opened.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @classmethod
    def of_process(cls) -> "DescriptorBudget":
        """Return a budget of all descriptors that the process may open, less
        `RESERVED_DESCRIPTORS`."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(
            sys.maxsize if limit == resource.RLIM_INFINITY else max(limit - RESERVED_DESCRIPTORS, 2)
        )

    def allows(self, connections: int) -> bool:
        """Return whether one backend may have this many connections; they are counted in `used`."""
        return connections <= self.limit - self.used


class BackendPool:
    """Pool of connections to one backend.

    The last one used is used next, so that surplus ones time out.

    Attributes:
        open: number of open connections, idle or in use.
        dialling: number of connections that are being opened.
        forgive: as in the options.
        hasty_until: time of the loop until which a request that cannot be sent again gets a new
            connection, because the backend closes idle ones early.
    """

    def __init__(
        self,
        options: ConnectOptions,
        *,
        coalescer: WriteCoalescer,
        tasks: Tasks,
        budget: DescriptorBudget,
    ) -> None:
        self._options = options
        self.forgive = options.forgive
        self._idle_timeout = options.idle_timeout
        self._coalescer = coalescer
        self._tasks = tasks
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._idle: list[BackendConnection] = []
        self._waiting: dict[ConnectionSink, bool] = {}
        self.open = 0
        self.dialling = 0
        self._closed = False
        self.hasty_until = -math.inf

    def take(self, now: float, *, careful: bool) -> BackendConnection | None:
        """Return an idle connection, ready for `begin`; None if there is none.

        Args:
            careful: the request cannot be sent again. A backend may close an idle connection at any
                time, and a request that is sent at that moment is lost. So return only a connection
                that was used within CAREFUL_IDLE, none if the backend is hasty, and none with
                unread bytes.
        """
        if careful and now < self.hasty_until:
            return None
        while self._idle:
            connection = self._idle[-1]
            idle = now - connection.idle_since
            old = idle >= self._idle_timeout
            if careful and not old and idle >= CAREFUL_IDLE:
                return None
            self._idle.pop()
            if not old and connection.usable and not (careful and connection.has_unread()):
                connection.reused = True
                return connection
            if not old:
                self.mark_hasty()
            connection.close()
        return None

    def mark_hasty(self) -> None:
        """Note that the backend closed a kept connection before we did, or sent bytes on it."""
        self.hasty_until = self._loop.time() + HASTY

    @property
    def idle(self) -> int:
        """Return the number of idle connections."""
        return len(self._idle)

    def dial(self, owner: ConnectionSink, *, probe: bool = False) -> None:
        """Open a connection for the owner, now or when fewer than `MAX_DIALS` are being opened.

        Args:
            probe: open it even if the backend has its share of the descriptors.
        """
        self._waiting[owner] = probe
        self._dial_next()

    def withdraw(self, owner: ConnectionSink) -> bool:
        """Cancel the dial of an owner; return False if its connection is being opened already.

        Then the owner is still called. It can `release` the connection for the next request.
        """
        if owner not in self._waiting:
            return False
        del self._waiting[owner]
        return True

    def connected(self) -> None:
        """Count a new connection."""
        self.open += 1
        self._budget.used += 1

    def put(self, connection: BackendConnection) -> None:
        """Take a connection back, or close it if it cannot be used again."""
        if (
            self._closed
            or not connection.keep
            or not connection.usable
            or len(self._idle) >= MAX_IDLE
        ):
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def discard(self, connection: BackendConnection) -> None:
        """Stop counting a connection that has ended."""
        self.open -= 1
        self._budget.used -= 1
        if connection in self._idle:
            self._idle.remove(connection)
            if self._loop.time() - connection.idle_since < self._idle_timeout:
                self.mark_hasty()

    def sweep(self, now: float) -> None:
        """Close connections that are idle for `idle_timeout`."""
        expired = [
            connection
            for connection in self._idle
            if now - connection.idle_since >= self._idle_timeout
        ]
        for connection in expired:
            self._idle.remove(connection)
            connection.close()

    def close(self) -> None:
        """Close idle connections; connections in use close with their requests."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _dial_next(self) -> None:
        while self._waiting and self.dialling < MAX_DIALS:
            owner, probe = next(iter(self._waiting.items()))
            del self._waiting[owner]
            self.dialling += 1
            self._budget.used += 1
            self._tasks.spawn(self._dial(owner, probe), "dial a backend")

    async def _dial(self, owner: ConnectionSink, probe: bool) -> None:
        connection = BackendConnection(self._coalescer, self)
        error: ForwardError | None = None
        try:
            if probe or self._budget.allows(self.open + self.dialling):
                error = await self._open(connection)
            else:
                error = UpstreamsBusy(
                    f"no descriptors are left for more than the {self.open} connections to the"
                    " backend"
                )
        finally:
            self.dialling -= 1
            self._budget.used -= 1
        self._dial_next()
        if error is None:
            owner.connected(connection)
        else:
            owner.unreachable(error)

    async def _open(self, connection: BackendConnection) -> ForwardError | None:
        """Open the connection; return the error if that fails."""
        seconds = self._options.connect_timeout
        try:
            async with awake_timeout(seconds):
                await self._connect(connection)
        except TimeoutError:
            return ConnectTimeout(f"the backend did not accept a connection within {seconds:g} s")
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return UpstreamsBusy("no file descriptors are left")
            return UpstreamUnreachable(f"cannot connect to the backend: {describe(error)}")
        except ValueError as error:  # a host name that cannot be encoded
            return UpstreamUnreachable(f"cannot connect to the backend: {error}")
        return (
            None
            if connection.usable
            else UpstreamFailed("the backend closed the connection at once")
        )

    async def _connect(self, connection: BackendConnection) -> None:
        endpoint, tls = self._options.endpoint, self._options.tls
        if endpoint.path:
            await self._loop.create_unix_connection(connection.as_protocol, endpoint.path)
            return
        if tls is not None:
            await self._connect_tls(connection, tls)
            return
        await self._loop.create_connection(connection.as_protocol, endpoint.host, endpoint.port)

    async def _connect_tls(self, connection: BackendConnection, tls: ssl.SSLContext) -> None:
        """Connect to the first address that accepts, and do the TLS handshake there.

        This uses the loop's own TLS instead of aiofastnet's: when reading is paused, aiofastnet
        1.2.0 keeps decrypted bytes back until the backend sends more. The loop gets addresses
        instead of a name, because its own look-up can't be given up (`net.resolver`).
        """
        endpoint = self._options.endpoint
        connect = partial(type(self._loop).create_connection, self._loop)
        found = await self._loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        for number, entry in enumerate(found, 1):
            try:
                await connect(
                    connection.as_protocol,
                    entry[4][0],
                    endpoint.port,
                    ssl=tls,
                    server_hostname=self._options.server_name or endpoint.host,
                )
            except OSError as error:
                if number == len(found) or isinstance(error, ssl.SSLError):
                    raise
            else:
                return
