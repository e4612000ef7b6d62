"""Patterns of values of header fields and query parameters."""

from bisect import bisect_left
from collections.abc import Sequence


class ValuePattern:
    """Pattern of a value: `v` matches that value, `v*` a value that begins with v.

    Attributes:
        text: the value, or its beginning.
        is_beginning: it is a beginning.
    """

    __slots__ = ("is_beginning", "text")

    def __init__(self, text: bytes) -> None:
        self.is_beginning = text.endswith(b"*")
        self.text = text[:-1] if self.is_beginning else text

    def fits_any(self, values: Sequence[bytes]) -> bool:
        """Return True if one of the sorted values matches."""
        place = bisect_left(values, self.text)
        return place < len(values) and self._fits(values[place])

    def fits_all(self, values: Sequence[bytes]) -> bool:
        """Return True if all the sorted values match: those between two that match do, too."""
        return self._fits(values[0]) and self._fits(values[-1])

    def _fits(self, value: bytes) -> bool:
        return value.startswith(self.text) if self.is_beginning else value == self.text
