"""Registry of the agents' sessions, and of the services that they registered, by host name.

Among the sessions of one agent, a host name belongs to the newest one or, where several sessions of
one process serve it together, to the one with the lowest number (`AgentSession.rank`). The end of a
session takes only its own registrations away. Agents that register the same host name share its
requests (`agent_balancing`).

A service may have wildcards among its host names. A request belongs to the most specific name that
matches its host: the name itself, the wildcard of its parent, then `*`. Only a host name that is
not registered itself costs more than one dictionary access.

A host name whose last agent disconnected is remembered (503), and no wildcard gets its requests;
one that its agent unregistered is not (404). A session that retires gives its host names up and
goes on with the requests that it has.
"""

import time
from collections.abc import Callable, Container
from typing import Final

from zerotrust.model.base import patterns_of
from zerotrust.server.agents.agent_balancing import AgentBalancer, arrange, update_doubtful
from zerotrust.server.agents.offline_agents import MAX_LOST, RecentlyLostHosts, RetainedPolicies
from zerotrust.server.agents.policy_quota import PolicyQuota
from zerotrust.server.agents.service_policy import CompiledPolicy
from zerotrust.server.agents.session import AgentSession, ServiceRegistration

MAX_SERVICES: Final = 10_000
"""Services of one session: a limit on the memory that an agent can use up."""
MAX_NAMES: Final = MAX_LOST
"""Host names of all services of one session, granted or not."""
REPLACED: Final = 30.0
"""Time for which a process whose sessions were replaced gets no new session, in seconds: half as
long as the agent itself waits."""

_NONE: Final[frozenset[str]] = frozenset()


class Registry:
    """Sessions and services of all agents of this server.

    Args:
        clock: monotonic seconds.
        holders: returns the agents that have a grant of exactly this host name or wildcard.

    Attributes:
        policies: memory that the policies of connected agents take.
        by_host: registrations of each host name and wildcard, the preferred one first.
        contested: when a process of each agent came back that another one had replaced.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        holders: Callable[[str], frozenset[str]] = lambda _: _NONE,
    ) -> None:
        self._holders = holders
        self.policies = PolicyQuota()
        self.clock = clock
        self._sessions: dict[str, list[AgentSession]] = {}
        self._generation = 0
        self.by_host: dict[str, list[ServiceRegistration]] = {}
        self._sole: dict[str, ServiceRegistration] = {}
        """First registration of each host name that only one agent has: the usual case."""
        self._balancer = AgentBalancer()
        self._retained = RetainedPolicies()
        self._lost = RecentlyLostHosts()
        self.contested: dict[str, float] = {}
        self._replaced: dict[str, tuple[str, float]] = {}
        """Process of each agent that was replaced last, and when."""
        self._subscribers: list[Callable[[str], None]] = []

    def subscribe(self, served: Callable[[str], None]) -> None:
        """Call `served` with each host name that an agent begins to serve, or serves again."""
        self._subscribers.append(served)

    # ---- sessions

    @property
    def sessions(self) -> list[AgentSession]:
        """All sessions."""
        return [session for sessions in self._sessions.values() for session in sessions]

    def new_generation(self, agent: str, instance: str | None) -> tuple[int, int]:
        """Return the generations of a new session and of the first one of its process."""
        self._generation += 1
        for session in self._sessions.get(agent, ()):
            if instance is not None and session.instance == instance:
                return self._generation, session.process_generation
        return self._generation, self._generation

    def add(self, session: AgentSession) -> None:
        """Add a new session."""
        self._sessions.setdefault(session.agent, []).append(session)

    def find(self, agent: str, session_id: str) -> AgentSession | None:
        """Return the session of an agent that has this id in the tunnel."""
        for session in self._sessions.get(agent, ()):
            if session.link.session.id == session_id:
                return session
        return None

    def detached(self, session: AgentSession) -> None:
        """Record that a session has lost its link: others get the requests first."""
        self.rearrange(session)

    def reattached(self, session: AgentSession) -> None:
        """Record that a session has a link again."""
        self.rearrange(session)
        for registration in session.services.values():
            for host in registration.hosts:
                self._notify(host)

    def check_links(self) -> None:
        """Look for links that are slow to answer; to be called each second."""
        for sessions in self._sessions.values():
            for session in update_doubtful(sessions):
                self.rearrange(session)

    def older(self, session: AgentSession) -> list[AgentSession]:
        """Return the older sessions of the same agent that have not retired."""
        return [
            other
            for other in self._sessions.get(session.agent, ())
            if other.generation < session.generation and not other.retired
        ]

    def supersede(self, session: AgentSession) -> list[AgentSession]:
        """Return the older sessions that this one replaces, now that it is ready.

        Sessions of the same process stay, but for the one with the same connection number.
        """
        replaced = [
            other
            for other in self.older(session)
            if session.instance is None
            or other.instance != session.instance
            or other.connection == session.connection
        ]
        for other in replaced:
            if other.instance is not None and other.instance != session.instance:
                if session.instance == self._replaced.get(session.agent, ("", 0.0))[0]:
                    self.contested[session.agent] = self.clock()
                self._replaced[session.agent] = (other.instance, self.clock())
        return replaced

    def was_replaced(self, agent: str, instance: str | None) -> bool:
        """Return True where another process of the agent has just replaced this one."""
        replaced, since = self._replaced.get(agent, (None, 0.0))
        is_back = instance is not None and instance == replaced
        if is_back and self.clock() - since < REPLACED:
            self.contested[agent] = self.clock()
            return True
        return False

    def retire(self, session: AgentSession) -> list[AgentSession]:
        """Give a session no more requests; return all retired sessions of its agent."""
        session.retired = True
        for registration in session.services.values():
            for host in registration.hosts:
                self._release(host, registration, remember=True)
        return [other for other in self._sessions.get(session.agent, ()) if other.retired]

    def certificate_renewed(self, session: AgentSession, serial: str, ends: float) -> None:
        """Record an agent's new certificate, which extends all its sessions.

        Args:
            ends: end of its validity, in seconds since the epoch.
        """
        before = session.serial
        for other in self._sessions.get(session.agent, ()):
            other.certificate_ends = max(other.certificate_ends, ends)
            if other.serial == before:
                other.former_serials.add(before)
                other.serial = serial

    def remove(self, session: AgentSession) -> None:
        """Remove a session that has ended, with its services."""
        sessions = self._sessions.get(session.agent, [])
        if session in sessions:
            sessions.remove(session)
        services, session.services = session.services, {}
        memory = self.policies.memory(session.agent)
        for registration in services.values():
            self.policies.give_up(session.agent, registration.policy)
        if not sessions:
            self._sessions.pop(session.agent, None)
            policies = {
                service: one.policy for service, one in services.items() if one.policy is not None
            }
            self._retained.keep(session.agent, policies, memory, self.clock())
        for registration in services.values():
            for host in registration.hosts:
                self._release(host, registration, remember=True)

    # ---- services

    def register(self, registration: ServiceRegistration) -> dict[str, str]:
        """Add or replace a service.

        Returns:
            The host names for which the service only stands by, each with the reason.
        """
        session = registration.session
        before = session.services.get(registration.service)
        session.services[registration.service] = registration
        self._count(session, registration, before)
        waiting = {}
        for host in registration.hosts:
            holder = self._add(host, registration, before)
            if holder.service != registration.service:
                waiting[host] = (
                    f"served by service {holder.service} of the same agent; this one stands by"
                )
        if before is not None:
            for host in set(before.hosts) - set(registration.hosts):
                self._release(host, before, remember=False)
        return waiting

    def unregister(self, session: AgentSession, service: str) -> bool:
        """Remove a service; return False where there is none."""
        registration = session.services.pop(service, None)
        if registration is None:
            return False
        self._count(session, None, registration)
        for host in registration.hosts:
            self._release(host, registration, remember=False)
        return True

    def over_limit(
        self, session: AgentSession, service: str, hosts: int, policy_bytes: int
    ) -> str | None:
        """Return the limit that a session would exceed with a new or changed service."""
        before = session.services.get(service)
        if before is None and len(session.services) >= MAX_SERVICES:
            return f"more than {MAX_SERVICES} services"
        if (
            session.host_count + hosts - (len(before.requested) if before is not None else 0)
            > MAX_NAMES
        ):
            return f"more than {MAX_NAMES} host names in one session"
        given_up = before.policy if before is not None else None
        return self.policies.refusal(session.agent, policy_bytes, given_up)

    def same(
        self, session: AgentSession, service: str, digest: bytes
    ) -> ServiceRegistration | None:
        """Return a registration of the service with the same policy in any session."""
        for other in reversed(self._sessions.get(session.agent, ())):
            found = other.services.get(service)
            if found is not None and found.policy is not None and found.policy_digest == digest:
                return found
        return None

    def former_policy(self, session: AgentSession, service: str) -> CompiledPolicy | None:
        """Return the policy that a new registration replaces, in this session or others."""
        for other in reversed(self._sessions.get(session.agent, ())):
            if service in other.services:
                return other.services[service].policy
        return self._retained.get(session.agent, service, self.clock())

    def is_current(self, registration: ServiceRegistration, host: str) -> bool:
        """Return True where the registration was not replaced, and serves the host name."""
        return (
            registration.session.services.get(registration.service) is registration
            and self.resolve(host) in registration.hosts
        )

    @property
    def retained_policy_memory(self) -> int:
        """Memory that the policies of disconnected agents take, in bytes, estimated."""
        return self._retained.memory

    # ---- host names

    def resolve(self, host: str) -> str:
        """Return the name that requests for a host name belong to: itself or a wildcard.

        The most specific grant counts, served or not: a wildcard takes no requests for a host name
        that is granted to another agent.
        """
        holders = _NONE
        for name in patterns_of(host):
            registrations = self.by_host.get(name)
            if registrations is not None:
                agents = {one.session.agent for one in registrations}
            elif name in self._lost:
                agents = {self._lost.get(name)[0]}
            else:
                holders = holders or self._holders(name)
                continue
            return name if not holders or agents <= holders else host
        return host

    def lookup(self, host: str, client: bytes = b"") -> ServiceRegistration | None:
        """Return the registration for a host name; None where its agent is offline.

        Raises:
            KeyError: no agent has registered the host name, or its agent unregistered it.
        """
        sole = self._sole.get(host)
        if sole is not None:
            return sole
        name = host if host in self.by_host else self.resolve(host)
        registrations = self.by_host.get(name)
        if registrations is not None:
            return self._balancer.choose(registrations, client)
        if name not in self._lost:
            raise KeyError(host)
        return None

    def another(
        self, host: str, client: bytes, tried: Container[ServiceRegistration]
    ) -> ServiceRegistration | None:
        """Return a registration that was not tried and can take a request; else None."""
        registrations = [
            one
            for one in self.by_host.get(self.resolve(host), ())
            if one.session.link.session.can_open and one not in tried
        ]
        return self._balancer.choose(registrations, client) if registrations else None

    def away_until(self, host: str, timeout: float) -> float:
        """Return for how many seconds a request may wait for the agent of a host name to reconnect.

        Args:
            timeout: seconds after the agent has disconnected; 0 is returned later, and where there
                was no agent.
        """
        name = self.resolve(host)
        if name in self.by_host:
            return timeout
        lost_at = self._lost.lost_at(name)
        return 0.0 if lost_at is None else max(0.0, lost_at + timeout - self.clock())

    def expect(self, host: str, agent: str, service: str) -> None:
        """Treat a host name that no agent serves as if its agent had just disconnected."""
        self._lost.add(host, agent, service, self.clock())

    @property
    def lost(self) -> list[tuple[str, str, str]]:
        """Host names whose last agent has disconnected, each with its agent and service."""
        return self._lost.all()

    def forget_lost(self, may_serve: Callable[[str, str], bool]) -> None:
        """Forget the host names that their disconnected agents may no longer serve.

        Args:
            may_serve: returns True where an agent may serve a host name.
        """
        for name, agent, _ in self.lost:
            if not may_serve(agent, name):
                self._lost.discard(name)

    def offers_https(self, host: str) -> bool:
        """Return True where the host name is served now, and not over http alone."""
        registrations = self.by_host.get(self.resolve(host), ())
        return any(one.schemes.https for one in registrations[:1])

    def agents_of(self, host: str) -> list[str]:
        """Return the agents that serve the host name now, the best first."""
        registrations = self.by_host.get(self.resolve(host), ())
        return list(dict.fromkeys(one.session.agent for one in registrations))

    def policy_of(self, host: str) -> tuple[str, CompiledPolicy | None]:
        """Return agent and policy of a host name, for five minutes also if it is offline."""
        name = self.resolve(host)
        registrations = self.by_host.get(name)
        if registrations:
            return registrations[0].session.agent, registrations[0].policy
        agent, service = self._lost.get(name)
        return agent, self._retained.get(agent, service, self.clock())

    # ----

    def _notify(self, host: str) -> None:
        for served in self._subscribers:
            served(host)

    def rearrange(self, session: AgentSession) -> None:
        """Choose again which session each host name of this one is served by."""
        for registration in session.services.values():
            for host in registration.hosts:
                self._arrange(host)

    def _arrange(self, host: str) -> None:
        registrations = self.by_host.get(host)
        if registrations is None:
            return
        if arrange(registrations) == 1:
            self._sole[host] = registrations[0]
        else:
            self._sole.pop(host, None)

    def _add(
        self, host: str, registration: ServiceRegistration, before: ServiceRegistration | None
    ) -> ServiceRegistration:
        """Add a registration to a host name; return the preferred one of its agent."""
        self._lost.discard(host)
        registrations = self.by_host.setdefault(host, [])
        if before in registrations:
            registrations[registrations.index(before)] = registration
        is_new = registration not in registrations  # an agent may name a host twice
        if is_new:
            registrations.append(registration)
        self._arrange(host)
        if is_new:
            self._notify(host)
        return next(one for one in registrations if one.session.agent == registration.session.agent)

    def _count(
        self,
        session: AgentSession,
        new: ServiceRegistration | None,
        before: ServiceRegistration | None,
    ) -> None:
        session.host_count += len(new.requested if new else ()) - len(
            before.requested if before else ()
        )
        if new is not None:
            self.policies.take(session.agent, new.policy, new.policy_bytes)
        if before is not None:
            self.policies.give_up(session.agent, before.policy)

    def _release(self, host: str, registration: ServiceRegistration, *, remember: bool) -> None:
        registrations = self.by_host.get(host)
        if registrations is None or registration not in registrations:
            return
        registrations.remove(registration)
        if registrations:
            self._arrange(host)
            return
        del self.by_host[host]
        del self._sole[host]
        if remember:
            self._lost.add(host, registration.session.agent, registration.service, self.clock())
        else:
            self._lost.discard(host)
