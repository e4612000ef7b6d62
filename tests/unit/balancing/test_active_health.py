"""Tests of zerotrust.balancing.active_health."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.balancing.active_health import (
    JITTER,
    MAX_FIRST_DELAY,
    MIN_INTERVAL,
    Probes,
    is_expected,
)
from zerotrust.model.upstream import HealthCheck


def make(
    fall: int = 3, rise: int = 2, interval: float = 30.0, seed: int = 0, now: float = 0.0
) -> Probes:
    check = HealthCheck(unhealthy_threshold=fall, healthy_threshold=rise, interval=interval)
    return Probes(check, random.Random(seed), now)


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
def test_only_consecutive_results_change_the_health(
    fall: int, rise: int, results: list[bool]
) -> None:
    probes = make(fall, rise)
    healthy = True
    seen: list[bool] = []
    for ok in results:
        seen.append(ok)
        needed = fall if healthy else rise
        turns = seen[-needed:] == [not healthy] * needed
        assert probes.result(ok, 0.0) is turns
        if turns:
            healthy, seen = not healthy, []
        assert probes.healthy is healthy


@given(st.integers(0, 10_000), st.floats(0.0, 1e5), st.floats(0, 1e9))
def test_the_next_probe_is_due_about_one_interval_after_the_result(
    seed: int, interval: float, now: float
) -> None:
    probes = make(interval=interval, seed=seed, now=now)
    assert now <= probes.due_at <= now + min(interval, MAX_FIRST_DELAY)
    probes.started()
    assert probes.due_at == math.inf
    probes.result(True, now)
    wait, paced = probes.due_at - now, max(interval, MIN_INTERVAL)
    assert wait == pytest.approx(paced, rel=JITTER * 1.001, abs=1e-6)


def test_probes_of_many_upstreams_do_not_run_in_step() -> None:
    rng = random.Random(1)
    all_probes = [Probes(HealthCheck(), rng, 0.0) for _ in range(50)]
    assert len({probes.due_at for probes in all_probes}) == 50
    for probes in all_probes:
        probes.result(True, 100.0)
    due = [probes.due_at for probes in all_probes]
    assert max(due) - min(due) > 30 * JITTER


@pytest.mark.parametrize(
    ("status", "expected"),
    [(199, False), (200, True), (204, True), (299, True), (300, False), (401, True), (402, False)],
)
def test_expected_status_codes(status: int, expected: bool) -> None:
    assert is_expected(status, ((200, 299), (401, 401))) is expected
