"""Tests of zerotrust.net.awake_timeout."""

import asyncio
import time

import pytest

from zerotrust.net.awake_timeout import STEPS, awake_timeout

pytestmark = pytest.mark.anyio


async def test_body_that_takes_longer_is_cut() -> None:
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    with pytest.raises(TimeoutError):
        async with awake_timeout(0.1):
            await asyncio.Event().wait()
    assert loop.time() - began_at >= 0.09


async def test_body_that_ends_in_time_is_not_cut() -> None:
    async with awake_timeout(0.05):
        pass
    await asyncio.sleep(0.1)  # nothing is left that could cut this task


async def test_an_error_of_the_body_is_its_own() -> None:
    with pytest.raises(OSError, match="unreachable"):
        async with awake_timeout(1):
            raise OSError("unreachable")


async def test_a_standstill_counts_as_one_step() -> None:
    with pytest.raises(TimeoutError):
        async with awake_timeout(0.2):
            await asyncio.sleep(0.01)
            time.sleep(0.4)  # the process stands still
            began_at = time.monotonic()
            await asyncio.Event().wait()
    assert time.monotonic() - began_at >= 0.2 * (STEPS - 1) / STEPS - 0.01
