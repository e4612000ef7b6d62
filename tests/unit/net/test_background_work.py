"""Tests of zerotrust.net.background_work."""

import asyncio

import pytest

from zerotrust.net import background_work
from zerotrust.net.background_work import (
    INTERVAL,
    LONGEST_WAIT,
    BackgroundWork,
    next_slice,
)

pytestmark = pytest.mark.anyio


class Times:
    """Clocks of the module, and the pauses that it asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.used = 0.0
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    made = Times()
    monkeypatch.setattr(BackgroundWork, "next_at", 0.0)
    monkeypatch.setattr(background_work, "monotonic", lambda: made.now)
    monkeypatch.setattr(background_work, "perf_counter", lambda: made.used)
    monkeypatch.setattr(asyncio, "sleep", made.sleep)
    return made


async def test_all_work_takes_turns(times: Times) -> None:
    one, other = BackgroundWork(), BackgroundWork()
    await one.next_slice()
    await other.next_slice()
    await next_slice()
    assert times.pauses == pytest.approx([0, INTERVAL, 2 * INTERVAL])
    times.now += 1
    await one.next_slice()
    assert times.pauses[-1] == 0


async def test_no_work_waits_without_a_bound(times: Times) -> None:
    for _ in range(1000):
        await next_slice()
    assert max(times.pauses) == pytest.approx(LONGEST_WAIT)
    times.now += LONGEST_WAIT + INTERVAL
    await next_slice()
    assert times.pauses[-1] == pytest.approx(0)


async def test_a_slice_is_over_after_its_time(times: Times) -> None:
    work = BackgroundWork()
    assert not work.slice_over
    times.used += background_work.SLICE
    assert work.slice_over
    await work.next_slice()
    assert not work.slice_over
