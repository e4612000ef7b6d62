"""Relay of a WebSocket: meters its frames, applies the limits of its service, and ends it politely.

A Close frame of the server must not land inside a frame of the backend, so the server closes where
the last byte to the client ended one.
"""

import asyncio
import re
import secrets
from time import monotonic, time
from typing import Final, NamedTuple, Protocol

from zerotrust.errors import ForwardError
from zerotrust.http.client_pace import ClientPace
from zerotrust.http.websocket_frames import (
    GOING_AWAY,
    POLICY_VIOLATION,
    SERVICE_RESTART,
    close_frame,
)
from zerotrust.http.websocket_meter import (
    ABNORMAL,
    AGENT,
    BACKEND,
    CONNECTION,
    SERVER,
    TUNNEL,
    FrameMeter,
    FrameObserver,
    WebSocketMeter,
    WebSocketStats,
)
from zerotrust.http.websocket_pings import LOOKS, ClientPings, Quiet
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.server.proxy.relay import RESTART, Relay, RelayOwner
from zerotrust.server.proxy.request_context import RequestContext
from zerotrust.server.proxy.trailers import TrailerFilter
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.error_codes import error_for
from zerotrust.tunnel.session import EndedBy, Session
from zerotrust.tunnel.stream import StreamState

PENDING_CLOSE_SECONDS: Final = 0.5
"""Time for the frame that the backend is sending, before a WebSocket that has exceeded a limit is
broken off without a Close frame."""
_PING_PREFIX_BYTES: Final = 8
_CHOSEN: Final = re.compile(
    rb"\nsec-websocket-(protocol|extensions): ([^\r\n]{0,256})", re.IGNORECASE
)

_CLOSE_CODES: Final = {
    Code.GOING_AWAY: SERVICE_RESTART,
    Code.SUPERSEDED: SERVICE_RESTART,
    Code.SILENCE: SERVICE_RESTART,
    Code.WITHDRAWN: GOING_AWAY,
    Code.UPSTREAM_TIMEOUT: GOING_AWAY,
    Code.NOT_ALLOWED: POLICY_VIOLATION,
}
"""Close codes of WebSockets that the server ends. SERVICE_RESTART: come back at once."""

_OF_BACKEND: Final = frozenset(
    (Code.NO_ERROR, Code.UPSTREAM_FAILED, Code.UPSTREAM_UNREACHABLE, Code.CONNECT_TIMEOUT)
)
_OF_AGENT: Final = frozenset((Code.SUPERSEDED, Code.PROTOCOL_ERROR, Code.FLOW_CONTROL))


class WebSocketOwner(RelayOwner, Protocol):
    """Owner of the relays of WebSockets (the ingress)."""

    def websocket_opened(self, relay: "WebSocketRelay") -> None:
        """Note a WebSocket, before its 101 is sent."""

    def websocket_closed(self, context: RequestContext, meter: WebSocketMeter) -> None:
        """Log and count a WebSocket that has ended; called once, after its 101."""


class PendingClose(NamedTuple):
    """Close frame to the client, due when the current frame of the backend has ended.

    Attributes:
        by: who has ended the WebSocket.
        error: why, for the access log.
        code, reason: of the Close frame.
        reset: code of the stream's reset.
        final: what the client sends meanwhile is dropped.
    """

    by: str
    error: str
    code: int
    reason: str
    reset: Code
    final: bool


class WebSocketRelay(Relay):
    """Relay of a request that asks for a WebSocket; an ordinary relay until its 101."""

    __slots__ = (
        "_backend",
        "_client",
        "_meter",
        "_pace",
        "_pending_close",
        "_ping_interval",
        "_pings",
        "_timer",
        "_websocket_owner",
    )

    def __init__(
        self,
        context: RequestContext,
        session: Session,
        payload: bytes,
        *,
        owner: WebSocketOwner,
        loop: asyncio.AbstractEventLoop,
        trailer_filter: TrailerFilter,
    ) -> None:
        super().__init__(
            context, session, payload, owner=owner, loop=loop, trailer_filter=trailer_filter
        )
        self._websocket_owner = owner
        self._meter: WebSocketMeter | None = None
        self._client: FrameMeter | None = None
        self._backend: FrameMeter | None = None
        self._pending_close: PendingClose | None = None
        self._pace: ClientPace | None = None
        self._pings: ClientPings | None = None
        self._ping_interval = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def inspect(self) -> WebSocketStats | None:
        """Return the counts so far; None before the 101, after the end, or where the service does
        not allow inspection."""
        meter = self._meter
        return None if meter is None or self.context.inspection == "never" else meter.stats()

    def observe(self, observer: FrameObserver | None) -> WebSocketMeter | None:
        """Give all bytes to an observer from now on; None for no observer.

        Returns:
            The meter; None before the 101 and after the end.
        """
        meter = self._meter
        if meter is not None:
            meter.observe(observer)
            self._client, self._backend = meter.client, meter.backend
        return meter

    # ---- from the client (net.http_server.RequestSink)

    def body(self, data: bytes, *, end: bool) -> None:
        client = self._client
        if client is None:
            super().body(data, end=end)
            return
        client.feed(data)
        if self._user is not None and client.has_data:
            client.has_data = False
            self._user.note_use(time())
        if self._pace is not None or self._pings is not None:
            data = self._filtered(client, data, end=end)
            if self._connection is None or not (data or end):
                return
        if end:
            self._note_end(CONNECTION)
        if not self._session.send_data(self.stream, data, end=end) and self._connection is not None:
            self._connection.pause_reading()
        if end and self.stream.receiving is StreamState.DONE:
            self._over()

    def aborted(self) -> None:
        if self._meter is not None:
            self._note_end(CONNECTION)
        super().aborted()
        self._over()

    # ---- from the server (server.agents.session_control.OpenRequest)

    def cut(self, reason: str) -> None:
        self._note_end(SERVER, self._code_of(Code.NOT_ALLOWED), reason)
        super().cut(reason)

    def withdraw(self, reason: str) -> None:
        backend = self._backend
        if backend is None or self._connection is None:
            super().withdraw(reason)
        elif backend.between or backend.closed:
            pending = PendingClose(
                SERVER, "access_ended", POLICY_VIOLATION, reason, Code.CANCELLED, final=True
            )
            self._leave(self._connection, backend, pending)
        else:
            self._note_end(SERVER, ABNORMAL, reason)
            super().withdraw(reason)
            self._over()

    @property
    def moved(self) -> int:
        client, backend, pings = self._client, self._backend, self._pings
        assert client is not None and backend is not None
        return client.bytes + backend.bytes - (0 if pings is None else pings.withheld)

    def expire(self, error: str, reason: str) -> None:
        backend, connection = self._backend, self._connection
        if backend is not None and connection is not None:
            pending = PendingClose(SERVER, error, GOING_AWAY, reason, Code.CANCELLED, final=True)
            self._leave(connection, backend, pending)

    def depart(self, *, by_agent: bool = False) -> None:
        """End the WebSocket between two frames; its client is told to come back at once.

        One that is closing already goes on.
        """
        connection, backend = self._connection, self._backend
        due = self._pending_close is not None and self._pending_close.final
        if connection is not None and backend is not None and not (backend.closed or due):
            by = AGENT if by_agent else SERVER
            pending = PendingClose(
                by, "going_away", SERVICE_RESTART, "", Code.GOING_AWAY, final=False
            )
            self._leave(connection, backend, pending)

    # ---- from the agent (tunnel.stream.StreamSink)

    def data(self, payload: bytes, *, end: bool) -> None:
        backend, connection = self._backend, self._connection
        if backend is None or connection is None:
            super().data(payload, end=end)
            return
        pending = self._pending_close
        if pending is not None:
            payload = payload[: backend.until_end(payload)]
        backend.feed(payload)
        if pending is not None and backend.between:
            connection.respond_data(payload)
            self._leave(connection, backend, pending)
            return
        if end:
            self._note_end(BACKEND)
        connection.respond_data(payload, end=end)
        if end:
            if self.stream.sending is StreamState.DONE:
                self._over()
        elif connection.congested:
            self._owed += len(payload)
        else:
            self._session.consumed(self.stream, len(payload), self._loop.time())

    def reset(self, code: Code, reason: str) -> None:
        connection, backend = self._connection, self._backend
        if connection is None or backend is None:
            super().reset(code, reason)
            return
        close_code = self._code_of(code)
        self._note_end(who_ended(self._session, code), close_code, reason)
        if close_code == ABNORMAL:
            super().reset(code, reason)
        else:
            self.context.fail(error_for(code, reason).code, "")
            self._connection = None
            connection.leave(close_frame(close_code))
        self._over()

    # ---- inside

    def _respond(
        self,
        connection: HttpServerConnection,
        block: bytes,
        status: int,
        kind: int,
        length: int,
        *,
        announce: bool,
    ) -> None:
        if status == 101:
            self._begin(block)
        super()._respond(connection, block, status, kind, length, announce=announce)

    def _begin(self, block: bytes) -> None:
        chosen = {name.lower(): value.decode("latin-1") for name, value in _CHOSEN.findall(block)}
        meter = self._meter = WebSocketMeter(
            monotonic,
            subprotocol=chosen.get(b"protocol", ""),
            extensions=chosen.get(b"extensions", ""),
        )
        self._client, self._backend = meter.client, meter.backend
        self._websocket_owner.websocket_opened(self)
        policy = self.context.policy
        settings = policy.websocket if policy is not None else None
        if settings is None:
            return
        if settings.client is not None:
            self._pace = ClientPace(settings.client)
        if settings.ping:
            self._pings = ClientPings(secrets.token_bytes(_PING_PREFIX_BYTES))
            self._ping_interval = settings.ping / LOOKS
            self._timer = self._loop.call_later(self._ping_interval, self._look)

    def _filtered(self, client: FrameMeter, data: bytes, *, end: bool) -> bytes:
        """Return the client's bytes that may pass."""
        pending, connection = self._pending_close, self._connection
        if pending is not None and pending.final:
            return b""
        if self._pace is not None:
            breach = self._pace.check(client, self._loop.time())
            if breach is not None and connection is not None and self._backend is not None:
                pending = PendingClose(
                    SERVER, "limit", breach.code, breach.reason, Code.CANCELLED, final=True
                )
                self._leave(connection, self._backend, pending)
                return b""
        pings = self._pings
        if pings is not None and pings.waiting:
            data = pings.without_pong(data)
            if end:
                data += pings.rest()
        return data

    def _leave(
        self, connection: HttpServerConnection, backend: FrameMeter, pending: PendingClose
    ) -> None:
        """Send the Close frame, now or as soon as the backend's frame has ended."""
        if not backend.between and not backend.closed:
            if pending.final:
                self._note_pending_close(pending)
                self._timer = self._set_timer(PENDING_CLOSE_SECONDS)
            self._pending_close = pending
            return
        self._note_pending_close(pending)
        self._session.reset(self.stream, pending.reset, pending.reason or RESTART)
        self._connection = None
        if backend.closed:
            connection.finish()
        else:
            connection.leave(close_frame(pending.code, pending.reason))
        self._over()

    def _note_pending_close(self, pending: PendingClose) -> None:
        self.context.fail(pending.error, pending.by)
        self._note_end(pending.by, pending.code, pending.reason)

    def _set_timer(self, seconds: float) -> asyncio.TimerHandle:
        if self._timer is not None:
            self._timer.cancel()
        return self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Send a Ping if it is due. Break the client off if it is gone, or if the frame before a
        pending Close frame did not end in time."""
        connection, meter, pings = self._connection, self._meter, self._pings
        if connection is None or meter is None:
            return
        pending = self._pending_close
        if pending is not None and pending.final:
            self._break_off(connection, pending.reason)
            return
        if pings is None:
            return
        found = pings.look(meter, is_reading=connection.is_reading)
        if found is Quiet.DEAD:
            self._note_end(CONNECTION, ABNORMAL, "no answer to a ping")
            self._break_off(connection, "the client does not answer")
            return
        if found is Quiet.PING and not connection.congested:
            connection.respond_data(pings.ping(meter))
        self._timer = self._set_timer(self._ping_interval)

    def _break_off(self, connection: HttpServerConnection, reason: str) -> None:
        self._session.reset(self.stream, Code.CANCELLED, reason)
        self._connection = None
        connection.break_off()
        self._over()

    def _break(self, code: Code, error: ForwardError) -> None:
        self._note_end(AGENT, ABNORMAL, str(error))
        super()._break(code, error)
        self._over()

    def _code_of(self, code: Code) -> int:
        """Return the code of the Close frame that a reset with `code` becomes; ABNORMAL where it
        becomes none."""
        backend = self._backend
        if backend is None or backend.closed or not backend.between:
            return ABNORMAL
        return _CLOSE_CODES.get(code, ABNORMAL)

    def _note_end(self, by: str, code: int = ABNORMAL, reason: str = "") -> None:
        if self._meter is None:
            self.context.fail("", by)
        else:
            # A connection may end before or after the Close frame: the first cause counts.
            self.context.ended_by = self._meter.note_end(by, code, reason).by

    def _over(self) -> None:
        """Report the end, once."""
        meter, self._meter = self._meter, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if meter is not None:
            self._websocket_owner.websocket_closed(self.context, meter)


def who_ended(session: Session, code: Code) -> str:
    """Return who has reset a stream with `code`: its agent, or the end of its session."""
    if session.end is None:
        if code in _OF_BACKEND:
            return BACKEND
        return SERVER if code is Code.OVERLOADED else AGENT
    by, session_code = session.end
    if by is EndedBy.LINK:
        return TUNNEL
    if by is EndedBy.PEER or session_code in _OF_AGENT:
        return AGENT
    return SERVER if session_code in (Code.NOT_ALLOWED, Code.GOING_AWAY) else TUNNEL
