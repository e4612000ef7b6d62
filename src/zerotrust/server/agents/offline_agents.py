"""State of disconnected agents: their host names and, for five minutes, their policies.

Policies are kept because they remember counts and logins, which a reconnect must not reset. All is
kept by agent, so that an agent that reconnects often does not displace the state of others. Only
where all policies together exceed their limits, those of the agent that disconnected first go.
"""

from collections.abc import Mapping
from typing import Final

from zerotrust.server.agents.service_policy import CompiledPolicy

KEPT_FOR: Final = 300.0
"""Seconds. An agent that is restarted, moved or updated reconnects sooner."""
MAX_KEPT: Final = 10_000
"""Policies of all agents together: as many as one session may have services."""
MAX_MEMORY: Final = 128 * 1024 * 1024
"""Estimated memory of these, in bytes: more than two agents with the largest policies take."""

MAX_LOST: Final = 20_000
"""Host names of one agent: as many as one session may have."""


class RetainedPolicies:
    """Policies of disconnected agents. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, Mapping[str, CompiledPolicy], int]] = {}

    @property
    def memory(self) -> int:
        """Estimated memory of all policies, in bytes."""
        return sum(memory for _, _, memory in self._left.values())

    def keep(
        self, agent: str, policies: Mapping[str, CompiledPolicy], memory: int, now: float
    ) -> None:
        """Keep the policies of an agent whose last session has ended, by service id."""
        self._left.pop(agent, None)
        if policies:
            self._left[agent] = (now, policies, memory)
        kept = sum(len(found) for _, found, _ in self._left.values())
        taken = self.memory
        for name, (left_at, found, freed) in list(self._left.items()):
            if now - left_at < KEPT_FOR and kept <= MAX_KEPT and taken <= MAX_MEMORY:
                break
            kept -= len(found)
            taken -= freed
            del self._left[name]

    def get(self, agent: str, service: str, now: float) -> CompiledPolicy | None:
        """Return the policy that a service of the agent had."""
        left_at, policies, _ = self._left.get(agent, (0.0, {}, 0))
        return policies.get(service) if now - left_at < KEPT_FOR else None


class RecentlyLostHosts:
    """Host names whose last agent has disconnected; the newest `MAX_LOST` of each agent."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[str, str, float]] = {}
        self._of_agent: dict[str, dict[str, None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> tuple[str, str]:
        """Return agent and service of a host name; both empty where it is unknown."""
        return self._by_name.get(name, ("", "", 0.0))[:2]

    def all(self) -> list[tuple[str, str, str]]:
        """Return all host names, each with its agent and service."""
        return [(name, agent, service) for name, (agent, service, _) in self._by_name.items()]

    def lost_at(self, name: str) -> float | None:
        """Return the time at which the agent disconnected; None where the name is unknown."""
        return self._by_name[name][2] if name in self._by_name else None

    def add(self, name: str, agent: str, service: str, now: float) -> None:
        """Add a host name whose last agent has disconnected. `now`: monotonic seconds."""
        self.discard(name)
        names = self._of_agent.setdefault(agent, {})
        if len(names) >= MAX_LOST:
            self.discard(next(iter(names)))
        self._of_agent.setdefault(agent, names)[name] = None
        self._by_name[name] = (agent, service, now)

    def discard(self, name: str) -> None:
        """Remove a host name: it is served again, or was unregistered."""
        agent, *_ = self._by_name.pop(name, ("", "", 0.0))
        names = self._of_agent.get(agent)
        if names is not None:
            del names[name]
            if not names:
                del self._of_agent[agent]
