"""Queue of requests that wait for a free connection: first in, first out, with limits.

The caller follows two rules. A new request enters the queue if others wait, without trying an
upstream first. And whenever there may be room, because a request has ended or an upstream has
recovered, the caller releases requests while there is room.
"""

import math
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Queue(Generic[T]):
    """Queue of one service. An item is anything by which the caller resumes a request.

    Args:
        limit: maximum length; 0 disables queueing.
        timeout: maximum seconds in the queue.
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
        """Return the whole seconds for `Retry-After` (RFC 9110 s10.2.3) when the queue is full."""
        return max(1, math.ceil(self._timeout))

    def enter(self, waiter: T, now: float) -> bool:
        """Add an item. Return False if the queue is full.

        An item that already waits keeps its place and its deadline.
        """
        if waiter in self._waiting:
            return True
        if len(self._waiting) >= self._limit:
            return False
        self._waiting[waiter] = now + self._timeout
        return True

    def leave(self, waiter: T) -> None:
        """Remove an item, because its client has disconnected."""
        self._waiting.pop(waiter, None)

    def release(self) -> T | None:
        """Remove and return the item that has waited longest."""
        return self._waiting.popitem(last=False)[0] if self._waiting else None

    def expired(self, now: float) -> list[T]:
        """Remove and return the items whose deadline has passed, longest wait first."""
        expired = []
        while self._waiting and next(iter(self._waiting.values())) <= now:
            expired.append(self._waiting.popitem(last=False)[0])
        return expired

    def deadline(self) -> float:
        """Return the next deadline; infinity if the queue is empty."""
        return next(iter(self._waiting.values()), math.inf)
