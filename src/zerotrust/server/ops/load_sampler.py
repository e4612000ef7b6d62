"""Load sampler: work and memory of the server, ten times a second (net.loop_lag)."""

from zerotrust.net.loop_lag import LoopLagMonitor
from zerotrust.server.agents.registry import Registry
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.tunnel.session_stats import SessionStats, StallCounter


class LoadSampler:
    """Samples the memory of sessions and policies, and passes it to load shedding.

    Attributes:
        by_agent: statistics of each connected agent; `total`: of all together.
        stalls: how often sessions stopped sending because nothing was acknowledged.
        loop_lag: delay of the event loop.
    """

    def __init__(self, registry: Registry, ingress: Ingress, load_shedding: LoadShedding) -> None:
        self._registry = registry
        self._ingress = ingress
        self._load_shedding = load_shedding
        self.by_agent: dict[str, SessionStats] = {}
        self.total = SessionStats()
        self.stalls = StallCounter()
        self.loop_lag = LoopLagMonitor(self._beat)
        self.loop_lag.start()

    @property
    def retained_policy_memory(self) -> int:
        """Memory that the policies of disconnected agents take, in bytes, estimated."""
        return self._registry.retained_policy_memory

    def _beat(self, lag: float) -> None:
        by_agent: dict[str, SessionStats] = {}
        sessions = []
        for agent_session in self._registry.sessions:
            session = agent_session.link.session
            sessions.append(session)
            stats = by_agent.get(agent_session.agent)
            if stats is None:
                stats = by_agent[agent_session.agent] = SessionStats()
                stats.policies = self._registry.policies.memory(agent_session.agent)
            stats.add(session)
        total = SessionStats()
        for stats in by_agent.values():
            total.include(stats)
        self.by_agent, self.total = by_agent, total
        self.stalls.note(sessions)
        self._load_shedding.sample(by_agent, pending=self._ingress.pending, lag=lag)
