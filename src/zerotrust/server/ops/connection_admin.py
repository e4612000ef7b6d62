"""Admin API: open connections. It lists WebSockets and long requests, and ends one of them."""

from collections.abc import AsyncIterator, Callable, Iterable
from heapq import heappush, heappushpop
from time import time
from typing import Any, Final, Protocol

from zerotrust.db.audit import Details
from zerotrust.errors import NotFound
from zerotrust.model import traffic_admin as views
from zerotrust.net.background_work import BackgroundWork, next_slice
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.identity.worker_slot import WorkerSlot
from zerotrust.server.ops.traffic_sampler import (
    CLOCK_EVERY,
    OpenExchange,
    open_exchanges,
)
from zerotrust.server.proxy.request_context import RequestContext, subject_name
from zerotrust.server.proxy.shaping import ShapedRelay
from zerotrust.server.proxy.websocket_relay import WebSocketRelay

LONG: Final = 3.0
"""Seconds after which a request that is no WebSocket counts as an open connection."""
MAX_TEXT: Final = 200
"""Characters of a host name or a path."""
VIEWS_AT_ONCE: Final = 16
"""Connections that are described in one slice of background work."""
REASON: Final = "ended by an administrator"
"""In the Close frame of a WebSocket."""


class _AuditLog(Protocol):
    """Adds records (`server.identity.audit`)."""

    async def note(
        self, action: str, details: Details, *, actor: str = "server", agent: str | None = None
    ) -> None:
        """Add a record."""


class ConnectionAdmin:
    """Answers commands about open connections.

    Args:
        sessions: returns the sessions of all agents.
        clock: seconds since 1970.
        slot: place of this process among the workers of the server.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[AgentSession]],
        audit: _AuditLog,
        *,
        clock: Callable[[], float] = time,
        slot: WorkerSlot = WorkerSlot(0, 1),  # noqa: B008 - immutable
    ) -> None:
        self._sessions = sessions
        self._audit = audit
        self._clock = clock
        self._slot = slot

    @property
    def any_open(self) -> bool:
        """Some request runs."""
        return any(session.stream_count for session in self._sessions())

    async def connections(self, asked: views.ConnectionQuery, _actor: str) -> views.ConnectionList:
        """Return one page of the open connections."""
        now, total = self._clock(), 0
        newest: list[tuple[int, int, OpenExchange, AgentSession]] = []
        async for session, exchange in _all(self._sessions()):
            context = exchange.context
            if not (_is_open(context, now) and _fits(context, asked)):
                continue
            total += 1
            number = self._number(context)
            if asked.before is not None and number >= asked.before:
                continue
            row = (number, total, exchange, session)
            if len(newest) < asked.limit:
                heappush(newest, row)
            else:
                heappushpop(newest, row)
        newest.sort(reverse=True)
        page = []
        for at, (number, _, exchange, session) in enumerate(newest):
            if at % VIEWS_AT_ONCE == 0:
                await next_slice()
            page.append(_view(exchange, session, number))
        return views.ConnectionList.model_construct(connections=page, total=total)

    async def end(self, asked: views.EndConnectionRequest, actor: str) -> views.EndedConnection:
        """End a connection: a WebSocket gets a Close frame with status 1008.

        Raises:
            NotFound: it is not open, or not any more.
        """
        _, exchange = await find_exchange(self._sessions(), asked.id)
        context = exchange.context
        ended = views.EndedConnection(
            id=context.id, host=context.host[:MAX_TEXT], user=_user(context)
        )
        exchange.withdraw(REASON)
        await self._audit.note(
            "connection.ended",
            {"id": ended.id, "host": ended.host, "user": ended.user},
            actor=actor,
            agent=None if context.registration is None else context.registration.session.agent,
        )
        return ended

    async def connection(self, connection_id: str) -> views.ConnectionInfo:
        """Return an open connection.

        Raises:
            NotFound: it is not open, or not any more.
        """
        session, exchange = await find_exchange(self._sessions(), connection_id)
        return _view(exchange, session, self._number(exchange.context))

    def _number(self, context: RequestContext) -> int:
        """Return the number of the request in this run of the server; no two workers use one."""
        number = int(context.id.rpartition("-")[2], 16)
        return number * self._slot.count + self._slot.index


async def find_exchange(
    sessions: Iterable[AgentSession], connection_id: str
) -> tuple[AgentSession, OpenExchange]:
    """Return the request of an open connection, and the session that it runs on.

    Raises:
        NotFound: it is not open, or not any more.
    """
    async for session, exchange in _all(sessions):
        if exchange.context.id == connection_id:
            return session, exchange
    raise NotFound(
        f"no open connection has the id {connection_id}; list them with: 0trust connection list"
    )


async def _all(
    sessions: Iterable[AgentSession],
) -> AsyncIterator[tuple[AgentSession, OpenExchange]]:
    """Yield all requests that run, in slices: the loop does other work between them."""
    looked_at, work = 0, BackgroundWork()
    for session in list(sessions):
        for exchange in open_exchanges(session):
            looked_at += 1
            if looked_at % CLOCK_EVERY == 0 and work.slice_over:
                await work.next_slice()
                if exchange.over:
                    continue
            yield session, exchange


def _is_open(context: RequestContext, now: float) -> bool:
    if context.connection.tunnelled:
        return True
    return context.record is None or now - context.record.time >= LONG


def _fits(context: RequestContext, asked: views.ConnectionQuery) -> bool:
    registration = context.registration
    if registration is None:
        return False
    if asked.agent is not None and asked.agent != registration.session.agent:
        return False
    if asked.user is not None and asked.user not in _names(context):
        return False
    return asked.host is None or asked.host in (
        context.host,
        registration.registered_host(context.host),
    )


def _view(exchange: OpenExchange, session: AgentSession, number: int) -> views.ConnectionInfo:
    context = exchange.context
    registration, connection, record = context.registration, context.connection, context.record
    assert registration is not None
    seconds = session.link.session.keepalive.round_trip if session.attached else None
    head = context.head
    kind: views.ConnectionKind = "request"
    if connection.tunnelled:
        kind = "websocket" if connection.is_websocket else "upgrade"
    return views.ConnectionInfo.model_construct(
        id=context.id,
        number=number,
        kind=kind,
        host=context.host[:MAX_TEXT],
        method=_text(head.method),
        path=_text(head.target.partition(b"?")[0]),
        client=_text(context.client),
        user=_user(context),
        agent=session.agent,
        service=registration.service,
        since=None if record is None else int(record.time),
        received=connection.received,
        sent=connection.sent,
        round_trip=seconds,
        inspection=registration.inspection,
        **_meter_fields(exchange),
    )


def _meter_fields(exchange: OpenExchange) -> dict[str, Any]:
    """Return what the frames of a WebSocket tell; empty where the service does not allow it."""
    relay = websocket_relay(exchange)
    stats = None if relay is None else relay.inspect()
    if stats is None:
        return {}
    return {
        "frames_received": sum(stats.client.frames.values()),
        "frames_sent": sum(stats.backend.frames.values()),
        "client_round_trip": stats.client_round_trip or None,
        "backend_round_trip": stats.backend_round_trip or None,
    }


def websocket_relay(exchange: OpenExchange) -> WebSocketRelay | None:
    """Return the relay of a request for a WebSocket; None for other requests."""
    relay = exchange.relay if isinstance(exchange, ShapedRelay) else exchange
    return relay if isinstance(relay, WebSocketRelay) else None


def _user(context: RequestContext) -> str:
    """Return the subject of a request, as in logs; empty without one."""
    return "" if context.who is None else subject_name(context.who.subject)[:MAX_TEXT]


def _names(context: RequestContext) -> tuple[str, str]:
    """Return the subject as in logs, and the plain name of a user."""
    name = _user(context)
    return name, name.removeprefix("user:")


def _text(data: bytes) -> str:
    return data[:MAX_TEXT].decode("ascii", "backslashreplace")
