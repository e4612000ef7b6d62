"""The agent's end of a session: turns each stream that the server opens into an exchange."""

import asyncio
import logging
import math
import re
from collections.abc import Callable
from typing import Final

from zerotrust.agent.exchange import Exchange
from zerotrust.agent.exchange_span import ExchangeSpan
from zerotrust.agent.reconnect import Reconnect
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.services import LiveService, ServicePlan, Services
from zerotrust.errors import RemoteProtocolError
from zerotrust.http.body import MAX_LENGTH, Kind
from zerotrust.http.head_block import check_request_block
from zerotrust.model.base import is_pattern
from zerotrust.net.tunnel import TunnelLink
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import RequestOpen, unpack_open
from zerotrust.tunnel.codes import (
    ACCESS,
    CONNECTIONS,
    FLAG_ANNOUNCE,
    FLAG_UPGRADE,
    HEALTH,
    LISTEN_ON,
    POLICY,
    WILDCARDS,
    Code,
)
from zerotrust.tunnel.frames import MAX_PAYLOAD
from zerotrust.tunnel.messages import (
    ControlMessage,
    Hello,
    Member,
    Members,
    Ready,
    Register,
    Registered,
    Renewed,
    Resume,
    ServiceHealth,
    Unregister,
    Welcome,
)
from zerotrust.tunnel.session import Phase, SessionOptions
from zerotrust.tunnel.stream import Stream, StreamSink

MAX_REPORTS: Final = 64
"""Messages about the health of services that a session sends in a second, one of each service."""

_log = logs.logger("tunnel")

_HOST: Final = re.compile(rb"\r\nHost: ([^\r]*?)(?::[0-9]*)?\r\n")
_WEBSOCKET: Final = re.compile(rb"\r\nupgrade: [^\r]*websocket", re.IGNORECASE)
_REQUEST_KINDS = frozenset({int(Kind.NONE), int(Kind.LENGTH), int(Kind.CHUNKED)})


class ServerSession:
    """One session with the server (tunnel.session.SessionSink).

    Args:
        renewed: called with the server's answer to a request for a certificate.
        lost: called when the session has lost its link and waits for another one.
        workers_known: called with this session when `workers` is known.
        expected_server: id of the server that must answer; None for the one in the agent's file.
        takes_over: the session replaces another one. Its connection sends READY when that one is
            released; otherwise the session sends READY as soon as it is established.

    Attributes:
        was_established: the handshake of the session succeeded.
        endpoint: the server that the session is with.
        workers: the number of workers that the server has.
        server_id: id of the server; None for one that shares no database with others.
        members: the servers that share its database, as it has told; None before.
        reconnect: connects the session again; set by its connection.
        ends_at: time of the loop at which the connection closes the session, even if streams are
            open; set by its connection.
        refused: host names that the server does not serve, by service id, each with the reason.
        said_farewell: a second GOAWAY was sent, so that the server closes the WebSockets before
            `ends_at`; set by its connection.
        ended: the code and the reason of the session's end; None while it is open.
        published: done when the server has answered for each service; False if the session closed
            before.
        released: done when the server opens no more streams in this session.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments
        self,
        services: Services,
        *,
        coalescer: WriteCoalescer,
        options: SessionOptions,
        endpoint: ServerEndpoint,
        renewed: Callable[[Renewed], None],
        lost: Callable[["ServerSession"], None],
        workers_known: Callable[["ServerSession"], None] = lambda _: None,
        expected_server: str | None = None,
        takes_over: bool = False,
    ) -> None:
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._running: set[Exchange] = set()
        self._renewed = renewed
        self.lost = lost
        self._workers_known = workers_known
        self._expected_server = expected_server
        self._takes_over = takes_over
        self._leaving = False
        self._refuses = False
        self._unanswered: set[str] = set()
        self._reported: dict[str, ServiceHealth] = {}
        self.refused: dict[str, dict[str, str]] = {}
        self.published: asyncio.Future[bool] = self._loop.create_future()
        self.released: asyncio.Future[None] = self._loop.create_future()
        self.link = TunnelLink(coalescer, dialer=True, sink=self, options=options)
        self.was_established = False
        self.endpoint = endpoint
        self.workers = 1
        self.server_id: str | None = None
        self.members: list[Member] | None = None
        self.reconnect: Reconnect | None = None
        self.ends_at = math.inf
        self.said_farewell = False
        self.ended: tuple[Code, str] | None = None

    def sweep(self, now: float) -> None:
        """Fail the requests that have exceeded a timeout; tell the server of changed health.

        Runs every second.
        """
        for exchange in list(self._running):
            exchange.expire(now)
        session = self.link.session
        if self.was_established and session.attached and HEALTH in session.capabilities:
            self._report_health()

    def go_away(self, reason: str) -> None:
        """Ask the server to open no more streams here; refuse those that it opens after its
        answer."""
        self._leaving = True
        self.link.session.go_away(Code.GOING_AWAY, reason)

    def refuse_streams(self) -> None:
        """Refuse the streams that the server opens from now on."""
        self._refuses = True

    @property
    def allows_more(self) -> bool:
        """The session is attached, and the server accepts further connections of this agent."""
        session = self.link.session
        return (
            session.phase is Phase.OPEN and session.attached and CONNECTIONS in session.capabilities
        )

    @property
    def busy(self) -> bool:
        """Requests may still come, or some are running; upgraded connections do not count."""
        upgraded = sum(exchange.tunnelled for exchange in self._running)
        return not self.released.done() or len(self.link.session.streams) > upgraded

    def announce(self, live: LiveService) -> None:
        """Register a service; unregister it if the server cannot enforce its policy."""
        session = self.link.session
        message = self._without_wildcards(live.announcement())
        size = len(message.encode())
        if message.policy is not None and POLICY not in session.capabilities:
            reason = "this server does not enforce policies; update it first"
        elif live.policy is not None and (
            live.policy.needs_access and ACCESS not in session.capabilities
        ):
            reason = "this server does not know access, which the service asks for; update it first"
        elif not message.hosts:
            reason = "this server does not know wildcard host names; update it first"
        elif size > MAX_PAYLOAD:
            reason = (
                f"host names and policy take {size} bytes; a registration has at most {MAX_PAYLOAD}"
            )
        else:
            if LISTEN_ON not in session.capabilities and not _has_default_schemes(message):
                _log.warning(
                    "this server does not know listen_on: it serves https and redirects http",
                    service=live.id,
                )
            self._unanswered.add(live.id)
            self._reported.pop(live.id, None)
            session.send(message)
            return
        _log.error("service not published", service=live.id, reason=reason)
        self.refused[live.id] = dict.fromkeys(live.service.host_names, reason)
        session.send(Unregister(id=live.id))

    def _without_wildcards(self, message: Register) -> Register:
        """Return the registration without wildcards where the server would not understand them."""
        if WILDCARDS in self.link.session.capabilities:
            return message
        hosts = [host for host in message.hosts if not is_pattern(host)]
        if 0 < len(hosts) < len(message.hosts):
            _log.warning(
                "this server does not know wildcard host names: it serves the others",
                service=message.id,
            )
        return message.model_copy(update={"hosts": hosts})

    def update(self, plan: ServicePlan) -> None:
        """Register changed services again, and unregister removed ones."""
        for live in plan.changed:
            self.announce(live)
        for service_id in plan.gone:
            self.refused.pop(service_id, None)
            self._reported.pop(service_id, None)
            self.link.session.send(Unregister(id=service_id))

    # ---- tunnel.session.SessionSink

    def established(self, peer: Hello | Welcome) -> None:
        assert isinstance(peer, Welcome)
        if self._expected_server not in (None, peer.server):
            self.link.close_session(Code.GOING_AWAY, "another server was expected here")
            return
        self.server_id = peer.server
        self.was_established = True
        _log.info("connected", session=self.link.session.id[:8], software=peer.software)
        for live in self._services.all:
            self.announce(live)
        if not self._takes_over:
            self.link.session.send(Ready())
        self._note_published()
        self.workers = peer.workers or 1
        self._workers_known(self)

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> StreamSink | None:
        if self._refuses:
            self.link.session.reset(
                stream, Code.REFUSED, "the agent accepts no more requests on this session"
            )
            return None
        try:
            request = _parse_request(payload, end=end)
        except RemoteProtocolError as error:
            _log.warning("request refused", reason=str(error))
            self.link.session.reset(stream, Code.PROTOCOL_ERROR, str(error))
            return None
        live = self._services.get(request.service)
        if live is None:
            self.link.session.reset(stream, Code.UNKNOWN_SERVICE, request.service)
            return None
        if request.flags & FLAG_UPGRADE and _log.is_enabled_for(logging.DEBUG):
            _log_upgrade(request)
        self._services.requests += 1
        tracer = self._services.tracer
        span = None if tracer is None else ExchangeSpan(tracer, request)
        exchange = Exchange(
            stream,
            request,
            live,
            session=self.link.session,
            loop=self._loop,
            running=self._running,
            failures=self._services.failed,
        )
        exchange.span = span
        stream.sink = exchange
        exchange.start()
        return exchange

    def message(self, message: ControlMessage) -> None:
        match message:
            case Registered():
                self._registered(message)
            case Renewed():
                self._renewed(message)
            case Members():
                self.members = message.members

    def _registered(self, message: Registered) -> None:
        if message.accepted:
            _log.info("service registered", service=message.id, hosts=message.accepted)
        for host, reason in message.refused.items():
            _log.warning("host name refused", service=message.id, host=host, reason=reason)
        self.refused[message.id] = message.refused
        self._unanswered.discard(message.id)
        self._note_published()

    def going_away(self, code: Code, reason: str) -> None:
        _log.info("server going away", code=code.name, reason=reason)
        # A server that answers our GOAWAY opens no more streams. One that goes away by itself may
        # still open some.
        self._refuses = self._refuses or self._leaving
        self._note_released()

    def resume(self, wanted: Resume) -> None:
        """Do nothing: agents ask for a session, and only servers are asked."""

    def move(self, transport: asyncio.Transport) -> None:
        """Resume the session over another connection in the place of its current one."""
        self.link.session.lost("the session moves to another connection", self._loop.time())
        assert self.reconnect is not None
        self.reconnect.ask(transport)

    def detached(self, reason: str) -> None:
        _log.warning(
            "connection lost; session kept for resume",
            session=self.link.session.id[:8],
            reason=reason,
        )
        self.lost(self)

    def reattached(self) -> None:
        _log.info("reconnected", session=self.link.session.id[:8])
        if self.reconnect is not None:
            self.reconnect.attached()

    def closed(self, code: Code, reason: str) -> None:
        self.ended = (code, reason)
        self._note_released()
        if not self.published.done():
            self.published.set_result(False)

    # ---- inside

    def _report_health(self) -> None:
        """Send the health of services where it has changed, of some of them at a time."""
        reported, left = self._reported, MAX_REPORTS
        for live in self._services.all:
            health = live.upstreams.health
            if health is None or reported.get(live.id) is health or live.id in self._unanswered:
                continue
            reported[live.id] = health
            self.link.session.send(health)
            left -= 1
            if not left:
                return

    def _note_published(self) -> None:
        if not self._unanswered and not self.published.done():
            self.published.set_result(True)

    def _note_released(self) -> None:
        if not self.released.done():
            self.released.set_result(None)


def _has_default_schemes(message: Register) -> bool:
    """Return True if a server that does not know `listen_on` serves the service as configured."""
    return message.listen_on == "both" and message.http_redirect


def _parse_request(payload: bytes, *, end: bool) -> RequestOpen:
    """Return the request of an OPEN.

    Raises:
        RemoteProtocolError: the backend might not read the request as exactly one request.
    """
    request = unpack_open(payload)
    kind, length, upgrade = request.kind, request.length, bool(request.flags & FLAG_UPGRADE)
    if not check_request_block(request.block, upgrade=upgrade):
        raise RemoteProtocolError("invalid request head")
    if kind not in _REQUEST_KINDS or (end or upgrade) != (kind == Kind.NONE) or (end and upgrade):
        raise RemoteProtocolError(
            f"invalid request: body kind {kind} with end={end} upgrade={upgrade}"
        )
    if request.flags & FLAG_ANNOUNCE or length > (MAX_LENGTH if kind == Kind.LENGTH else 0):
        raise RemoteProtocolError(f"invalid request: body kind {kind} with length {length}")
    return request


def _log_upgrade(request: RequestOpen) -> None:
    """Log an upgrade request. The block has been checked, so its Host is printable."""
    _log.debug(
        "Detected %s request for host: %s - forwarding as regular HTTP",
        "WebSocket upgrade" if _WEBSOCKET.search(request.block) else "upgrade",
        b"".join(_HOST.findall(request.block)).decode("ascii", "backslashreplace"),
        request=request.request_id,
    )
