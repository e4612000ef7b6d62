"""Budget of event-loop time for the policies of each agent.

`middleware.policy_cost` bounds what a policy costs for one request, but a client may send many
requests. An agent whose policies have used up their share of the loop's time gets no more requests
for a while; other agents' services go on.
"""

import math
from typing import Final

from zerotrust.errors import Overloaded
from zerotrust.server.agents.cpu_budget import SHARE, CpuBudget
from zerotrust.telemetry import logs

FREE: Final = 0.0001
"""Seconds of each request that are not counted: about what a request without a policy costs the
server. Common policies take less (20 µs to 60 µs), so an agent with many clients is not refused for
them."""
BURST: Final = 0.5
"""Seconds of work at once: 100 requests to the costliest policy."""

_log = logs.logger("policies")


class PoliciesTooSlow(Overloaded):
    """The policies of an agent have used up their share of the loop's time."""


class PolicyTime:
    """Measures the time that each agent's policies take, and refuses requests beyond its share.

    `now` is monotonic and in seconds.
    """

    def __init__(self) -> None:
        self._over: set[str] = set()
        self._budget = CpuBudget(BURST)

    def check(self, agent: str, now: float) -> None:
        """Check a new request for a service with a policy.

        Raises:
            PoliciesTooSlow: the agent's policies have used more than its share.
        """
        wait = self._budget.wait(agent, now)
        if wait:
            if agent not in self._over:
                self._over.add(agent)
                _log.warning(
                    "policies take too much time: new requests get 503", agent=agent, share=SHARE
                )
            raise PoliciesTooSlow(
                "the agent's policies have used up their share of the server's time",
                retry_after=math.ceil(wait),
            )
        if agent in self._over and not self._budget.debt(agent, now):
            self._over.discard(agent)
            _log.info("policies no longer take too much time", agent=agent)

    def is_over(self, agent: str, now: float) -> bool:
        """Return True where the agent's services get no requests now."""
        return self._budget.wait(agent, now) > 0

    def charge(self, agent: str, seconds: float, now: float) -> None:
        """Count the time that the agent's policies took for one request."""
        if seconds > FREE:
            self._budget.add(agent, seconds - FREE, now)
