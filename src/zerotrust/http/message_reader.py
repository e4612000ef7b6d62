"""Reader of WebSocket messages: bytes of one direction in, the beginning of each message out.

It follows frames and their fragments (RFC 6455 s5.4), with control frames between them, and removes
the client's mask. It may begin anywhere: a message whose first frame it has not seen is left out.

Where the bytes are no valid frames, it goes on by their lengths, as the meter does.
"""

from typing import Final, NamedTuple

from zerotrust.http.websocket_frames import header_size, payload_size
from zerotrust.http.websocket_meter import FramePlace, unmasked

KEPT_BYTES: Final = 1024
"""First bytes of a message that are kept."""
MAX_COMPRESSED_BYTES: Final = 128 * 1024
"""Bytes of a compressed message that are kept until it is inflated."""

_FIN: Final = 0x80
_COMPRESSED: Final = 0x40
_CONTROL: Final = 0x08
_MASKED: Final = 0x80


class WebSocketMessage(NamedTuple):
    """Message or control frame that has passed.

    Attributes:
        opcode: of its first frame.
        size: payload of all its frames as sent, in bytes.
        payload: the first bytes, without a mask; of a compressed message the compressed ones.
        compressed: the payload is compressed (RFC 7692 s6), or is missing because it was.
        cut: more bytes follow those of `payload`.
    """

    opcode: int
    size: int
    payload: bytes
    compressed: bool
    cut: bool


class _Unfinished:
    """Message whose last frame has not ended."""

    __slots__ = ("compressed", "opcode", "payload", "room", "size")

    def __init__(self, opcode: int, room: int, *, compressed: bool) -> None:
        self.opcode = opcode
        self.room = room
        self.compressed = compressed
        self.size = 0
        self.payload = bytearray()

    def finish(self) -> WebSocketMessage:
        """Return the message."""
        payload = bytes(self.payload)
        return WebSocketMessage(
            self.opcode, self.size, payload, self.compressed, self.size > len(payload)
        )


class MessageReader:
    """Reads the messages of one direction.

    Args:
        place: the place at which it begins.
    """

    __slots__ = ("_at", "_frame", "_is_last", "_left", "_mask", "_message", "_partial")

    def __init__(self, place: FramePlace) -> None:
        self._partial = place.partial
        self._left = place.left
        self._message: _Unfinished | None = None
        self._frame: _Unfinished | None = None
        """Message of the current frame; None if its bytes are skipped."""
        self._is_last = False
        self._mask = b""
        self._at = 0
        """Place in the current frame, from which the mask turns."""

    def feed(self, data: bytes) -> list[WebSocketMessage]:
        """Return the messages that end with these bytes."""
        found: list[WebSocketMessage] = []
        if self._partial:
            data = self._partial + data
            self._partial = b""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                taken = min(self._left, end - at)
                self._take(data, at, taken)
                self._left -= taken
                at += taken
            else:
                size = header_size(data, at, end)
                if not size:
                    self._partial = data[at:]
                    break
                self._begin_frame(data, at, size)
                at += size
            if not self._left:
                self._end_frame(found)
        return found

    def _begin_frame(self, data: bytes, at: int, size: int) -> None:
        first = data[at]
        opcode = first & 0x0F
        self._left = payload_size(data, at)
        self._is_last = bool(first & _FIN)
        self._mask = data[at + size - 4 : at + size] if data[at + 1] & _MASKED else b""
        self._at = 0
        if opcode & _CONTROL:
            self._frame = _Unfinished(opcode, KEPT_BYTES, compressed=False)
            self._is_last = True
        elif opcode:
            compressed = bool(first & _COMPRESSED)
            room = MAX_COMPRESSED_BYTES if compressed else KEPT_BYTES
            self._frame = self._message = _Unfinished(opcode, room, compressed=compressed)
        else:
            self._frame = self._message

    def _take(self, data: bytes, at: int, count: int) -> None:
        """Take payload of the current frame."""
        frame = self._frame
        if frame is None:
            return
        frame.size += count
        kept = min(count, frame.room)
        if kept:
            frame.room -= kept
            payload = data[at : at + kept]
            if self._mask:
                turn = self._at & 3
                payload = unmasked(payload, self._mask[turn:] + self._mask[:turn])
            frame.payload += payload
            self._at += kept

    def _end_frame(self, found: list[WebSocketMessage]) -> None:
        frame, self._frame = self._frame, None
        if frame is None or not self._is_last:
            return
        found.append(frame.finish())
        if frame is self._message:
            self._message = None
