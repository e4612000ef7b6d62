"""The agent's metrics: asked for when they are read, from whoever has the number."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import Metric

from zerotrust import __version__
from zerotrust.agent.services import Services
from zerotrust.agent.status import services_status
from zerotrust.http.head import MAX_HTTP_HEAD_BYTES
from zerotrust.net.http_client import MAX_DIALS, MAX_IDLE
from zerotrust.net.loop_lag import LoopLagMonitor
from zerotrust.net.metrics_endpoint import MAX_CONNECTIONS, MetricsEndpoint
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry.metrics import counter, gauge, limits
from zerotrust.telemetry.session_metrics import LIMITS, loop_metrics, session_metrics
from zerotrust.tunnel.session import Session
from zerotrust.tunnel.session_stats import SessionStats, StallCounter

AGENT_LIMITS: Final[dict[str, float]] = {
    **LIMITS,
    "head_bytes": MAX_HTTP_HEAD_BYTES,
    "backend_connections_idle": MAX_IDLE,
    "metrics_connections": MAX_CONNECTIONS,
    "backend_dials": MAX_DIALS,
}
"""What each budget of an agent allows at most."""


class AgentMetrics:
    """Knows whom to ask, and answers where it is told to listen.

    Args:
        sessions: those that there are now.
    """

    def __init__(
        self, sessions: Callable[[], Iterable[Session]], services: Services, *, coalescer: WriteCoalescer, tasks: Tasks
    ) -> None:
        self._sessions = sessions
        self._services = services
        self._stalls = StallCounter()
        self._loop_lag = LoopLagMonitor(lambda _: self._stalls.note(self._sessions()))
        self._endpoint = MetricsEndpoint(self.collect, self._health, coalescer=coalescer, tasks=tasks)

    async def listen(self, address: str | None) -> None:
        """Answer at this address and at no other; None is nowhere.

        Raises:
            SetupError: the address can't be used; all is as before.
        """
        await self._endpoint.listen(address)
        if address is None:
            self._loop_lag.stop()
        else:
            self._loop_lag.start()

    async def close(self) -> None:
        """End it all."""
        self._loop_lag.stop()
        await self._endpoint.close()

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        usage = SessionStats()
        for session in self._sessions():
            usage.add(session)
        yield gauge("build_info", "The version, as a label.", {__version__: 1}, "version")
        yield from session_metrics(usage, self._stalls)
        yield counter("requests_total", "Requests that came.", self._services.requests)
        yield counter("requests_failed_total", "Requests that came to nothing.", self._services.failed, "code")
        listener = self._endpoint.listener
        yield gauge("connections", "Connections to its own listeners.", {"metrics": listener.connections}, "listener")
        meaning = "Connections that were closed because their listener had as many as it takes."
        yield counter("connections_refused_total", meaning, {"metrics": listener.refused}, "listener")
        yield from self._backends()
        yield from loop_metrics(self._loop_lag.lag, self._loop_lag.lost)
        yield limits(AGENT_LIMITS)

    def _health(self) -> str:
        return "ok" if any(session.attached for session in self._sessions()) else "disconnected"

    def _backends(self) -> Iterator[Metric]:
        services = [live for live in self._services.all if live.service.is_counted]
        waiting = {live.id: live.upstreams.waiting for live in services}
        yield gauge("requests_queued", "Requests that wait for a connection to a backend.", waiting, "service")
        connections: Counter[tuple[str, str]] = Counter()
        for live in services:
            for upstream in live.upstreams.all:
                connections[live.id, "idle"] += upstream.pool.idle
                connections[live.id, "busy"] += upstream.pool.open - upstream.pool.idle
        yield gauge("backend_connections", "Connections to backends.", connections, "service", "state")
        states: Counter[tuple[str, str]] = Counter(
            (one.id, upstream.state) for one in services_status(services) for upstream in one.upstreams
        )
        yield gauge("upstreams", "Backends by what is known of them.", states, "service", "state")
