"""Admission control: whether new requests are taken, from how much there is to do already.

An overload that is answered early costs a few requests; one that is answered late costs all of them. So usage is
compared with the budgets of `model.limits` ten times a second, and a request costs one look at `Overload.on`. What is
under way is never ended here.

An agent counts in the sums of the server with no more than its own budget: what it holds beyond keeps nobody out but
its own clients.
"""

from collections.abc import Mapping
from typing import Final

from zerotrust.errors import Overloaded
from zerotrust.model.limits import Limits
from zerotrust.telemetry import logs
from zerotrust.tunnel.session_stats import SessionStats

LOW: Final = 0.8
"""The part of a limit that usage has to come down to: between the two nothing changes."""
CALM: Final = 10
"""Measures in a row that have to be so low: a second."""
LATE: Final = 3
"""Measures in a row in which the loop has to be late: a queue that stays is an overload, a single long turn is none (as
in CoDel, RFC 8289 s3)."""

_log = logs.logger("overload")


class Threshold:
    """Whether a measure is over its limit: from `after` measures in a row that reach it until CALM at LOW of it."""

    __slots__ = ("_after", "_run", "limit", "over")

    def __init__(self, limit: float, *, after: int = 1) -> None:
        self.limit = limit
        self.over = False
        self._after = after
        self._run = 0

    def note(self, value: float) -> bool:
        """Take the next measure; True where `over` is another one now."""
        other = value <= self.limit * LOW if self.over else value >= self.limit
        self._run = self._run + 1 if other else 0
        if self._run < (CALM if self.over else self._after):
            return False
        self.over = not self.over
        self._run = 0
        return True


class LoadShedding:
    """Compares what there is with what there may be.

    Attributes:
        on: a budget of the server or of an agent is used up; `check` says whether that is about a request.
        count: how often one was.
    """

    def __init__(self, limits: Limits) -> None:
        self.count = 0
        self.reconfigure(limits)

    def reconfigure(self, limits: Limits) -> None:
        """Go by other limits."""
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
        """Which budgets of the whole server are used up."""
        return {name: mark.over for name, mark in self._server.items()}

    @property
    def agents(self) -> int:
        """How many agents have used up one of theirs."""
        return len(self._agents)

    def check(self, agent: str) -> None:
        """Look at a new request for an agent.

        Raises:
            Overloaded: it is not taken.
        """
        for name, mark in self._server.items():
            if mark.over:
                raise Overloaded(f"the server is over its limit of {name}")
        for name, mark in self._agents.get(agent, {}).items():
            if mark.over:
                raise Overloaded(f"the agent is over its limit of {name}")

    def sample(self, usage: Mapping[str, SessionStats], *, pending: int, lag: float) -> None:
        """Take what there is now.

        Args:
            usage: of each agent that is connected.
            pending: requests that wait for an agent.
            lag: by how many seconds the loop is late.
        """
        most_requests, most_bytes = self._most
        measures = {
            "requests": pending + sum(min(one.streams, most_requests) for one in usage.values()),
            "memory": sum(min(one.bytes, most_bytes) for one in usage.values()),
            "event_loop_lag": lag,
        }
        for name, mark in self._server.items():
            self._note(mark, name, measures[name])
        for agent in self._agents.keys() - usage.keys():
            del self._agents[agent]
        for agent, one in usage.items():
            if agent in self._agents or one.streams >= most_requests or one.bytes >= most_bytes:
                self._sample_agent(agent, one)
        self.on = bool(self._agents) or any(mark.over for mark in self._server.values())

    def _sample_agent(self, agent: str, usage: SessionStats) -> None:
        requests, most_bytes = self._most
        marks = self._agents.setdefault(agent, {"requests": Threshold(requests), "memory": Threshold(most_bytes)})
        self._note(marks["requests"], "requests_per_agent", usage.streams, agent)
        self._note(marks["memory"], "memory_per_agent", usage.bytes, agent)
        if not any(mark.over for mark in marks.values()):
            del self._agents[agent]

    def _note(self, mark: Threshold, name: str, value: float, agent: str | None = None) -> None:
        if not mark.note(value):
            return
        fields = {"limit": name, "most": mark.limit, "now": round(value, 3)} | ({"agent": agent} if agent else {})
        if mark.over:
            self.count += 1
            _log.warning("overloaded: new requests get 503", **fields)
        else:
            _log.info("no longer overloaded", **fields)
