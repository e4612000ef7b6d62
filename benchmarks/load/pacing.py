"""Schedule of operations at a fixed rate, and wake-ups on time.

The event loop's timers have a resolution of milliseconds, but an answer takes less than one. On
Linux a timerfd with a resolution of nanoseconds wakes the loop. The clock decides which
operations are due, not the wake-ups: a late wake-up delays no later operation.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_COARSE: Final = 0.001


class Schedule:
    """Due times: the start, then one every `interval` seconds."""

    def __init__(self, begin: float, interval: float) -> None:
        self._begin = begin
        self._interval = interval
        self._given = 0

    def due(self, now: float) -> Iterator[float]:
        """Return the due times since the last call, oldest first."""
        while (at := self._begin + self._given * self._interval) <= now:
            self._given += 1
            yield at


class _TimerSpec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Pacer:
    """Timer that calls `due(at)` for each operation of a fixed rate, until stopped."""

    def __init__(self, rate: float, due: Callable[[float], None]) -> None:
        self._due = due
        self._loop = asyncio.get_running_loop()
        self._interval = 1 / rate
        self._schedule = Schedule(time.monotonic() + self._interval, self._interval)
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = -1
        if sys.platform == "linux":
            self._descriptor = _timerfd(self._interval)
            self._loop.add_reader(self._descriptor, self._woken)
        else:
            self._ticked()

    def stop(self) -> None:
        """Stop the calls."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _woken(self) -> None:
        os.read(self._descriptor, 8)
        self._call()

    def _ticked(self) -> None:
        self._timer = self._loop.call_later(max(self._interval, _COARSE), self._ticked)
        self._call()

    def _call(self) -> None:
        for at in self._schedule.due(time.monotonic()):
            self._due(at)


def _timerfd(interval: float) -> int:
    """Return a descriptor that becomes readable every `interval` seconds."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    seconds, nanoseconds = divmod(max(1, round(interval * 1e9)), 1_000_000_000)
    spec = _TimerSpec(seconds, nanoseconds, seconds, nanoseconds)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor
