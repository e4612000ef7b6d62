"""Measures the event-loop lag: the delay of callbacks that are due."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

INTERVAL: Final = 0.1
"""Seconds between two samples: short enough to see an overload before clients do, and cheap."""


class LoopLagMonitor:
    """Samples the lag of the event loop from `start` to `stop`.

    Args:
        sampled: called with each sample, in seconds.

    Attributes:
        lag: the last sample, in seconds.
        lost: the sum of all samples, in seconds.
    """

    def __init__(self, sampled: Callable[[float], None]) -> None:
        self.lag = 0.0
        self.lost = 0.0
        self._sampled = sampled
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0

    def start(self) -> None:
        """Start sampling, if it is stopped."""
        if self._timer is None:
            self._wait()

    def stop(self) -> None:
        """Stop sampling."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        # The loop's own clock does not advance within a turn.
        self._due_at = time.monotonic() + INTERVAL
        self._timer = self._loop.call_later(INTERVAL, self._run)

    def _run(self) -> None:
        self.lag = max(0.0, time.monotonic() - self._due_at)
        self.lost += self.lag
        self._wait()
        self._sampled(self.lag)
