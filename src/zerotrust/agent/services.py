"""The services of this agent as they are served now, and what changes when the file does."""

import asyncio
import math
import random
import ssl
import weakref
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from zerotrust.agent.jwks import Keys
from zerotrust.agent.probe import Probe
from zerotrust.agent.upstreams import UpstreamHandle, Upstreams
from zerotrust.model.agent import AgentConfig, GlobalHealthSettings
from zerotrust.model.authentication import KeySource
from zerotrust.model.policy import ServicePolicy
from zerotrust.model.service import Service, ServiceTls
from zerotrust.model.upstream import Upstream
from zerotrust.net.http_client import IDLE_TIMEOUT, BackendPool, ConnectOptions, DescriptorBudget
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import backend as backend_tls
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry import logs
from zerotrust.tunnel.messages import Register

_log = logs.logger("services")

RESPONSE_TIMEOUT: Final = 120.0
"""For the first byte of an answer where the service names no `timeout`: what the original program waited."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the parts of a request may take, in seconds; infinity is no limit.

    Attributes:
        response: until a backend that has the request begins to answer.
        idle: without any progress; `tunnel_idle` after an upgrade.
        total: from the beginning to the end; `tunnel_total` from the upgrade on.
    """

    response: float = RESPONSE_TIMEOUT
    idle: float = math.inf
    total: float = math.inf
    tunnel_idle: float = math.inf
    tunnel_total: float = math.inf

    @classmethod
    def of(cls, service: Service) -> "Timeouts":
        """What the service's file asks for."""
        return cls(
            response=service.timeout or service.load_balancing.timeout or RESPONSE_TIMEOUT,
            idle=service.idle_timeout or math.inf,
            total=service.total_timeout or math.inf,
            tunnel_idle=service.websocket_idle_timeout or math.inf,
            tunnel_total=service.websocket_max_duration or math.inf,
        )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LiveService:
    """A service and its upstreams."""

    id: str
    service: Service
    policy: ServicePolicy | None
    upstreams: Upstreams
    timeouts: Timeouts
    keys: Mapping[KeySource, Mapping[str, Any]] = field(default_factory=dict)
    """The keys of token issuers, as they are when the service is announced."""
    weight: int = 100
    """The agent's, beside others that have the same host names."""

    @property
    def key_sources(self) -> frozenset[KeySource]:
        """Where keys for its policy come from."""
        return self.policy.key_sources if self.policy is not None else frozenset()

    def announcement(self) -> Register:
        """What the server is told: never the backend's address."""
        return Register(
            id=self.id,
            hosts=list(self.service.host_names),
            websocket=self.service.websocket,
            listen_on=self.service.listen_on,
            http_redirect=self.service.redirects,
            name=self.service.name[:128],
            weight=self.weight,
            sticky=self.service.load_balancing.keeps_clients,
            policy=self.policy.to_json(self.keys) if self.policy is not None else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class ServicePlan:
    """What a configuration changes, made but not in use yet: services that are new or other, and ids that are gone."""

    changed: list[LiveService]
    gone: list[str]


class Services:
    """All services, by id.

    What is replaced goes on until its requests end (which then let go of their `LiveService`); its successor counts
    them. Where that no longer has the upstream that a request is at, or there is none, it gets `drain_timeout` to end.

    Attributes:
        requests: how many came; `failed`: how many came to nothing, by the code of the error.
    """

    def __init__(self, *, coalescer: WriteCoalescer, tasks: Tasks) -> None:
        self._coalescer = coalescer
        self._tasks = tasks
        self._descriptors = DescriptorBudget.of_process()
        self._live: dict[str, LiveService] = {}
        self._replaced: weakref.WeakSet[LiveService] = weakref.WeakSet()
        self._removed: dict[str, tuple[LiveService, float]] = {}
        self.keys = Keys(tasks)
        self.requests = 0
        self.failed: Counter[str] = Counter()

    def get(self, service_id: str) -> LiveService | None:
        """The service of this id; also one just removed, for requests that were on their way."""
        live = self._live.get(service_id)
        return live if live is not None or service_id not in self._removed else self._removed[service_id][0]

    @property
    def all(self) -> list[LiveService]:
        """All services."""
        return list(self._live.values())

    def plan(self, config: AgentConfig, *, secret: bytes = b"", renewed: Collection[str] = ()) -> ServicePlan:
        """Make what `adopt` needs to serve this configuration; nothing is served otherwise yet.

        Args:
            secret: for the cookies of session affinity; 32 random bytes that a restart does not change.
            renewed: files that hold something else than before; services that name one count as changed.

        Raises:
            PkiError: a certificate for a backend can't be used.
        """
        health = config.health_checks.global_settings
        wanted = {service.service_id: _with_defaults(service, health) for service in config.services}
        changed = []
        for service_id, service in wanted.items():
            policy = ServicePolicy.from_service(service, config.global_middleware)
            live = self._live.get(service_id)
            weight = config.agent.weight
            same = live is not None and (live.service, live.policy, live.weight) == (service, policy, weight)
            if not same or not set(service.tls_files).isdisjoint(renewed):
                changed.append(replace(self._provision(service, policy, secret), weight=weight))
        return ServicePlan(changed, [service_id for service_id in self._live if service_id not in wanted])

    def adopt(self, plan: ServicePlan, *, drain_timeout: float) -> None:
        """Serve what was planned. A service that is the same keeps its connections, and what is known of its health."""
        ends_at = asyncio.get_running_loop().time() + drain_timeout
        for service_id in plan.gone:
            removed = self._replace(service_id)
            if removed is not None:
                self._removed[service_id] = (removed, ends_at)
        for live in plan.changed:
            removed, _ = self._removed.pop(live.id, (None, 0.0))
            former = self._replace(live.id) or removed
            if former is not None:
                live.upstreams.inherit(former.upstreams, same_tls=_same_tls(live, former))
            self._live[live.id] = live
        for former in self._replaced:
            after = self._live.get(former.id)
            staying = (
                frozenset(upstream.endpoint for upstream in after.upstreams.all) if after is not None else frozenset()
            )
            former.upstreams.drain(staying, ends_at)
        self.keys.want({source for live in self._live.values() for source in live.key_sources})

    def sweep(self, now: float) -> None:
        """What is due about every second: idle connections, waiting requests, upstreams to probe or to bring back."""
        for service_id in [name for name, (_, ends_at) in self._removed.items() if now >= ends_at]:
            del self._removed[service_id]
        for live in (*self._live.values(), *self._replaced):
            live.upstreams.sweep(now)
        for live in self._live.values():
            for upstream in live.upstreams.due(now):
                self._probe(live, upstream)

    def close(self) -> None:
        """Close all idle backend connections."""
        for live in self._live.values():
            live.upstreams.close()

    def _probe(self, live: LiveService, upstream: UpstreamHandle) -> None:
        def report(failure: str) -> None:
            live.upstreams.probed(upstream, failure, loop.time())

        loop = asyncio.get_running_loop()
        if upstream.check is not None:
            Probe(upstream, upstream.check, host=upstream.host, report=report)

    def _replace(self, service_id: str) -> LiveService | None:
        """Take a service away, if there is one: its requests go on."""
        live = self._live.pop(service_id, None)
        if live is not None:
            live.upstreams.close()
            self._replaced.add(live)
        return live

    def _provision(self, service: Service, policy: ServicePolicy | None, secret: bytes) -> LiveService:
        upstreams = Upstreams(
            service,
            [
                BackendPool(options, coalescer=self._coalescer, tasks=self._tasks, budget=self._descriptors)
                for options in _connect_options(service)
            ],
            secret=secret,
            rng=random.Random(),  # noqa: S311 - for jitter and for shares, not for secrets
            now=asyncio.get_running_loop().time(),
        )
        return LiveService(service.service_id, service, policy, upstreams, Timeouts.of(service), self.keys.documents)


def _same_tls(live: LiveService, former: LiveService) -> bool:
    """Backends are spoken to as before. Where nothing differs, a file of its TLS was renewed."""
    renewed = (live.service, live.policy) == (former.service, former.policy)
    return live.service.tls == former.service.tls and not renewed


def _connect_options(service: Service) -> list[ConnectOptions]:
    endpoints = [service.endpoint(upstream) for upstream in service.backends]
    asked = service.tls or ServiceTls()
    context: ssl.SSLContext | None = None
    if any(endpoint.secured for endpoint in endpoints):
        context = backend_tls(asked)
        if asked.insecure_skip_verify:
            _log.warning("backends are not verified: whoever is on the way can be one", service=service.service_id)
    kept = service.load_balancing.keep_alive_timeout
    return [
        ConnectOptions(
            endpoint,
            tls=context if endpoint.secured else None,
            server_name=asked.server_name,
            connect_timeout=service.connect_timeout,
            idle_timeout=IDLE_TIMEOUT if kept is None else kept,
        )
        for endpoint in endpoints
    ]


def _with_defaults(service: Service, health: GlobalHealthSettings) -> Service:
    """The service with `health_checks.global_settings` wherever its checks say nothing."""
    if not any(upstream.health_check for upstream in service.upstreams):
        return service
    return service.model_copy(update={"upstreams": [_with_default(upstream, health) for upstream in service.upstreams]})


def _with_default(upstream: Upstream, health: GlobalHealthSettings) -> Upstream:
    check = upstream.health_check
    if check is None:
        return upstream
    defaults = {
        "interval": health.check_interval,
        "timeout": health.timeout,
        "unhealthy_threshold": health.unhealthy_threshold,
        "healthy_threshold": health.healthy_threshold,
    }
    missing = {key: value for key, value in defaults.items() if key not in check.model_fields_set}
    return upstream.model_copy(update={"health_check": check.model_copy(update=missing)})
