"""Latencies in a HdrHistogram: three significant digits, from a microsecond to a minute."""

from dataclasses import dataclass
from typing import Final

from hdrh.histogram import HdrHistogram

_LEAST_US: Final = 1
_MOST_US: Final = 60_000_000
_DIGITS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Percentiles in milliseconds."""

    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0


def percentiles(seconds: list[float]) -> Percentiles:
    """Return the percentiles of latencies.

    The histogram is filled after the measurement, because that takes time.
    """
    if not seconds:
        return Percentiles()
    histogram = HdrHistogram(_LEAST_US, _MOST_US, _DIGITS)
    for taken in seconds:
        histogram.record_value(min(max(_LEAST_US, round(taken * 1e6)), _MOST_US))
    return Percentiles(
        p50=histogram.get_value_at_percentile(50) / 1e3,
        p99=histogram.get_value_at_percentile(99) / 1e3,
        worst=histogram.get_max_value() / 1e3,
    )
