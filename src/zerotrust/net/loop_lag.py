"""How late the loop is: what waits for its turn waits for as long."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

BEAT: Final = 0.1
"""Seconds: short enough to see an overload before clients do, and still nothing in the bill."""


class LoopLagMonitor:
    """A timer that says each time by how much the loop came too late; from `start` to `stop`.

    Args:
        beat: called every `BEAT` seconds with the seconds that the loop was late this time.

    Attributes:
        lag: of the last beat, in seconds; `lost`: of all beats together.
    """

    def __init__(self, beat: Callable[[float], None]) -> None:
        self.lag = 0.0
        self.lost = 0.0
        self._beat = beat
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0

    def start(self) -> None:
        """Beat, if it does not yet."""
        if self._timer is None:
            self._wait()

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        # Not the loop's clock, which stands still within a turn.
        self._due_at = time.monotonic() + BEAT
        self._timer = self._loop.call_later(BEAT, self._run)

    def _run(self) -> None:
        self.lag = max(0.0, time.monotonic() - self._due_at)
        self.lost += self.lag
        self._wait()
        self._beat(self.lag)
