"""Tracks frame boundaries of a WebSocket, to insert a Close frame between two frames.

The relay does not read messages. It follows the lengths of the frames (RFC 6455 s5.2), so that a
Close frame of the server (s5.5.1) does not land inside a frame of the backend.
"""

from typing import Final

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
SERVICE_RESTART: Final = 1012
"""Close codes: RFC 6455 s7.4.1, and 1012 of the IANA registry "WebSocket Close Code Number"."""

_MASKED: Final = 0x80
_CONTROL: Final = 0x08
"""Bit of the opcode that only control frames have."""
_CLOSE: Final = 0x88


class FrameTracker:
    """Tracks the frames of one direction of a WebSocket.

    On malformed input it reports "inside a frame", so no Close frame is inserted.

    Attributes:
        closed: a Close frame has passed; no frame may follow it.
        has_data: a data frame has begun since this was last reset.
    """

    __slots__ = ("_header", "_left", "closed", "has_data")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self.closed = False
        self.has_data = False

    @property
    def between(self) -> bool:
        """The last byte ended a frame, or there was no byte yet."""
        return not self._left and not self._header

    def until_end(self, data: bytes) -> int:
        """Return the number of following bytes of the current frame; at least all of `data` if
        unknown."""
        if not self._header:
            return self._left
        whole = self._header + data
        size = header_size(whole, 0, len(whole))
        return (size + payload_size(whole, 0) if size else len(whole)) - len(self._header)

    def feed(self, data: bytes) -> None:
        """Track these bytes."""
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
            size = header_size(data, at, end)
            if not size:
                self._header = data[at:]
                return
            first = data[at]
            if not first & _CONTROL:
                self.has_data = True
            elif first & 0x8F == _CLOSE:
                self.closed = True
            at += size + payload_size(data, at)
        self._left = at - end


def close_frame(code: int, reason: str = "") -> bytes:
    """Return an unmasked Close frame, as a server sends it; the reason is cut to 123 bytes of
    ASCII."""
    text = reason.encode("ascii", "replace")[:123]
    return bytes((_CLOSE, 2 + len(text))) + code.to_bytes(2, "big") + text


def header_size(data: bytes, at: int, end: int) -> int:
    """Return the size of the header that begins at `at`; 0 if it is incomplete."""
    if end - at < 2:
        return 0
    second = data[at + 1]
    length = second & 0x7F
    size = 2 if length < 126 else 4 if length == 126 else 10
    if second & _MASKED:
        size += 4
    return size if end - at >= size else 0


def payload_size(data: bytes, at: int) -> int:
    """Return the size of the payload behind the complete header that begins at `at`."""
    length = data[at + 1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(data[at + 2 : at + (4 if length == 126 else 10)], "big")
