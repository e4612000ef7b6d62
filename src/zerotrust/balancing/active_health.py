"""Active health checks of one upstream: when it is probed, and what the results say."""

import math
import random
from collections.abc import Iterable
from typing import Final

from zerotrust.model.upstream import HealthCheck

JITTER: Final = 0.1
"""Each interval is up to this part shorter or longer, so that the probes of many services do not stay in step."""

FIRST_WITHIN: Final = 2.0
MIN_INTERVAL: Final = 0.1


class Probes:
    """The verdict on an upstream, and the time of its next probe.

    It changes when `unhealthy_threshold` results in a row speak against the upstream, or `healthy_threshold` for it. It
    begins as healthy: a restart or a reload takes nobody out of use.

    All times are the caller's monotonic seconds.
    """

    __slots__ = ("_check", "_rng", "_run", "due_at", "healthy")

    def __init__(self, check: HealthCheck, rng: random.Random, now: float) -> None:
        self._check = check
        self._rng = rng
        self._run = 0
        self.healthy = True
        self.due_at = now + rng.uniform(0, min(check.interval, FIRST_WITHIN))

    def started(self) -> None:
        """A probe is under way: none is due until its result is there."""
        self.due_at = math.inf

    def result(self, ok: bool, now: float) -> bool:
        """Take the result of a probe; True where the upstream has changed sides."""
        interval = max(self._check.interval, MIN_INTERVAL)
        self.due_at = now + interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
        if ok is self.healthy:
            self._run = 0
            return False
        self._run += 1
        if self._run < (self._check.unhealthy_threshold if self.healthy else self._check.healthy_threshold):
            return False
        self.healthy = ok
        self._run = 0
        return True


def is_expected(status: int, ranges: Iterable[tuple[int, int]]) -> bool:
    """True where an answer with this status is what `expected_status` asks for."""
    return any(low <= status <= high for low, high in ranges)
