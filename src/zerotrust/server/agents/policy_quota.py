"""Memory quota for the policies of each agent, estimated from their JSON.

Sessions of one agent share equal policies, so each is counted once.
"""

from dataclasses import dataclass
from typing import Final

from zerotrust.model.limits import Limits
from zerotrust.server.agents.service_policy import CompiledPolicy

MEMORY_PER_BYTE: Final = 24
"""Bytes of memory for each byte of JSON. Measured: 24 to 26 for routes, 2 to 9 for lists of users
or origins and for texts."""
MEMORY_PER_POLICY: Final = 2048
"""Bytes of memory for a policy, however small it is."""


def estimate(size: int) -> int:
    """Return the memory that a policy takes, compiled, of `size` bytes of JSON."""
    return MEMORY_PER_POLICY + MEMORY_PER_BYTE * size


def most_memory(limits: Limits) -> int:
    """Return the memory for the policies of one agent: half of the agent's memory."""
    return limits.memory_per_agent_bytes // 2


@dataclass(slots=True)
class _PolicyUse:
    memory: int
    users: int = 0


class PolicyQuota:
    """Policies of each agent, with the number of services that use each.

    Attributes:
        most: bytes of memory that the policies of one agent may take.
    """

    def __init__(self) -> None:
        self.most = most_memory(Limits())
        self._policies: dict[str, dict[CompiledPolicy, _PolicyUse]] = {}
        self._sums: dict[str, int] = {}

    def refusal(self, agent: str, size: int, given_up: CompiledPolicy | None) -> str | None:
        """Return the reason to refuse a new policy; None where the quota allows it.

        Args:
            size: bytes of JSON.
            given_up: the policy that it replaces.
        """
        use = self._policies.get(agent, {}).get(given_up) if given_up is not None else None
        freed = use.memory if use is not None and use.users == 1 else 0
        if size and self._sums.get(agent, 0) + estimate(size) - freed > self.most:
            return (
                f"the policies of this agent would take more than {self.most // 1024} KiB of the"
                " server's memory, half of limits.memory_per_agent in the server's file"
            )
        return None

    def memory(self, agent: str) -> int:
        """Return the bytes of memory that the policies of an agent take."""
        return self._sums.get(agent, 0)

    def take(self, agent: str, policy: CompiledPolicy | None, size: int) -> None:
        """Count a policy for one more service."""
        if policy is not None:
            policies = self._policies.setdefault(agent, {})
            if policy not in policies:
                policies[policy] = _PolicyUse(estimate(size))
                self._sums[agent] = self._sums.get(agent, 0) + policies[policy].memory
            policies[policy].users += 1

    def give_up(self, agent: str, policy: CompiledPolicy | None) -> None:
        """Count a policy for one service less."""
        if policy is None:
            return
        policies = self._policies[agent]
        use = policies[policy]
        use.users -= 1
        if not use.users:
            del policies[policy]
            self._sums[agent] -= use.memory
        if not policies:
            del self._policies[agent], self._sums[agent]
