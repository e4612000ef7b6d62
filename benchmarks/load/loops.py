"""Closed and open loop: schedulers of the clients' operations.

A client is one connection (or opens a connection for each operation) and does one operation at a
time. In a closed loop it starts the next one as soon as the last one is done: that finds the
highest rate but hides stalls, because a waiting client sends nothing. In an open loop operations
are due at fixed times; an operation without a free client waits, and its latency counts from its
due time (no coordinated omission).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from zerotrust.errors import BenchError


class Client(Protocol):
    """A client that does one operation at a time and reports its end to the loop."""

    def start(self, due: float) -> None:
        """Start an operation; `loop.finished(self, due)` follows."""


class CompletionSink(Protocol):
    """Callbacks for the end of an operation."""

    def finished(self, client: Client, due: float) -> None:
        """An operation succeeded; `due` is the argument of `start`."""

    def failed(self, reason: str) -> None:
        """An operation failed."""


class ClosedLoop:
    """Closed loop: each client starts its next operation at once.

    Attributes:
        taken: seconds of each operation that succeeded.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken: list[float] = []
        self._clock = clock
        self._running = True

    def begin(self, client: Client) -> None:
        """Start the first operation of a client."""
        client.start(self._clock())

    def finished(self, client: Client, due: float) -> None:
        """An operation succeeded."""
        now = self._clock()
        self.taken.append(now - due)
        if self._running:
            client.start(now)

    def failed(self, reason: str) -> None:
        """An operation failed: the measurement is void."""
        _fail(self.failure, reason)

    def stop(self) -> None:
        """Start no more operations."""
        self._running = False


class OpenLoop:
    """Open loop: operations start when due, or as soon as a client is free."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.drained = asyncio.Event()
        self.taken: list[float] = []
        self._clock = clock
        self._idle: deque[Client] = deque()
        self._waiting: deque[float] = deque()
        self._under_way: dict[Client, float] = {}
        self._measured_from = float("inf")

    def add(self, client: Client) -> None:
        """Add a free client."""
        self._idle.append(client)

    def measure(self) -> None:
        """Measure the operations that are due from now on."""
        self._measured_from = self._clock()

    def due(self, at: float) -> None:
        """An operation is due."""
        if self._idle:
            self._start(self._idle.popleft(), at)
        else:
            self._waiting.append(at)

    def finished(self, client: Client, due: float) -> None:
        """An operation succeeded."""
        if due >= self._measured_from:
            self.taken.append(self._clock() - due)
        del self._under_way[client]
        if self._waiting:
            self._start(client, self._waiting.popleft())
        else:
            self._idle.append(client)
            if not self._under_way:
                self.drained.set()

    def failed(self, reason: str) -> None:
        """An operation failed: the measurement is void."""
        _fail(self.failure, reason)
        self.drained.set()

    def give_up(self) -> None:
        """Count unfinished operations as ending now; else the worst latency would be missing."""
        now = self._clock()
        for due in (*self._under_way.values(), *self._waiting):
            if due >= self._measured_from:
                self.taken.append(now - due)

    @property
    def is_busy(self) -> bool:
        """True while operations are running."""
        return bool(self._under_way)

    def _start(self, client: Client, due: float) -> None:
        self.drained.clear()
        self._under_way[client] = due
        client.start(due)


def _fail(failure: asyncio.Future[None], reason: str) -> None:
    if not failure.done():
        failure.set_exception(BenchError(reason))
