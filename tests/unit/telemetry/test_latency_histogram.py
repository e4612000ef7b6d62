"""Tests of the histogram of latencies, against the sorted list."""

import math

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.telemetry.latency_histogram import (
    BOUNDS,
    SMALLEST,
    STEPS,
    LatencyHistogram,
    quantiles,
)

LATENCIES = st.lists(st.floats(0, 5000, allow_nan=False), min_size=1, max_size=300)


@given(LATENCIES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_the_bound_of_the_true_ones_bucket(
    latencies: list[float], share: float
) -> None:
    histogram = LatencyHistogram()
    for seconds in latencies:
        histogram.add(seconds)
    true = sorted(latencies)[max(0, math.ceil(share * len(latencies)) - 1)]
    found = histogram.quantile(share)
    if true > BOUNDS[-1]:
        assert found == BOUNDS[-1]
    else:
        assert true <= found <= max(SMALLEST, true * 2 ** (1 / STEPS) * (1 + 1e-12))
    assert histogram.count == len(latencies)


def test_without_latencies_there_is_no_quantile() -> None:
    histogram = LatencyHistogram()
    assert math.isnan(histogram.quantile(0.5))
    histogram.add(1.0)
    histogram.clear()
    histogram.clear()
    assert math.isnan(histogram.quantile(0.5))
    assert histogram.count == 0


@given(st.lists(LATENCIES, max_size=3), st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_packed_histograms_add_up(parts: list[list[float]], share: float) -> None:
    whole, packed = LatencyHistogram(), []
    for latencies in parts:
        part = LatencyHistogram()
        for seconds in latencies:
            part.add(seconds)
            whole.add(seconds)
        packed.append(part.packed())
    (found,) = quantiles([*packed, LatencyHistogram().packed()], [share])
    assert found == whole.quantile(share) or (math.isnan(found) and not parts)
