"""One request on the agent: between a stream of the tunnel and a connection to the backend."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from zerotrust.agent.services import LiveService
from zerotrust.agent.upstreams import UpstreamHandle, UpstreamSelection, gone
from zerotrust.balancing.passive_health import Failure
from zerotrust.errors import ForwardError, LocalProtocolError, UpstreamFailed, UpstreamsBusy, UpstreamTimeout
from zerotrust.http.body import Kind, Writer, writer_for
from zerotrust.http.head import IDEMPOTENT, ResponseHead
from zerotrust.http.head_block import check_trailers, request_framing_lines, response_block
from zerotrust.net.channel import Chunk
from zerotrust.net.http_client import BackendConnection
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import MAX_OPEN_PAYLOAD_BYTES, RequestOpen, pack_head
from zerotrust.tunnel.codes import FLAG_ANNOUNCE, FLAG_TRAILERS, FLAG_UPGRADE, KIND_CHUNKED, KIND_NONE, Code
from zerotrust.tunnel.error_codes import code_for, reason_for
from zerotrust.tunnel.session import Session
from zerotrust.tunnel.stream import Stream, StreamState

_log = logs.logger("exchange")

_EXPECT: Final = b"\r\nExpect: 100-continue\r\n"
"""It is the backend's turn before the body (RFC 9110 s10.1.1)."""

MAX_INTERIM_BYTES: Final = 64 * 1024
"""Of all interim answers (1xx) to one request. No credit holds them back, so a backend could fill the session that all
services share. Early hints of a page have some kilobytes."""
_INTERIM_OVERHEAD: Final = 2048
"""Counted for each, so that there are no more than the 32 that the server takes (`tunnel.stream.MAX_INTERIM_HEADS`)."""


@dataclass(frozen=True, slots=True)
class Context:
    """What all exchanges of a session share."""

    session: Session
    loop: asyncio.AbstractEventLoop
    running: "set[Exchange]"
    failed: Counter[str] = field(default_factory=Counter)


class Exchange:
    """Carries a request to the backend and its answer back.

    Lives from OPEN until both directions of the stream have ended, or either side breaks off; `tunnelled` after a 101.

    The backend's time to answer (`_deadline`) runs while it is the backend's turn: it has the whole request, or takes
    no more of it. A client that stalls in its upload says nothing about the backend.
    """

    __slots__ = (
        "_answered",
        "_began_at",
        "_connection",
        "_context",
        "_deadline",
        "_dialling",
        "_fresh",
        "_held",
        "_held_end",
        "_held_trailers",
        "_interim_bytes",
        "_left",
        "_method",
        "_moved",
        "_moved_at",
        "_owed",
        "_repeatable",
        "_request",
        "_response_ended",
        "_selection",
        "_service",
        "_stream",
        "_unsent",
        "_upstream",
        "_writer",
        "tunnelled",
    )

    def __init__(self, context: Context, stream: Stream, request: RequestOpen, service: LiveService) -> None:
        self._context = context
        self._stream = stream
        self._request = request
        self._service = service
        self._method = request.block[: request.block.index(b" ")]
        self._connection: BackendConnection | None = None
        self._writer: Writer | None = None
        # Joined, because it is counted in bytes: an object for each frame would take a hundred times as much.
        self._held: bytearray | None = None
        self._held_end = False
        self._held_trailers: bytes | None = None
        # The framed body of a request that its connection has failed to write.
        self._unsent: list[Chunk] = []
        self._left = False
        self._owed = self._interim_bytes = 0
        self._answered = self._response_ended = self.tunnelled = self._fresh = self._dialling = False
        self._repeatable = request.kind == KIND_NONE and self._method in IDEMPOTENT
        self._upstream: UpstreamHandle | None = None
        self._selection: UpstreamSelection | None = None
        now = context.loop.time()
        self._began_at = self._moved_at = now
        self._moved = False
        self._deadline = now + service.timeouts.response
        context.running.add(self)

    def start(self) -> None:
        """Send the request to an upstream, now or when one has room."""
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
        """Give up on what takes too long; called about every second."""
        timeouts = self._service.timeouts
        if now >= self._deadline and not self._answered:
            if self._selection is not None:
                self._selection.failed(Failure.SERVER_ERROR, now)
            self._fail(UpstreamTimeout(f"no answer from the backend within {timeouts.response:g} s"))
        elif now - self._began_at >= (timeouts.tunnel_total if self.tunnelled else timeouts.total):
            self._fail(UpstreamTimeout("it took longer than the service allows in total"))
        elif self._upstream is None:
            pass  # it waits in the queue, which has a limit of its own
        elif now >= self._upstream.ends_at:
            self._fail(gone())
        elif self._moved:
            self._moved = False
            self._moved_at = now
        elif now - self._moved_at >= (timeouts.tunnel_idle if self.tunnelled else timeouts.idle):
            self._fail(UpstreamTimeout("nothing moved for longer than the service allows"))

    # ---- while all upstreams are busy (agent.upstreams.Waiter)

    def resume(self) -> None:
        """There is room."""
        selection, now = self._selection, self._context.loop.time()
        upstream = selection.take(now) if selection is not None else None
        if upstream is None:
            self._fail(self._service.upstreams.busy("the upstream that became free is taken again"))
        else:
            self._moved_at = now
            self._connect(upstream, now)

    def refused(self, error: ForwardError) -> None:
        """It has waited for too long."""
        self._fail(error)

    # ---- from the server (tunnel.stream.StreamSink)

    def head(self, payload: bytes, *, end: bool, interim: bool) -> None:
        """Never called: the session lets only the answering end send heads."""

    def data(self, payload: bytes, *, end: bool) -> None:
        self._moved = True
        connection = self._connection
        if self._left:
            if payload:
                reason = "bytes for a request that is over"
                self._context.session.reset(self._stream, Code.PROTOCOL_ERROR, reason)
        elif connection is None or (self._writer is None and not self.tunnelled):
            if self._held is None:
                self._held = bytearray()
            self._held += payload
            self._held_end = end
        else:
            self._send_body(connection, payload, end=end)

    def trailers(self, payload: bytes) -> None:
        if not check_trailers(payload) or self._request.flags & FLAG_UPGRADE:
            self._context.session.reset(self._stream, Code.PROTOCOL_ERROR, "trailers that are not acceptable")
            self._leave()
            return
        self._held_trailers = payload
        if self._connection is not None:
            self._send_held(self._connection)

    def reset(self, code: Code, reason: str) -> None:
        _log.debug("stream reset", request=self._request.request_id, code=code.name, reason=reason)
        self._leave()

    def writable(self) -> None:
        if self._connection is not None:
            self._connection.resume_reading()

    # ---- from the backend (net.http_client.ResponseSink)

    def response_interim(self, head: ResponseHead) -> None:
        block = response_block(head)
        self._interim_bytes += len(block) + _INTERIM_OVERHEAD
        if self._interim_bytes > MAX_INTERIM_BYTES:
            self._fail(UpstreamFailed(f"the backend sends more than {MAX_INTERIM_BYTES} bytes of interim answers"))
            return
        if head.status == 100 and self._writer is not None and not self._writer.complete:
            self._deadline = math.inf
        self._context.session.send_head(self._stream, pack_head(KIND_NONE, 0, 0, block), interim=True)

    def response(self, head: ResponseHead, framing: tuple[Kind, int]) -> None:
        kind, length = framing
        if kind is Kind.TUNNEL and not self._request.flags & FLAG_UPGRADE:
            self._fail(UpstreamFailed("the backend switched protocols without being asked"))
            return
        block = response_block(head)
        if self._selection is not None:
            block += self._selection.answered(head.status, self._context.loop.time())
        self._answered = True
        announced = kind is Kind.NONE and head.content_length is not None and head.status != 204
        payload = pack_head(
            KIND_CHUNKED if kind is Kind.CLOSE else kind,
            FLAG_ANNOUNCE if announced else 0,
            (head.content_length or 0) if announced else length,
            block,
        )
        if len(payload) > MAX_OPEN_PAYLOAD_BYTES:
            self._fail(UpstreamFailed(f"the backend's head of {len(payload)} bytes is too large"))
            return
        self._context.session.send_head(self._stream, payload, end=kind is Kind.NONE)
        if kind is Kind.TUNNEL:
            self.tunnelled = True
            self._began_at = self._moved_at = self._context.loop.time()
            if self._connection is not None:
                self._send_held(self._connection)
        elif kind is Kind.NONE:
            self._complete()

    def body(self, data: bytes, *, end: bool) -> None:
        self._moved = True
        if not self._context.session.send_data(self._stream, data, end=end) and self._connection is not None:
            self._connection.pause_reading()
        if end:
            if self.tunnelled:
                self._response_ended = True
                self._finish_tunnel()
            else:
                self._complete()

    def body_trailers(self, fields: bytes) -> None:
        self._context.session.send_trailers(self._stream, fields)
        self._complete()

    def failed(self, error: ForwardError, *, untouched: bool, unsent: list[Chunk]) -> None:
        connection, self._connection = self._connection, None
        upstream = self._upstream
        closed_idle = untouched and connection is not None and connection.reused
        if closed_idle and (unsent or self._repeatable) and upstream is not None:
            self._fresh = True
            self._unsent = unsent[1:]  # `_begin` sends another head
            self._connect(upstream, self._context.loop.time())
        elif self._response_ended:
            # All that the backend said is on its way. That it takes no more does not undo it.
            self._context.session.reset(self._stream, Code.NO_ERROR, str(error))
            self._retire()
            self._end_selection()
        elif self.tunnelled or closed_idle:
            # How an upgraded connection ends is its protocol's affair; what became of an idle one says nothing at all.
            self._fail(error)
        elif self._answered or not (untouched and self._repeatable):
            if self._selection is not None:
                self._selection.failed(Failure.RESET, self._context.loop.time())
            self._fail(error)
        elif not self._move(Failure.RESET, error):
            self._fail(error)

    def drained(self) -> None:
        self._moved = True
        owed, self._owed = self._owed, 0
        if owed:
            self._consumed(owed)

    # ---- from the pool (net.http_client.ConnectionSink)

    def connected(self, connection: BackendConnection) -> None:
        self._dialling = False
        if self._left:
            connection.release()
            self._end_selection()
        else:
            self._begin(connection)

    def unreachable(self, error: ForwardError) -> None:
        self._dialling = False
        ours = isinstance(error, UpstreamsBusy)
        if self._left:
            if self._selection is not None and not ours:
                self._selection.failed(Failure.CONNECT, self._context.loop.time())
            self._end_selection()
        elif ours or not self._move(Failure.CONNECT, error):
            self._fail(error)

    # ---- inside

    def _connect(self, upstream: UpstreamHandle, now: float) -> None:
        """Send the request on a kept connection, or on a new one."""
        self._upstream = upstream
        self._deadline = now + self._service.timeouts.response
        connection = None if self._fresh else upstream.pool.take(now, careful=not self._repeatable)
        if connection is None:
            self._dialling = True
            upstream.pool.dial(self)
        else:
            self._begin(connection)

    def _move(self, failure: Failure, error: ForwardError) -> bool:
        """Try another upstream, after one that failed before it could have done anything; False where none is left."""
        selection, before = self._selection, self._upstream
        if selection is None or before is None:
            return False
        now = self._context.loop.time()
        upstream = selection.move(failure, now)
        if upstream is None:
            return False
        _log.info(
            "another upstream is tried",
            service=self._service.id,
            request=self._request.request_id,
            upstream=before.address,
            reason=str(error),
        )
        self._fresh = False
        self._connect(upstream, now)
        return True

    def _begin(self, connection: BackendConnection) -> None:
        request = self._request
        upgrade = bool(request.flags & FLAG_UPGRADE)
        self._connection = connection
        connection.begin(self, self._method)
        kind = Kind(request.kind)
        edits = self._upstream.edits if self._upstream is not None else None
        connection.send(
            (request.block if edits is None else edits.apply(request.block))
            + request_framing_lines(kind, request.length, upgrade=upgrade, te=bool(request.flags & FLAG_TRAILERS))
        )
        if not upgrade:
            writer = self._writer
            if writer is None:
                writer = self._writer = writer_for(kind, request.length)
            if not writer.complete and _EXPECT not in request.block:
                self._deadline = math.inf
            if self._unsent:
                unsent, self._unsent = self._unsent, []
                for piece in unsent:
                    connection.send(piece)
            self._send_held(connection)

    def _send_held(self, connection: BackendConnection) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._send_body(connection, bytes(held), end=self._held_end)
        if self._held_trailers is not None and self._writer is not None:
            fields, self._held_trailers = self._held_trailers, None
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
        if payload and not self._left:
            if connection.congested:
                self._owed += len(payload)
                if self._deadline == math.inf:
                    self._deadline = self._context.loop.time() + self._service.timeouts.response
            else:
                self._consumed(len(payload))

    def _consumed(self, count: int) -> None:
        """The backend has taken what there was: its time to answer runs from now, or not until the client sends on."""
        now = self._context.loop.time()
        whole = self._writer is None or self._writer.complete
        self._deadline = now + self._service.timeouts.response if whole else math.inf
        self._context.session.consumed(self._stream, count, now)

    def _write(self, connection: BackendConnection, payload: bytes, *, end: bool, trailers: bytes = b"") -> None:
        writer = self._writer
        assert writer is not None
        try:
            if payload:
                for piece in writer.write(payload):
                    connection.send(piece)
            if end:
                for piece in writer.end(trailers):
                    connection.send(piece)
                self._deadline = self._context.loop.time() + self._service.timeouts.response
        except LocalProtocolError as error:
            self._context.session.reset(self._stream, Code.PROTOCOL_ERROR, str(error))
            self._leave()

    def _complete(self) -> None:
        """The answer has ended: the connection goes back, unless the backend still waits for the request's rest."""
        connection, self._connection = self._connection, None
        # Without a writer it was an upgrade that the backend refused: nothing followed the head.
        whole = self._writer is None or self._writer.complete
        self._retire()
        if connection is None:
            return
        if whole:
            connection.release()
        else:
            connection.detach()
            self._context.session.reset(self._stream, Code.NO_ERROR, "the answer is complete")
        self._end_selection()

    def _finish_tunnel(self) -> None:
        """Close the connection when both directions have ended."""
        if self._response_ended and self._stream.receiving is StreamState.DONE and self._connection is not None:
            connection, self._connection = self._connection, None
            self._retire()
            connection.finish()
            self._end_selection()

    def _fail(self, error: ForwardError) -> None:
        self._context.failed[error.code] += 1
        log = _log.debug if self.tunnelled else _log.warning
        log(
            "request failed",
            service=self._service.id,
            upstream=self._upstream.address if self._upstream is not None else None,
            request=self._request.request_id,
            code=error.code,
            reason=str(error),
        )
        self._context.session.reset(self._stream, code_for(error), reason_for(error))
        self._leave()

    def _leave(self) -> None:
        """Nothing more is to be done for this request; its connection can't be used again."""
        connection, self._connection = self._connection, None
        self._retire()
        if connection is not None:
            connection.detach()
        if self._dialling and self._upstream is not None:
            # A connection that is being opened counts as one until that has ended; it is of use to the next request.
            self._dialling = not self._upstream.pool.withdraw(self)
        if not self._dialling:
            self._end_selection()

    def _end_selection(self) -> None:
        """Make room for the next request: when the connection of this one is back in its pool, or closed."""
        selection = self._selection
        if selection is not None:
            self._selection = None
            selection.end(self, self._context.loop.time())

    def _retire(self) -> None:
        self._left = True
        self._held = None
        self._context.running.discard(self)
