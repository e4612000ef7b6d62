"""What an agent's registrations cost the others. Sans-I/O.

To read and compile a policy takes the loop up to a tenth of a second, in which nobody else is served. So each agent,
however many sessions it has, may use a share of the time for that and a reserve; then it has to wait for a while.
"""

from typing import Final

SHARE: Final = 0.2
BURST: Final = 2.0
"""Seconds of work at once: an agent with thousands of services has come back."""
MOST: Final = 3.0
"""Seconds of one wait: the TCP of an agent that is not read for longer gives up (net.tunnel.UNACKNOWLEDGED)."""


class Toll:
    """By agent, when its work would be done if it were done at its share. `now` is monotonic and in seconds."""

    def __init__(self) -> None:
        self._done_at: dict[str, float] = {}

    def pay(self, agent: str, seconds: float, now: float) -> float:
        """The loop has worked so long for the agent; how many seconds it has to wait now."""
        done_at = max(self._done_at.get(agent, now), now) + seconds / SHARE
        self._done_at[agent] = done_at
        return min(max(done_at - now - BURST / SHARE, 0.0), MOST)
