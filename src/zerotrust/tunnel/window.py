"""Flow-control window of one stream, kept by its receiver (docs/spec/tunnel-v1.md, section 6).

1.  Bytes that arrive use credit; more bytes than credit break the protocol.
2.  Bytes that the reader has consumed are granted again when they make up half of the window.
3.  If both halves of a window were consumed in less than four round-trip times, the sender waited
    for credit: the window doubles, up to `MAX_WINDOW`, out of the session's budget. A window never
    grows if the reader or the source is the slow part. With W the window and R the rate, a window
    takes W/R; it doubles until that is four round trips, so until W = 4 R RTT: twice what is in
    flight, with the other half as reserve for the way of the grant. One half alone proves nothing:
    a slow reader that empties its buffer at once consumes two halves at the same moment.
"""

from typing import Final

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.codes import Code

MIN_WINDOW: Final = 16 * 1024
DEFAULT_WINDOW: Final = 64 * 1024
MAX_WINDOW: Final = 8 * 1024 * 1024
MAX_CREDIT: Final = 2**31 - 1
MAX_UNCONSUMED_BYTES: Final = 128 * 1024 * 1024
MAX_GROWTH_BYTES: Final = 64 * 1024 * 1024


class GrowthBudget:
    """Bytes by which all windows of one session may still grow."""

    __slots__ = ("left",)

    def __init__(self, total: int) -> None:
        self.left = total


class ReceiveWindow:
    """Credit of the peer on one stream.

    Attributes:
        size: credit plus bytes that were received and not granted again.
        unconsumed: bytes that were received and that the reader has not consumed.
        credit: bytes that the peer may still send.
    """

    __slots__ = (
        "_budget",
        "_consumed",
        "_granted_at",
        "_granted_before",
        "credit",
        "initial",
        "size",
        "unconsumed",
    )

    def __init__(self, size: int, budget: GrowthBudget, now: float) -> None:
        self.initial = size
        self.size = size
        self.unconsumed = 0
        self.credit = size
        self._consumed = 0
        self._granted_at = self._granted_before = now
        self._budget = budget

    def received(self, count: int) -> None:
        """Take bytes that arrived.

        Raises:
            RemoteProtocolError: the bytes exceed the credit (FLOW_CONTROL).
        """
        if count > self.credit:
            raise RemoteProtocolError(
                f"window exceeded by {count - self.credit} bytes", wire=Code.FLOW_CONTROL
            )
        self.credit -= count
        self.unconsumed += count

    def consumed(self, count: int, now: float, round_trip: float | None) -> int:
        """Take bytes that the reader has consumed; return the credit to grant now, or 0."""
        self.unconsumed -= count
        self._consumed += count
        if self._consumed * 2 < self.size:
            return 0
        grant = self._consumed
        self._consumed = 0
        if round_trip is not None and now - self._granted_before < 4 * round_trip:
            grown = max(0, min(self.size, MAX_WINDOW - self.size, self._budget.left))
            self._budget.left -= grown
            self.size += grown
            grant += grown
        self._granted_before, self._granted_at = self._granted_at, now
        self.credit += grant
        return grant

    def close(self) -> int:
        """Give the growth back to the session, and return the number of unconsumed bytes."""
        self._budget.left += self.size - self.initial
        self.size = self.initial
        unconsumed, self.unconsumed = self.unconsumed, 0
        return unconsumed
