"""Whether one upstream is well: what its probes say, what its requests say, and how warm it is.

It is *unhealthy* while its active checks fail, *ejected* for a while after a run of failed requests, and *healthy*
otherwise. One that has come back from either gets its share of the requests little by little where there is a slow
start: from a tenth of it to all of it, in proportion to the time since (as Envoy's slow start does).

Which upstreams are used is for the group to say (`balancing.upstream_pool`): it knows the others.
"""

import math
import random
from enum import Enum
from typing import Final, NamedTuple

from zerotrust.balancing.active_health import Probes
from zerotrust.balancing.passive_health import Failure, Outlier
from zerotrust.model.upstream import HealthCheck, OutlierDetection

COLDEST: Final = 0.1
"""The part of its weight with which slow start begins: with none an upstream would never become warm."""


class HealthState(Enum):
    """What is known of an upstream, for logs and for people."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    EJECTED = "ejected"


class Change(NamedTuple):
    """An upstream has gone from one state to another; `reason` is a few words for the log."""

    before: HealthState
    after: HealthState
    reason: str


class UpstreamHealth:
    """The health of one upstream. All times are the caller's monotonic seconds.

    Args:
        check: None: it is never probed.
        slow_start: seconds until one that has come back gets its whole share.
        rng: for the jitter of the probes.
    """

    __slots__ = ("_made_from", "_outlier", "_probes", "_recovered_at", "_slow_start", "state")

    def __init__(
        self,
        *,
        check: HealthCheck | None,
        outlier: OutlierDetection,
        slow_start: float,
        rng: random.Random,
        now: float,
    ) -> None:
        self._made_from = (check, outlier, slow_start)
        self._probes = Probes(check, rng, now) if check is not None else None
        self._outlier = Outlier(outlier)
        self._slow_start = slow_start
        self._recovered_at = -math.inf
        self.state = HealthState.HEALTHY

    def has_same_checks(self, other: "UpstreamHealth") -> bool:
        """The same is asked of both."""
        return self._made_from == other._made_from

    def usable(self, now: float) -> bool:
        """Nothing speaks against it."""
        return not self.badness(now)

    def badness(self, now: float) -> int:
        """How many of the two things, probes and requests, speak against it."""
        return self._outlier.ejected(now) + (not self._answers_probes)

    def weight_factor(self, now: float) -> float:
        """The part of its weight that it has now: from `COLDEST` to 1."""
        warm_for = now - max(self._recovered_at, self._outlier.ejected_until)
        if warm_for >= self._slow_start or not self._slow_start:
            return 1.0
        return max(COLDEST, warm_for / self._slow_start)

    def usable_at(self, now: float) -> float:
        """When it may be usable again, at the earliest."""
        at = max(now, self._outlier.ejected_until)
        if self._answers_probes or self.probe_at == math.inf:
            return at
        return max(at, self.probe_at)

    @property
    def ejected_until(self) -> float:
        """When its last ejection ends or ended; minus infinity where there was none."""
        return self._outlier.ejected_until

    # ---- requests

    def succeeded(self) -> None:
        """A request got an answer below 500."""
        self._outlier.succeeded()

    def failed(self, failure: Failure) -> bool:
        """A request failed; True where it is to be ejected, if the group can do without it."""
        return self._outlier.failed(failure)

    def eject(self, failure: Failure, now: float) -> Change | None:
        """Leave it out for a while, after this failure."""
        self._outlier.eject(now)
        return self._settle(
            now, f"requests fail ({failure.value}): left out for {self._outlier.ejected_until - now:g} s"
        )

    def settle(self, now: float) -> Change | None:
        """The change that time has brought: the end of an ejection."""
        return self._settle(now, "the time for which it was left out is over")

    # ---- probes

    @property
    def probe_at(self) -> float:
        """When the next probe is due; infinity while one is under way, and where there are none."""
        return self._probes.due_at if self._probes is not None else math.inf

    def probe_due(self, now: float) -> bool:
        """Start a probe now, and say so with `probe_started`."""
        return now >= self.probe_at

    def probe_started(self) -> None:
        """A probe is under way; `probed` must follow, whatever becomes of it."""
        if self._probes is not None:
            self._probes.started()

    def probed(self, ok: bool, now: float) -> Change | None:
        """Take the result of a probe."""
        if self._probes is None or not self._probes.result(ok, now):
            return None
        if ok:
            self._recovered_at = now
        return self._settle(now, "the health check succeeds again" if ok else "the health check fails")

    # ---- inside

    @property
    def _answers_probes(self) -> bool:
        return self._probes is None or self._probes.healthy

    def _settle(self, now: float, reason: str) -> Change | None:
        before = self.state
        if not self._answers_probes:
            self.state = HealthState.UNHEALTHY
        elif self._outlier.ejected(now):
            self.state = HealthState.EJECTED
        else:
            self.state = HealthState.HEALTHY
        return Change(before, self.state, reason) if self.state is not before else None
