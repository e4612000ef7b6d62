"""Metrics of the server, collected when they are read."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import Metric

from zerotrust import __version__
from zerotrust.http.head import MAX_REQUEST_HEAD_BYTES
from zerotrust.model.server import ServerConfig
from zerotrust.net import metrics_endpoint
from zerotrust.net.handshake_limiter import BURST, MAX_HANDSHAKES, RATE
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.http_server import HEAD_TIMEOUT, IDLE_TIMEOUT, MAX_AHEAD_BYTES
from zerotrust.net.listen import HANDSHAKE_TIMEOUT
from zerotrust.net.loop import descriptor_limit
from zerotrust.server.agents.listener import AgentListener
from zerotrust.server.agents.offline_agents import MAX_MEMORY
from zerotrust.server.agents.policy_quota import most_memory
from zerotrust.server.agents.session import MAX_RETIRED
from zerotrust.server.agents.session_acceptor import MAX_SESSIONS
from zerotrust.server.identity.enrollment_api import MAX_CONNECTIONS
from zerotrust.server.ops import admin, tls_permission
from zerotrust.server.ops.certificate_budget import CertificateBudget
from zerotrust.server.ops.descriptors import api_connections
from zerotrust.server.ops.load_sampler import LoadSampler
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.server.proxy.pending_requests import MAX_PENDING
from zerotrust.server.proxy.verification_pool import (
    MAX_WAITING,
    MAX_WAITING_OF_AGENT,
    MAX_WAITING_OF_NETWORK,
)
from zerotrust.telemetry import access_log, tracing
from zerotrust.telemetry.metrics import counter, gauge, limits
from zerotrust.telemetry.session_metrics import LIMITS, loop_metrics, session_metrics

_LIMITS: Final = {
    **LIMITS,
    "head_bytes": MAX_REQUEST_HEAD_BYTES,
    "head_seconds": HEAD_TIMEOUT,
    "ahead_bytes": MAX_AHEAD_BYTES,
    "connection_idle_seconds": IDLE_TIMEOUT,
    "requests_held": MAX_PENDING,
    "passwords_waiting": MAX_WAITING,
    "passwords_waiting_of_agent": MAX_WAITING_OF_AGENT,
    "passwords_waiting_of_network": MAX_WAITING_OF_NETWORK,
    "agent_sessions": MAX_SESSIONS,
    "agent_sessions_going_away": MAX_RETIRED,
    "handshakes": MAX_HANDSHAKES,
    "handshake_seconds": HANDSHAKE_TIMEOUT,
    "handshakes_per_second": RATE,
    "handshakes_at_once": BURST,
    "join_connections": MAX_CONNECTIONS,
    "metrics_connections": metrics_endpoint.MAX_CONNECTIONS,
    "permission_connections": tls_permission.MAX_CONNECTIONS,
    "policies_away_bytes": MAX_MEMORY,
    "admin_connections": admin.MAX_CONNECTIONS,
    "access_log_lines": access_log.MAX_QUEUED,
    "trace_spans": tracing.MAX_QUEUED,
}


def server_limits(config: ServerConfig, descriptors: int) -> dict[str, float]:
    """Return the configured limit of each budget.

    Args:
        descriptors: file descriptors that the process may open.
    """
    configured = config.limits
    return {
        **_LIMITS,
        "requests": configured.requests,
        "api_connections": api_connections(configured, descriptors),
        "requests_per_agent": configured.requests_per_agent,
        "memory_bytes": configured.memory_bytes,
        "memory_per_agent_bytes": configured.memory_per_agent_bytes,
        "policies_per_agent_bytes": most_memory(configured),
        "certificates_per_agent": configured.certificates_per_agent,
        "certificates_per_domain": configured.certificates_per_domain,
        "certificates_per_wildcard": configured.certificates_per_wildcard,
        "event_loop_lag_seconds": configured.event_loop_lag,
        "request_held_seconds": config.api.hold_timeout,
        "session_detached_seconds": config.server.resume_timeout,
        "drain_seconds": config.hot_reload.drains_for,
    }


class ServerMetrics:
    """Collects the metrics from the server's parts.

    Args:
        listeners: listeners whose connections are counted, by name.
        config: returns the configuration in use.
    """

    def __init__(
        self,
        *,
        load: LoadSampler,
        ingress: Ingress,
        load_shedding: LoadShedding,
        agent_listener: AgentListener,
        certificates: CertificateBudget,
        listeners: Mapping[str, HttpListener],
        config: Callable[[], ServerConfig],
    ) -> None:
        self._config = config
        self._load = load
        self._ingress = ingress
        self._load_shedding = load_shedding
        self._agent_listener = agent_listener
        self._certificates = certificates
        self._listeners = listeners

    @property
    def health(self) -> str:
        """`overloaded` while the server sheds all new requests, else `ok`."""
        return "overloaded" if any(self._load_shedding.server.values()) else "ok"

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield gauge("build_info", "The version, as a label.", {__version__: 1}, "version")
        yield from session_metrics(self._load.total, self._load.stalls)
        yield from self._agents()
        yield from self._requests()
        yield gauge(
            "handshakes",
            "TLS handshakes of agents in progress.",
            self._agent_listener.handshakes.count,
        )
        meaning = "TLS connections closed before the handshake, because their network has too many."
        yield counter("handshakes_refused_total", meaning, self._agent_listener.handshakes.refused)
        connections = {name: listener.connections for name, listener in self._listeners.items()}
        connections["join"] = self._agent_listener.joining
        yield gauge("connections", "Open connections, excluding agents.", connections, "listener")
        refused = {name: listener.refused for name, listener in self._listeners.items()}
        meaning = "Connections closed because their listener had reached its limit."
        yield counter("connections_refused_total", meaning, refused, "listener")
        yield from self._certificate_names()
        yield from self._overloads()
        yield from loop_metrics(self._load.loop_lag.lag, self._load.loop_lag.lost)
        yield limits(server_limits(self._config(), descriptor_limit()))

    def _agents(self) -> Iterator[Metric]:
        by_agent = self._load.by_agent
        yield gauge("agents", "Agents with a session.", len(by_agent))
        streams = {agent: stats.streams for agent, stats in by_agent.items()}
        yield gauge(
            "agent_streams", "Open requests and WebSockets of each agent.", streams, "agent"
        )
        held = {agent: stats.bytes for agent, stats in by_agent.items()}
        yield gauge(
            "agent_bytes",
            "Memory held by the sessions and policies of each agent, in bytes.",
            held,
            "agent",
        )
        taken = {"connected": self._load.total.policies, "away": self._load.retained_policy_memory}
        meaning = (
            "Estimated memory of policies, in bytes; policies of disconnected agents are kept for"
            " five minutes."
        )
        yield gauge("policy_bytes", meaning, taken, "agents")

    def _requests(self) -> Iterator[Metric]:
        ingress = self._ingress
        yield counter("requests_total", "Requests received.", ingress.requests)
        meaning = "Requests that the server answered with an error before forwarding them."
        yield counter("requests_refused_total", meaning, ingress.refused, "code")
        meaning = "Forwarded requests that failed."
        yield counter("requests_failed_total", meaning, ingress.failed, "code")
        meaning = "WebSockets that have ended, by who ended them and by their close code."
        yield counter("websocket_closed_total", meaning, ingress.websockets_closed, "by", "code")
        yield gauge(
            "requests_held", "Requests that wait for an agent to reconnect.", ingress.pending
        )

    def _certificate_names(self) -> Iterator[Metric]:
        meaning = (
            "New host names of an agent's wildcard grants that were permitted to get a certificate."
        )
        yield counter("certificate_names_total", meaning, self._certificates.permitted, "agent")
        meaning = "Requests of Caddy for certificates of new host names that a limit refused."
        yield counter(
            "certificate_names_refused_total", meaning, self._certificates.refused, "agent"
        )

    def _overloads(self) -> Iterator[Metric]:
        meaning = "1 while new requests get 503 because of this limit."
        yield gauge("overloaded", meaning, self._load_shedding.server, "limit")
        yield gauge("agents_overloaded", "Agents over their own limit.", self._load_shedding.agents)
        meaning = "Times a limit of the server or of an agent was reached."
        yield counter("overloads_total", meaning, self._load_shedding.count)
