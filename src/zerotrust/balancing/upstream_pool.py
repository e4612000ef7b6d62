"""The upstreams of one service: which of them are used now, and which one gets a request.

Those with the least against them are used (`UpstreamHealth.badness`): where all is well that is all of them, where all
are down it is the least bad ones, unless health is required: then it is none.

An ejection must not make things worse: the share of upstreams that are out is bounded, and never are all of them. Where
health is required, no answer is better than a bad one, and connections that fail or break may eject all; but a run of
5xx, which a client can provoke, takes no service down.
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
    """An upstream of a group."""

    __slots__ = ("health",)

    def __init__(self, upstream: Upstream, health: UpstreamHealth) -> None:
        super().__init__(upstream.address, weight=upstream.weight, max_connections=upstream.max_connections)
        self.health = health


class UpstreamPool:
    """Places the requests of a service. All times are the caller's monotonic seconds.

    For each request: `take`, then `succeeded` or `failed` when its outcome is known, and `give_back` when it has ended.
    About every second: `sweep` and `probes_due`.

    Args:
        upstreams: at least one, in the order of the file; their health checks with all defaults applied.
    """

    def __init__(
        self, upstreams: Sequence[Upstream], options: LoadBalancing, *, rng: random.Random, now: float
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
        self._load = ActiveRequests()
        self._balancer = make_balancer(options.policy, rng)
        self._required = options.health_check_required
        self._max_connections = options.max_connections or sys.maxsize
        percent = options.outlier_detection.max_ejection_percent
        self._max_out = min(math.ceil(len(self.members) * percent / 100), len(self.members) - 1)
        self._used: list[PooledUpstream] = []
        self._used_until = -math.inf

    def inherit(
        self, former: "UpstreamPool", members: Iterable[tuple[PooledUpstream, PooledUpstream]], *, health: bool
    ) -> None:
        """Take the place of another group, whose requests go on: they count here too, and end there.

        Args:
            members: of this group, each with the one that is the same backend in `former`.
            health: what is known of these holds on, where it is found out in the same way.
        """
        self._load = former._load
        for member, before in members:
            member.load = before.load
            if health and member.health.has_same_checks(before.health):
                member.health = before.health
        self._used_until = -math.inf

    # ---- requests

    def take(
        self, client: bytes, now: float, *, preferred: str | None = None, tried: Collection[PooledUpstream] = ()
    ) -> PooledUpstream | None:
        """Place a request; None where no upstream is used now (`up` tells) or none of them has room.

        Args:
            client: the client's address, as text.
            preferred: the address of the upstream that the client's requests went to before (affinity). It keeps its
                clients where its weight is 0, and loses them where it is not used now or full.
            tried: members that have failed this request already.
        """
        if self._load.active >= self._max_connections:
            return None
        used = self._in_use(now)
        if tried:
            used = [member for member in used if member not in tried]
        chosen = self._preferred(used, preferred) if preferred is not None else None
        if chosen is None:
            chosen = self._balancer.pick(used, client)
        if chosen is not None:
            chosen.load.active += 1
            self._load.active += 1
        return chosen

    def give_back(self, member: PooledUpstream) -> None:
        """A request that was placed has ended; the next one may be taken from the queue."""
        member.load.active -= 1
        self._load.active -= 1

    def succeeded(self, member: PooledUpstream) -> None:
        """The upstream answered below 500."""
        member.health.succeeded()

    def failed(self, member: PooledUpstream, failure: Failure, now: float) -> Change | None:
        """The upstream failed a request; the change, where it is ejected for that."""
        if not member.health.failed(failure) or not self._may_eject(member, failure, now):
            return None
        self._used_until = -math.inf
        return member.health.eject(failure, now)

    def up(self, now: float) -> bool:
        """Some upstream is used now, though it may be full."""
        return bool(self._in_use(now))

    def has_room(self, now: float) -> bool:
        """A request can be placed now."""
        return self._load.active < self._max_connections and any(
            member.load.active < member.max_connections for member in self._in_use(now)
        )

    def retry_after(self, now: float) -> int:
        """Whole seconds for the Retry-After (RFC 9110 s10.2.3) of a request that finds no upstream in use."""
        soonest = min(member.health.usable_at(now) for member in self.members)
        return math.ceil(min(max(soonest - now, 1), MAX_RETRY_AFTER))

    # ---- health

    def sweep(self, now: float) -> list[tuple[PooledUpstream, Change]]:
        """The changes that time has brought."""
        # What is known of a member may have been told to the group that was here before.
        self._used_until = -math.inf
        changes = [(member, member.health.settle(now)) for member in self.members]
        return [(member, change) for member, change in changes if change is not None]

    def probes_due(self, now: float) -> list[PooledUpstream]:
        """The members to probe now; `probed` must follow for each, whatever becomes of it."""
        due = [member for member in self.members if member.health.probe_due(now)]
        for member in due:
            member.health.probe_started()
        return due

    def probed(self, member: PooledUpstream, ok: bool, now: float) -> Change | None:
        """Take the result of a probe; the change, where there is one."""
        self._used_until = -math.inf
        return member.health.probed(ok, now)

    # ---- inside

    def _in_use(self, now: float) -> list[PooledUpstream]:
        if now >= self._used_until:
            self._choose(now)
        return self._used

    def _choose(self, now: float) -> None:
        """Settle who is used, until time alone can change it."""
        least = min(member.health.badness(now) for member in self.members)
        if least and self._required:
            self._used = []
        else:
            self._used = [member for member in self.members if member.health.badness(now) == least]
        self._used_until = min(
            (end for member in self.members if (end := member.health.ejected_until) > now), default=math.inf
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
