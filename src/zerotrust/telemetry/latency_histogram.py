"""Histogram of latencies with fixed buckets, for quantiles in constant memory."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from struct import Struct
from typing import Final

SMALLEST: Final = 0.0005
"""Upper bound of the first bucket, in seconds."""
STEPS: Final = 4
"""Buckets between a latency and its double: a quantile is at most 19 % above the true one."""
DOUBLINGS: Final = 21

BOUNDS: Final = tuple(SMALLEST * 2 ** (step / STEPS) for step in range(STEPS * DOUBLINGS + 1))
"""Upper bounds of the buckets, in seconds, from 0.5 ms to 17 minutes. Longer latencies are in one
more bucket, and count as the last bound."""

_PAIR: Final = Struct("!BI")
"""Number of a bucket, and number of latencies in it."""


class LatencyHistogram:
    """Numbers of latencies by bucket.

    Attributes:
        count: number of latencies.
    """

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self.count = 0
        self._buckets = array("I", bytes(4 * (len(BOUNDS) + 1)))

    def add(self, seconds: float) -> None:
        """Count a latency."""
        self.count += 1
        self._buckets[bisect_left(BOUNDS, seconds)] += 1

    def quantile(self, share: float) -> float:
        """Return the upper bound of the bucket with this quantile; NaN without any latency.

        Args:
            share: 0.99 for the 99th percentile.
        """
        if not self.count:
            return float("nan")
        wanted = share * self.count
        seen = 0
        for bound, count in zip(BOUNDS, self._buckets, strict=False):
            seen += count
            if count and seen >= wanted:
                return bound
        return BOUNDS[-1]

    def packed(self) -> bytes:
        """Return the buckets that are not empty, 5 bytes each."""
        if not self.count:
            return b""
        return b"".join(_PAIR.pack(at, count) for at, count in enumerate(self._buckets) if count)

    def clear(self) -> None:
        """Forget all latencies."""
        if self.count:
            self.count = 0
            self._buckets = array("I", bytes(4 * len(self._buckets)))


def quantiles(histograms: Iterable[bytes], shares: Iterable[float]) -> list[float]:
    """Return quantiles of packed histograms together; NaN without any latency.

    Args:
        shares: 0.99 for the 99th percentile.
    """
    buckets: dict[int, int] = {}
    for packed in histograms:
        for at, count in _PAIR.iter_unpack(packed):
            buckets[at] = buckets.get(at, 0) + count
    if not buckets:
        return [float("nan") for _ in shares]
    places, total = sorted(buckets), sum(buckets.values())
    found = []
    for share in shares:
        wanted, seen = share * total, 0
        for at in places:
            seen += buckets[at]
            if seen >= wanted:
                break
        found.append(BOUNDS[min(at, len(BOUNDS) - 1)])
    return found
