"""The event loop's time that the policies of each agent take, of which each has a share.

What a policy may cost for one request has a bound (`middleware.policy_cost`), but a stranger may send many. Then the
agent whose policies hold the loop gets no more requests for a while, and the services of others go on.
"""

import math
from typing import Final

from zerotrust.errors import Overloaded
from zerotrust.server.agents.cpu_budget import SHARE, CpuBudget
from zerotrust.telemetry import logs

FREE: Final = 0.0001
"""Seconds of each request that are not counted: about what a request costs the server without a policy. Common policies
take less (20 µs to 60 µs), so an agent with many clients is not refused for them."""
BURST: Final = 0.5
"""Seconds of work at once: 100 requests to the costliest policy."""

_log = logs.logger("policies")


class PoliciesTooSlow(Overloaded):
    """The policies of an agent have held the loop for longer than its share."""


class PolicyTime:
    """Measures the time that each agent's policies take, and refuses requests beyond its share.

    `now` is monotonic and in seconds.
    """

    def __init__(self) -> None:
        self._over: set[str] = set()
        self._toll = CpuBudget(BURST)

    def check(self, agent: str, now: float) -> None:
        """Check a new request for a service with a policy.

        Raises:
            PoliciesTooSlow: the agent's policies have used more than its share.
        """
        wait = self._toll.wait(agent, now)
        if wait:
            if agent not in self._over:
                self._over.add(agent)
                _log.warning("policies take too long: new requests get 503", agent=agent, share=SHARE)
            raise PoliciesTooSlow("the agent's policies are over their share of the time", retry_after=math.ceil(wait))
        if agent in self._over and not self._toll.debt(agent, now):
            self._over.discard(agent)
            _log.info("policies no longer take too long", agent=agent)

    def is_over(self, agent: str, now: float) -> bool:
        """Return whether requests for the agent's services are not taken."""
        return self._toll.wait(agent, now) > 0

    def charge(self, agent: str, seconds: float, now: float) -> None:
        """Count the time for which the agent's policies have held the loop for a request."""
        if seconds > FREE:
            self._toll.add(agent, seconds - FREE, now)
