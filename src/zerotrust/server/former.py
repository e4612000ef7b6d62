"""Guards of agents that are not connected, kept for a while: a reconnect must not forgive anybody's count or login.

They are kept by agent, so that one which comes and goes can push out nobody else's but where all together are too many:
then those of the agent that has been away longest go first.
"""

from collections.abc import Mapping
from typing import Final

from zerotrust.server.guard import Guard

KEPT_FOR: Final = 300.0
"""Seconds. An agent that is started again, moved or updated is back sooner."""
MAX_KEPT: Final = 10_000
"""Guards of all agents together: as many as one session may have services."""


class FormerGuards:
    """What agents leave behind. `now` is monotonic and in seconds."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, Mapping[str, Guard]]] = {}

    def keep(self, agent: str, guards: Mapping[str, Guard], now: float) -> None:
        """The agent's last session is over; these are the guards of its services, by id."""
        self._left.pop(agent, None)
        if guards:
            self._left[agent] = (now, guards)
        kept = sum(len(found) for _, found in self._left.values())
        for name, (left_at, found) in list(self._left.items()):
            if now - left_at < KEPT_FOR and kept <= MAX_KEPT:
                break
            kept -= len(found)
            del self._left[name]

    def get(self, agent: str, service: str, now: float) -> Guard | None:
        """The guard that a service of the agent had."""
        left_at, guards = self._left.get(agent, (0.0, {}))
        return guards.get(service) if now - left_at < KEPT_FOR else None
