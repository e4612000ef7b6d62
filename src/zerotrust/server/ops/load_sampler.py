"""Load sampler: the work and the memory of the server, ten times a second (net.loop_lag)."""

from zerotrust.net.loop_lag import LoopLagMonitor
from zerotrust.server.agents.registry import Registry
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.tunnel.session_stats import SessionStats, StallCounter


class LoadSampler:
    """Samples what the sessions and their policies hold, and tells `overload`.

    Attributes:
        by_agent: of each agent that is connected; `total` of all together.
        stalls: how often sessions could keep no more.
        loop_lag: how late the loop is.
    """

    def __init__(self, registry: Registry, ingress: Ingress, overload: LoadShedding) -> None:
        self._registry = registry
        self._ingress = ingress
        self._overload = overload
        self.by_agent: dict[str, SessionStats] = {}
        self.total = SessionStats()
        self.stalls = StallCounter()
        self.loop_lag = LoopLagMonitor(self._beat)
        self.loop_lag.start()

    @property
    def memory_of_former(self) -> int:
        """Bytes that the policies of agents take which are away."""
        return self._registry.memory_of_former

    def _beat(self, lag: float) -> None:
        by_agent: dict[str, SessionStats] = {}
        sessions = []
        for member in self._registry.sessions:
            session = member.link.session
            sessions.append(session)
            usage = by_agent.get(member.agent)
            if usage is None:
                usage = by_agent[member.agent] = SessionStats()
                usage.policies = self._registry.policies.memory(member.agent)
            usage.add(session)
        total = SessionStats()
        for usage in by_agent.values():
            total.include(usage)
        self.by_agent, self.total = by_agent, total
        self.stalls.note(sessions)
        self._overload.sample(by_agent, pending=self._ingress.pending, lag=lag)
