"""Memory that the policies of each agent take, estimated from their JSON.

Sessions of one agent share the guards of policies that are the same, so each is counted once.
"""

from dataclasses import dataclass
from typing import Final

from zerotrust.model.limits import Limits
from zerotrust.server.agents.service_policy import CompiledPolicy

MEMORY_PER_BYTE: Final = 24
"""Bytes of memory for each byte of JSON. Measured: 24 to 26 for routes, 2 to 9 for lists of users or origins and for
texts."""
MEMORY_PER_POLICY: Final = 2048
"""Bytes of memory for a policy, however small it is."""


def estimate(size: int) -> int:
    """Return the memory that a policy takes, compiled, of `size` bytes of JSON."""
    return MEMORY_PER_POLICY + MEMORY_PER_BYTE * size


def most_memory(limits: Limits) -> int:
    """Return what the policies of one agent may take: half of its memory, so that the other half is for requests."""
    return limits.memory_per_agent_bytes // 2


@dataclass(slots=True)
class _Held:
    memory: int
    users: int = 0


class PolicyQuota:
    """The guards that each agent has, and how many of its services use each.

    Attributes:
        most: bytes of memory that the policies of one agent may take.
    """

    def __init__(self) -> None:
        self.most = most_memory(Limits())
        self._held: dict[str, dict[CompiledPolicy, _Held]] = {}
        self._sums: dict[str, int] = {}

    def refusal(self, agent: str, size: int, given_up: CompiledPolicy | None) -> str | None:
        """Why an agent may not have a policy of `size` bytes more, in place of another; None where it may."""
        held = self._held.get(agent, {}).get(given_up) if given_up is not None else None
        back = held.memory if held is not None and held.users == 1 else 0
        if size and self._sums.get(agent, 0) + estimate(size) - back > self.most:
            return (
                f"the policies of this agent would take more than {self.most // 1024} KiB of the server's memory, "
                "half of limits.memory_per_agent in the server's file"
            )
        return None

    def memory(self, agent: str) -> int:
        """Return the bytes of memory that the policies of an agent take."""
        return self._sums.get(agent, 0)

    def take(self, agent: str, guard: CompiledPolicy | None, size: int) -> None:
        """A service of the agent has this guard now."""
        if guard is not None:
            guards = self._held.setdefault(agent, {})
            if guard not in guards:
                guards[guard] = _Held(estimate(size))
                self._sums[agent] = self._sums.get(agent, 0) + guards[guard].memory
            guards[guard].users += 1

    def give_up(self, agent: str, guard: CompiledPolicy | None) -> None:
        """It no longer has it."""
        if guard is None:
            return
        guards = self._held[agent]
        held = guards[guard]
        held.users -= 1
        if not held.users:
            del guards[guard]
            self._sums[agent] -= held.memory
        if not guards:
            del self._held[agent], self._sums[agent]
