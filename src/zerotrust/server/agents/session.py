"""An agent's session on the server, and the services that it registers there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, cast

from zerotrust.enrollment.join import IssuedCertificate
from zerotrust.errors import ZeroTrustError
from zerotrust.model.base import patterns_of
from zerotrust.model.service_access import Inspection
from zerotrust.net.tasks import Tasks
from zerotrust.net.tunnel import TunnelLink
from zerotrust.pki.identity import Identity
from zerotrust.server.agents.cpu_budget import CpuBudget
from zerotrust.server.agents.registration_queue import RegistrationQueue
from zerotrust.server.agents.scheme import USUAL, OfferedSchemes
from zerotrust.server.agents.service_policy import CompiledPolicy
from zerotrust.telemetry import logs
from zerotrust.tunnel.binary import printable
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.messages import (
    ControlMessage,
    Hello,
    Ready,
    Register,
    Renew,
    Renewed,
    Resume,
    ServiceHealth,
    Unregister,
    Welcome,
)
from zerotrust.tunnel.stream import Stream, StreamSink

_log = logs.logger("agents")

RENEWAL_INTERVAL: Final = 5.0
"""Least time between two certificate requests of one session, in seconds. Agents wait 10 s."""
MAX_RETIRED: Final = 16
"""Retired sessions of one agent; beyond that, the oldest is closed."""

MAX_HEALTH: Final = 1024
"""Services of a session whose health is kept; with the longest texts, 4 MiB."""

RenewCertificate = Callable[[str, str, bytes], Awaitable[IssuedCertificate]]
"""Issues the next certificate for an agent's id, the serial number that it replaces, and a CSR
(PEM)."""


class OpenRequest(Protocol):
    """A request that an agent serves now: the sink of a stream (`server.proxy.relay`)."""

    @property
    def registered_host(self) -> str:
        """The host name or wildcard of the service that the request belongs to."""

    def cut(self, reason: str) -> None:
        """End the request at once: the agent may no longer serve it."""

    def depart(self, *, by_agent: bool) -> None:
        """End an upgraded connection, where its protocol has a message for that.

        Args:
            by_agent: the agent restarts, and not the server.
        """


class SessionRegistry(Protocol):
    """The calls that a session makes to the registry (`server.agents.registry`)."""

    def new_generation(self, agent: str, instance: str | None) -> tuple[int, int]:
        """Return the generations of a new session and of the first one of its process."""

    def supersede(self, session: "AgentSession") -> list["AgentSession"]:
        """Return the older sessions that this one replaces, now that it is ready."""

    def retire(self, session: "AgentSession") -> list["AgentSession"]:
        """Give a session no more requests; return all retired sessions of its agent."""

    def certificate_renewed(self, session: "AgentSession", serial: str, ends: float) -> None:
        """Record the new certificate of a session's agent."""

    def detached(self, session: "AgentSession") -> None:
        """Record that a session has lost its link."""

    def reattached(self, session: "AgentSession") -> None:
        """Record that a session has a link again."""

    def remove(self, session: "AgentSession") -> None:
        """Remove a session that has ended."""


class RegistrationHandler(Protocol):
    """The calls that a session makes to register services (`server.agents.service_registrar`)."""

    @property
    def cpu_budget(self) -> CpuBudget:
        """CPU time that each agent's registrations may take."""

    def register(self, session: "AgentSession", message: Register) -> None:
        """Register a service, or refuse it, and answer the agent."""

    def unregister(self, session: "AgentSession", service: str) -> None:
        """Remove a service."""


@dataclass(slots=True, eq=False)
class ServiceRegistration:
    """A service that an agent registered in a session.

    Attributes:
        hosts: the requested host names and wildcards that the agent may serve.
        policy: None where every request passes.
        requested: all host names that the agent asked for.
        policy_bytes: size of the policy as JSON.
        policy_digest: hash of the policy.
        weight: the agent's share, where several agents serve a host name.
        sticky: a client stays with one of these agents.
        turn: when the registration was last chosen among those of other agents.
    """

    session: "AgentSession"
    service: str
    wire_id: bytes
    hosts: tuple[str, ...]
    websocket: bool
    policy: CompiledPolicy | None = None
    schemes: OfferedSchemes = USUAL
    requested: tuple[str, ...] = ()
    policy_bytes: int = 0
    policy_digest: bytes = b""
    weight: int = 100
    sticky: bool = False
    turn: int = 0

    @property
    def inspection(self) -> Inspection:
        """Most that may be shown of its WebSockets, by the policy in force: a newer registration of
        the service counts for those that this one has begun."""
        policy = self.session.services.get(self.service, self).policy
        return "metadata" if policy is None else policy.inspection

    def registered_host(self, host: str) -> str:
        """Return its most specific host name or wildcard that matches a host name."""
        return next((name for name in patterns_of(host) if name in self.hosts), host)

    def with_hosts(self, hosts: tuple[str, ...]) -> "ServiceRegistration":
        """Return a copy with other host names."""
        return replace(self, hosts=hosts)


class AgentSession:
    """Agent's session on the server, once its handshake is over (tunnel.session.SessionSink).

    The agent is the one that its certificate names; nothing that it sends changes that.

    Attributes:
        agent: the agent's id.
        generation: number of this session; every new session on this server gets a larger one.
        process_generation: generation of the first session of the same agent process.
        instance: id of the agent process, where it keeps several sessions at a time.
        connection: number of this session among those of the process, from 0.
        rank: sort key: the agent's lowest-ranked session is preferred.
        serial: serial number of the agent's newest certificate, as `pki.identity` writes it.
        former_serials: serial numbers of the certificates that it replaced during this session.
        certificate_ends: end of the certificate's validity, in seconds since the epoch.
        since: start of the session, in seconds since the epoch.
        peer: IP address of the agent; the last one, while the session has no link.
        software: name and version of the agent's program.
        offers_http: this server accepts services that listen on http alone.
        services: registrations by service id.
        host_count: number of host names that all registrations ask for.
        unenforced: registrations that were refused for their policy, by service id: another
            configuration of the server may know how to enforce it.
        health: health of the upstreams of services, by service id, as far as the agent reports it.
        health_changes: number of changes of `health`.
        doubtful: the link is slow to answer, so the agent's other sessions are preferred.
        retired: the session gets no more requests; those that it has go on.
        queue: the registrations that wait for their turn.
    """

    def __init__(  # noqa: PLR0913 - three parts of the handshake, and the server's collaborators
        self,
        link: TunnelLink,
        identity: Identity,
        hello: Hello,
        *,
        registry: SessionRegistry,
        registrar: RegistrationHandler,
        tasks: Tasks,
        renew_certificate: RenewCertificate | None = None,
        offers_http: bool = True,
    ) -> None:
        self.link = link
        self.agent = identity.agent_id
        self.serial = identity.serial
        self.former_serials: set[str] = set()
        self.certificate_ends = identity.not_after.timestamp()
        self.instance = hello.instance
        self.connection = hello.connection
        self.software = hello.software
        self.generation, self.process_generation = registry.new_generation(
            self.agent, self.instance
        )
        self.rank = (-self.process_generation, self.connection, -self.generation)
        self.since = time.time()
        self.peer = _address(link)
        self.offers_http = offers_http
        self.services: dict[str, ServiceRegistration] = {}
        self.host_count = 0
        self.unenforced: dict[str, Register] = {}
        self.health: dict[str, ServiceHealth] = {}
        self.health_changes = 0
        self.doubtful = False
        self.retired = False
        self._registry = registry
        self._registrar = registrar
        self._tasks = tasks
        self._renew_certificate = renew_certificate
        self._renewing = False
        self._may_renew_at = 0.0
        self.queue = RegistrationQueue(link, self.agent, registrar.cpu_budget)

    @property
    def attached(self) -> bool:
        """True while the session has a link."""
        return self.link.session.attached

    @property
    def stream_count(self) -> int:
        """Number of open streams."""
        return len(self.link.session.streams)

    @property
    def round_trip(self) -> float | None:
        """Time to the agent and back, in seconds; None before it was measured."""
        return self.link.session.keepalive.round_trip

    def open_requests(self) -> Iterator[OpenRequest]:
        """Yield the owners of all streams: each is a request, as agents open no streams."""
        for stream in list(self.link.session.streams.values()):
            if stream.sink is not None:
                yield cast("OpenRequest", stream.sink)

    def depart(self, *, by_agent: bool = False) -> None:
        """End WebSockets and other upgraded connections, so that their clients reconnect.

        Args:
            by_agent: the agent restarts, and not the server.
        """
        for request in self.open_requests():
            request.depart(by_agent=by_agent)

    # ---- what the tunnel session tells (tunnel.session.SessionSink)

    def established(self, peer: Hello | Welcome) -> None:
        """Do nothing: the handshake is over when this object is made."""

    def opened(self, stream: Stream, payload: bytes, *, end: bool) -> StreamSink | None:
        self.link.session.reset(stream, Code.NOT_ALLOWED, "agents open no streams")
        return None

    def message(self, message: ControlMessage) -> None:
        match message:
            case Register():
                self.queue.run(partial(self._registrar.register, self, message))
            case Unregister():
                self.queue.run(partial(self._registrar.unregister, self, message.id))
            case Ready():
                self.queue.run(self._supersede)
            case Renew():
                self._renew(message.csr.encode())
            case ServiceHealth():
                self.queue.run(partial(self._note_health, message))

    def going_away(self, code: Code, reason: str) -> None:
        self.queue.run(partial(self._retire, code, reason))

    def resume(self, wanted: Resume) -> None:
        """Do nothing: only a new connection asks for that (`session_acceptor`)."""

    def detached(self, reason: str) -> None:
        self._registry.detached(self)
        _log.warning(
            "agent disconnected; session kept for resume",
            agent=self.agent,
            generation=self.generation,
            reason=reason,
        )

    def reattached(self) -> None:
        self.peer = _address(self.link)
        self._registry.reattached(self)
        _log.info(
            "agent reconnected",
            agent=self.agent,
            generation=self.generation,
            peer=self.link.peer_name,
        )

    def closed(self, code: Code, reason: str) -> None:
        self.queue.clear()
        self._registry.remove(self)
        _log.info(
            "agent disconnected",
            agent=self.agent,
            generation=self.generation,
            code=code.name,
            reason=reason,
        )

    # ---- the agent's messages

    def _supersede(self) -> None:
        for older in self._registry.supersede(self):
            _log.info("session superseded", agent=older.agent, generation=older.generation)
            older.link.close_session(Code.SUPERSEDED, "a newer session of this agent took over")

    def _retire(self, code: Code, reason: str) -> None:
        if self.retired:
            self.depart(by_agent=True)
            return
        _log.info(
            "agent going away",
            agent=self.agent,
            generation=self.generation,
            code=code.name,
            reason=reason,
        )
        retired = self._registry.retire(self)
        # The agent learns by this that it has received all its requests on this session.
        self.link.session.go_away(Code.GOING_AWAY, "no more requests on this session")
        for oldest in retired[:-MAX_RETIRED]:
            oldest.link.close_session(
                Code.GOING_AWAY, f"more than {MAX_RETIRED} sessions of this agent are going away"
            )

    def _note_health(self, message: ServiceHealth) -> None:
        health = self.health
        if message == health.get(message.id):
            return
        if message.id in self.services and (message.id in health or len(health) < MAX_HEALTH):
            health[message.id] = message
            self.health_changes += 1

    def _renew(self, csr: bytes) -> None:
        issue, now = self._renew_certificate, asyncio.get_running_loop().time()
        if issue is None or self._renewing or now < self._may_renew_at:
            self.link.session.send(
                Renewed(reason=f"one request at a time, and in {RENEWAL_INTERVAL:g} s")
            )
            return
        self._renewing = True
        self._may_renew_at = now + RENEWAL_INTERVAL
        self._tasks.spawn(self._issue(issue, csr), "renewal")

    async def _issue(self, issue: RenewCertificate, csr: bytes) -> None:
        try:
            issued = await issue(self.agent, self.serial, csr)
        except ZeroTrustError as error:
            _log.warning("certificate not renewed", agent=self.agent, reason=str(error))
            self.link.session.send(Renewed(reason=printable(str(error))[:128]))
        else:
            self._registry.certificate_renewed(self, issued.serial, issued.not_after.timestamp())
            _log.info(
                "certificate renewed",
                agent=self.agent,
                serial=issued.serial,
                until=str(issued.not_after),
            )
            self.link.session.send(Renewed(chain=issued.chain_pem.decode()))
        finally:
            self._renewing = False


def _address(link: TunnelLink) -> str:
    """Return the IP address at the other end of a link."""
    return str((link.peer() or ("",))[0])
