"""Tests of benchmarks.workloads.registry."""

from benchmarks.metrics import at_least, at_most
from benchmarks.workloads.registry import WORKLOADS, chosen


def test_a_quick_run_has_a_few() -> None:
    quick = chosen(only="", quick=True, growth=False)
    assert 3 <= len(quick) < len(chosen(only="", quick=False, growth=False)) < len(WORKLOADS)
    assert len(chosen(only="", quick=False, growth=True)) == len(WORKLOADS)


def test_what_is_asked_for_is_measured_also_when_quick() -> None:
    assert [workload.name for workload in chosen(only="upload", quick=True, growth=False)] == [
        "Upload"
    ]
    assert chosen(only="no such workload", quick=False, growth=True) == []


def test_with_peers_only_what_compares_targets_is_measured() -> None:
    compared = chosen(only="", quick=False, growth=False, with_peers=True)
    assert compared
    assert all(workload.compares_targets for workload in compared)
    quick = chosen(only="", quick=True, growth=False, with_peers=True)
    assert 0 < len(quick) < len(compared)


def test_names_are_different() -> None:
    names = [workload.name for workload in WORKLOADS]
    assert len(set(names)) == len(names)


def test_targets_are_by_name_or_by_how_a_name_begins() -> None:
    first = WORKLOADS[0]
    assert first.threshold("requests/s") == at_least(0.75)
    assert first.threshold("CPU of the agent") == at_most(40)
    assert first.threshold("p50") is None
    (idle,) = chosen(only="idle web", quick=False, growth=False)
    assert idle.threshold("memory of the server, each of 500 more") == at_most(8)
