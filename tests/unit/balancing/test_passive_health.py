"""Tests of zerotrust.balancing.passive_health."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.balancing.passive_health import Failure, Outlier
from zerotrust.model.upstream import OutlierDetection

CONNECT, RESET, ERROR = Failure.CONNECT, Failure.RESET, Failure.SERVER_ERROR


def make(**options: Any) -> Outlier:
    return Outlier(OutlierDetection(**options))


@given(
    st.integers(0, 4),
    st.integers(0, 6),
    st.lists(st.sampled_from([None, CONNECT, RESET, ERROR]), max_size=30),
)
def test_failures_are_counted_from_the_last_success(
    failures: int, errors: int, outcomes: list[Failure | None]
) -> None:
    outlier = make(consecutive_failures=failures, consecutive_5xx=errors)
    for end, outcome in enumerate(outcomes, 1):
        if outcome is None:
            outlier.succeeded()
            continue
        past = [None, *outcomes[:end]]
        run = past[len(past) - past[::-1].index(None) :]
        # Of these, the connections that failed since the last one that brought an answer of any
        # kind.
        broken = run[len(run) - run[::-1].index(ERROR) :] if ERROR in run else run
        assert outlier.failed(outcome) is (0 < failures <= len(broken) or 0 < errors <= len(run))


def test_the_ejection_time_doubles_up_to_its_maximum() -> None:
    outlier, now, times = make(base_ejection_time=10, max_ejection_time=60), 1000.0, []
    for _ in range(5):
        outlier.eject(now)
        assert outlier.ejected(now)
        assert not outlier.ejected(outlier.ejected_until)
        times.append(outlier.ejected_until - now)
        now = outlier.ejected_until + 59
    assert times == [10, 20, 40, 60, 60]
    outlier.eject(now + 1)  # back for as long as the bound
    assert outlier.ejected_until == now + 1 + 10


def test_late_failures_do_not_extend_an_ejection() -> None:
    outlier = make(base_ejection_time=10)
    outlier.eject(0.0)
    outlier.eject(9.9)
    assert outlier.ejected_until == 10
    outlier.eject(10.0)
    assert outlier.ejected_until == 30


def test_after_an_ejection_the_first_failure_ejects_again() -> None:
    outlier = make(consecutive_failures=3)
    assert [outlier.failed(CONNECT) for _ in range(3)] == [False, False, True]
    outlier.eject(0.0)
    assert outlier.failed(RESET)
    outlier.succeeded()
    assert not outlier.failed(RESET)


def test_very_many_ejections_do_not_overflow() -> None:
    outlier, now = make(base_ejection_time=1e-3, max_ejection_time="3000d"), 0.0
    for _ in range(2000):
        outlier.eject(now)
        now = outlier.ejected_until
    assert now < 2000 * 3000 * 86400


@pytest.mark.parametrize(
    "options", [{"base_ejection_time": 0}, {"base_ejection_time": 0, "max_ejection_time": 0}]
)
def test_an_ejection_time_of_0_ejects_nothing(options: dict[str, Any]) -> None:
    outlier = make(**options)
    outlier.eject(5.0)
    assert not outlier.ejected(5.0)
