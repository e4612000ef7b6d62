"""Closed and open loop: who tells a lane to begin its next operation.

A lane is one connection (or one client that opens a connection for each operation) that does one
operation at a time. In a closed loop it begins the next as soon as the last is done: that finds the
highest rate, and hides stalls, because a lane that waits asks for nothing. In an open loop
operations are due at fixed times; one for which no lane is free waits, and its latency counts from
the time at which it was due (no coordinated omission).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from zerotrust.errors import BenchError


class Lane(Protocol):
    """Does one operation at a time; tells its loop about each end."""

    def start(self, due: float) -> None:
        """Begin an operation; `loop.finished(self, due)` follows."""


class Ends(Protocol):
    """Callbacks for the end of an operation."""

    def finished(self, lane: Lane, due: float) -> None:
        """One is done; `due` is what `start` was told."""

    def failed(self, reason: str) -> None:
        """One did not come to its end."""


class ClosedLoop:
    """Each lane begins again at once."""

    def __init__(self) -> None:
        self.count = 0
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running = True

    def finished(self, lane: Lane, due: float) -> None:
        """An operation is done."""
        self.count += 1
        if self._running:
            lane.start(0.0)

    def failed(self, reason: str) -> None:
        """An operation did not come to its end: the measurement is void."""
        _fail(self.failure, reason)

    def stop(self) -> None:
        """Begin no more."""
        self._running = False


class OpenLoop:
    """Operations begin when they are due, or as soon after as a lane is free."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.drained = asyncio.Event()
        self.taken: list[float] = []
        self._clock = clock
        self._idle: deque[Lane] = deque()
        self._waiting: deque[float] = deque()
        self._under_way: dict[Lane, float] = {}
        self._measured_from = float("inf")

    def add(self, lane: Lane) -> None:
        """A lane that is free."""
        self._idle.append(lane)

    def measure(self) -> None:
        """Measure the operations that are due from now on."""
        self._measured_from = self._clock()

    def due(self, at: float) -> None:
        """An operation is due."""
        if self._idle:
            self._start(self._idle.popleft(), at)
        else:
            self._waiting.append(at)

    def finished(self, lane: Lane, due: float) -> None:
        """An operation is done."""
        if due >= self._measured_from:
            self.taken.append(self._clock() - due)
        del self._under_way[lane]
        if self._waiting:
            self._start(lane, self._waiting.popleft())
        else:
            self._idle.append(lane)
            if not self._under_way:
                self.drained.set()

    def failed(self, reason: str) -> None:
        """An operation did not come to its end: the measurement is void."""
        _fail(self.failure, reason)
        self.drained.set()

    def give_up(self) -> None:
        """Count what has not come to its end as if it ended now: left out, the worst would be
        missing."""
        now = self._clock()
        for due in (*self._under_way.values(), *self._waiting):
            if due >= self._measured_from:
                self.taken.append(now - due)

    @property
    def is_busy(self) -> bool:
        """Operations are under way."""
        return bool(self._under_way)

    def _start(self, lane: Lane, due: float) -> None:
        self.drained.clear()
        self._under_way[lane] = due
        lane.start(due)


def _fail(failure: asyncio.Future[None], reason: str) -> None:
    if not failure.done():
        failure.set_exception(BenchError(reason))
