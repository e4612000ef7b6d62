"""The upstreams of one service: which of them a request goes to, who waits for one, and what becomes of their health.

A service with one upstream of which nothing is asked has nothing to decide: `Upstreams.only`.
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

_log = logs.logger("upstreams")

MAX_ATTEMPTS: Final = 3
"""Upstreams that one request is sent to at most."""


class Waiter(Protocol):
    """A request that waits for an upstream."""

    def resume(self) -> None:
        """There is room: take it."""

    def refused(self, error: ForwardError) -> None:
        """It has waited for too long."""


class UpstreamHandle:
    """One upstream with the connections to it.

    Attributes:
        edits: what it sees differently; None where that is nothing.
        check: how it is probed; None where it is not.
        ends_at: when what it still has to do is ended; infinity while the agent's file has it.
        host: the Host of its probes.
    """

    __slots__ = ("check", "edits", "endpoint", "ends_at", "host", "member", "pool")

    def __init__(self, member: PooledUpstream, pool: BackendPool, service: Service, configured: Upstream) -> None:
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
        """Its address as the file has it."""
        return self.member.key


class Upstreams:
    """All upstreams of a service. Whoever replaces the service calls `close`; requests under way end where they are.

    Args:
        service: its health checks with all defaults applied.
        pools: the connections to each of `service.backends`.
        secret: for the cookies of session affinity; 32 random bytes that a restart does not change.
        now: the loop's time, as in all methods.
    """

    __slots__ = ("_affinity", "_by_address", "_of", "_pool", "_queue", "_service", "all", "only")

    def __init__(
        self, service: Service, pools: list[BackendPool], *, secret: bytes, rng: random.Random, now: float
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
            for member, pool, configured in zip(self._pool.members, pools, service.backends, strict=True)
        ]
        self._of = {upstream.member: upstream for upstream in self.all}
        first = service.backends[0]
        decides = first.max_connections or first.health_check or options.max_connections
        alone = len(self.all) == 1 and not decides and not options.health_check_required
        self.only = self.all[0] if alone else None

    # ---- requests

    @property
    def waiting(self) -> int:
        """Requests that wait for an upstream."""
        return len(self._queue)

    def admit(self, waiter: Waiter, selection: "UpstreamSelection", now: float) -> UpstreamHandle | None:
        """The upstream for a new request; None where it waits, and is resumed or refused later.

        Raises:
            ForwardError: no upstream is in use, or the queue is full.
        """
        if not len(self._queue) and (upstream := selection.take(now)) is not None:
            return upstream
        if not self._pool.up(now):
            raise self._down(now)
        if not self._queue.enter(waiter, now):
            raise self.busy("all connections are taken and the queue is full")
        return None

    def busy(self, reason: str) -> UpstreamsBusy:
        """The error of a request that finds no place or waits in vain."""
        return UpstreamsBusy(reason, retry_after=self._queue.retry_after)

    def _down(self, now: float) -> UpstreamsDown:
        return UpstreamsDown("no upstream of the service is well", retry_after=self._pool.retry_after(now))

    def refuse_if_down(self, now: float) -> None:
        """Where no upstream is in use any more, there is nothing to wait for."""
        if len(self._queue) and not self._pool.up(now):
            for waiter in self._queue.expired(math.inf):
                waiter.refused(self._down(now))

    def leave(self, waiter: Waiter) -> None:
        """The request waits no more."""
        self._queue.leave(waiter)

    def release(self, now: float) -> None:
        """Go on with those that wait, as far as there is room."""
        while len(self._queue) and self._pool.has_room(now):
            waiter = self._queue.release()
            if waiter is not None:
                waiter.resume()

    # ---- health

    def due(self, now: float) -> list[UpstreamHandle]:
        """The upstreams to probe now; `probed` must follow for each."""
        return [self._of[member] for member in self._pool.probes_due(now)]

    def probed(self, upstream: UpstreamHandle, failure: str, now: float) -> None:
        """Take the result of a probe; `failure` is empty where it went well."""
        change = self._pool.probed(upstream.member, not failure, now)
        if change is not None:
            self.note(upstream.member, change, failure)
            self.refuse_if_down(now)
            self.release(now)

    def sweep(self, now: float) -> None:
        """Close what has been idle, refuse who has waited, bring back who has been left out; about every second."""
        for upstream in self.all:
            upstream.pool.sweep(now)
        for member, change in self._pool.sweep(now):
            self.note(member, change)
        if len(self._queue):
            if all(now >= upstream.ends_at for upstream in self.all):
                for waiter in self._queue.expired(math.inf):
                    waiter.refused(gone())
            self.refuse_if_down(now)
            for waiter in self._queue.expired(now):
                waiter.refused(self.busy("all connections are taken, and none became free in time"))
            self.release(now)

    def note(self, member: PooledUpstream, change: Change, detail: str = "") -> None:
        """Log a change of health."""
        log = _log.info if change.after is HealthState.HEALTHY else _log.warning
        log(
            "upstream changed",
            service=self._service,
            upstream=member.key,
            before=change.before.value,
            after=change.after.value,
            reason=f"{change.reason}: {detail}" if detail else change.reason,
        )

    # ---- the end

    def inherit(self, former: "Upstreams", *, same_tls: bool) -> None:
        """Take the place of the service's former upstreams: with what runs there, and what is known of their health.

        Args:
            same_tls: they are spoken to as before; else what is known of them may be out of date.
        """
        before = {upstream.endpoint: upstream.member for upstream in former.all}
        same = [(upstream.member, before[upstream.endpoint]) for upstream in self.all if upstream.endpoint in before]
        self._pool.inherit(former._pool, same, health=same_tls)

    def drain(self, staying: AbstractSet[UpstreamEndpoint], ends_at: float) -> None:
        """End what runs at upstreams that are not `staying` at `ends_at`, if not earlier; let the others be."""
        for upstream in self.all:
            upstream.ends_at = math.inf if upstream.endpoint in staying else min(upstream.ends_at, ends_at)

    def close(self) -> None:
        """Close idle connections; those in use end with their requests."""
        for upstream in self.all:
            upstream.pool.close()


class UpstreamSelection:
    """Where one request goes, from the first upstream that it is sent to until its end."""

    __slots__ = ("_client", "_pool", "_preferred", "_renew", "_secure", "_tried", "_upstreams", "_well", "upstream")

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
        """The upstream to send it to; None where none of those that are left has room."""
        member = self._pool.take(self._client, now, preferred=self._preferred, tried=self._tried)
        if member is not None:
            self.upstream = self._upstreams._of[member]
        return self.upstream

    def move(self, failure: Failure, now: float) -> UpstreamHandle | None:
        """The upstream failed and nothing of the request is spent: another one, or None where there is no more."""
        self.failed(failure, now)
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            self._tried.append(upstream.member)
            self._pool.give_back(upstream.member)
        moved = self.take(now) if len(self._tried) < MAX_ATTEMPTS else None
        self._upstreams.release(now)
        return moved

    def answered(self, status: int, now: float) -> bytes:
        """The upstream answers; the lines that the head of its answer gets from us.

        It has succeeded when the answer has ended, for it may still break off; an upgraded connection, which may last
        for days, with its head.
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
        """The upstream failed the request."""
        self._well = False
        if self.upstream is not None:
            change = self._pool.failed(self.upstream.member, failure, now)
            if change is not None:
                self._upstreams.note(self.upstream.member, change)
                self._upstreams.refuse_if_down(now)

    def end(self, waiter: Waiter, now: float) -> None:
        """The request has ended: the next one may begin."""
        upstream, self.upstream = self.upstream, None
        if upstream is None:
            self._upstreams.leave(waiter)
        else:
            if self._well:
                self._pool.succeeded(upstream.member)
            self._pool.give_back(upstream.member)
            self._upstreams.release(now)


def gone() -> ServiceGone:
    """The error of a request whose service or upstream has been taken away, and its time to end is over."""
    return ServiceGone("it was taken out of the configuration, and drain_timeout is over")


def _edits(service: Service, endpoint: UpstreamEndpoint) -> Edits | None:
    cookie = service.load_balancing.session_affinity and len(service.backends) > 1
    host: bytes | None = None
    origin: bytes | None = None
    if service.host_header != "preserve":
        host = service.host_for(endpoint).encode()
    if service.origin == "upstream":
        origin = f"{'https' if endpoint.secured else 'http'}://{endpoint.authority}".encode()
    return Edits(host=host, origin=origin, cookie=cookie) if host or origin or cookie else None
