"""Admin API: the services of connected and disconnected agents, and the load of the server."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from zerotrust.access.rule_words import condition_words, rule_words
from zerotrust.model import admin
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_policy import CompiledPolicy
from zerotrust.server.agents.session import AgentSession, ServiceRegistration
from zerotrust.server.ops.access_parts import FindParts
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.tunnel.messages import ServiceHealth


@dataclass(slots=True)
class ServedHost:
    """A host name with one of its services, before its details are looked up.

    Attributes:
        state: as in `ServiceView`.
        registration: None while the agent is disconnected.
    """

    host: str
    agent: str
    service: str
    state: str
    registration: ServiceRegistration | None = None


@dataclass(slots=True)
class UnhealthyService:
    """A service of which not all upstreams are healthy.

    Attributes:
        host: one of its host names; empty if it has none that is granted.
    """

    agent: str
    service: str
    host: str
    upstreams: admin.UpstreamsView


class ServiceAdmin:
    """Answers commands about services.

    Args:
        access: returns the parts that decide about access; None without the section `access`.
    """

    def __init__(self, registry: Registry, load_shedding: LoadShedding, access: FindParts) -> None:
        self._registry = registry
        self._load_shedding = load_shedding
        self._access = access

    async def services(self, _asked: admin.NoParameters, _actor: str) -> admin.ServiceList:
        """Return each host name that an agent serves, or has served until it disconnected."""
        found = sorted(
            self.served_hosts(), key=lambda one: (one.host, one.state != "serving", one.agent)
        )
        return admin.ServiceList(services=list(map(self.view, found)))

    def served_hosts(self, part: str = "") -> list[ServedHost]:
        """Return the host names that contain `part`, each with its services, in no order."""
        return [*self._serving(part), *self._offline(part)]

    def view(self, served: ServedHost) -> admin.ServiceView:
        """Return a service with its details."""
        registration, upstreams = served.registration, None
        if registration is None:
            _, policy = self._registry.policy_of(served.host)
            websocket = http = https = False
        else:
            health = registration.session.health.get(registration.service)
            upstreams = None if health is None else _upstreams(health)
            policy, schemes = registration.policy, registration.schemes
            websocket, http, https = registration.websocket, schemes.http, schemes.https
        return admin.ServiceView.model_validate(
            {
                "host": served.host,
                "service": served.service,
                "agent": served.agent,
                "state": served.state,
                "websocket": websocket,
                "http": http,
                "https": https,
                "who": self._who(served.host),
                "require": _conditions(policy),
                "upstreams": upstreams,
                "inspection": "metadata" if policy is None else policy.inspection,
            }
        )

    def unhealthy(self, most: int) -> tuple[list[UnhealthyService], int]:
        """Return services of which not all upstreams are healthy: the first `most` by agent and
        name, and the number of the others."""
        found: dict[tuple[str, str], AgentSession] = {}
        for session in self._registry.sessions:
            for service, health in () if session.retired else session.health.items():
                if health.healthy < health.upstreams:
                    found[session.agent, service] = session
        first = heapq.nsmallest(most, found)
        return [_unhealthy(found[place], place[1]) for place in first], len(found) - len(first)

    @property
    def hosts(self) -> int:
        """Number of host names that agents serve."""
        return len(self._registry.by_host)

    @property
    def offline(self) -> list[str]:
        """Host names whose last agent has disconnected, sorted."""
        return sorted(host for host, _, _ in self._registry.lost)

    @property
    def overloads(self) -> list[str]:
        """Names of the limits because of which new requests get 503."""
        found = [name for name, over in self._load_shedding.server.items() if over]
        return [*found, "agents"] if self._load_shedding.agents else found

    def _serving(self, part: str) -> Iterator[ServedHost]:
        for host, registrations in self._registry.by_host.items():
            if part not in host:
                continue
            leading: dict[str, str] = {}
            seen: set[tuple[str, str]] = set()
            for one in registrations:
                agent, service = one.session.agent, one.service
                if (agent, service) in seen:
                    continue  # the same over another connection of the agent
                seen.add((agent, service))
                stands_by = leading.setdefault(agent, service) != service
                state = "serving" if one.session.attached else "away"
                yield ServedHost(host, agent, service, "standby" if stands_by else state, one)

    def _offline(self, part: str) -> Iterator[ServedHost]:
        for host, agent, service in self._registry.lost:
            if part in host:
                yield ServedHost(host, agent, service, "offline")

    def _who(self, host: str) -> str:
        parts = self._access()
        if parts is None:
            return "everyone"
        gate = parts.gates.find(host)
        return "everyone" if gate is None else rule_words(gate.rule)


def _unhealthy(session: AgentSession, service: str) -> UnhealthyService:
    host = next(iter(session.services[service].hosts), "")
    return UnhealthyService(session.agent, service, host, _upstreams(session.health[service]))


def _upstreams(health: ServiceHealth) -> admin.UpstreamsView:
    """Return the view of what an agent reports."""
    return admin.UpstreamsView(
        healthy=health.healthy,
        total=health.upstreams,
        unhealthy=[
            admin.UnhealthyUpstream(address=one.address, reason=one.reason)
            for one in health.unhealthy
        ],
    )


def _conditions(policy: CompiledPolicy | None) -> list[str]:
    """Return the conditions of the agent's own file in words."""
    access = None if policy is None else policy.access
    return [] if access is None else [condition_words(one) for one in access.require]
