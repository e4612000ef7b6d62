"""Deviations from HTTP/1.1 that are forgiven in the answers of backends."""

from collections.abc import Callable
from enum import Enum


class Deviation(Enum):
    """Deviation of an answer whose meaning is clear; its value is what it is, and how to fix it."""

    BARE_LF = "lines end in LF without CR", "end lines of heads and chunks with CR LF"
    STATUS_LINE = (
        "the parts of the status line are not separated by one blank",
        "write `HTTP/1.1 200 OK`",
    )
    VERSION = "the version of HTTP is neither 1.1 nor 1.0", "write HTTP/1.1 in the status line"
    FOLDED_FIELD = "a field is folded", "write each field in one line"
    BLANK_BEFORE_COLON = "a blank is before a colon", "write `Name: value`"
    NO_FIELD = "a line that is no field was dropped", "write `Name: value`, without blanks in Name"
    REPEATED_LENGTH = "Content-Length is repeated", "send it once"
    TWO_FRAMINGS = (
        "the answer has Transfer-Encoding and Content-Length",
        "send only one of them",
    )
    IDENTITY = "Transfer-Encoding is identity", "leave the field out"
    PADDED_CHUNK_SIZE = "blanks follow the size of a chunk", "end the size with CR LF"

    @property
    def fault(self) -> str:
        """Return what the backend does."""
        return self.value[0]

    @property
    def fix(self) -> str:
        """Return what its owner can do."""
        return self.value[1]


Forgive = Callable[[Deviation, str], None]
"""Takes each deviation, and the name of the first dropped field (`NO_FIELD`; else empty)."""
