"""Tests of zerotrust.net.loop_lag."""

import asyncio
import time

import pytest

from zerotrust.net.loop_lag import INTERVAL, LoopLagMonitor

pytestmark = pytest.mark.anyio


async def beats(count: int, block: float = 0.0) -> list[float]:
    """The lags of so many beats, in the first of which the loop is held up."""
    seen: list[float] = []
    done = asyncio.Event()

    def beat(lag: float) -> None:
        seen.append(lag)
        if len(seen) == 1:
            time.sleep(block)
        if len(seen) == count:
            done.set()

    monitor = LoopLagMonitor(beat)
    monitor.start()
    try:
        async with asyncio.timeout(10):
            await done.wait()
        assert monitor.lag == seen[-1]
        assert monitor.lost == pytest.approx(sum(seen))
    finally:
        monitor.stop()
    return seen


async def test_a_loop_with_nothing_to_do_is_hardly_late() -> None:
    assert min(await beats(5)) < INTERVAL / 2


async def test_a_loop_that_is_held_up_is_late_by_as_much() -> None:
    lags = await beats(3, block=0.5)
    assert lags[1] >= 0.5 - INTERVAL - 0.01


async def test_it_stops() -> None:
    seen: list[float] = []
    monitor = LoopLagMonitor(seen.append)
    monitor.stop()
    monitor.start()
    monitor.start()
    monitor.stop()
    monitor.stop()
    await asyncio.sleep(2 * INTERVAL)
    assert seen == []


async def test_a_beat_that_fails_is_not_the_last() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    seen: list[float] = []
    twice = asyncio.Event()

    def beat(lag: float) -> None:
        seen.append(lag)
        if len(seen) == 2:
            twice.set()
        raise RuntimeError("a fault")

    monitor = LoopLagMonitor(beat)
    monitor.start()
    try:
        async with asyncio.timeout(10):
            await twice.wait()
    finally:
        monitor.stop()
        asyncio.get_running_loop().set_exception_handler(None)
