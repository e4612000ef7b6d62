"""Active health checks of one upstream: time of the next probe, and the result so far."""

import math
import random
from collections.abc import Iterable
from typing import Final

from zerotrust.model.upstream import HealthCheck

JITTER: Final = 0.1
"""Each interval varies by this part, so that the probes of many services do not run in step."""

MAX_FIRST_DELAY: Final = 2.0
"""Maximum seconds until the first probe."""

MIN_INTERVAL: Final = 0.1
"""Minimum seconds between two probes."""


class Probes:
    """Active health of an upstream, and the time of its next probe.

    The upstream becomes unhealthy after `unhealthy_threshold` consecutive failed probes, and
    healthy again after `healthy_threshold` consecutive successful ones. It starts healthy, so that
    a restart or a reload takes no upstream out of use.

    All times are monotonic seconds of the caller.
    """

    __slots__ = ("_check", "_rng", "_run", "due_at", "healthy")

    def __init__(self, check: HealthCheck, rng: random.Random, now: float) -> None:
        self._check = check
        self._rng = rng
        self._run = 0
        self.healthy = True
        self.due_at = now + rng.uniform(0, min(check.interval, MAX_FIRST_DELAY))

    def started(self) -> None:
        """Note that a probe is running. The next one is due after its result."""
        self.due_at = math.inf

    def result(self, ok: bool, now: float) -> bool:
        """Add the result of a probe. Return True if the health has changed."""
        interval = max(self._check.interval, MIN_INTERVAL)
        self.due_at = now + interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
        if ok is self.healthy:
            self._run = 0
            return False
        self._run += 1
        if self._run < (
            self._check.unhealthy_threshold if self.healthy else self._check.healthy_threshold
        ):
            return False
        self.healthy = ok
        self._run = 0
        return True


def is_expected(status: int, ranges: Iterable[tuple[int, int]]) -> bool:
    """Return True if the status is in one of the ranges of `expected_status`."""
    return any(low <= status <= high for low, high in ranges)
