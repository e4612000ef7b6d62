"""Rate limiter by key: the generic cell rate algorithm (ITU-T I.371).

For each key it stores the time at which the next request would arrive if requests came exactly at
the rate. A request may be early by as much as the burst allows. The result equals a token bucket
without refilling.

A key that was not used while 65,536 others were is forgotten and starts anew.
"""

import math
from typing import Final

from zerotrust.limits.ttl_cache import TtlCache

MAX_KEYS: Final = 65536
_INEXACT: Final = 1e-9


class Pace:
    """Allows `rate` units per second, and at most `burst` at once: the algorithm for a single key.

    Args:
        burst: units.
    """

    __slots__ = ("_expected", "_interval", "_tolerance")

    def __init__(self, rate: float, burst: float) -> None:
        self._interval = 1 / rate
        self._tolerance = burst / rate
        self._expected = 0.0

    def take(self, count: float, now: float) -> bool:
        """Count these units; return False if they are too many. They are counted even then."""
        self._expected = max(self._expected, now) + count * self._interval
        return self._expected - now <= self._tolerance + _INEXACT


class CellRate:
    """Allows `count` requests per `seconds` for each key, and at most `burst` at once.

    The default of `burst` is `count`.

    Attributes:
        expected: arrival time of each key's next request at the rate, by the caller's clock.
    """

    __slots__ = ("expected", "interval", "tolerance")

    def __init__(self, count: int, seconds: float, burst: int | None = None) -> None:
        self.interval = seconds / count
        """Seconds between two requests at the rate."""
        self.tolerance = self.interval * (burst or count)
        """Seconds by which the request after this one may be early."""
        self.expected: TtlCache[float] = TtlCache(MAX_KEYS)

    def take(self, key: bytes, now: float) -> float:
        """Return the seconds by which the request after this one would be early.

        The request is counted only if it is allowed.
        """
        expected = self.expected.get(key, now) or now
        following = expected + self.interval
        early = following - now
        if early <= self.tolerance + _INEXACT:
            self.expected.put(key, following, until=following)
        return early

    def wait(self, early: float) -> int:
        """Return the whole seconds until the next try; 0 if the request is allowed."""
        return max(1, math.ceil(early - self.tolerance)) if early > self.tolerance + _INEXACT else 0

    def left(self, early: float) -> int:
        """Return the number of further requests that are allowed at once."""
        return int((self.tolerance - early + _INEXACT) / self.interval)
