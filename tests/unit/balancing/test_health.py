"""Tests of zerotrust.balancing.health."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.balancing.health import COLDEST, HealthState, UpstreamHealth
from zerotrust.balancing.passive_health import Failure
from zerotrust.model.upstream import HealthCheck, OutlierDetection

HEALTHY, UNHEALTHY, EJECTED = HealthState.HEALTHY, HealthState.UNHEALTHY, HealthState.EJECTED


def make(
    *, check: HealthCheck | None = None, slow_start: float = 0.0, ejection: float = 10.0
) -> UpstreamHealth:
    return UpstreamHealth(
        check=check,
        outlier=OutlierDetection(base_ejection_time=ejection),
        slow_start=slow_start,
        rng=random.Random(0),
        now=0.0,
    )


def probed() -> HealthCheck:
    return HealthCheck(unhealthy_threshold=1, healthy_threshold=1)


def test_without_a_health_check_no_probe_is_due() -> None:
    health = make()
    assert health.probe_at == math.inf
    assert not health.probe_due(1e12)
    health.probe_started()
    assert health.probed(False, 0.0) is None
    assert health.usable(0.0)


def test_one_probe_at_a_time() -> None:
    health = make(check=probed())
    assert not health.probe_due(health.probe_at - 0.001)
    assert health.probe_due(health.probe_at)
    health.probe_started()
    assert not health.probe_due(1e12)
    health.probed(True, 5.0)
    assert health.probe_due(50.0)


def test_a_change_is_returned_once() -> None:
    health = make(check=HealthCheck(unhealthy_threshold=2, healthy_threshold=2))
    result = [
        health.probed(ok, 1.0) for ok in (True, False, False, False, True, False, True, True, True)
    ]
    assert [change and (change.before, change.after) for change in result] == [
        *[None, None, (HEALTHY, UNHEALTHY), None],
        *[None, None, None, (UNHEALTHY, HEALTHY), None],
    ]


def test_an_ejection_begins_and_ends() -> None:
    health = make()
    change = health.eject(Failure.CONNECT, 100.0)
    assert change is not None
    assert (change.before, change.after) == (HEALTHY, EJECTED)
    assert change.reason == "requests failed (connection failed): ejected for 10 s"
    assert health.eject(Failure.CONNECT, 101.0) is None
    assert not health.usable(109.9)
    assert health.settle(109.9) is None
    assert health.usable(110.0)
    change = health.settle(110.0)
    assert change is not None
    assert (change.before, change.after) == (EJECTED, HEALTHY)
    assert health.settle(111.0) is None


def test_an_ejection_of_no_time_is_no_change() -> None:
    assert make(ejection=0).eject(Failure.RESET, 1.0) is None


def test_an_upstream_recovers_from_failed_probes_and_an_ejection() -> None:
    health = make(check=probed())
    health.eject(Failure.RESET, 0.0)
    assert health.badness(0.0) == 1
    change = health.probed(False, 1.0)
    assert change is not None
    assert change.after is UNHEALTHY
    assert health.badness(1.0) == 2
    change = health.probed(True, 2.0)
    assert change is not None
    assert (change.before, change.after) == (UNHEALTHY, EJECTED)
    assert health.badness(2.0) == 1
    health.probed(False, 3.0)
    assert health.settle(10.0) is None  # the ejection ends while its probes fail
    assert health.badness(10.0) == 1


def test_usable_at_is_the_earliest_recovery() -> None:
    health = make(check=probed())
    assert health.usable_at(7.0) == 7.0
    health.eject(Failure.RESET, 7.0)
    assert health.usable_at(8.0) == 17.0
    health.probed(False, 8.0)
    assert health.usable_at(8.0) == health.probe_at > 17.0
    health.probe_started()
    assert health.usable_at(8.0) == 17.0
    assert health.usable_at(20.0) == 20.0


def test_only_a_success_ends_a_series_of_failures() -> None:
    health = make()
    runs = [health.failed(Failure.CONNECT), health.failed(Failure.CONNECT)]
    health.succeeded()
    runs += [health.failed(Failure.CONNECT) for _ in range(3)]
    assert runs == [False, False, False, False, True]


# ---- slow start


def test_slow_start_does_not_apply_at_program_start() -> None:
    assert make(slow_start=60).weight_factor(0.0) == 1.0


def test_without_slow_start_the_whole_weight_counts_at_once() -> None:
    health = make()
    health.eject(Failure.RESET, 0.0)
    assert [health.weight_factor(now) for now in (0.0, 5.0, 10.0)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("ejected", [True, False])
def test_the_weight_grows_after_recovery(ejected: bool) -> None:
    health = make(check=probed(), slow_start=20)
    if ejected:
        health.eject(Failure.RESET, 90.0)
    else:
        health.probed(False, 90.0)
        health.probed(True, 100.0)
    factors = [health.weight_factor(now) for now in (100.0, 101.0, 105.0, 110.0, 119.0, 120.0, 1e9)]
    assert factors == [COLDEST, COLDEST, 0.25, 0.5, 0.95, 1.0, 1.0]


@given(
    st.lists(
        st.tuples(st.sampled_from(["ok", "down", "eject", "wait"]), st.floats(0, 30)), max_size=30
    ),
    st.floats(0, 100),
)
def test_any_sequence_of_events_keeps_the_state_consistent(
    events: list[tuple[str, float]], slow_start: float
) -> None:
    """State, usable and badness agree, changes form a chain, and weight factors are in range."""
    health = make(check=probed(), slow_start=slow_start)
    now, state = 0.0, HEALTHY
    for event, seconds in events:
        now += seconds
        if event == "eject":
            change = health.eject(Failure.RESET, now)
        elif event == "wait":
            change = health.settle(now)
        else:
            change = health.probed(event == "ok", now)
        if change is not None:
            assert change.before is state
            assert change.after is not state
            state = change.after
        assert health.state is state
        assert COLDEST <= health.weight_factor(now) <= 1
        assert health.usable(now) is (health.badness(now) == 0)
        assert health.usable_at(now) >= now
        # What is reported may only lag behind by an ejection that has ended.
        health.settle(now)
        state = health.state
        assert health.usable(now) is (state is HEALTHY)
