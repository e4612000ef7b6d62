"""How much memory the policies of an agent may take, measured by what they take as JSON.

What is compiled of one takes twenty times as much. Sessions of one agent share the guards of policies that are the
same, so each is counted once.
"""

from dataclasses import dataclass
from typing import Final

from zerotrust.server.guard import Guard

MAX_POLICY_BYTES: Final = 16 * 1024 * 1024
"""Of all sessions of an agent."""


@dataclass(slots=True)
class _Held:
    size: int
    users: int = 0


class PolicyBudget:
    """The guards that each agent has, and how many of its services use each."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Guard, _Held]] = {}
        self._sums: dict[str, int] = {}

    def refusal(self, agent: str, size: int, given_up: Guard | None) -> str | None:
        """Why an agent may not have a policy of `size` bytes more, in place of another; None where it may."""
        held = self._held.get(agent, {}).get(given_up) if given_up is not None else None
        back = held.size if held is not None and held.users == 1 else 0
        if size and self._sums.get(agent, 0) + size - back > MAX_POLICY_BYTES:
            return f"more than {MAX_POLICY_BYTES} bytes of policies in all sessions of this agent"
        return None

    def take(self, agent: str, guard: Guard | None, size: int) -> None:
        """A service of the agent has this guard now."""
        if guard is not None:
            guards = self._held.setdefault(agent, {})
            if guard not in guards:
                guards[guard] = _Held(size)
                self._sums[agent] = self._sums.get(agent, 0) + size
            guards[guard].users += 1

    def give_up(self, agent: str, guard: Guard | None) -> None:
        """It no longer has it."""
        if guard is None:
            return
        guards = self._held[agent]
        held = guards[guard]
        held.users -= 1
        if not held.users:
            del guards[guard]
            self._sums[agent] -= held.size
        if not guards:
            del self._held[agent], self._sums[agent]
