"""Where a WebSocket may be ended with a reason: between two frames that go to the client, and nowhere else.

The relay never looks into messages. It follows the lengths of the frames (RFC 6455 s5.2), so that a Close frame of ours
(s5.5.1), when there is a reason to send one, does not land inside somebody's data.
"""

from typing import Final

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
SERVICE_RESTART: Final = 1012
"""Close codes: RFC 6455 s7.4.1, and 1012 of the IANA registry "WebSocket Close Code Number"."""

_MASKED: Final = 0x80
_CLOSE: Final = 0x88


class FrameTracker:
    """Follows one direction of a WebSocket. Bytes that are no frames leave it somewhere inside one, which is safe.

    Attributes:
        closed: a Close frame has passed: nothing may follow it.
    """

    __slots__ = ("_header", "_left", "closed")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self.closed = False

    @property
    def between(self) -> bool:
        """The last byte was the last of a frame, or there was none."""
        return not self._left and not self._header

    def until_end(self, data: bytes) -> int:
        """How many of the bytes that come next belong to the frame that has begun; at least all where it goes on."""
        if not self._header:
            return self._left
        whole = self._header + data
        size = _header_size(whole, 0, len(whole))
        return (size + _payload_size(whole, 0) if size else len(whole)) - len(self._header)

    def feed(self, data: bytes) -> None:
        """Bytes that pass."""
        at = 0
        end = len(data)
        if self._header:
            data = self._header + data
            end = len(data)
            self._header = b""
        elif self._left:
            if self._left >= end:
                self._left -= end
                return
            at = self._left
            self._left = 0
        while at < end:
            size = _header_size(data, at, end)
            if not size:
                self._header = data[at:]
                return
            if data[at] & 0x8F == _CLOSE:
                self.closed = True
            at += size + _payload_size(data, at)
        self._left = at - end


def close_frame(code: int, reason: str = "") -> bytes:
    """An unmasked Close frame, as a server sends it. The reason has at most 123 bytes of ASCII."""
    said = reason.encode("ascii", "replace")[:123]
    return bytes((_CLOSE, 2 + len(said))) + code.to_bytes(2, "big") + said


def _header_size(data: bytes, at: int, end: int) -> int:
    """Bytes of the header that begins at `at`; 0 where it is not all there."""
    if end - at < 2:
        return 0
    second = data[at + 1]
    length = second & 0x7F
    size = 2 if length < 126 else 4 if length == 126 else 10
    if second & _MASKED:
        size += 4
    return size if end - at >= size else 0


def _payload_size(data: bytes, at: int) -> int:
    length = data[at + 1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(data[at + 2 : at + (4 if length == 126 else 10)], "big")
