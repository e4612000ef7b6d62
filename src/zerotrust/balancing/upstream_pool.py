"""Upstream pool of one service: selects the upstream for each request.

The pool uses the upstreams with the lowest `UpstreamHealth.badness`: all of them while all are
healthy, and the least bad ones if none is. If a healthy upstream is required, it then uses none.

An ejection must not make things worse: the share of ejected upstreams is limited, and at least one
stays. If a healthy upstream is required, 503 is better than a bad upstream, so connection failures
may eject all of them. A series of 5xx responses may not, because a client can provoke it.
"""

import math
import random
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from zerotrust.balancing.balance import ActiveRequests, Candidate, make_balancer
from zerotrust.balancing.health import Change, UpstreamHealth
from zerotrust.balancing.passive_health import Failure
from zerotrust.model.upstream import LoadBalancing, Upstream

MAX_RETRY_AFTER: Final = 60


class PooledUpstream(Candidate):
    """An upstream in a pool."""

    __slots__ = ("health",)

    def __init__(self, upstream: Upstream, health: UpstreamHealth) -> None:
        super().__init__(
            upstream.address, weight=upstream.weight, max_connections=upstream.max_connections
        )
        self.health = health


class UpstreamPool:
    """Pool that places the requests of a service. All times are monotonic seconds of the caller.

    For each request, call `take`, then `succeeded` or `failed` when its outcome is known, and
    `give_back` at its end. About every second, call `sweep` and `probes_due`.

    Args:
        upstreams: in the order of the file, with the defaults of health checks applied. Without
            any, no request can be placed.

    Attributes:
        load: requests in progress at all upstreams.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        options: LoadBalancing,
        *,
        rng: random.Random,
        now: float,
    ) -> None:
        self.members = tuple(
            PooledUpstream(
                upstream,
                UpstreamHealth(
                    check=upstream.health_check,
                    outlier=options.outlier_detection,
                    slow_start=options.slow_start,
                    rng=rng,
                    now=now,
                ),
            )
            for upstream in upstreams
        )
        self.load = ActiveRequests()
        self._balancer = make_balancer(options.policy, rng)
        self._required = options.health_check_required
        self._max_connections = options.max_connections or sys.maxsize
        percent = options.outlier_detection.max_ejection_percent
        self._max_out = min(math.ceil(len(self.members) * percent / 100), len(self.members) - 1)
        self._used: list[PooledUpstream] = []
        self._used_until = -math.inf

    def inherit(
        self,
        former: "UpstreamPool",
        members: Iterable[tuple[PooledUpstream, PooledUpstream]],
        *,
        health: bool,
    ) -> None:
        """Take over the running requests and the health of a replaced pool.

        Args:
            members: members of this pool, each with the same backend's member in `former`.
            health: take over the health too, if the checks are the same.
        """
        self.load = former.load
        for member, before in members:
            member.load = before.load
            if health and member.health.has_same_checks(before.health):
                member.health = before.health
        self._used_until = -math.inf

    # ---- requests

    def take(
        self,
        client: bytes,
        now: float,
        *,
        preferred: str | None = None,
        tried: Collection[PooledUpstream] = (),
    ) -> PooledUpstream | None:
        """Place a request and return its upstream.

        Return None if no upstream is used now (see `up`) or all have reached their limit.

        Args:
            client: address of the client, as text.
            preferred: address of the upstream in the affinity cookie. It is chosen even if its
                weight is 0, but not if it is not used now or is full.
            tried: members that have already failed this request.
        """
        if self.load.active >= self._max_connections:
            return None
        used = self._in_use(now)
        if tried:
            used = [member for member in used if member not in tried]
        chosen = self._preferred(used, preferred) if preferred is not None else None
        if chosen is None:
            chosen = self._balancer.pick(used, client)
        if chosen is not None:
            chosen.load.active += 1
            self.load.active += 1
        return chosen

    def give_back(self, member: PooledUpstream) -> None:
        """Note the end of a placed request."""
        member.load.active -= 1
        self.load.active -= 1

    def succeeded(self, member: PooledUpstream) -> None:
        """Note a response with a status below 500."""
        member.health.succeeded()

    def failed(self, member: PooledUpstream, failure: Failure, now: float) -> Change | None:
        """Note a failed request. Return the change if the upstream is ejected."""
        if not member.health.failed(failure) or not self._may_eject(member, failure, now):
            return None
        self._used_until = -math.inf
        return member.health.eject(failure, now)

    def up(self, now: float) -> bool:
        """Return True if any upstream is used now. It may be full."""
        return bool(self._in_use(now))

    def has_room(self, now: float) -> bool:
        """Return True if a request can be placed now."""
        return self.load.active < self._max_connections and any(
            member.load.active < member.max_connections for member in self._in_use(now)
        )

    def retry_after(self, now: float) -> int:
        """Return the whole seconds for `Retry-After` (RFC 9110 s10.2.3) if no upstream is used."""
        soonest = min((member.health.usable_at(now) for member in self.members), default=now)
        return math.ceil(min(max(soonest - now, 1), MAX_RETRY_AFTER))

    # ---- health

    def sweep(self, now: float) -> list[tuple[PooledUpstream, Change]]:
        """Return the changes that time has caused."""
        # The replaced pool may have changed the health that both share.
        self._used_until = -math.inf
        changes = [(member, member.health.settle(now)) for member in self.members]
        return [(member, change) for member, change in changes if change is not None]

    def probes_due(self, now: float) -> list[PooledUpstream]:
        """Return the members to probe now. `probed` must follow for each in any case."""
        due = [member for member in self.members if member.health.probe_due(now)]
        for member in due:
            member.health.probe_started()
        return due

    def probed(self, member: PooledUpstream, ok: bool, now: float) -> Change | None:
        """Add the result of a probe. Return the change, if there is one."""
        self._used_until = -math.inf
        return member.health.probed(ok, now)

    # ---- internal

    def _in_use(self, now: float) -> list[PooledUpstream]:
        if now >= self._used_until:
            self._choose(now)
        return self._used

    def _choose(self, now: float) -> None:
        """Select the upstreams in use, until the time at which that may change."""
        least = min((member.health.badness(now) for member in self.members), default=0)
        if least and self._required:
            self._used = []
        else:
            self._used = [member for member in self.members if member.health.badness(now) == least]
        self._used_until = min(
            (end for member in self.members if (end := member.health.ejected_until) > now),
            default=math.inf,
        )
        for member in self._used:
            member.scale(member.health.weight_factor(now))
            if member.factor < 1:
                self._used_until = now

    def _preferred(self, used: Sequence[PooledUpstream], address: str) -> PooledUpstream | None:
        for member in used:
            if member.key == address and member.load.active < member.max_connections:
                return member
        return None

    def _may_eject(self, member: PooledUpstream, failure: Failure, now: float) -> bool:
        if self._required and failure is not Failure.SERVER_ERROR:
            return True
        out = sum(not other.health.usable(now) for other in self.members if other is not member)
        return out < self._max_out
