"""Shares of the event loop's time: how much of it is spent for each agent. Sans-I/O.

To read and compile a policy takes the loop up to a tenth of a second, and to apply one to a request up to five
milliseconds, in which nobody else is served. So each agent, however many sessions it has, may use a share of the time
and a reserve; then it has to wait for a while.
"""

from typing import Final

SHARE: Final = 0.2
BURST: Final = 2.0
"""Seconds of work at once: an agent with thousands of services has come back."""
MOST: Final = 3.0
"""Seconds of one wait: the TCP of an agent that is not read for longer gives up (net.tunnel.UNACKNOWLEDGED)."""


class CpuBudget:
    """By agent, when its work would be done if it were done at its share. `now` is monotonic and in seconds.

    Args:
        burst: seconds of work at once.
    """

    def __init__(self, burst: float = BURST) -> None:
        self._done_at: dict[str, float] = {}
        self._reserve = burst / SHARE

    def add(self, agent: str, seconds: float, now: float) -> None:
        """Count work: the loop has been busy for the agent for so many seconds."""
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
