"""Tests of benchmarks.load.latency."""

import pytest

from benchmarks.load.latency import Percentiles, percentiles


def test_milliseconds() -> None:
    found = percentiles([number / 1e4 for number in range(1, 1001)])
    assert found.p50 == pytest.approx(50.0, rel=0.002)
    assert found.p99 == pytest.approx(99.0, rel=0.002)
    assert found.worst == pytest.approx(100.0, rel=0.002)


def test_what_is_out_of_range_is_kept_at_its_end() -> None:
    found = percentiles([0.0, 500.0])
    assert found.p50 == pytest.approx(0.001)
    assert found.worst == pytest.approx(60_000, rel=0.002)


def test_nothing() -> None:
    assert percentiles([]) == Percentiles()
