"""Metrics of the agent, collected when Prometheus reads them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import Metric

from zerotrust import __version__
from zerotrust.agent.services import Services
from zerotrust.agent.status import services_status
from zerotrust.http.head import MAX_RESPONSE_HEAD_BYTES
from zerotrust.net.http_client import MAX_DIALS, MAX_IDLE
from zerotrust.net.loop_lag import LoopLagMonitor
from zerotrust.net.metrics_endpoint import MAX_CONNECTIONS, MetricsEndpoint
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry import tracing
from zerotrust.telemetry.metrics import counter, gauge, limits
from zerotrust.telemetry.session_metrics import LIMITS, loop_metrics, session_metrics
from zerotrust.tunnel.session import Session
from zerotrust.tunnel.session_stats import SessionStats, StallCounter

AGENT_LIMITS: Final[dict[str, float]] = {
    **LIMITS,
    "response_head_bytes": MAX_RESPONSE_HEAD_BYTES,
    "backend_connections_idle": MAX_IDLE,
    "metrics_connections": MAX_CONNECTIONS,
    "backend_dials": MAX_DIALS,
    "trace_spans": tracing.MAX_QUEUED,
}
"""Configured limits of an agent, by name."""


class AgentMetrics:
    """Collects the agent's metrics and serves them.

    Args:
        sessions: returns the current sessions.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[Session]],
        services: Services,
        *,
        coalescer: WriteCoalescer,
        tasks: Tasks,
    ) -> None:
        self._sessions = sessions
        self._services = services
        self._stalls = StallCounter()
        self._loop_lag = LoopLagMonitor(lambda _: self._stalls.note(self._sessions()))
        self._endpoint = MetricsEndpoint(
            self.collect, self._health, coalescer=coalescer, tasks=tasks
        )

    async def listen(self, address: str | None) -> None:
        """Serve the metrics at this address instead of the one before; None is no address.

        Raises:
            SetupError: the address can't be used; nothing has changed.
        """
        await self._endpoint.listen(address)
        if address is None:
            self._loop_lag.stop()
        else:
            self._loop_lag.start()

    async def close(self) -> None:
        """Stop listening and close all connections."""
        self._loop_lag.stop()
        await self._endpoint.close()

    def collect(self) -> Iterator[Metric]:
        """Return the current metrics."""
        usage = SessionStats()
        for session in self._sessions():
            usage.add(session)
        yield gauge("build_info", "Version of 0Trust, as a label.", {__version__: 1}, "version")
        yield from session_metrics(usage, self._stalls)
        yield counter("requests_total", "Requests received.", self._services.requests)
        yield counter(
            "requests_failed_total", "Requests that failed.", self._services.failed, "code"
        )
        listener = self._endpoint.listener
        meaning = "Open connections, by listener."
        yield gauge("connections", meaning, {"metrics": listener.connections}, "listener")
        meaning = "Connections closed because their listener was at its limit."
        yield counter(
            "connections_refused_total", meaning, {"metrics": listener.refused}, "listener"
        )
        yield from self._backends()
        yield tracing.span_metric(self._services.tracer)
        yield from loop_metrics(self._loop_lag.lag, self._loop_lag.lost)
        yield limits(AGENT_LIMITS)

    def _health(self) -> str:
        return "ok" if any(session.attached for session in self._sessions()) else "disconnected"

    def _backends(self) -> Iterator[Metric]:
        services = [live for live in self._services.all if live.service.is_counted]
        waiting = {live.id: live.upstreams.waiting for live in services}
        yield gauge(
            "requests_queued", "Requests waiting for an upstream with room.", waiting, "service"
        )
        connections: Counter[tuple[str, str]] = Counter()
        for live in services:
            for upstream in live.upstreams.all:
                connections[live.id, "idle"] += upstream.pool.idle
                connections[live.id, "busy"] += upstream.pool.open - upstream.pool.idle
        yield gauge(
            "backend_connections", "Open connections to upstreams.", connections, "service", "state"
        )
        states: Counter[tuple[str, str]] = Counter(
            (one.id, upstream.state)
            for one in services_status(services)
            for upstream in one.upstreams
        )
        yield gauge("upstreams", "Upstreams by health state.", states, "service", "state")
