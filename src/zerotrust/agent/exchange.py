"""Exchange of one request and its response, between a tunnel stream and a backend connection."""

import asyncio
import math
from collections import Counter
from time import perf_counter
from typing import Final

from zerotrust.agent.exchange_span import ExchangeSpan
from zerotrust.agent.services import LiveService
from zerotrust.agent.upstreams import UpstreamHandle, UpstreamSelection, removed_error
from zerotrust.balancing.passive_health import Failure
from zerotrust.errors import (
    ForwardError,
    LocalProtocolError,
    UpstreamFailed,
    UpstreamsBusy,
    UpstreamTimeout,
)
from zerotrust.http.body import Kind, Writer, writer_for
from zerotrust.http.head import IDEMPOTENT, ResponseHead
from zerotrust.http.head_block import check_trailers, request_framing_lines, response_block
from zerotrust.net.channel import Chunk
from zerotrust.net.http_client import BackendConnection
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import MAX_HEAD_FRAME_BYTES, RequestOpen, pack_head, pack_report
from zerotrust.tunnel.codes import (
    FLAG_ANNOUNCE,
    FLAG_REPORT,
    FLAG_TRAILERS,
    FLAG_UPGRADE,
    KIND_CHUNKED,
    KIND_NONE,
    Code,
)
from zerotrust.tunnel.error_codes import code_for, reason_for
from zerotrust.tunnel.session import Session
from zerotrust.tunnel.stream import Stream, StreamState

_log = logs.logger("exchange")

_EXPECT: Final = b"\r\nExpect: 100-continue\r\n"
"""With this field, the backend answers before the client sends the body (RFC 9110 s10.1.1)."""

MAX_INTERIM_BYTES: Final = 64 * 1024
"""Bytes of all interim answers (1xx) to one request. They need no credit, so without a limit a
backend could fill the session that all services share. Early hints of a page have some
kilobytes."""
_INTERIM_OVERHEAD: Final = 2048
"""Bytes added for each interim answer, so that their number stays below
`tunnel.stream.MAX_INTERIM_HEADS` (32)."""


class Exchange:
    """Sends one request to a backend, and its response back.

    It exists from OPEN until both directions of the stream have ended, or either side breaks off.

    The response timeout (`_deadline`) runs while the backend has the whole request, or does not
    accept more of it. It does not run while the client stalls in its upload.

    Args:
        running: all running exchanges of the session.
        failures: counts failed requests by error code.

    Attributes:
        tunnelled: the backend has answered 101; the exchange relays bytes.
        connection: the connection to the backend; None while there is none.
        span: the span of the exchange; None without tracing.
    """

    __slots__ = (
        "_answered",
        "_began_at",
        "_buffered",
        "_buffered_end",
        "_buffered_trailers",
        "_deadline",
        "_dialling",
        "_ended",
        "_failures",
        "_has_progress",
        "_interim_bytes",
        "_loop",
        "_method",
        "_needs_new_connection",
        "_opened_at",
        "_progress_at",
        "_repeatable",
        "_request",
        "_response_ended",
        "_running",
        "_selection",
        "_sent_at",
        "_service",
        "_session",
        "_stream",
        "_unconsumed",
        "_unsent",
        "_upstream",
        "_writer",
        "connection",
        "span",
        "tunnelled",
    )

    def __init__(
        self,
        stream: Stream,
        request: RequestOpen,
        service: LiveService,
        *,
        session: Session,
        loop: asyncio.AbstractEventLoop,
        running: "set[Exchange]",
        failures: Counter[str],
    ) -> None:
        self._session = session
        self._loop = loop
        self._running = running
        self._failures = failures
        self._stream = stream
        self._request = request
        self._service = service
        self._method = request.block[: request.block.index(b" ")]
        self.connection: BackendConnection | None = None
        self._writer: Writer | None = None
        # Joined, because the limit counts bytes: an object for each frame could take a hundred
        # times as much.
        self._buffered: bytearray | None = None
        self._buffered_end = False
        self._buffered_trailers: bytes | None = None
        # The framed body of a request that the connection failed to write.
        self._unsent: list[Chunk] = []
        self._ended = False
        self._unconsumed = self._interim_bytes = 0
        self._answered = self._response_ended = self.tunnelled = self._needs_new_connection = (
            self._dialling
        ) = False
        self._repeatable = request.kind == KIND_NONE and self._method in IDEMPOTENT
        self._upstream: UpstreamHandle | None = None
        self._selection: UpstreamSelection | None = None
        now = loop.time()
        self._began_at = self._progress_at = now
        self._has_progress = False
        self._deadline = now + service.timeouts.response
        # Of `perf_counter`, while the server asks for a report; else 0.
        self._opened_at = perf_counter() if request.flags & FLAG_REPORT else 0.0
        self._sent_at = 0.0
        self.span: ExchangeSpan | None = None
        running.add(self)

    def start(self) -> None:
        """Send the request to an upstream, now or as soon as one has room."""
        upstreams = self._service.upstreams
        upstream = upstreams.only
        if upstream is None:
            selection = self._selection = UpstreamSelection(upstreams, self._request.block)
            try:
                upstream = upstreams.admit(self, selection, self._began_at)
            except ForwardError as error:
                self._fail(error)
                return
        if upstream is None:
            self._deadline = math.inf
        else:
            self._connect(upstream, self._began_at)

    def expire(self, now: float) -> None:
        """Fail the request if it has exceeded a timeout. Runs every second."""
        timeouts = self._service.timeouts
        if now >= self._deadline and not self._answered:
            if self._selection is not None:
                self._selection.failed(Failure.SERVER_ERROR, now)
            self._fail(
                UpstreamTimeout(f"no answer from the backend within {timeouts.response:g} s")
            )
        elif not self.tunnelled and now - self._began_at >= timeouts.total:
            self._fail(UpstreamTimeout("the total timeout of the service is over"))
        elif self._upstream is None:
            pass  # it waits in the queue, which has a timeout of its own
        elif now >= self._upstream.ends_at:
            self._fail(removed_error())
        elif self.tunnelled:
            pass  # the server applies the timeouts of upgraded connections
        elif self._has_progress:
            self._has_progress = False
            self._progress_at = now
        elif now - self._progress_at >= timeouts.idle:
            self._fail(UpstreamTimeout("no progress within the idle timeout of the service"))

    # ---- while all upstreams are busy (agent.upstreams.Waiter)

    def resume(self) -> None:
        """Take an upstream: one has room."""
        selection, now = self._selection, self._loop.time()
        upstream = selection.take(now) if selection is not None else None
        if upstream is None:
            self._fail(
                self._service.upstreams.busy("another request has taken the free connection")
            )
        else:
            self._progress_at = now
            self._connect(upstream, now)

    def refused(self, error: ForwardError) -> None:
        """Fail the request."""
        self._fail(error)

    # ---- from the server (tunnel.stream.StreamSink)

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        """Do nothing: the session accepts heads only from the end that answers."""

    def data(self, payload: bytes, *, end: bool) -> None:
        self._has_progress = True
        connection = self.connection
        if self._ended:
            if payload:
                self._session.reset(
                    self._stream, Code.PROTOCOL_ERROR, "data after the end of the request"
                )
        elif connection is None or (self._writer is None and not self.tunnelled):
            if self._buffered is None:
                self._buffered = bytearray()
            self._buffered += payload
            self._buffered_end = end
        else:
            self._send_body(connection, payload, end=end)

    def trailers(self, payload: bytes) -> None:
        if not check_trailers(payload) or self._request.flags & FLAG_UPGRADE:
            self._session.reset(self._stream, Code.PROTOCOL_ERROR, "invalid trailers")
            self._abandon()
            return
        self._buffered_trailers = payload
        if self.connection is not None:
            self._send_buffered(self.connection)

    def reset(self, code: Code, reason: str) -> None:
        _log.debug("stream reset", request=self._request.request_id, code=code.name, reason=reason)
        self._abandon()

    def writable(self) -> None:
        if self.connection is not None:
            self.connection.resume_reading()

    # ---- from the backend (net.http_client.ResponseSink)

    def response_interim(self, head: ResponseHead) -> None:
        payload = pack_head(KIND_NONE, 0, 0, response_block(head))
        self._interim_bytes += len(payload) + _INTERIM_OVERHEAD
        if self._interim_bytes > MAX_INTERIM_BYTES or len(payload) > MAX_HEAD_FRAME_BYTES:
            self._fail(UpstreamFailed("the backend's interim answers are too large or too many"))
            return
        if head.status == 100 and self._writer is not None and not self._writer.complete:
            self._deadline = math.inf
        self._session.send_head(self._stream, payload, interim=True)

    def response(self, head: ResponseHead, framing: tuple[Kind, int]) -> None:
        kind, length = framing
        if kind is Kind.TUNNEL and not self._request.flags & FLAG_UPGRADE:
            self._fail(UpstreamFailed("the backend answered 101 to a request without Upgrade"))
            return
        block = response_block(head)
        if self._selection is not None:
            block += self._selection.answered(head.status, self._loop.time())
        self._answered = True
        if self.span is not None:
            self.span.status = head.status
        announced = kind is Kind.NONE and head.content_length is not None and head.status != 204
        payload = pack_head(
            KIND_CHUNKED if kind is Kind.CLOSE else kind,
            FLAG_ANNOUNCE if announced else 0,
            (head.content_length or 0) if announced else length,
            block,
            self._report() if self._opened_at else b"",
        )
        if len(payload) > self._session.max_head:
            self._fail(
                UpstreamFailed(
                    f"the head of the backend's answer is too large: {len(payload)} bytes"
                )
            )
            return
        self._session.send_head(self._stream, payload, end=kind is Kind.NONE)
        if kind is Kind.TUNNEL:
            self.tunnelled = True
            if self.connection is not None:
                self._send_buffered(self.connection)
        elif kind is Kind.NONE:
            self._complete()

    def body(self, data: bytes, *, end: bool) -> None:
        self._has_progress = True
        if not self._session.send_data(self._stream, data, end=end) and self.connection is not None:
            self.connection.pause_reading()
        if end:
            if self.tunnelled:
                self._response_ended = True
                self._finish_tunnel()
            else:
                self._complete()

    def body_trailers(self, fields: bytes) -> None:
        self._session.send_trailers(self._stream, fields)
        self._complete()

    def failed(self, error: ForwardError, *, untouched: bool, unsent: list[Chunk]) -> None:
        connection, self.connection = self.connection, None
        upstream = self._upstream
        closed_idle = untouched and connection is not None and connection.reused
        if closed_idle and (unsent or self._repeatable) and upstream is not None:
            self._needs_new_connection = True
            self._unsent = unsent[1:]  # `_begin` sends another head
            self._connect(upstream, self._loop.time())
        elif self._response_ended:
            # The response is complete. It stays valid although the backend reads no more.
            self._session.reset(self._stream, Code.NO_ERROR, str(error))
            self._mark_ended()
            self._end_selection()
        elif self.tunnelled or closed_idle:
            # Neither counts against the upstream's health: an upgraded connection may end at any
            # time, and the backend may close an idle one.
            self._fail(error)
        elif self._answered or not (untouched and self._repeatable):
            if self._selection is not None:
                self._selection.failed(Failure.RESET, self._loop.time())
            self._fail(error)
        elif not self._try_another(Failure.RESET, error):
            self._fail(error)

    def drained(self) -> None:
        self._has_progress = True
        unconsumed, self._unconsumed = self._unconsumed, 0
        if unconsumed:
            self._consumed(unconsumed)

    # ---- from the pool (net.http_client.ConnectionSink)

    def connected(self, connection: BackendConnection) -> None:
        self._dialling = False
        if self._ended:
            connection.release()
            self._end_selection()
        else:
            self._begin(connection)

    def unreachable(self, error: ForwardError) -> None:
        self._dialling = False
        ours = isinstance(error, UpstreamsBusy)
        if self._ended:
            if self._selection is not None and not ours:
                self._selection.failed(Failure.CONNECT, self._loop.time())
            self._end_selection()
        elif ours or not self._try_another(Failure.CONNECT, error):
            self._fail(error)

    # ---- inside

    def _report(self) -> bytes:
        """Return what the server is told of the time that the answer took."""
        upstream = self._upstream.address if self._upstream is not None else ""
        return pack_report(
            self._sent_at - self._opened_at,
            perf_counter() - self._sent_at,
            upstream.encode("ascii", "replace"),
        )

    def _connect(self, upstream: UpstreamHandle, now: float) -> None:
        """Send the request on an idle connection, or on a new one."""
        self._upstream = upstream
        self._deadline = now + self._service.timeouts.response
        connection = (
            None
            if self._needs_new_connection
            else upstream.pool.take(now, careful=not self._repeatable)
        )
        if connection is None:
            self._dialling = True
            upstream.pool.dial(self)
        else:
            self._begin(connection)

    def _try_another(self, failure: Failure, error: ForwardError) -> bool:
        """Send the request to another upstream, as this one has not processed it; False if none
        is left."""
        selection, before = self._selection, self._upstream
        if selection is None or before is None:
            return False
        now = self._loop.time()
        upstream = selection.try_another(failure, now)
        if upstream is None:
            return False
        _log.info(
            "retrying on another upstream",
            service=self._service.id,
            request=self._request.request_id,
            upstream=before.address,
            reason=str(error),
        )
        self._needs_new_connection = False
        self._connect(upstream, now)
        return True

    def _begin(self, connection: BackendConnection) -> None:
        request = self._request
        upgrade = bool(request.flags & FLAG_UPGRADE)
        self.connection = connection
        connection.begin(self, self._method)
        if self._opened_at:
            self._sent_at = perf_counter()
        edits = self._upstream.edits if self._upstream is not None else None
        connection.send(
            (request.block if edits is None else edits.apply(request.block))
            + request_framing_lines(
                request.kind,
                request.length,
                upgrade=upgrade,
                te=bool(request.flags & FLAG_TRAILERS),
            )
        )
        if not upgrade:
            writer = self._writer
            if writer is None:
                writer = self._writer = writer_for(request.kind, request.length)
            if not writer.complete and _EXPECT not in request.block:
                self._deadline = math.inf
            if self._unsent:
                unsent, self._unsent = self._unsent, []
                for piece in unsent:
                    connection.send(piece)
            self._send_buffered(connection)

    def _send_buffered(self, connection: BackendConnection) -> None:
        buffered, self._buffered = self._buffered, None
        if buffered is not None:
            self._send_body(connection, bytes(buffered), end=self._buffered_end)
        if self._buffered_trailers is not None and self._writer is not None:
            fields, self._buffered_trailers = self._buffered_trailers, None
            self._write(connection, b"", end=True, trailers=fields)

    def _send_body(self, connection: BackendConnection, payload: bytes, *, end: bool) -> None:
        if self.tunnelled:
            if payload:
                connection.send(payload)
            if end:
                connection.send_eof()
                self._finish_tunnel()
        elif payload or (end and self._request.kind != KIND_NONE):
            self._write(connection, payload, end=end)
        if payload and not self._ended:
            if connection.congested:
                self._unconsumed += len(payload)
                if self._deadline == math.inf:
                    self._deadline = self._loop.time() + self._service.timeouts.response
            else:
                self._consumed(len(payload))

    def _consumed(self, count: int) -> None:
        """Grant credit for bytes that the backend has accepted, and restart or stop the response
        timeout."""
        now = self._loop.time()
        whole = self._writer is None or self._writer.complete
        self._deadline = now + self._service.timeouts.response if whole else math.inf
        self._session.consumed(self._stream, count, now)

    def _write(
        self, connection: BackendConnection, payload: bytes, *, end: bool, trailers: bytes = b""
    ) -> None:
        writer = self._writer
        assert writer is not None
        try:
            if payload:
                for piece in writer.write(payload):
                    connection.send(piece)
            if end:
                for piece in writer.end(trailers):
                    connection.send(piece)
                self._deadline = self._loop.time() + self._service.timeouts.response
        except LocalProtocolError as error:
            self._session.reset(self._stream, Code.PROTOCOL_ERROR, str(error))
            self._abandon()

    def _complete(self) -> None:
        """End the exchange: the answer is complete. Close the connection if the request is not."""
        connection, self.connection = self.connection, None
        # Without a writer the backend has refused an upgrade: the request has no body.
        whole = self._writer is None or self._writer.complete
        self._mark_ended()
        if connection is None:
            return
        if whole:
            connection.release()
        else:
            connection.detach()
            self._session.reset(self._stream, Code.NO_ERROR, "the answer is complete")
        self._end_selection()

    def _finish_tunnel(self) -> None:
        """Close the connection when both directions have ended."""
        if (
            self._response_ended
            and self._stream.receiving is StreamState.DONE
            and self.connection is not None
        ):
            connection, self.connection = self.connection, None
            self._mark_ended()
            connection.finish()
            self._end_selection()

    def _fail(self, error: ForwardError) -> None:
        self._failures[error.code] += 1
        if self.span is not None:
            self.span.error = error.code
        log = _log.debug if self.tunnelled else _log.warning
        log(
            "request failed",
            service=self._service.id,
            upstream=self._upstream.address if self._upstream is not None else None,
            request=self._request.request_id,
            code=error.code,
            reason=str(error),
        )
        self._session.reset(self._stream, code_for(error), reason_for(error))
        self._abandon()

    def _abandon(self) -> None:
        """End the exchange before its end, and close its connection."""
        connection, self.connection = self.connection, None
        self._mark_ended()
        if connection is not None:
            connection.detach()
        if self._dialling and self._upstream is not None:
            # A connection that is being opened counts as the upstream's until it is open; the next
            # request can use it.
            self._dialling = not self._upstream.pool.withdraw(self)
        if not self._dialling:
            self._end_selection()

    def _end_selection(self) -> None:
        """Make room for the next request.

        Call it when the connection is back in its pool, or closed.
        """
        selection = self._selection
        if selection is not None:
            self._selection = None
            selection.end(self, self._loop.time())

    def _mark_ended(self) -> None:
        self._ended = True
        span, self.span = self.span, None
        if span is not None:
            if self._upstream is not None:
                span.upstream = self._upstream.address
            span.end()
        self._buffered = None
        self._running.discard(self)
