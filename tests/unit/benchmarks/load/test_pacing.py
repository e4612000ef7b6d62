"""Tests of benchmarks.load.pacing."""

import asyncio
import time

import pytest

from benchmarks.load.pacing import Pacer, Schedule


def test_each_due_time_is_given_once() -> None:
    schedule = Schedule(10.0, 0.5)
    assert list(schedule.due(9.9)) == []
    assert list(schedule.due(10.0)) == [10.0]
    assert list(schedule.due(10.4)) == []
    assert list(schedule.due(11.6)) == [10.5, 11.0, 11.5]


def test_who_wakes_late_finds_when_things_were_due() -> None:
    schedule = Schedule(0.0, 0.25)
    late = list(schedule.due(100.0))
    assert late[:3] == [0.0, 0.25, 0.5]
    assert len(late) == 401
    assert list(schedule.due(100.2)) == []


@pytest.mark.anyio
async def test_the_pacer_keeps_its_rate_and_its_times() -> None:
    enough = asyncio.Event()
    seen: list[tuple[float, float]] = []

    def due(at: float) -> None:
        seen.append((at, time.monotonic()))
        if len(seen) == 200:
            enough.set()

    pacer = Pacer(2000.0, due)
    await enough.wait()
    pacer.stop()
    times = [at for at, _ in seen]
    assert times == pytest.approx([times[0] + number / 2000 for number in range(len(times))])
    assert all(now >= at for at, now in seen)
    count = len(seen)
    await asyncio.sleep(0)
    assert len(seen) == count
    pacer.stop()
