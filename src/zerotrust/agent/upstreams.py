"""Upstreams of one service: selects one for each request, queues requests, and tracks health.

With one upstream and no checks or limits, selection is skipped: see `Upstreams.only`.
"""

import math
import random
import time
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

from zerotrust.agent.request_rewrite import Edits, client_of, cookies_of, is_secure
from zerotrust.balancing.affinity import Affinity
from zerotrust.balancing.health import Change, HealthState
from zerotrust.balancing.passive_health import Failure
from zerotrust.balancing.queue import Queue
from zerotrust.balancing.upstream_pool import PooledUpstream, UpstreamPool
from zerotrust.errors import ForwardError, ServiceGone, UpstreamsBusy, UpstreamsDown
from zerotrust.model.service import Service
from zerotrust.model.upstream import Upstream, UpstreamEndpoint
from zerotrust.net.http_client import BackendPool
from zerotrust.telemetry import logs
from zerotrust.tunnel.messages import MAX_TEXT, MAX_UNHEALTHY, ServiceHealth, UpstreamFault

_log = logs.logger("upstreams")

MAX_ATTEMPTS: Final = 3
"""Maximum number of upstreams that one request is sent to."""


class Waiter(Protocol):
    """A request that waits for an upstream."""

    def resume(self) -> None:
        """Take an upstream: one has room."""

    def refused(self, error: ForwardError) -> None:
        """Fail the request: it has waited for too long, or no upstream is left."""


class UpstreamHandle:
    """One upstream and the connections to it.

    Attributes:
        member: its state in the upstream pool: health and active requests.
        pool: the connections to it.
        edits: changes to the head of each request; None if there are none.
        check: its active health check; None if it has none.
        ends_at: time of the loop at which its running requests fail; infinity while the
            configuration has the upstream.
        host: the Host of its health checks.
    """

    __slots__ = ("check", "edits", "endpoint", "ends_at", "host", "member", "pool")

    def __init__(
        self, member: PooledUpstream, pool: BackendPool, service: Service, configured: Upstream
    ) -> None:
        endpoint = service.endpoint(configured)
        self.member = member
        self.pool = pool
        self.endpoint = endpoint
        self.ends_at = math.inf
        self.edits = _edits(service, endpoint)
        self.check = configured.health_check
        self.host = service.host_for(endpoint)

    @property
    def address(self) -> str:
        """Return its address as the configuration has it."""
        return self.member.key


class Upstreams:
    """All upstreams of one service.

    When the service is replaced or removed, call `close`; running requests end at their upstreams.

    Args:
        service: the service, with all defaults of its health checks applied.
        pools: the connections to each of `service.backends`.
        secret: key for the cookies of session affinity; 32 random bytes that a restart keeps.
        now: the loop's time, as in all methods.

    Attributes:
        all: the upstreams, in the order of the configuration.
        only: the upstream of every request if there is one upstream without checks or limits.
        health: their health for the server, another object after each sweep that finds a change;
            None where nothing is known of it.
    """

    __slots__ = (
        "_affinity",
        "_by_address",
        "_of",
        "_pool",
        "_queue",
        "_service",
        "_unhealthy",
        "all",
        "health",
        "only",
    )

    def __init__(
        self,
        service: Service,
        pools: list[BackendPool],
        *,
        secret: bytes,
        rng: random.Random,
        now: float,
    ) -> None:
        options = service.load_balancing
        self._service = service.service_id
        self._pool = UpstreamPool(service.backends, options, rng=rng, now=now)
        self._queue: Queue[Waiter] = Queue(limit=options.queue, timeout=options.queue_timeout)
        self._by_address = options.policy == "ip_hash"
        self._affinity: Affinity | None = None
        if options.session_affinity and len(self._pool.members) > 1:
            self._affinity = Affinity(
                secret=secret,
                service=self._service,
                upstreams=[member.key for member in self._pool.members],
                duration=options.affinity_duration,
            )
        self.all = [
            UpstreamHandle(member, pool, service, configured)
            for member, pool, configured in zip(
                self._pool.members, pools, service.backends, strict=True
            )
        ]
        self._of = {upstream.member: upstream for upstream in self.all}
        selects = any(one.max_connections or one.health_check for one in service.backends)
        skips = not selects and not options.max_connections and not options.health_check_required
        self.only = self.all[0] if len(self.all) == 1 and skips else None
        self.health: ServiceHealth | None = None
        self._unhealthy: list[tuple[str, str]] | None = None
        self._look_at_health()

    # ---- requests

    @property
    def waiting(self) -> int:
        """Return the number of requests that wait for an upstream."""
        return len(self._queue)

    def admit(
        self, waiter: Waiter, selection: "UpstreamSelection", now: float
    ) -> UpstreamHandle | None:
        """Return the upstream for a new request; None if it waits for `resume` or `refused`.

        Raises:
            ForwardError: no upstream is healthy, or the queue is full.
        """
        if not len(self._queue) and (upstream := selection.take(now)) is not None:
            return upstream
        if not self._pool.up(now):
            raise self._down(now)
        if not self._queue.enter(waiter, now):
            raise self.busy("all connections are in use and the queue is full")
        return None

    def busy(self, reason: str) -> UpstreamsBusy:
        """Return the error of a request that found no upstream with room."""
        return UpstreamsBusy(reason, retry_after=self._queue.retry_after)

    def _down(self, now: float) -> UpstreamsDown:
        return UpstreamsDown(
            "no upstream of the service is healthy", retry_after=self._pool.retry_after(now)
        )

    def refuse_if_down(self, now: float) -> None:
        """Refuse all waiting requests if no upstream is healthy."""
        if len(self._queue) and not self._pool.up(now):
            for waiter in self._queue.expired(math.inf):
                waiter.refused(self._down(now))

    def leave(self, waiter: Waiter) -> None:
        """Take a request out of the queue."""
        self._queue.leave(waiter)

    def release(self, now: float) -> None:
        """Resume waiting requests while an upstream has room."""
        while len(self._queue) and self._pool.has_room(now):
            waiter = self._queue.release()
            if waiter is not None:
                waiter.resume()

    # ---- health

    def due(self, now: float) -> list[UpstreamHandle]:
        """Return the upstreams to check now; call `probed` for each of them later."""
        return [self._of[member] for member in self._pool.probes_due(now)]

    def probed(self, upstream: UpstreamHandle, failure: str, now: float) -> None:
        """Record the result of a health check; `failure` is empty if it succeeded."""
        change = self._pool.probed(upstream.member, not failure, now)
        if change is not None:
            self.note(upstream.member, change, failure)
            self.refuse_if_down(now)
            self.release(now)

    def sweep(self, now: float) -> None:
        """Close idle connections, refuse expired requests, end ejections. Runs every second."""
        for upstream in self.all:
            upstream.pool.sweep(now)
        for member, change in self._pool.sweep(now):
            self.note(member, change)
        if len(self._queue):
            if all(now >= upstream.ends_at for upstream in self.all):
                for waiter in self._queue.expired(math.inf):
                    waiter.refused(removed_error())
            self.refuse_if_down(now)
            for waiter in self._queue.expired(now):
                waiter.refused(
                    self.busy("all connections are in use, and none became free in time")
                )
            self.release(now)
        self._look_at_health()

    def note(self, member: PooledUpstream, change: Change, detail: str = "") -> None:
        """Note and log a change of an upstream's health."""
        reason = f"{change.reason}: {detail}" if detail else change.reason
        member.health.reason = reason
        log = _log.info if change.after is HealthState.HEALTHY else _log.warning
        log(
            "upstream health changed",
            service=self._service,
            upstream=member.key,
            before=change.before.value,
            after=change.after.value,
            reason=reason,
        )

    def _look_at_health(self) -> None:
        """Make another `health` if it has changed."""
        if self.only is not None or not self.all:
            return
        unhealthy = [
            (member.key, member.health.reason)
            for member in self._pool.members
            if member.health.state is not HealthState.HEALTHY
        ]
        if unhealthy == self._unhealthy:
            return
        self._unhealthy = unhealthy
        self.health = ServiceHealth(
            id=self._service,
            healthy=len(self.all) - len(unhealthy),
            upstreams=len(self.all),
            unhealthy=[
                UpstreamFault(address=address[:MAX_TEXT], reason=reason[:MAX_TEXT])
                for address, reason in unhealthy[:MAX_UNHEALTHY]
            ],
        )

    # ---- the end

    def inherit(self, previous: "Upstreams", *, same_tls: bool) -> None:
        """Take over running requests, and the known health, from the upstreams that these replace.

        Args:
            same_tls: the TLS settings are the same. If not, health is unknown again.
        """
        before = {upstream.endpoint: upstream.member for upstream in previous.all}
        same = [
            (upstream.member, before[upstream.endpoint])
            for upstream in self.all
            if upstream.endpoint in before
        ]
        self._pool.inherit(previous._pool, same, health=same_tls)

    def drain(self, staying: AbstractSet[UpstreamEndpoint], ends_at: float) -> None:
        """Fail running requests of upstreams that are not `staying` at `ends_at`, if not
        earlier."""
        for upstream in self.all:
            upstream.ends_at = (
                math.inf if upstream.endpoint in staying else min(upstream.ends_at, ends_at)
            )

    def close(self) -> None:
        """Close idle connections; connections in use close with their requests."""
        for upstream in self.all:
            upstream.pool.close()


class UpstreamSelection:
    """Selection of the upstream for one request, and of other ones if it fails.

    Attributes:
        upstream: the upstream that has the request; None before and between attempts.
    """

    __slots__ = (
        "_client",
        "_pool",
        "_preferred",
        "_renew",
        "_secure",
        "_tried",
        "_upstreams",
        "_well",
        "upstream",
    )

    def __init__(self, upstreams: Upstreams, block: bytes) -> None:
        self._upstreams = upstreams
        self._pool = upstreams._pool
        self._client = client_of(block) if upstreams._by_address else b""
        self._preferred: str | None = None
        self._renew = self._secure = False
        affinity = upstreams._affinity
        if affinity is not None:
            cookie = affinity.read(cookies_of(block), time.time())
            if cookie is not None:
                self._preferred, self._renew = cookie
            self._secure = is_secure(block)
        self._tried: list[PooledUpstream] = []
        self._well = False
        self.upstream: UpstreamHandle | None = None

    def take(self, now: float) -> UpstreamHandle | None:
        """Return the upstream for the request; None if no upstream that is not tried yet has
        room."""
        member = self._pool.take(self._client, now, preferred=self._preferred, tried=self._tried)
        if member is not None:
            self.upstream = self._upstreams._of[member]
        return self.upstream

    def try_another(self, failure: Failure, now: float) -> UpstreamHandle | None:
        """Record a failure of the upstream; return another one for the request, or None."""
        self.failed(failure, now)
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            self._tried.append(upstream.member)
            self._pool.give_back(upstream.member)
        another = self.take(now) if len(self._tried) < MAX_ATTEMPTS else None
        self._upstreams.release(now)
        return another

    def answered(self, status: int, now: float) -> bytes:
        """Record the status of the answer; return the field lines that the agent adds to its head.

        The request counts as succeeded at the end of the answer, because the answer may be cut
        off. An upgraded connection may last for days, so it counts as succeeded with its head.
        """
        upstream = self.upstream
        if upstream is None:
            return b""
        if status >= 500:
            self.failed(Failure.SERVER_ERROR, now)
        elif status == 101:
            self._pool.succeeded(upstream.member)
        else:
            self._well = True
        affinity = self._upstreams._affinity
        if affinity is None or (upstream.address == self._preferred and not self._renew):
            return b""
        return affinity.issue(upstream.address, time.time(), secure=self._secure)

    def failed(self, failure: Failure, now: float) -> None:
        """Record that the upstream failed the request."""
        self._well = False
        if self.upstream is not None:
            change = self._pool.failed(self.upstream.member, failure, now)
            if change is not None:
                self._upstreams.note(self.upstream.member, change)
                self._upstreams.refuse_if_down(now)

    def end(self, waiter: Waiter, now: float) -> None:
        """End the request: leave the queue, or make room at the upstream for the next request."""
        upstream, self.upstream = self.upstream, None
        if upstream is None:
            self._upstreams.leave(waiter)
        else:
            if self._well:
                self._pool.succeeded(upstream.member)
            self._pool.give_back(upstream.member)
            self._upstreams.release(now)


def removed_error() -> ServiceGone:
    """Return the error of a request whose service or upstream was removed, after
    `drain_timeout`."""
    return ServiceGone(
        "the service or its upstream was removed from the configuration, and drain_timeout is over"
    )


def _edits(service: Service, endpoint: UpstreamEndpoint) -> Edits | None:
    cookie = service.load_balancing.session_affinity and len(service.backends) > 1
    host: bytes | None = None
    origin: bytes | None = None
    if service.host_header != "preserve":
        host = service.host_for(endpoint).encode()
    if service.origin == "upstream":
        origin = f"{'https' if endpoint.secured else 'http'}://{endpoint.authority}".encode()
    return Edits(host=host, origin=origin, cookie=cookie) if host or origin or cookie else None
