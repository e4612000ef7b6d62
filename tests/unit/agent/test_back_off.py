"""Tests of zerotrust.agent.back_off."""

import random

import pytest

from zerotrust.agent.back_off import CALM, CHANGE_MOST, FIRST, MOST, SOON, SOON_MOST, BackOff


@pytest.fixture(autouse=True)
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, most: most)


def failures(back_off: BackOff, now: float, count: int) -> list[float]:
    """Return the pauses of one connection whose attempts fail at once."""
    found = []
    for _ in range(count):
        found.append(pause := back_off.pause(now))
        now += pause
    return found


def test_pauses_double_up_to_the_longest() -> None:
    assert failures(BackOff(), 100.0, 9) == [FIRST * 2**n for n in range(7)] + [MOST, MOST]


def test_connections_that_fail_together_lengthen_the_pause_once() -> None:
    back_off = BackOff()
    assert back_off.pause(1.0) == FIRST
    assert [back_off.pause(1.0 + n / 100) for n in range(5)] == [2 * FIRST] * 5
    assert back_off.pause(1.0 + FIRST) == 2 * FIRST
    assert back_off.pause(1.1 + FIRST) == 4 * FIRST


def test_pauses_are_short_after_a_session_that_lasted() -> None:
    back_off = BackOff()
    failures(back_off, 0.0, 9)
    back_off.steady(1000.0)
    found = failures(back_off, 1000.0, 40)
    assert found[0] == FIRST
    assert max(found[: int(SOON / SOON_MOST)]) == SOON_MOST
    assert found[-1] == MOST


def test_the_number_of_workers_is_followed_less_and_less_often() -> None:
    back_off = BackOff()
    followed = [now / 10 for now in range(6000) if back_off.may_change_workers(now / 10)]
    assert followed[:6] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    assert followed[-1] - followed[-2] == CHANGE_MOST
    assert back_off.workers_change_often
    assert back_off.may_change_workers(600 + CALM + 1)
    assert not back_off.workers_change_often
