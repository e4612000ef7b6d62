"""Listener for agents, and for machines that join."""

import asyncio
import ssl
from typing import Final, cast

from zerotrust.net.descriptor_passing import Take
from zerotrust.net.handshake_limiter import HandshakeLimiter
from zerotrust.net.listen import Listening, TlsListener, TlsListening
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import HTTP
from zerotrust.net.websocket_transport import WebSocketTransport
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session_acceptor import SessionAcceptor
from zerotrust.server.identity.enrollment_api import EnrollmentEndpoint
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import Code

_log = logs.logger("agents")

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the sessions' links."""


class AgentListener:
    """Accepts connections of agents, and ends their sessions.

    Args:
        context: TLS settings.
        acceptor: begins a session on each connection with a certificate.
        enrollment: serves connections without a certificate.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        registry: Registry,
        acceptor: SessionAcceptor,
        enrollment: EnrollmentEndpoint,
        tasks: Tasks,
    ) -> None:
        self._registry = registry
        self._acceptor = acceptor
        self._enrollment = enrollment
        self._listener = TlsListener(
            context=context, factory=self._router, refused=_log_refused, tasks=tasks
        )
        self._checking = asyncio.get_running_loop().call_later(CHECK_INTERVAL, self._check_links)

    @property
    def handshakes(self) -> HandshakeLimiter:
        """TLS handshakes that have not ended."""
        return self._listener.handshakes

    @property
    def joining(self) -> int:
        """Number of open connections without a certificate."""
        return self._enrollment.connections

    def listen(self, address: str, *, beside: Listening | None = None) -> TlsListening:
        """Accept agents at an address, as `net.listen.TlsListener`.

        Raises:
            SetupError: the address can't be used.
        """
        return self._listener.listen(address, key="server.listen_addr", beside=beside)

    @property
    def take(self) -> Take:
        """Accept a connection that another process hands over."""
        return self._listener.take_handed

    def accept(self, websocket: WebSocketTransport, host: str) -> None:
        """Accept an agent inside a WebSocket, from a client at this address."""
        self._listener.accept(websocket, host)

    def reconfigure(self, context: ssl.SSLContext) -> None:
        """Use other TLS settings for agents that connect from now on."""
        self._listener.reconfigure(context)

    def depart(self) -> None:
        """Send GOAWAY to all agents, and end WebSockets so that their clients reconnect."""
        for session in self._registry.sessions:
            session.link.session.go_away(Code.GOING_AWAY, "the server is shutting down")
            session.depart()

    async def close(self) -> None:
        """End all sessions."""
        self._checking.cancel()
        self._enrollment.close()
        links = [session.link for session in self._registry.sessions]
        for link in links:
            link.close_session(Code.GOING_AWAY, "the server is shutting down")
        if links:
            await asyncio.wait([link.closed for link in links], timeout=2.0)

    def _check_links(self) -> None:
        self._registry.check_links()
        self._checking = asyncio.get_running_loop().call_later(CHECK_INTERVAL, self._check_links)

    def _router(self) -> asyncio.Protocol:
        return ConnectionRouter(self._acceptor, self._enrollment)


class ConnectionRouter(asyncio.Protocol):
    """Routes a new TLS connection to a session or to enrollment, by certificate and ALPN."""

    def __init__(self, acceptor: SessionAcceptor, enrollment: EnrollmentEndpoint) -> None:
        self._acceptor = acceptor
        self._enrollment = enrollment

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast("asyncio.Transport", transport)
        tls = connection.get_extra_info("ssl_object")
        host, port = connection.get_extra_info("peername")[:2]
        protocol: asyncio.Protocol | str
        if tls.getpeercert(True):
            protocol = self._acceptor.accept().as_protocol()
        elif tls.selected_alpn_protocol() != HTTP:
            protocol = "no certificate; an agent gets one with 0trust agent join"
        else:
            protocol = self._enrollment.accept(host)
        if isinstance(protocol, str):
            _log_refused(f"{host}:{port}", protocol)
            connection.abort()
            return
        connection.set_protocol(protocol)
        protocol.connection_made(connection)


def _log_refused(peer: str, reason: str) -> None:
    _log.warning("agent refused", peer=peer, reason=reason)
