"""Timeout that does not blame others for the time in which this process stood still."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

STEPS: Final = 5
"""Steps of a timeout: a standstill counts as one of them at most."""


@asynccontextmanager
async def awake_timeout(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError if the body takes longer than `seconds`, like `asyncio.timeout`.

    A process can stand still: a signal stops it, or its machine is paused. Afterwards a timeout of
    asyncio cancels a task before the task learns that it has got what it waited for. Here the
    timeout consists of steps, and each step starts when the one before has ended.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def step(left: int) -> None:
        nonlocal timer
        if left:
            timer = loop.call_later(seconds / STEPS, step, left - 1)
        else:
            timeout.reschedule(loop.time())

    timer = loop.call_later(seconds / STEPS, step, STEPS - 1)
    try:
        async with asyncio.timeout(None) as timeout:
            yield
    finally:
        timer.cancel()
