"""Agents: who connects, what they offer, and when their sessions end."""

import asyncio
import secrets
import ssl
import time
from typing import Final

import structlog

from zerotrust import __version__
from zerotrust.errors import ConfigError, PkiError
from zerotrust.net.flush import Flusher
from zerotrust.net.listen import Listening, TlsListener, TlsListening
from zerotrust.net.tasks import Tasks
from zerotrust.net.tunnel import TunnelLink
from zerotrust.pki.identity import identity
from zerotrust.server.admission import Admission
from zerotrust.server.binding import Binding
from zerotrust.server.guard import compile_guard
from zerotrust.server.registry import Claim, Member, Registry
from zerotrust.server.sessions import answer, shortened
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.events import StreamSink
from zerotrust.tunnel.messages import Hello, Register, Registered, Welcome
from zerotrust.tunnel.payloads import printable
from zerotrust.tunnel.session import Options
from zerotrust.tunnel.stream import Stream

_log = structlog.get_logger("agents")

MAX_RETIRED: Final = 16
"""Sessions of one agent that only end what they have begun; of more, the oldest is closed."""


class AgentSession:
    """One agent's session on the server (tunnel.events.SessionSink).

    The agent is who its certificate says; nothing that it sends changes that.
    """

    def __init__(
        self,
        registry: Registry,
        admission: Admission,
        flusher: Flusher,
        options: Options,
        secret: bytes,
        *,
        offers_http: bool = True,
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._offers_http = offers_http
        self._secret = secret
        self._member: Member | None = None
        self.link = TunnelLink(flusher, dialer=False, sink=self, options=options, session_id=secrets.token_hex(16))

    def established(self, peer: Hello | Welcome) -> None:
        try:
            who = identity(self.link.peer_certificate)
        except PkiError as error:
            self.link.close_session(Code.NOT_ALLOWED, str(error))
            return
        if refusal := self._admission.refusal(who.agent_id, who.serial):
            self.link.close_session(Code.NOT_ALLOWED, refusal)
            return
        self._member = self._registry.join(who.agent_id, self.link)
        self._member.serial = who.serial
        self._member.since = time.time()
        self._member.ends = who.not_after.timestamp()
        self._member.peer = str((self.link.peer() or ("",))[0])
        self._member.software = peer.software
        _log.info(
            "agent connected",
            agent=who.agent_id,
            session=self.link.session.id[:8],
            generation=self._member.generation,
            software=peer.software,
        )

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> StreamSink | None:
        self.link.session.reset(stream, Code.NOT_ALLOWED, "agents open no streams")
        return None

    def register(self, message: Register) -> None:
        member = self._member
        if member is None:
            return
        if member.retired:
            self._refuse(member, message, "this session is going away")
            return
        binding = Binding.of(message)
        if not binding.https and not self._offers_http:
            self._refuse(member, message, "it listens on http alone, which this server does not offer: caddy.http_port")
            return
        before = self._registry.former(member, message.id)
        try:
            guard = compile_guard(message.policy, secret=self._secret, before=before)
        except ConfigError as error:
            self._refuse(member, message, f"its policy cannot be enforced: {error}")
            return
        granted, refused = self._admission.judge(member.agent, message.hosts)
        claim = Claim(
            member,
            message.id,
            message.id.encode(),
            tuple(granted),
            message.websocket,
            guard,
            binding,
            tuple(message.hosts),
        )
        answer(member, claim, self._registry.register(member, claim), refused)

    def _refuse(self, member: Member, message: Register, reason: str) -> None:
        # What was registered before goes too: its owner wants it protected in a way that we can't.
        self._registry.unregister(member, message.id)
        said = shortened(dict.fromkeys(message.hosts, reason))
        self.link.session.registered(Registered(id=message.id, refused=said))
        _log.warning("service refused", agent=member.agent, service=message.id, reason=printable(reason))

    def unregister(self, service: str) -> None:
        if self._member is not None and self._registry.unregister(self._member, service):
            _log.info("service removed", agent=self._member.agent, service=service)

    def registered(self, message: Registered) -> None:
        """Only agents are told."""

    def ready(self) -> None:
        if self._member is None:
            return
        for older in self._registry.older(self._member):
            _log.info("session superseded", agent=older.agent, generation=older.generation)
            older.link.close_session(Code.SUPERSEDED, "a newer session of this agent took over")

    def going_away(self, code: Code, reason: str) -> None:
        member = self._member
        if member is None or member.retired:
            return
        _log.info("agent going away", agent=member.agent, generation=member.generation, code=code.name, reason=reason)
        retired = self._registry.retire(member)
        # So the agent knows that what it has now is all that it gets here.
        self.link.session.go_away(Code.GOING_AWAY, "no more requests on this session")
        for oldest in retired[:-MAX_RETIRED]:
            oldest.link.close_session(Code.GOING_AWAY, f"more than {MAX_RETIRED} sessions of this agent are going away")

    def closed(self, code: Code, reason: str) -> None:
        member, self._member = self._member, None
        if member is not None:
            self._registry.leave(member)
            _log.info(
                "agent disconnected",
                agent=member.agent,
                generation=member.generation,
                code=code.name,
                reason=reason,
            )
        else:
            _log.warning("agent refused", reason=reason or code.name)


class AgentDoor:
    """The listener for agents."""

    def __init__(
        self,
        registry: Registry,
        admission: Admission,
        *,
        flusher: Flusher,
        tasks: Tasks,
        context: ssl.SSLContext,
        offers_http: bool,
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._offers_http = offers_http
        self._flusher = flusher
        self._secret = secrets.token_bytes(32)
        self._options = Options(software=f"0trust/{__version__}")
        self._listener = TlsListener(
            context=context,
            factory=self._link,
            refused=self._refused,
            tasks=tasks,
        )

    def listen(self, address: str, *, beside: Listening | None = None) -> TlsListening:
        """Accept agents at an address, as `net.listen.TlsListener`.

        Raises:
            SetupError: the address can't be used.
        """
        return self._listener.listen(address, key="server.listen_addr", beside=beside)

    def use(self, context: ssl.SSLContext, *, offers_http: bool) -> None:
        """Go by these with agents that connect from now on."""
        self._listener.use(context)
        self._offers_http = offers_http

    async def close(self) -> None:
        """End all sessions."""
        links = [member.link for member in self._registry.members]
        for link in links:
            link.close_session(Code.GOING_AWAY, "the server is shutting down")
        if links:
            await asyncio.wait([link.closed for link in links], timeout=2.0)

    def _link(self) -> asyncio.Protocol:
        session = AgentSession(
            self._registry,
            self._admission,
            self._flusher,
            self._options,
            self._secret,
            offers_http=self._offers_http,
        )
        return session.link.as_protocol()

    def _refused(self, peer: str, reason: str) -> None:
        _log.warning("agent refused", peer=peer, reason=reason)
