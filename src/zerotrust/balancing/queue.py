"""Requests that wait until their service has a connection free: first come first served, bounded in number and time.

The caller keeps two rules. A request that comes while others wait goes behind them: it enters the queue without a look
at the upstreams. And whenever there may be room, because a request has ended or an upstream has come back, the next
ones are released for as long as there is.
"""

import math
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Queue(Generic[T]):
    """The queue of one service. What waits in it is whatever the caller resumes a request by; each waits once.

    Args:
        limit: so many wait at most; 0 is no queue.
        timeout: seconds that one waits at most.
    """

    __slots__ = ("_limit", "_timeout", "_waiting")

    def __init__(self, *, limit: int, timeout: float) -> None:
        self._limit = limit
        self._timeout = timeout
        self._waiting: OrderedDict[T, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def retry_after(self) -> int:
        """Whole seconds for the Retry-After (RFC 9110 s10.2.3) of a request that finds no place or waits in vain."""
        return max(1, math.ceil(self._timeout))

    def enter(self, waiter: T, now: float) -> bool:
        """Wait; False where the queue is full. What waits already keeps its place and its time."""
        if waiter in self._waiting:
            return True
        if len(self._waiting) >= self._limit:
            return False
        self._waiting[waiter] = now + self._timeout
        return True

    def leave(self, waiter: T) -> None:
        """It waits no more: its client has gone."""
        self._waiting.pop(waiter, None)

    def release(self) -> T | None:
        """The one that has waited longest, which is now out of the queue."""
        return self._waiting.popitem(last=False)[0] if self._waiting else None

    def expired(self, now: float) -> list[T]:
        """Those that have waited for too long, longest first; they are out of the queue."""
        expired = []
        while self._waiting and next(iter(self._waiting.values())) <= now:
            expired.append(self._waiting.popitem(last=False)[0])
        return expired

    def deadline(self) -> float:
        """When the next one will have waited for too long; infinity where none waits."""
        return next(iter(self._waiting.values()), math.inf)
