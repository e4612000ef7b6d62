"""Tests of benchmarks.regression."""

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.metrics import Metric, alone, compare
from benchmarks.regression import better_of, load
from zerotrust.errors import BenchError


def rate(ratio: float, workload: str = "GET") -> Metric:
    return compare(workload, "requests/s", "/s", ours=[ratio * 1000], baseline=[1000.0])


def latency(ratio: float) -> Metric:
    return compare("GET", "p99", "ms", ours=[ratio], baseline=[1.0], higher_is_better=False)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    metrics = [
        rate(0.70),
        rate(0.50, "Echo"),
        latency(2.0),
        alone("GET", "CPU of the server", "µs", [40.0]),
    ]
    found = report.document(metrics, settings={"quick": True}, machine={})
    return report.write(tmp_path, "baseline.json", report.encode(found))


def test_a_ratio_that_fell_by_more_than_a_tenth_is_named(earlier: Path) -> None:
    regressions = load(earlier).regressions([rate(0.62), rate(0.46, "Echo")])
    assert [str(regressed) for regressed in regressions] == [
        "GET, requests/s: the ratio fell from 0.70 to 0.62 (11 %)"
    ]


def test_what_is_tolerated(earlier: Path) -> None:
    unchanged = [
        rate(0.64),
        rate(0.9, "Echo"),
        latency(9.0),
        alone("GET", "CPU of the server", "µs", [90.0]),
    ]
    assert load(earlier).regressions(unchanged) == []
    assert load(earlier).regressions([rate(0.01, "a workload that the earlier run had not")]) == []


def test_another_tolerance(earlier: Path) -> None:
    assert not load(earlier).regressions([rate(0.43)], 0.4)
    assert len(load(earlier).regressions([rate(0.41)], 0.4)) == 1


def test_nothing_in_common(earlier: Path) -> None:
    assert load(earlier).shares([rate(0.1)])
    assert not load(earlier).shares([rate(0.1, "Upload")])


def test_a_fall_counts_if_it_is_seen_twice(earlier: Path) -> None:
    found = better_of([rate(0.3), latency(1.0)], [latency(0.5), rate(0.69)])
    assert [metric.ratio and metric.ratio.median for metric in found] == [0.69, 1.0]
    assert load(earlier).regressions(better_of([rate(0.3)], [rate(0.4)]))
    assert better_of([rate(0.3)], []) == [rate(0.3)]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"settings": {}, "workloads": []}', '{"settings": {"quick": 1}}']
)
def test_a_file_that_is_none_of_ours(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(BenchError, match="not the results of a run"):
        load(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="No such file"):
        load(tmp_path / "x.json")
