"""Agents: who connects, what they offer, and when their sessions end."""

import asyncio
import datetime
import hashlib
import json
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol

from zerotrust import __version__
from zerotrust.errors import ConfigError, PkiError, ZeroTrustError
from zerotrust.model.password_hash import REFERENCE_SPEED, HashSpeed
from zerotrust.net.handshake_limiter import HandshakeLimiter
from zerotrust.net.listen import Listening, TlsListener, TlsListening
from zerotrust.net.tasks import Tasks
from zerotrust.net.tunnel import TunnelLink
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki.identity import Identity, identity
from zerotrust.server.agents.cpu_budget import CpuBudget
from zerotrust.server.agents.hash_speed import check_hashes
from zerotrust.server.agents.registration_queue import RegistrationQueue
from zerotrust.server.agents.registry import Member, Registry, ServiceRegistration
from zerotrust.server.agents.scheme import OfferedSchemes
from zerotrust.server.agents.service_policy import compile_service_policy
from zerotrust.server.agents.session_control import answer, depart, shortened
from zerotrust.server.identity.authorization import Authorization
from zerotrust.server.identity.enrollment_api import ConnectionRouter, Enrollment, EnrollmentEndpoint
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import printable
from zerotrust.tunnel.codes import CAPABILITIES, CONNECTIONS, RENEWAL, RESUME, Code
from zerotrust.tunnel.messages import (
    ControlMessage,
    Hello,
    Ready,
    Register,
    Registered,
    Renew,
    Renewed,
    Resume,
    Unregister,
    Welcome,
)
from zerotrust.tunnel.session import SessionOptions
from zerotrust.tunnel.stream import Stream, StreamSink

_log = logs.logger("agents")

MAX_SESSIONS: Final = 8
"""Of one agent, beside the newest, that do not go away: it may have four, and twice as many where it changes from these
to the next. Of more, the oldest is closed."""
WATCH: Final = 1.0
"""Seconds between two looks at the links of sessions: they look themselves as often."""
RENEWAL_EACH: Final = 5.0
"""Seconds between two requests for a certificate in one session; agents are asked to leave ten."""
MAX_RETIRED: Final = 16
"""Sessions of one agent that only end what they have begun; of more, the oldest is closed."""


class Certified(Protocol):
    """A certificate that was issued (enrollment.join)."""

    @property
    def chain_pem(self) -> bytes:
        """The certificate and those between it and the root."""

    @property
    def serial(self) -> str:
        """Its number, as `pki.identity` writes it."""

    @property
    def not_after(self) -> datetime.datetime:
        """How long it is good; aware."""


RenewCertificate = Callable[[str, str, bytes], Awaitable[Certified]]
"""Issues the next certificate: of which agent, in place of which serial, for which request (PEM)."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all sessions of a server go by.

    Attributes:
        secret: of the server; policies derive theirs from it.
        hash_speed: of this machine; services whose password hashes would take it too long are refused.
        renewal: None where certificates are issued by hand.
        enrolment: lets in who has no certificate yet; None where nobody is.
        turned_away: hears of who is refused with a good certificate: which agent (None where it names nobody), with
            which serial, and why.
    """

    registry: Registry
    admission: Authorization
    coalescer: WriteCoalescer
    tasks: Tasks
    secret: bytes
    toll: CpuBudget = field(default_factory=CpuBudget)
    renewal: RenewCertificate | None = None
    enrolment: Enrollment | None = None
    turned_away: Callable[[str | None, str | None, str], Coroutine[Any, Any, None]] | None = None
    offers_http: bool = True
    resume_timeout: float = 60.0
    hash_speed: HashSpeed = REFERENCE_SPEED

    @property
    def options(self) -> SessionOptions:
        """What the server says of itself."""
        left_out = {RENEWAL} if self.renewal is None else set()
        if not self.resume_timeout:
            left_out.add(RESUME)
        return SessionOptions(
            software=f"0trust/{__version__}",
            capabilities=tuple(name for name in CAPABILITIES if name not in left_out),
            resume_timeout=self.resume_timeout,
        )


class AgentSession:
    """One agent's session on the server (tunnel.session.SessionSink).

    The agent is who its certificate says; nothing that it sends changes that.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._registry = terms.registry
        self._member: Member | None = None
        self._renews = False
        self._renew_from = 0.0
        self.link = TunnelLink(
            terms.coalescer,
            dialer=False,
            sink=self,
            options=terms.options,
            session_id=secrets.token_hex(16),
            secret=secrets.token_hex(32),
        )
        self._wishes = RegistrationQueue(self.link, terms.toll)

    def _admit(self) -> Identity | None:
        """Who is at the other end; None where it may not be, and the session has ended."""
        try:
            who = identity(self.link.peer_certificate)
        except PkiError as error:
            self._turn_away(None, None, str(error))
            return None
        if refusal := self._terms.admission.refusal(who.agent_id, who.serial):
            self._turn_away(who.agent_id, who.serial, refusal)
            return None
        return who

    def _turn_away(self, agent: str | None, serial: str | None, reason: str) -> None:
        self.link.close_session(Code.NOT_ALLOWED, reason)
        if self._terms.turned_away is not None:
            self._terms.tasks.spawn(self._terms.turned_away(agent, serial, reason), "record a refusal")

    def established(self, peer: Hello | Welcome) -> None:
        who = self._admit()
        if who is None:
            return
        instance, connection = None, 0
        if isinstance(peer, Hello) and CONNECTIONS in self.link.session.capabilities:
            instance, connection = peer.instance, peer.connection
        if self._registry.was_replaced(who.agent_id, instance):
            self.link.close_session(Code.SUPERSEDED, "another process of this agent took over")
            return
        self._member = self._registry.join(who.agent_id, self.link, instance=instance, connection=connection)
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
            connection=self._member.connection + 1,
            peer=self.link.peer_name,
            software=peer.software,
        )
        for other in self._registry.older(self._member)[:-MAX_SESSIONS]:
            other.link.close_session(Code.SUPERSEDED, f"more than {MAX_SESSIONS} sessions of this agent")

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> StreamSink | None:
        self.link.session.reset(stream, Code.NOT_ALLOWED, "agents open no streams")
        return None

    def message(self, message: ControlMessage) -> None:
        match message:
            case Register():
                self._wish(partial(self._register, message=message))
            case Unregister():
                self._wish(partial(self._unregister, service=message.id))
            case Ready():
                self._wish(self._supersede)
            case Renew():
                self._renew(message)

    def _wish(self, wish: Callable[[Member], None]) -> None:
        if (member := self._member) is not None:
            self._wishes.do(member.agent, partial(wish, member))

    def _register(self, member: Member, message: Register) -> None:
        if member.retired:
            self._refuse(member, message, "this session is going away")
            return
        binding = OfferedSchemes.of(message)
        if not binding.https and not self._terms.offers_http:
            self._refuse(member, message, "it listens on http alone, which this server does not offer: caddy.http_port")
            return
        policy_bytes, digest = 0, b""
        if message.policy is not None:
            policy_bytes = len(message.encode())
            digest = hashlib.sha256(json.dumps(message.policy, sort_keys=True).encode()).digest()
        shared = self._registry.same(member, message.id, digest) if digest else None
        if shared is not None:
            policy_bytes = 0
        if reason := self._registry.too_much(member, message.id, len(message.hosts), policy_bytes):
            self._refuse(member, message, reason)
            return
        before = self._registry.former(member, message.id)
        try:
            # One guard for all sessions: what a client may do once it may not do once in each.
            guard = (
                shared.policy
                if shared is not None
                else compile_service_policy(message.policy, secret=self._terms.secret, before=before)
            )
            if shared is None:
                check_hashes(guard, self._terms.hash_speed)
        except ConfigError as error:
            self._refuse(member, message, f"its policy cannot be enforced: {error}")
            return
        granted, refused = self._terms.admission.claimed(member.agent, message.hosts)
        claim = ServiceRegistration(
            member,
            message.id,
            message.id.encode(),
            tuple(granted),
            message.websocket,
            guard,
            binding,
            tuple(message.hosts),
            policy_bytes,
            digest,
            message.weight,
            message.sticky,
        )
        answer(member, claim, self._registry.register(member, claim), refused)

    def _refuse(self, member: Member, message: Register, reason: str) -> None:
        # What was registered before goes too: its owner wants it protected in a way that we can't.
        self._registry.unregister(member, message.id)
        said = shortened(dict.fromkeys(message.hosts, reason))
        self.link.session.send(Registered(id=message.id, refused=said))
        _log.warning("service refused", agent=member.agent, service=message.id, reason=printable(reason))

    def _unregister(self, member: Member, service: str) -> None:
        if self._registry.unregister(member, service):
            _log.info("service removed", agent=member.agent, service=service)

    def _renew(self, message: Renew) -> None:
        member, issue, now = self._member, self._terms.renewal, asyncio.get_running_loop().time()
        if member is None or issue is None or self._renews or now < self._renew_from:
            self.link.session.send(Renewed(reason=f"one request at a time, and in {RENEWAL_EACH:g} s"))
            return
        self._renews = True
        self._renew_from = now + RENEWAL_EACH
        self._terms.tasks.spawn(self._issue(member, issue, message.csr.encode()), "renewal")

    async def _issue(self, member: Member, issue: RenewCertificate, csr: bytes) -> None:
        try:
            issued = await issue(member.agent, member.serial, csr)
        except ZeroTrustError as error:
            _log.warning("certificate not renewed", agent=member.agent, reason=str(error))
            self.link.session.send(Renewed(reason=printable(str(error))[:128]))
        else:
            self._registry.renewed(member, issued.serial, issued.not_after.timestamp())
            _log.info("certificate renewed", agent=member.agent, serial=issued.serial, until=str(issued.not_after))
            self.link.session.send(Renewed(chain=issued.chain_pem.decode()))
        finally:
            self._renews = False

    def _supersede(self, member: Member) -> None:
        for older in self._registry.replace(member):
            _log.info("session superseded", agent=older.agent, generation=older.generation)
            older.link.close_session(Code.SUPERSEDED, "a newer session of this agent took over")

    def going_away(self, code: Code, reason: str) -> None:
        self._wish(partial(self._retire, code=code, reason=reason))

    def _retire(self, member: Member, code: Code, reason: str) -> None:
        if member.retired:
            depart(member)
            return
        _log.info("agent going away", agent=member.agent, generation=member.generation, code=code.name, reason=reason)
        retired = self._registry.retire(member)
        # So the agent knows that what it has now is all that it gets here.
        self.link.session.go_away(Code.GOING_AWAY, "no more requests on this session")
        for oldest in retired[:-MAX_RETIRED]:
            oldest.link.close_session(Code.GOING_AWAY, f"more than {MAX_RETIRED} sessions of this agent are going away")

    def resume(self, wanted: Resume) -> None:
        who = self._admit()
        if who is None:
            return
        member = self._registry.find(who.agent_id, wanted.session)
        refusal = "no such session" if member is None else member.link.session.refusal(wanted)
        if member is None or refusal is not None:
            _log.info("session not resumed", agent=who.agent_id, session=wanted.session[:8], reason=refusal)
            self.link.close_session(Code.NOT_RESUMED, refusal or "")
            return
        if who.serial != member.serial:
            self._registry.renewed(member, who.serial, who.not_after.timestamp())
        member.link.take_over(self.link, wanted)

    def detached(self, reason: str) -> None:
        if (member := self._member) is not None:
            self._registry.detached(member)
            _log.warning(
                "agent lost, its session waits", agent=member.agent, generation=member.generation, reason=reason
            )

    def reattached(self) -> None:
        if (member := self._member) is not None:
            member.peer = str((self.link.peer() or ("",))[0])
            self._registry.reattached(member)
            _log.info("agent back", agent=member.agent, generation=member.generation, peer=self.link.peer_name)

    def closed(self, code: Code, reason: str) -> None:
        member, self._member = self._member, None
        self._wishes.forget()
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
            _log.warning("agent refused", peer=self.link.peer_name, reason=reason or code.name)


class AgentListener:
    """The listener for agents."""

    def __init__(self, terms: Terms, *, context: ssl.SSLContext) -> None:
        self._terms = terms
        self._desk = EnrollmentEndpoint(terms.enrolment, coalescer=terms.coalescer, tasks=terms.tasks)
        self._listener = TlsListener(
            context=context,
            factory=self._reception,
            refused=self._refused,
            tasks=terms.tasks,
        )
        self._watching = asyncio.get_running_loop().call_later(WATCH, self._watch)

    def _watch(self) -> None:
        self._terms.registry.watch()
        self._watching = asyncio.get_running_loop().call_later(WATCH, self._watch)

    @property
    def handshakes(self) -> HandshakeLimiter:
        """Those that are under way."""
        return self._listener.handshakes

    @property
    def joining(self) -> int:
        """Connections of those who have no certificate yet."""
        return self._desk.connections

    def listen(self, address: str, *, beside: Listening | None = None) -> TlsListening:
        """Accept agents at an address, as `net.listen.TlsListener`.

        Raises:
            SetupError: the address can't be used.
        """
        return self._listener.listen(address, key="server.listen_addr", beside=beside)

    def use(
        self,
        context: ssl.SSLContext,
        *,
        offers_http: bool,
        resume_timeout: float,
        renewal: RenewCertificate | None = None,
        enrolment: Enrollment | None = None,
    ) -> None:
        """Go by these with agents that connect from now on."""
        self.use_context(context)
        self._desk.use(enrolment)
        self._terms = replace(
            self._terms,
            offers_http=offers_http,
            resume_timeout=resume_timeout,
            renewal=renewal,
            enrolment=enrolment,
        )

    def use_context(self, context: ssl.SSLContext) -> None:
        """Show another certificate to agents that connect from now on."""
        self._listener.reconfigure(context)

    def depart(self) -> None:
        """Tell agents that no more requests come, and end WebSockets so that their clients come back."""
        for member in self._terms.registry.sessions:
            member.link.session.go_away(Code.GOING_AWAY, "the server is shutting down")
            depart(member)

    async def close(self) -> None:
        """End all sessions."""
        self._watching.cancel()
        self._desk.close()
        links = [member.link for member in self._terms.registry.sessions]
        for link in links:
            link.close_session(Code.GOING_AWAY, "the server is shutting down")
        if links:
            await asyncio.wait([link.closed for link in links], timeout=2.0)

    def _link(self) -> asyncio.Protocol:
        return AgentSession(self._terms).link.as_protocol()

    def _reception(self) -> asyncio.Protocol:
        return ConnectionRouter(agents=self._link, desk=self._desk, refused=self._refused)

    def _refused(self, peer: str, reason: str) -> None:
        _log.warning("agent refused", peer=peer, reason=reason)
