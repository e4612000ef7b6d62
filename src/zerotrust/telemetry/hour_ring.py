"""Ring of the values of the last hour, in fixed memory."""

from array import array
from collections.abc import Sequence
from typing import Final

SLOT: Final = 15.0
"""Seconds that one row is about."""
SLOTS: Final = 240
"""Rows: one hour."""

_NOTHING: Final = float("nan")
_NEVER: Final = -SLOTS - 1


def slot_of(now: float) -> int:
    """Return the number of the slot at this time, in monotonic seconds; 0 is the first."""
    return int(now // SLOT)


class HourRing:
    """Rows of numbers, one row for each slot of `SLOT` seconds, as 4-byte floats.

    A slot without a row has NaN: the server was not watching then.
    """

    __slots__ = ("_columns", "_last", "_values")

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._last = _NEVER
        self._values = array("f", [_NOTHING]) * (SLOTS * columns)

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return len(self._values) * self._values.itemsize

    def write(self, slot: int, row: Sequence[float]) -> None:
        """Write the row of a slot; a slot before the last written one changes nothing."""
        if slot < self._last:
            return
        if self._last != _NEVER:
            for skipped in range(max(self._last + 1, slot - SLOTS + 1), slot):
                self._put(skipped, [_NOTHING] * self._columns)
        self._put(slot, row)
        self._last = slot

    def is_over(self, slot: int) -> bool:
        """Return whether no row of the hour before this slot was written."""
        return self._last < slot - SLOTS

    def column(self, index: int, slot: int, slots: int = SLOTS) -> list[float]:
        """Return one number of each of the `slots` slots before this one, oldest first."""
        return [
            self._values[number % SLOTS * self._columns + index]
            if self._last - SLOTS < number <= self._last
            else _NOTHING
            for number in range(slot - slots, slot)
        ]

    def _put(self, slot: int, row: Sequence[float]) -> None:
        first = slot % SLOTS * self._columns
        self._values[first : first + self._columns] = array("f", row)
