"""Bounded cache with expiry, for data that clients cause the server to store."""

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class TtlCache(Generic[V]):
    """Bounded cache: each entry has an expiry time.

    When the cache is full, it drops the least recently used entry.

    Attributes:
        entries: each value and its expiry time, least recently used first.
    """

    __slots__ = ("_max_entries", "entries")

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self.entries: OrderedDict[bytes, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, key: bytes, now: float) -> V | None:
        """Return the value; None if there is none or it has expired."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if entry[1] <= now:
            del self.entries[key]
            return None
        self.entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, value: V, *, until: float) -> None:
        """Store the value."""
        self.entries[key] = (value, until)
        self.entries.move_to_end(key)
        if len(self.entries) > self._max_entries:
            self.entries.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """Remove the value, if there is one."""
        self.entries.pop(key, None)

    def clear(self) -> None:
        """Remove all values."""
        self.entries.clear()
