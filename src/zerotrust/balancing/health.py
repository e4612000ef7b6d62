"""Health of one upstream: results of probes and of requests, and slow start.

An upstream is *unhealthy* while its active checks fail, *ejected* for a while after a series of
failed requests, and *healthy* otherwise. With slow start, a recovered upstream starts with a tenth
of its weight, which grows linearly to all of it (as in Envoy).

`balancing.upstream_pool` chooses which upstreams are used, because it knows all of them.
"""

import math
import random
from enum import Enum
from typing import Final, NamedTuple

from zerotrust.balancing.active_health import Probes
from zerotrust.balancing.passive_health import Failure, Outlier
from zerotrust.model.upstream import HealthCheck, OutlierDetection

COLDEST: Final = 0.1
"""Part of the weight at the beginning of slow start. With none, an upstream would never get
requests."""


class HealthState(Enum):
    """Health of an upstream, for logs and status."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    EJECTED = "ejected"


class Change(NamedTuple):
    """A change of the state; `reason` is a few words for the log."""

    before: HealthState
    after: HealthState
    reason: str


class UpstreamHealth:
    """Health of one upstream. All times are monotonic seconds of the caller.

    Args:
        check: active health check; None for no probes.
        slow_start: seconds until a recovered upstream gets its whole weight.
        rng: source for the jitter of the probes.

    Attributes:
        state: the result.
        reason: of its last change, for people; set by those who know the details.
    """

    __slots__ = (
        "_made_from",
        "_outlier",
        "_probes",
        "_recovered_at",
        "_slow_start",
        "reason",
        "state",
    )

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
        self.reason = ""

    def has_same_checks(self, other: "UpstreamHealth") -> bool:
        """Return True if both have the same settings."""
        return self._made_from == other._made_from

    def usable(self, now: float) -> bool:
        """Return True if neither probes nor requests fail."""
        return not self.badness(now)

    def badness(self, now: float) -> int:
        """Return 0 to 2: one for failing probes, one for failing requests."""
        return self._outlier.ejected(now) + (not self._answers_probes)

    def weight_factor(self, now: float) -> float:
        """Return the part of the weight that counts now: from `COLDEST` to 1."""
        warm_for = now - max(self._recovered_at, self._outlier.ejected_until)
        if warm_for >= self._slow_start or not self._slow_start:
            return 1.0
        return max(COLDEST, warm_for / self._slow_start)

    def usable_at(self, now: float) -> float:
        """Return the earliest time at which the upstream may be usable again."""
        at = max(now, self._outlier.ejected_until)
        if self._answers_probes or self.probe_at == math.inf:
            return at
        return max(at, self.probe_at)

    @property
    def ejected_until(self) -> float:
        """Return the end of the last ejection; minus infinity if there was none."""
        return self._outlier.ejected_until

    # ---- requests

    def succeeded(self) -> None:
        """Note a response with a status below 500."""
        self._outlier.succeeded()

    def failed(self, failure: Failure) -> bool:
        """Note a failed request. Return True if the upstream should be ejected."""
        return self._outlier.failed(failure)

    def eject(self, failure: Failure, now: float) -> Change | None:
        """Eject the upstream for a while, after this failure."""
        self._outlier.eject(now)
        return self._settle(
            now,
            f"requests failed ({failure.value}): ejected for"
            f" {self._outlier.ejected_until - now:g} s",
        )

    def settle(self, now: float) -> Change | None:
        """Return the change that time has caused: the end of an ejection."""
        return self._settle(now, "the ejection is over")

    # ---- probes

    @property
    def probe_at(self) -> float:
        """Return the time of the next probe; infinity while one is running, and without probes."""
        return self._probes.due_at if self._probes is not None else math.inf

    def probe_due(self, now: float) -> bool:
        """Return True if a probe is due. Then start it and call `probe_started`."""
        return now >= self.probe_at

    def probe_started(self) -> None:
        """Note that a probe is running. `probed` must follow in any case."""
        if self._probes is not None:
            self._probes.started()

    def probed(self, ok: bool, now: float) -> Change | None:
        """Add the result of a probe."""
        if self._probes is None or not self._probes.result(ok, now):
            return None
        if ok:
            self._recovered_at = now
        return self._settle(now, "health checks succeed again" if ok else "health checks fail")

    # ---- internal

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
