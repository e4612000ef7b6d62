"""Work that can wait, in slices: pages, lists and graphs for administrators.

Between two slices the loop does other work. That is not enough where processes share processors: a
process that always has something to do keeps its processor for a whole slice of the scheduler (up
to 4 ms on Linux), and meanwhile Caddy and the agent wait. So the process sleeps between two slices.

Work that must be done in time, such as cuts and the reading of captures, has slices of its own.
"""

import asyncio
from time import monotonic, perf_counter
from typing import ClassVar, Final

SLICE: Final = 0.0003
"""Seconds of the processor at once."""
INTERVAL: Final = 0.002
"""Seconds from the beginning of a slice to that of the next one, of the same work or another."""
LONGEST_WAIT: Final = 0.1
"""Seconds after which a slice begins although others wait, so that a flood of requests for pages
delays no work without a bound."""


class BackgroundWork:
    """One piece of work. Ask `slice_over` often, and then wait for `next_slice`.

    Attributes:
        next_at: time of the next slice, for all work of the process.
    """

    next_at: ClassVar = 0.0

    def __init__(self) -> None:
        self._began = perf_counter()

    @property
    def slice_over(self) -> bool:
        """The work has used up its slice."""
        return perf_counter() >= self._began + SLICE

    async def next_slice(self) -> None:
        """Wait for a slice that no other background work has."""
        await next_slice()
        self._began = perf_counter()


async def next_slice() -> None:
    """Wait for a slice that no other background work has, for work of about this size."""
    now = monotonic()
    begins = min(max(now, BackgroundWork.next_at), now + LONGEST_WAIT)
    BackgroundWork.next_at = begins + INTERVAL
    await asyncio.sleep(begins - now)
