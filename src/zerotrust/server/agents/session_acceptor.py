"""Acceptor of agents' sessions: checks certificates, begins and resumes sessions."""

import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final

from zerotrust import __version__
from zerotrust.errors import PkiError
from zerotrust.net.tasks import Tasks
from zerotrust.net.tunnel import TunnelLink
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki.identity import Identity, identity
from zerotrust.server.agents.member_announcer import MemberAnnouncer
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_registrar import ServiceRegistrar
from zerotrust.server.agents.session import AgentSession, RenewCertificate
from zerotrust.server.identity.authorization import Authorization
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import CAPABILITIES, CONNECTIONS, MEMBERS, RENEWAL, RESUME, Code
from zerotrust.tunnel.messages import ControlMessage, Hello, Resume, Welcome
from zerotrust.tunnel.session import SessionOptions
from zerotrust.tunnel.stream import Stream, StreamSink

_log = logs.logger("agents")

MAX_SESSIONS: Final = 8
"""Sessions of one agent beside the newest that have not retired; of more, the oldest is closed. An
agent may have four, and for a moment twice as many, while new ones replace them."""

RecordRejected = Callable[[str | None, str | None, str], Coroutine[Any, Any, None]]
"""Records that an agent was rejected: its id and the serial number of its certificate, both None
where the certificate names no agent, and the reason."""


class SessionAcceptor:
    """Begins the sessions of agents.

    Args:
        record_rejected: records agents that are rejected although TLS has accepted their
            certificate.
        renew_certificate: None where certificates are issued by hand.
        offers_http: accept services that listen on http alone.
        resume_timeout: seconds for which a session waits for another link; 0 turns resumption off.
        worker: number of this process among those of the server.
        workers: number of these processes.
        announcer: tells agents of the other servers; None where this one shares no database.

    Attributes:
        options: the options of each new session.
    """

    def __init__(  # noqa: PLR0913 - the server's collaborators, and settings
        self,
        registry: Registry,
        registrar: ServiceRegistrar,
        authorization: Authorization,
        *,
        coalescer: WriteCoalescer,
        tasks: Tasks,
        record_rejected: RecordRejected | None = None,
        renew_certificate: RenewCertificate | None = None,
        offers_http: bool = True,
        resume_timeout: float = 60.0,
        worker: int = 0,
        workers: int = 1,
        announcer: MemberAnnouncer | None = None,
    ) -> None:
        self._worker, self._workers = worker, workers
        self._announcer = announcer
        self._registry = registry
        self._registrar = registrar
        self._authorization = authorization
        self._coalescer = coalescer
        self._tasks = tasks
        self._record_rejected = record_rejected
        self.reconfigure(
            renew_certificate=renew_certificate,
            offers_http=offers_http,
            resume_timeout=resume_timeout,
        )

    def reconfigure(
        self,
        *,
        renew_certificate: RenewCertificate | None,
        offers_http: bool,
        resume_timeout: float,
    ) -> None:
        """Apply new settings to sessions that begin from now on."""
        self._renew_certificate = renew_certificate
        self._offers_http = offers_http
        left_out = {RENEWAL} if renew_certificate is None else set()
        if not resume_timeout:
            left_out.add(RESUME)
        if self._announcer is None:
            left_out.add(MEMBERS)
        self.options = SessionOptions(
            software=f"0trust/{__version__}",
            capabilities=tuple(name for name in CAPABILITIES if name not in left_out),
            resume_timeout=resume_timeout,
            worker=self._worker,
            workers=self._workers,
            server="" if self._announcer is None else self._announcer.server_id,
        )

    def accept(self) -> TunnelLink:
        """Return the link for a new connection, which waits for the handshake."""
        return _PendingSession(self, self._coalescer, self.options).link

    def begin(self, link: TunnelLink, hello: Hello) -> None:
        """Begin a session on a link that has completed the handshake, or reject the agent."""
        agent = self._authenticate(link)
        if agent is None:
            return
        if CONNECTIONS not in link.session.capabilities:
            hello = hello.model_copy(update={"instance": None, "connection": 0})
        if self._registry.was_replaced(agent.agent_id, hello.instance):
            link.close_session(Code.SUPERSEDED, "another process of this agent took over")
            return
        session = AgentSession(
            link,
            agent,
            hello,
            registry=self._registry,
            registrar=self._registrar,
            tasks=self._tasks,
            renew_certificate=self._renew_certificate,
            offers_http=self._offers_http,
        )
        self._registry.add(session)
        link.session.set_sink(session)
        if self._announcer is not None:
            self._announcer.tell(session)
        _log.info(
            "agent connected",
            agent=session.agent,
            session=link.session.id[:8],
            generation=session.generation,
            connection=session.connection + 1,
            peer=link.peer_name,
            software=session.software,
        )
        for other in self._registry.older(session)[:-MAX_SESSIONS]:
            other.link.close_session(
                Code.SUPERSEDED, f"more than {MAX_SESSIONS} sessions of this agent"
            )

    def resume(self, link: TunnelLink, wanted: Resume) -> None:
        """Move a session to the connection on which its agent asks for it, or refuse that."""
        agent = self._authenticate(link)
        if agent is None:
            return
        session = self._registry.find(agent.agent_id, wanted.session)
        refusal = "no such session" if session is None else session.link.session.refusal(wanted)
        if session is None or refusal is not None:
            _log.info(
                "session not resumed",
                agent=agent.agent_id,
                session=wanted.session[:8],
                reason=refusal,
            )
            link.close_session(Code.NOT_RESUMED, refusal or "")
            return
        if agent.serial != session.serial:
            self._registry.certificate_renewed(session, agent.serial, agent.not_after.timestamp())
        session.link.take_over(link, wanted)

    def _authenticate(self, link: TunnelLink) -> Identity | None:
        """Return the identity of the agent; None where it is rejected, which ends the session."""
        try:
            agent = identity(link.peer_certificate)
        except PkiError as error:
            self._reject(link, None, None, str(error))
            return None
        if refusal := self._authorization.refusal(agent.agent_id, agent.serial):
            self._reject(link, agent.agent_id, agent.serial, refusal)
            return None
        return agent

    def _reject(self, link: TunnelLink, agent: str | None, serial: str | None, reason: str) -> None:
        link.close_session(Code.NOT_ALLOWED, reason)
        if self._record_rejected is not None:
            self._tasks.spawn(
                self._record_rejected(agent, serial, reason), "record a rejected agent"
            )


class _PendingSession:
    """Sink of a tunnel session until the end of its handshake (tunnel.session.SessionSink).

    Then an `AgentSession` takes its place, or an older session takes the connection, or the agent
    is rejected.
    """

    def __init__(
        self, acceptor: SessionAcceptor, coalescer: WriteCoalescer, options: SessionOptions
    ) -> None:
        self._acceptor = acceptor
        self.link = TunnelLink(
            coalescer,
            dialer=False,
            sink=self,
            options=options,
            session_id=secrets.token_hex(16),
            secret=secrets.token_hex(32),
        )

    def established(self, peer: Hello | Welcome) -> None:
        assert isinstance(peer, Hello)
        self._acceptor.begin(self.link, peer)

    def resume(self, wanted: Resume) -> None:
        self._acceptor.resume(self.link, wanted)

    def closed(self, code: Code, reason: str) -> None:
        _log.warning("agent refused", peer=self.link.peer_name, reason=reason or code.name)

    # The others only come after the handshake.

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> StreamSink | None:
        return None

    def message(self, message: ControlMessage) -> None:
        pass

    def going_away(self, code: Code, reason: str) -> None:
        pass

    def detached(self, reason: str) -> None:
        pass

    def reattached(self) -> None:
        pass
