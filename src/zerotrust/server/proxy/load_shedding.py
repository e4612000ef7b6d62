"""Load shedding: refuses new requests while the server or an agent is over a budget.

An early refusal costs a few requests, a late one all of them. So usage is compared with the budgets
ten times a second, and each request reads only `LoadShedding.on`. Running requests continue.

In the server's sums each agent counts for no more than its own budget. Usage beyond that refuses
the agent's own clients alone.
"""

from collections.abc import Mapping
from typing import Final

from zerotrust.errors import Overloaded
from zerotrust.model.limits import Limits
from zerotrust.telemetry import logs
from zerotrust.tunnel.session_stats import SessionStats

LOW: Final = 0.8
"""Part of a limit to which usage must drop before it counts as no longer over the limit."""
CALM: Final = 10
"""Samples in a row that must be at LOW or below: one second."""
LATE: Final = 3
"""Samples in a row in which the loop must be late. A standing queue is an overload, a single long
turn is not (as in CoDel, RFC 8289 s3)."""

_log = logs.logger("overload")


class Threshold:
    """Limit with hysteresis.

    It is `over` after `after` samples in a row at the limit, until CALM in a row at LOW of it.
    """

    __slots__ = ("_after", "_run", "limit", "over")

    def __init__(self, limit: float, *, after: int = 1) -> None:
        self.limit = limit
        self.over = False
        self._after = after
        self._run = 0

    def note(self, value: float) -> bool:
        """Take the next sample; return True where `over` has changed."""
        differs = value <= self.limit * LOW if self.over else value >= self.limit
        self._run = self._run + 1 if differs else 0
        if self._run < (CALM if self.over else self._after):
            return False
        self.over = not self.over
        self._run = 0
        return True


class LoadShedding:
    """Compares usage with the budgets, and refuses requests while one is used up.

    Attributes:
        on: a budget of the server or of any agent is used up; `check` decides about each request.
        count: how often a budget was used up.
    """

    def __init__(self, limits: Limits) -> None:
        self.count = 0
        self.reconfigure(limits)

    def reconfigure(self, limits: Limits) -> None:
        """Use other limits, and forget what was used up."""
        self.on = False
        self._server = {
            "requests": Threshold(limits.requests),
            "memory": Threshold(limits.memory_bytes),
            "event_loop_lag": Threshold(limits.event_loop_lag, after=LATE),
        }
        self._most = limits.requests_per_agent, limits.memory_per_agent_bytes
        self._agents: dict[str, dict[str, Threshold]] = {}

    @property
    def server(self) -> dict[str, bool]:
        """The budgets of the server by name; True where one is used up."""
        return {name: threshold.over for name, threshold in self._server.items()}

    @property
    def agents(self) -> int:
        """Number of agents that have used up a budget of their own."""
        return len(self._agents)

    def check(self, agent: str) -> None:
        """Check a new request for an agent.

        Raises:
            Overloaded: a budget of the server or of the agent is used up.
        """
        for name, threshold in self._server.items():
            if threshold.over:
                raise Overloaded(f"the server is over its limit of {name}")
        for name, threshold in self._agents.get(agent, {}).items():
            if threshold.over:
                raise Overloaded(f"the agent is over its limit of {name}")

    def sample(self, usage: Mapping[str, SessionStats], *, pending: int, lag: float) -> None:
        """Compare the present usage with the budgets.

        Args:
            usage: of each connected agent.
            pending: requests that wait for an agent.
            lag: seconds by which the event loop is late.
        """
        most_requests, most_bytes = self._most
        measures = {
            "requests": pending + sum(min(one.streams, most_requests) for one in usage.values()),
            "memory": sum(min(one.bytes, most_bytes) for one in usage.values()),
            "event_loop_lag": lag,
        }
        for name, threshold in self._server.items():
            self._note(threshold, name, measures[name])
        for agent in self._agents.keys() - usage.keys():
            del self._agents[agent]
        for agent, one in usage.items():
            if agent in self._agents or one.streams >= most_requests or one.bytes >= most_bytes:
                self._sample_agent(agent, one)
        self.on = bool(self._agents) or any(threshold.over for threshold in self._server.values())

    def _sample_agent(self, agent: str, usage: SessionStats) -> None:
        requests, most_bytes = self._most
        thresholds = self._agents.setdefault(
            agent, {"requests": Threshold(requests), "memory": Threshold(most_bytes)}
        )
        self._note(thresholds["requests"], "requests_per_agent", usage.streams, agent)
        self._note(thresholds["memory"], "memory_per_agent", usage.bytes, agent)
        if not any(threshold.over for threshold in thresholds.values()):
            del self._agents[agent]

    def _note(
        self, threshold: Threshold, name: str, value: float, agent: str | None = None
    ) -> None:
        if not threshold.note(value):
            return
        fields = {"limit": name, "most": threshold.limit, "now": round(value, 3)} | (
            {"agent": agent} if agent else {}
        )
        if threshold.over:
            self.count += 1
            _log.warning("overloaded: new requests get 503", **fields)
        else:
            _log.info("no longer overloaded", **fields)
