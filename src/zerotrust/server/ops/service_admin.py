"""Admin API: the services of connected and disconnected agents, and the load of the server."""

from collections.abc import Iterator

from zerotrust.access.rule_words import condition_words, rule_words
from zerotrust.model import admin
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_policy import CompiledPolicy
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.ops.access_parts import FindParts
from zerotrust.server.proxy.load_shedding import LoadShedding


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
        found = [*self._serving(), *self._offline()]
        return admin.ServiceList(
            services=sorted(found, key=lambda one: (one.host, one.state != "serving", one.agent))
        )

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

    def _serving(self) -> Iterator[admin.ServiceView]:
        for host, registrations in self._registry.by_host.items():
            leading: dict[str, str] = {}
            seen: set[tuple[str, str]] = set()
            for one in registrations:
                agent, service = one.session.agent, one.service
                if (agent, service) in seen:
                    continue  # the same over another connection of the agent
                seen.add((agent, service))
                stands_by = leading.setdefault(agent, service) != service
                yield self._view(host, one, stands_by=stands_by)

    def _view(
        self, host: str, registration: ServiceRegistration, *, stands_by: bool
    ) -> admin.ServiceView:
        session, schemes = registration.session, registration.schemes
        state = "serving" if session.attached else "away"
        return admin.ServiceView.model_validate(
            {
                "host": host,
                "service": registration.service,
                "agent": session.agent,
                "state": "standby" if stands_by else state,
                "websocket": registration.websocket,
                "http": schemes.http,
                "https": schemes.https,
                "who": self._who(host),
                "require": _conditions(registration.policy),
            }
        )

    def _offline(self) -> Iterator[admin.ServiceView]:
        for host, agent, service in self._registry.lost:
            _, policy = self._registry.policy_of(host)
            yield admin.ServiceView(
                host=host,
                service=service,
                agent=agent,
                state="offline",
                websocket=False,
                http=False,
                https=False,
                who=self._who(host),
                require=_conditions(policy),
            )

    def _who(self, host: str) -> str:
        parts = self._access()
        if parts is None:
            return "everyone"
        gate = parts.gates.find(host)
        return "everyone" if gate is None else rule_words(gate.rule)


def _conditions(policy: CompiledPolicy | None) -> list[str]:
    """Return the conditions of the agent's own file in words."""
    access = None if policy is None else policy.access
    return [] if access is None else [condition_words(one) for one in access.require]
