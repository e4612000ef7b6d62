"""How often something may happen, for each of many keys.

The generic cell rate algorithm (ITU-T I.371): for each key one time is kept, at which the next request would be on time
if requests came at the rate. A request may come early by as much as a burst allows. It says the same as a token bucket
and needs no refilling.

A key that is forgotten, because 65,536 others were seen since, begins anew.
"""

import math
from typing import Final

from zerotrust.limits.ttl_cache import TtlCache

MAX_KEYS: Final = 65536
_INEXACT: Final = 1e-9


class CellRate:
    """`count` requests in `seconds` of each key; at most `burst` (`count` where none is said) at once."""

    __slots__ = ("_expected", "interval", "tolerance")

    def __init__(self, count: int, seconds: float, burst: int | None = None) -> None:
        self.interval = seconds / count
        """Seconds between two requests at the rate."""
        self.tolerance = self.interval * (burst or count)
        """So many seconds may the one after a request be early."""
        self._expected: TtlCache[float] = TtlCache(MAX_KEYS)

    def take(self, key: bytes, now: float) -> float:
        """By how many seconds the request after this one would be early; it is counted only where it may pass."""
        expected = self._expected.get(key, now) or now
        following = expected + self.interval
        early = following - now
        if early <= self.tolerance + _INEXACT:
            self._expected.put(key, following, until=following)
        return early

    def wait(self, early: float) -> int:
        """In how many whole seconds it may be asked again; 0 where the request may pass."""
        return max(1, math.ceil(early - self.tolerance)) if early > self.tolerance + _INEXACT else 0

    def left(self, early: float) -> int:
        """How many more may pass at once, where this one did."""
        return int((self.tolerance - early + _INEXACT) / self.interval)
