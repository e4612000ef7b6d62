"""HTTP/1.1 connections from Caddy: one request at a time, each handed to a `RequestHandler`.

A connection is in one of five states:

    HEAD    waits for the head of a request          -> BODY or WAIT; DRAIN after an invalid head
    BODY    receives the body of the request         -> WAIT when the body is complete
    WAIT    waits for the end of the answer          -> HEAD; TUNNEL after a 101
    TUNNEL  relays bytes both ways                   -> closed when both directions have ended
    DRAIN   the last answer was sent while the client still sends. Discards what the client sends
            until it closes, so that no TCP reset destroys the answer (RFC 9112 s9.6)

Bytes that arrive in WAIT belong to the next request or, after an upgrade request, to the new
protocol. They are buffered. With more than `AHEAD_BYTES` of them the connection pauses reading, so
that they are at most `MAX_AHEAD_BYTES`.
"""

import asyncio
from enum import IntEnum
from typing import Final, Protocol

from zerotrust.errors import HttpError, LocalProtocolError
from zerotrust.http.body import (
    NO_BODY,
    CloseWriter,
    Kind,
    Reader,
    Writer,
    reader_for,
    request_framing,
    response_framing_fits,
    writer_for,
)
from zerotrust.http.error_responses import error_reply
from zerotrust.http.head import RequestHead, find_head_end, parse_request
from zerotrust.http.head_block import response_framing_lines
from zerotrust.net.channel import BufferedChannel
from zerotrust.net.write_coalescer import READ_BYTES, WriteCoalescer

AHEAD_BYTES: Final = 64 * 1024
"""With more bytes behind the current request than these, the connection pauses reading."""
MAX_AHEAD_BYTES: Final = AHEAD_BYTES + READ_BYTES
MAX_DRAIN_BYTES: Final = 16 * 1024 * 1024
HEAD_TIMEOUT: Final = 60.0
IDLE_TIMEOUT: Final = 600.0
"""Longer than the two minutes that Caddy keeps an idle connection, so that Caddy closes it
first."""
DRAIN_TIMEOUT: Final = 5.0
SWEEP: Final = 5.0
QUIET: Final = 0.3
"""Seconds. When the server drains, it closes keep-alive connections once they are idle for this
long, so that no request is lost that Caddy sends at the same moment."""


class RequestState(IntEnum):
    """State of a client connection; see the module."""

    HEAD = 0
    BODY = 1
    WAIT = 2
    TUNNEL = 3
    DRAIN = 4


class RequestSink(Protocol):
    """Receiver of the events of one request, and of the byte relay that it may become."""

    def body(self, data: bytes, *, end: bool) -> None:
        """Handle bytes of the request's body, or of the new protocol after a 101."""

    def body_trailers(self, fields: bytes) -> None:
        """Handle the end of the request with trailer fields."""

    def aborted(self) -> None:
        """Handle the loss of the client before the end of the answer. The last event."""

    def drained(self) -> None:
        """Handle that the client takes more: `congested` has become False."""


class RequestWatcher(Protocol):
    """Learns the status and the end of one request, whoever answers it."""

    def answering(self, status: int) -> None:
        """Note the status of the final head; it is about to be sent."""

    def half_closed(self, *, by_client: bool) -> None:
        """Note that the client or the backend is the first to end its half of a byte relay."""

    def ended(self, *, by_client: bool, received: int, sent: int) -> None:
        """Note the end of the request. The last call.

        Args:
            by_client: the client has gone, or has broken the protocol.
            received: bytes of the request's body, and of the byte relay that it became.
            sent: bytes of the answer's body, and of the byte relay.
        """


class RequestHandler(Protocol):
    """Handles the requests of all connections of a listener."""

    def request(
        self, connection: "HttpServerConnection", head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        """Handle a request; return its sink, or None if it has been answered already."""


class HttpServerConnection(BufferedChannel):
    """One client connection.

    The sink answers with `respond`, `respond_data` and `respond_trailers`, or with `reply`.

    An answer ends at the byte at which it ends for the client; the methods return that at once.
    From then on the connection belongs to the next request, and the sink must not use it any more.

    Attributes:
        buffer: bytes that were received and not parsed yet.
        watcher: learns the end of the current request; the handler sets it.
        received, sent: body bytes of the current request and of its answer so far; after an
            upgrade, bytes of the relay.
    """

    __slots__ = (
        "_drained",
        "_handler",
        "_head",
        "_input_ended",
        "_keep_alive",
        "_last",
        "_loop",
        "_output_ended",
        "_reader",
        "_responded",
        "_searched",
        "_siblings",
        "_since",
        "_sink",
        "_state",
        "_writer",
        "buffer",
        "peer_host",
        "received",
        "sent",
        "watcher",
    )

    def __init__(
        self,
        coalescer: WriteCoalescer,
        handler: RequestHandler,
        siblings: "set[HttpServerConnection]",
    ) -> None:
        super().__init__(coalescer)
        self._loop = asyncio.get_running_loop()
        self._handler = handler
        self._siblings = siblings
        self.peer_host: str | None = None
        self._state = RequestState.HEAD
        self.buffer = b""
        self._searched = 0
        self._drained = 0
        self._since = self._loop.time()
        self._head: RequestHead | None = None
        self._keep_alive = False
        self._last = False
        self._reader: Reader | None = None
        self._writer: Writer | None = None
        self._sink: RequestSink | None = None
        self._responded = False
        self._input_ended = False
        self._output_ended = False
        self.watcher: RequestWatcher | None = None
        self.received = self.sent = 0

    # ---- called by the handler and the sink

    def respond_interim(self, block: bytes) -> None:
        """Send a 1xx response, but not to HTTP/1.0 clients (RFC 9110 s15.2)."""
        if self._head is not None and self._head.minor == 1:
            self.send(block)
            self.send(b"\r\n")

    def respond(self, block: bytes, status: int, kind: int, length: int, *, announce: bool) -> bool:
        """Send the final head; with `Kind.TUNNEL` the connection becomes a byte relay.

        Args:
            block: start line, with `status`, and fields without framing.
            announce: send `length` as Content-Length although no body follows.

        Returns:
            True if the answer ends with its head.

        Raises:
            LocalProtocolError: the client would expect another end of this answer; nothing was
                sent.
        """
        head = self._head
        assert head is not None
        if not response_framing_fits(head.method, status, kind, length, announce=announce):
            raise LocalProtocolError(
                f"status {status} to {head.method.decode()} with a body of kind {kind}"
            )
        if kind == Kind.TUNNEL and head.fields.upgrade is None:
            raise LocalProtocolError("status 101 to a request without Upgrade")
        self._responded = True
        if self.watcher is not None:
            self.watcher.answering(status)
        if kind == Kind.TUNNEL:
            self.send(block + response_framing_lines(Kind.TUNNEL, 0, close=False, upgrade=True))
            self._state = RequestState.TUNNEL
            self._writer = None
            ahead, self.buffer = self.buffer, b""
            self.received = len(ahead)
            self.resume_reading()
            if ahead and self._sink is not None:
                self._sink.body(ahead, end=False)
            if self._input_ended and self._sink is not None:
                self._sink.body(b"", end=True)
            return False
        if kind == Kind.CHUNKED and head.minor == 0:
            kind = Kind.CLOSE
            self._keep_alive = False
        self._keep_alive = self.reusable()
        framing = Kind.LENGTH if announce else kind
        self.send(
            block
            + response_framing_lines(framing, length, close=not self._keep_alive, upgrade=False)
        )
        if kind == Kind.NONE or (kind == Kind.LENGTH and not length):
            self._finish()
            return True
        self._writer = writer_for(kind, length)
        return False

    def become_tunnel(self, block: bytes, sink: RequestSink) -> None:
        """Answer with 101 and relay bytes to `sink`, which owns the connection from now on.

        The listener no longer counts or closes it.
        """
        self._siblings.discard(self)
        self._sink = sink
        self.respond(block, 101, Kind.TUNNEL, 0, announce=False)

    def respond_data(self, data: bytes, *, end: bool = False) -> bool:
        """Send bytes of the body.

        Returns:
            True if the answer has ended: with the last byte of the announced length, even before
                `end`.

        Raises:
            LocalProtocolError: the body does not have the announced length; call `break_off`.
        """
        self.sent += len(data)
        if self._state is RequestState.TUNNEL:
            if data:
                self.send(data)
            if end:
                self._end_output()
            return False
        writer = self._writer
        assert writer is not None
        if data:
            for piece in writer.write(data):
                self.send(piece)
        if not end and not writer.complete:
            return False
        self._respond_end(writer, b"")
        return True

    def respond_trailers(self, fields: bytes) -> None:
        """End the body with trailer fields; without them if the body is not chunked.

        Raises:
            LocalProtocolError: the body does not have the announced length; call `break_off`.
        """
        writer = self._writer
        assert writer is not None
        self._respond_end(writer, fields)

    def reply(self, response: bytes, *, close: bool) -> None:
        """Send a whole response; `close` ends the connection after it."""
        self._responded = True
        if self.watcher is not None:
            self.watcher.answering(int(response[9:12]))
            self.sent = len(response) - response.index(b"\r\n\r\n") - 4
        self.send(response)
        if close:
            self._keep_alive = False
        self._finish()

    def set_sink(self, sink: RequestSink) -> None:
        """Make another owner the sink of the request that is under way."""
        self._sink = sink

    def break_off(self) -> None:
        """Abort the connection within an answer, so that the client sees that it is incomplete."""
        self._sink = None
        self._end_watch(by_client=False)
        self.flush()
        if isinstance(self._writer, CloseWriter):
            self.reset_on_close()
        self.abort()

    def finish(self) -> None:
        """End a byte relay: send the last bytes of the backend, and ignore what the client
        sends."""
        self._sink = None
        self._end_watch(by_client=False)
        self.close()

    def leave(self, last: bytes) -> None:
        """End a byte relay with these bytes, and give the client time to read them."""
        self._sink = None
        self._end_watch(by_client=False)
        self.send(last)
        self._drain()

    @property
    def is_websocket(self) -> bool:
        """The request's Upgrade names only WebSocket (RFC 6455 s4.1)."""
        protocols = self._head.fields.upgrade if self._head is not None else None
        return protocols is not None and protocols.lower() == b"websocket"

    @property
    def tunnelled(self) -> bool:
        """The connection has become a byte relay."""
        return self._state is RequestState.TUNNEL

    @property
    def responded(self) -> bool:
        """The final head has been sent, so an error can only break the answer off."""
        return self._responded

    @property
    def has_request(self) -> bool:
        """A request is running, or the connection has become a byte relay."""
        return (
            not self._closing
            and self._state is not RequestState.HEAD
            and self._state is not RequestState.DRAIN
        )

    @property
    def since(self) -> float:
        """The loop's time at which the connection began to wait for a head, or to drain."""
        return self._since

    def end_keep_alive(self) -> None:
        """Close the connection after the current request, or after the next one if there is none.

        If the head of the current answer has announced keep-alive, one more request is accepted.
        """
        self._last = True
        if not self._responded:
            self._keep_alive = False

    def close_if_idle(self, now: float) -> bool:
        """Close a connection that is idle for QUIET; return True if no request runs or may come.

        Byte relays have no request.
        """
        if self._state is RequestState.HEAD:
            if self.buffer or now - self._since < QUIET:
                return False
            self.close()
            return True
        return self._state is not RequestState.BODY and self._state is not RequestState.WAIT

    def sweep(self, now: float) -> None:
        """Close the connection if it has exceeded a timeout. Runs every `SWEEP` seconds."""
        waited = now - self._since
        if self._state is RequestState.HEAD:
            if self.buffer and waited > HEAD_TIMEOUT:
                self._fail(HttpError(f"no complete request within {HEAD_TIMEOUT:g} s", 408))
            elif waited > IDLE_TIMEOUT:
                self.close()
        elif self._state is RequestState.DRAIN and waited > DRAIN_TIMEOUT:
            self.abort()

    def resume_reading(self) -> None:
        if self._state is not RequestState.WAIT or len(self.buffer) <= AHEAD_BYTES:
            super().resume_reading()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = self.peer()
        self.peer_host = peer[0] if isinstance(peer, tuple) else None
        if self.peer_host is None and not self.is_local():
            # The client has reset the connection already. Without an address it would count as a
            # client of a unix socket, so no request of it is read.
            self._closing = True
            self._state = RequestState.DRAIN
        if self._closing and self.transport is not None:
            # Or aborted before it was made. The loop starts reading after this callback, and would
            # never stop if the transport were aborted here.
            self._loop.call_soon(self.transport.abort)
        else:
            self._siblings.add(self)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is RequestState.TUNNEL:
            self.received += len(data)
            if self._sink is not None:
                self._sink.body(data, end=False)
        elif state is RequestState.BODY:
            self._read_body(data)
        elif state is RequestState.HEAD:
            self.buffer += data
            self._read_head()
        elif state is RequestState.WAIT:
            self.buffer += data
            if len(self.buffer) > AHEAD_BYTES:
                self.pause_reading()
        else:
            self._drained += len(data)
            if self._drained > MAX_DRAIN_BYTES:
                self.abort()

    def eof_received(self) -> bool:
        self._input_ended = True
        if self._state is RequestState.TUNNEL:
            sink = self._sink
            if self._output_ended:
                self._sink = None
            elif self.watcher is not None:
                self.watcher.half_closed(by_client=True)
            if sink is not None:
                sink.body(b"", end=True)
            return not self._output_ended
        # A half-close before the answer means that the client went away: Caddy does so when its own
        # client aborts.
        return (
            self._head is not None and self._head.fields.upgrade is not None and not self._responded
        )

    def ended(self, error: Exception | None) -> None:
        self._siblings.discard(self)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.aborted()
        self._end_watch(by_client=True)

    def drained(self) -> None:
        if self._sink is not None:
            self._sink.drained()

    # ---- inside

    def _read_head(self) -> None:
        buffer = self.buffer
        try:
            end = find_head_end(buffer, self._searched)
            if end < 0:
                if not self._searched:
                    self._since = self._loop.time()
                self._searched = len(buffer)
                return
            head = parse_request(buffer[:end])
        except HttpError as error:
            self._fail(error)
            return
        # A request with an upgrade has no body, or one of length 0.
        framing = request_framing(head.fields) if head.fields.upgrade is None else NO_BODY
        # The bytes behind the head stay in the buffer: if the handler answers at once, they are the
        # next request.
        self.buffer = buffer[end:]
        self._searched = 0
        self._head = head
        self._keep_alive = head.fields.keep_alive and not self._last
        self._responded = False
        self._sink = None
        self.received = self.sent = 0
        if framing[0] is not Kind.NONE:
            self._state = RequestState.BODY
        else:
            self._state = RequestState.WAIT
            if len(self.buffer) > AHEAD_BYTES:
                self.pause_reading()
        sink = self._handler.request(self, head, framing)
        if sink is None or self._closing:
            return
        self._sink = sink
        if framing[0] is not Kind.NONE:
            self._reader = reader_for(*framing)
            rest, self.buffer = self.buffer, b""
            self._read_body(rest)

    def _read_body(self, data: bytes) -> None:
        reader = self._reader
        assert reader is not None
        try:
            body, rest = reader.feed(data)
        except HttpError as error:
            self._broken_request(error)
            return
        sink = self._sink
        self.received += len(body)
        if rest is None:
            if body and sink is not None:
                sink.body(body, end=False)
            return
        self._state = RequestState.WAIT
        self._reader = None
        self.buffer += rest
        if len(rest) > AHEAD_BYTES:
            self.pause_reading()
        if sink is None:
            return
        if reader.trailers:
            if body:
                sink.body(body, end=False)
            if self._sink is sink:
                sink.body_trailers(reader.trailers)
        else:
            sink.body(body, end=True)

    def _broken_request(self, error: HttpError) -> None:
        """Fail a request whose body breaks its framing, so that the backend does not see a
        complete one."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.aborted()
        if self._responded:
            self.abort()
        else:
            self._fail(error)

    def _fail(self, error: HttpError) -> None:
        self._responded = True
        self._reader = None
        if self.watcher is not None:
            self.watcher.answering(error.reply)
            self._end_watch(by_client=True)
        self.send(
            error_reply(
                error.reply,
                code=error.code,
                hop=error.hop,
                message=str(error),
                request_id="-",
                close=True,
                head_only=False,
                retry_after=None,
            )
        )
        self._drain()

    def reusable(self) -> bool:
        """Return True if the connection stays open after this request."""
        head = self._head
        if (
            head is None
            or not self._keep_alive
            or self._state is not RequestState.WAIT
            or self._input_ended
        ):
            return False
        # After a refused upgrade, buffered bytes belong to the new protocol; they are not a
        # request.
        return head.fields.upgrade is None or not self.buffer

    def _respond_end(self, writer: Writer, fields: bytes) -> None:
        for piece in writer.end(fields):
            self.send(piece)
        self._writer = None
        self._finish()

    def _finish(self) -> None:
        """End the answer: go on with the next request, or end the connection."""
        self._sink = None
        self._end_watch(by_client=False)
        if not self.reusable():
            self._drain()
            return
        self._head = None
        self._state = RequestState.HEAD
        self._since = self._loop.time()
        if self.buffer:
            # In another turn, so that pipelined requests do not become a recursion.
            self._loop.call_soon(self._next_request)
        else:
            self._read_on()

    def _end_watch(self, *, by_client: bool) -> None:
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.ended(by_client=by_client, received=self.received, sent=self.sent)

    def _next_request(self) -> None:
        if self._state is RequestState.HEAD and not self._closing:
            self._read_on()
            if self.buffer:
                self._read_head()

    def _read_on(self) -> None:
        if self.transport is not None and not self.transport.is_reading():
            self.transport.resume_reading()

    def _drain(self) -> None:
        """Close after giving the client time to read the answer."""
        if self._state is RequestState.WAIT and not self.buffer:
            self.close()
            return
        self._state = RequestState.DRAIN
        self._drained = 0
        self.buffer = b""
        self._since = self._loop.time()
        self.send_eof()
        self._read_on()

    def _end_output(self) -> None:
        self._output_ended = True
        if self._input_ended:
            self._sink = None
            self.close()
        else:
            if self.watcher is not None:
                self.watcher.half_closed(by_client=False)
            self.send_eof()
