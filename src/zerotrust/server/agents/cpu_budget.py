"""Budget of event-loop time for each agent. Sans-I/O.

To compile a policy takes up to a tenth of a second, and to apply one to a request up to 5 ms;
meanwhile the loop serves no one else. So each agent, with all its sessions, may use a share of the
time and a reserve; then it has to wait.
"""

from typing import Final

SHARE: Final = 0.2
BURST: Final = 2.0
"""Seconds of work at once: enough for an agent with thousands of services that reconnects."""
MOST: Final = 3.0
"""Longest wait, in seconds. TCP gives a connection up that is not read for longer
(net.tunnel.UNACKNOWLEDGED)."""


class CpuBudget:
    """Time at which each agent's work would be done at its share. `now`: monotonic seconds.

    Args:
        burst: seconds of work at once.
    """

    def __init__(self, burst: float = BURST) -> None:
        self._done_at: dict[str, float] = {}
        self._reserve = burst / SHARE

    def add(self, agent: str, seconds: float, now: float) -> None:
        """Count work that the loop has done for an agent."""
        self._done_at[agent] = max(self._done_at.get(agent, now), now) + seconds / SHARE

    def debt(self, agent: str, now: float) -> float:
        """Return in how many seconds all work would be done at the share."""
        return max(self._done_at.get(agent, now) - now, 0.0)

    def wait(self, agent: str, now: float) -> float:
        """Return how many seconds the agent has to wait now."""
        return min(max(self.debt(agent, now) - self._reserve, 0.0), MOST)

    def pay(self, agent: str, seconds: float, now: float) -> float:
        """Count work, and return how many seconds the agent has to wait now."""
        self.add(agent, seconds, now)
        return self.wait(agent, now)
