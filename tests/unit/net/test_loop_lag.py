"""Tests of zerotrust.net.loop_lag."""

import asyncio
import time

import pytest

from zerotrust.net.loop_lag import INTERVAL, LoopLagMonitor

pytestmark = pytest.mark.anyio


async def beats(count: int, block: float = 0.0) -> list[float]:
    """Return this number of samples; the loop is blocked before the first one."""
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


async def test_an_idle_loop_has_no_lag() -> None:
    assert min(await beats(5)) < INTERVAL / 2


async def test_a_blocked_loop_lags_by_the_same_time() -> None:
    lags = await beats(3, block=0.5)
    assert lags[1] >= 0.5 - INTERVAL - 0.01


async def test_sampling_stops() -> None:
    seen: list[float] = []
    monitor = LoopLagMonitor(seen.append)
    monitor.stop()
    monitor.start()
    monitor.start()
    monitor.stop()
    monitor.stop()
    await asyncio.sleep(2 * INTERVAL)
    assert seen == []


async def test_sampling_continues_after_an_error() -> None:
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
