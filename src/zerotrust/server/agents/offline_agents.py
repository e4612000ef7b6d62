"""What is remembered of agents that are not connected: their host names, and for a while the guards of their services,
because a reconnect must not forgive anybody's count or login.

Both are kept by agent, so that one which comes and goes can push out nobody else's, but where all guards together are
too many: then those of the agent that has been away longest go first.
"""

from collections.abc import Mapping
from typing import Final

from zerotrust.server.agents.service_policy import CompiledPolicy

KEPT_FOR: Final = 300.0
"""Seconds. An agent that is started again, moved or updated is back sooner."""
MAX_KEPT: Final = 10_000
"""Guards of all agents together: as many as one session may have services."""
MAX_MEMORY: Final = 128 * 1024 * 1024
"""Bytes that these take, estimated: those of two agents with the largest policies, and more."""

MAX_LOST: Final = 20_000
"""Host names of one agent: as many as one session may have."""


class RetainedPolicies:
    """What agents leave behind. `now` is monotonic and in seconds."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, Mapping[str, CompiledPolicy], int]] = {}

    @property
    def memory(self) -> int:
        """Bytes that all of them take, estimated."""
        return sum(memory for _, _, memory in self._left.values())

    def keep(
        self, agent: str, guards: Mapping[str, CompiledPolicy], memory: int, now: float
    ) -> None:
        """The agent's last session is over; these are the guards of its services, by id, and what they take."""
        self._left.pop(agent, None)
        if guards:
            self._left[agent] = (now, guards, memory)
        kept = sum(len(found) for _, found, _ in self._left.values())
        taken = self.memory
        for name, (left_at, found, freed) in list(self._left.items()):
            if now - left_at < KEPT_FOR and kept <= MAX_KEPT and taken <= MAX_MEMORY:
                break
            kept -= len(found)
            taken -= freed
            del self._left[name]

    def get(self, agent: str, service: str, now: float) -> CompiledPolicy | None:
        """The guard that a service of the agent had."""
        left_at, guards, _ = self._left.get(agent, (0.0, {}, 0))
        return guards.get(service) if now - left_at < KEPT_FOR else None


class RecentlyLostHosts:
    """Host names whose last agent was lost: agent and service that had them. Of each agent the newest `MAX_LOST`."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[str, str, float]] = {}
        self._of_agent: dict[str, dict[str, None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> tuple[str, str]:
        """Agent and service; both empty where it is nobody's."""
        return self._by_name.get(name, ("", "", 0.0))[:2]

    def lost_at(self, name: str) -> float | None:
        """When that was; None where it is nobody's."""
        return self._by_name[name][2] if name in self._by_name else None

    def add(self, name: str, agent: str, service: str, now: float) -> None:
        """The name's last agent was lost; `now` is monotonic and in seconds."""
        self.discard(name)
        names = self._of_agent.setdefault(agent, {})
        if len(names) >= MAX_LOST:
            self.discard(next(iter(names)))
        self._of_agent.setdefault(agent, names)[name] = None
        self._by_name[name] = (agent, service, now)

    def discard(self, name: str) -> None:
        """The name is served again, or was taken back."""
        agent, *_ = self._by_name.pop(name, ("", "", 0.0))
        names = self._of_agent.get(agent)
        if names is not None:
            del names[name]
            if not names:
                del self._of_agent[agent]
