"""Endpoints for administrators (`admin.socket`) and monitoring (`metrics.listen_addr`)."""

from itertools import chain

from zerotrust.model.server import ServerConfig
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.metrics_endpoint import MetricsEndpoint
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.agent_endpoint import AgentEndpoint
from zerotrust.server.identity.join_tokens import JoinTokens
from zerotrust.server.identity.worker_slot import WorkerSlot
from zerotrust.server.ops import admin
from zerotrust.server.ops.access_parts import FindParts
from zerotrust.server.ops.admin import AdminChannel, Endpoints
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.all_workers import build_commands
from zerotrust.server.ops.load_sampler import LoadSampler
from zerotrust.server.ops.metrics import ServerMetrics
from zerotrust.server.ops.request_observers import RequestObservers
from zerotrust.server.ops.service_admin import ServiceAdmin
from zerotrust.server.ops.traffic_history import TrafficHistory
from zerotrust.server.ops.worker_endpoints import worker_endpoints
from zerotrust.server.ops.worker_peers import WorkerPeers
from zerotrust.server.proxy.captures import Captures
from zerotrust.server.proxy_endpoint import ProxyEndpoint


class AdminEndpoint:
    """Carries out commands of administrators, and shows what the server does.

    Args:
        access: returns the parts that decide about access; None without the section `access`.
        slot: place of this process among the workers of the server.

    Attributes:
        commands: the commands about the whole server; the dashboard carries out the same ones.
        api: listener of the admin API, for administrators of this machine.
        worker_api: listener for the other workers; `api` in a server without workers.
        observers: access log, traces and durations of requests.
        metrics: the metrics and the endpoint that serves them.
    """

    def __init__(
        self,
        config: ServerConfig,
        tasks: Tasks,
        agents: AgentEndpoint,
        proxy: ProxyEndpoint,
        *,
        access: FindParts,
        coalescer: WriteCoalescer,
        slot: WorkerSlot,
    ) -> None:
        self._config, self._tasks, self._coalescer = config, tasks, coalescer
        self._proxy, self._access, self._audit = proxy, access, agents.audit
        self._join_tokens = JoinTokens(config.server)
        peers = WorkerPeers(lambda: slot.other_sockets(self._config)) if slot.has_parent else None
        self.commands, own_commands = build_commands(
            agents.directory,
            agents.sessions,
            agents.audit,
            self._join_tokens,
            ServiceAdmin(agents.registry, proxy.load_shedding, access),
            registry=agents.registry,
            ingress=proxy.ingress,
            captures=Captures(agents.audit, tasks),
            traffic=TrafficHistory(
                lambda: agents.registry.sessions, proxy.ingress, tasks, shared=slot.has_parent
            ),
            slot=slot,
            peers=peers,
            membership=agents.membership,
        )
        self.api = self._listener("admin.socket", self.commands)
        self.worker_api = self.api
        if slot.has_parent:
            self.worker_api = self._listener(
                "admin socket of the worker",
                own_commands,
                worker_endpoints(own_commands, lambda: self.metrics.text()),  # noqa: PLW0108 - made later
            )
        self._load = LoadSampler(agents.registry, proxy.ingress, proxy.load_shedding)
        self.observers = RequestObservers(proxy.ingress)
        listeners = {"api": proxy.api, "admin": self.api, "permission": proxy.permission_api}
        metrics = ServerMetrics(
            load=self._load,
            ingress=proxy.ingress,
            load_shedding=proxy.load_shedding,
            agent_listener=agents.listener,
            certificates=proxy.certificate_budget,
            listeners=listeners,
            config=lambda: self._config,
        )
        self.metrics = MetricsEndpoint(
            lambda: chain(
                metrics.collect(),
                self.observers.collect(),
                () if agents.membership is None else agents.membership.collect(),
            ),
            lambda: metrics.health,
            coalescer=coalescer,
            tasks=tasks,
            merge=None if peers is None else peers.add_metrics,
        )
        listeners["metrics"] = self.metrics.listener

    def apply(self, config: ServerConfig) -> None:
        """Use another configuration; `observers` and `metrics` have a preparation of their own."""
        self._config = config
        self._join_tokens.reconfigure(config.server)

    async def close(self) -> None:
        """Close all connections, and end the measurements.

        The observers stay: their own `close` ends them, after the last request.
        """
        for listener in (self.api, self.worker_api):
            listener.close()
        await self.metrics.close()
        self._load.loop_lag.stop()

    def _listener(
        self, name: str, commands: AdminCommands, more: Endpoints | None = None
    ) -> HttpListener:
        """Return a listener of the admin API.

        Args:
            more: further endpoints.
        """
        channel = AdminChannel(commands, self._audit, self._tasks, access=self._access, more=more)
        if more is None:
            self._proxy.ingress.admin_api = channel.api  # which machines call by the ingress
        return HttpListener(
            self._coalescer, channel.api, self._tasks, name=name, most=lambda: admin.MAX_CONNECTIONS
        )
