"""The services that the agent serves, and the differences that a new configuration makes."""

import asyncio
import math
import random
import ssl
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from zerotrust.agent.deviation_log import DeviationLog
from zerotrust.agent.jwks import JwksFetcher
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
from zerotrust.telemetry.tracing import Tracer
from zerotrust.tunnel.messages import Register

_log = logs.logger("services")

RESPONSE_TIMEOUT: Final = 120.0
"""Default for the service's `timeout`: seconds until the first byte of an answer."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of the requests of a service, in seconds; infinity is no limit.

    The server ends upgraded connections by the clock.

    Attributes:
        response: from the moment that the backend has the whole request until it answers.
        idle: without progress in either direction.
        total: from the start of the request to its end.
    """

    response: float = RESPONSE_TIMEOUT
    idle: float = math.inf
    total: float = math.inf

    @classmethod
    def of(cls, service: Service) -> "Timeouts":
        """Return the timeouts that the service's configuration sets."""
        return cls(
            response=service.timeout or service.load_balancing.timeout or RESPONSE_TIMEOUT,
            idle=service.idle_timeout or math.inf,
            total=service.total_timeout or math.inf,
        )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LiveService:
    """A service with its upstreams, as the agent serves it."""

    id: str
    service: Service
    policy: ServicePolicy | None
    upstreams: Upstreams
    timeouts: Timeouts
    keys: Mapping[KeySource, Mapping[str, Any]] = field(default_factory=dict)
    """JWKS documents of the token issuers, as last fetched."""
    weight: int = 100
    """The agent's weight among the agents that serve the same host names."""

    @property
    def key_sources(self) -> frozenset[KeySource]:
        """Return the sources of the JWKS documents that its policy needs."""
        return self.policy.key_sources if self.policy is not None else frozenset()

    def announcement(self) -> Register:
        """Return the registration to send to the server. It never has a backend's address."""
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
    """Changes that a configuration makes, ready for `Services.adopt`.

    Attributes:
        changed: services that are new or differ.
        gone: ids of services that were removed.
    """

    changed: list[LiveService]
    gone: list[str]


class Services:
    """All services, by id.

    Requests of a replaced service continue at their upstreams, and the service's successor counts
    them. If the successor does not have that upstream, or there is no successor, these requests
    have `drain_timeout` to end.

    Args:
        keys_changed: called with the source of a JWKS document that has changed.

    Attributes:
        jwks: the JWKS documents of token issuers.
        requests: total number of requests.
        tracer: sends the spans of exchanges; None without tracing.
        failed: total number of failed requests by error code.
        replaced: former versions of services that still have requests.
    """

    def __init__(
        self, *, coalescer: WriteCoalescer, tasks: Tasks, keys_changed: Callable[[KeySource], None]
    ) -> None:
        self._coalescer = coalescer
        self._tasks = tasks
        self._descriptors = DescriptorBudget.of_process()
        self._live: dict[str, LiveService] = {}
        self.replaced: weakref.WeakSet[LiveService] = weakref.WeakSet()
        self._removed: dict[str, tuple[LiveService, float]] = {}
        self.jwks = JwksFetcher(tasks, changed=keys_changed)
        self.requests = 0
        self.tracer: Tracer | None = None
        self.failed: Counter[str] = Counter()

    def get(self, service_id: str) -> LiveService | None:
        """Return the service of this id; also a removed one while its requests may still come."""
        live = self._live.get(service_id)
        return (
            live
            if live is not None or service_id not in self._removed
            else self._removed[service_id][0]
        )

    @property
    def all(self) -> list[LiveService]:
        """Return all services."""
        return list(self._live.values())

    def plan(
        self, config: AgentConfig, *, secret: bytes = b"", renewed: Collection[str] = ()
    ) -> ServicePlan:
        """Return the changes that this configuration makes. They take effect with `adopt`.

        Args:
            secret: key for the cookies of session affinity; 32 random bytes that a restart keeps.
            renewed: files whose content has changed; services that name one of them count as
                changed.

        Raises:
            PkiError: a certificate for a backend can't be used.
        """
        health = config.health_checks.global_settings
        wanted = {
            service.service_id: _with_defaults(service, health) for service in config.services
        }
        changed = []
        for service_id, service in wanted.items():
            policy = ServicePolicy.from_service(service, config.global_middleware)
            live = self._live.get(service_id)
            weight = config.agent.weight
            same = live is not None and (live.service, live.policy, live.weight) == (
                service,
                policy,
                weight,
            )
            if not same or not set(service.tls_files).isdisjoint(renewed):
                changed.append(replace(self._provision(service, policy, secret), weight=weight))
        return ServicePlan(
            changed, [service_id for service_id in self._live if service_id not in wanted]
        )

    def adopt(self, plan: ServicePlan, *, drain_timeout: float) -> None:
        """Put the changes into effect. Unchanged services keep their connections and health."""
        ends_at = asyncio.get_running_loop().time() + drain_timeout
        for service_id in plan.gone:
            removed = self._replace(service_id)
            if removed is not None:
                self._removed[service_id] = (removed, ends_at)
        for live in plan.changed:
            removed, _ = self._removed.pop(live.id, (None, 0.0))
            previous = self._replace(live.id) or removed
            if previous is not None:
                live.upstreams.inherit(previous.upstreams, same_tls=_same_tls(live, previous))
            self._live[live.id] = live
        for previous in self.replaced:
            after = self._live.get(previous.id)
            staying = (
                frozenset(upstream.endpoint for upstream in after.upstreams.all)
                if after is not None
                else frozenset()
            )
            previous.upstreams.drain(staying, ends_at)
        self.jwks.fetch_from(
            {source for live in self._live.values() for source in live.key_sources}
        )

    def sweep(self, now: float) -> None:
        """Close idle connections, expire waiting requests, start health checks.

        Runs every second.
        """
        for service_id in [name for name, (_, ends_at) in self._removed.items() if now >= ends_at]:
            del self._removed[service_id]
        for live in (*self._live.values(), *self.replaced):
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
        """Remove and return the service of this id, if there is one; its requests continue."""
        live = self._live.pop(service_id, None)
        if live is not None:
            live.upstreams.close()
            self.replaced.add(live)
        return live

    def _provision(
        self, service: Service, policy: ServicePolicy | None, secret: bytes
    ) -> LiveService:
        upstreams = Upstreams(
            service,
            [
                BackendPool(
                    options, coalescer=self._coalescer, tasks=self._tasks, budget=self._descriptors
                )
                for options in _connect_options(service)
            ],
            secret=secret,
            rng=random.Random(),  # noqa: S311 - for jitter and for balancing, not for secrets
            now=asyncio.get_running_loop().time(),
        )
        return LiveService(
            service.service_id,
            service,
            policy,
            upstreams,
            Timeouts.of(service),
            self.jwks.documents,
        )


def _same_tls(live: LiveService, previous: LiveService) -> bool:
    """Return True if TLS to the backends is unchanged.

    Equal services mean that a TLS file was renewed.
    """
    renewed = (live.service, live.policy) == (previous.service, previous.policy)
    return live.service.tls == previous.service.tls and not renewed


def _connect_options(service: Service) -> list[ConnectOptions]:
    endpoints = [(upstream, service.endpoint(upstream)) for upstream in service.backends]
    settings = service.tls or ServiceTls()
    context: ssl.SSLContext | None = None
    if any(endpoint.secured for _, endpoint in endpoints):
        context = backend_tls(settings)
        if settings.insecure_skip_verify:
            _log.warning(
                "TLS verification of backends is disabled (insecure_skip_verify)",
                service=service.service_id,
            )
    keep_alive = service.load_balancing.keep_alive_timeout
    return [
        ConnectOptions(
            endpoint,
            tls=context if endpoint.secured else None,
            server_name=settings.server_name,
            connect_timeout=service.connect_timeout,
            idle_timeout=IDLE_TIMEOUT if keep_alive is None else keep_alive,
            forgive=None
            if service.strict_upstream
            else DeviationLog(service=service.service_id, upstream=upstream.address).note,
        )
        for upstream, endpoint in endpoints
    ]


def _with_defaults(service: Service, health: GlobalHealthSettings) -> Service:
    """Return the service with `health_checks.global_settings` as defaults of its health checks."""
    if not any(upstream.health_check for upstream in service.upstreams):
        return service
    return service.model_copy(
        update={"upstreams": [_with_default(upstream, health) for upstream in service.upstreams]}
    )


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
