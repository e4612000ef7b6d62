"""The frame header and the incremental reader (docs/spec/tunnel-v1.md, section 2)."""

from typing import Final

HEADER_BYTES: Final = 8
MAX_PAYLOAD: Final = 0xFFFF
MAX_STREAM_ID: Final = 0x7FFF_FFFF

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload: a plain tuple, because it is made for each frame."""


# Compiled, arithmetic takes half the time of a `struct.Struct`, which is called as any object.


def encode_header(kind: int, flags: int, length: int, stream: int) -> bytes:
    """Return the header of a frame, for a payload of at most `MAX_PAYLOAD` bytes."""
    return (kind << 56 | flags << 48 | length << 32 | stream).to_bytes(HEADER_BYTES, "big")


def read_header(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return type, flags, length and stream of the frame that begins at this place."""
    return (
        data[at],
        data[at + 1],
        data[at + 2] << 8 | data[at + 3],
        data[at + 4] << 24 | data[at + 5] << 16 | data[at + 6] << 8 | data[at + 7],
    )


def encode(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a whole frame. The payload is at most `MAX_PAYLOAD` bytes."""
    return encode_header(kind, flags, len(payload), stream) + payload


class FrameReader:
    """Incremental reader: cuts the bytes of a link into frames.

    It keeps at most one incomplete frame, which the 16-bit length in the header bounds. If a read
    ends within a frame, the reader copies the pieces of that frame only.
    """

    __slots__ = ("_needed", "_partial")

    def __init__(self) -> None:
        self._partial = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes."""
        frames: list[Frame] = []
        at = self._complete(data, frames) if self._partial else 0
        end = len(data)
        while end - at >= HEADER_BYTES:
            kind, flags, length, stream = read_header(data, at)
            after = at + HEADER_BYTES + length
            if after > end:
                break
            frames.append((kind, flags, stream, data[at + HEADER_BYTES : after]))
            at = after
        if at < end:
            self._partial += memoryview(data)[at:]
            rest = end - at
            self._needed = HEADER_BYTES
            if rest >= HEADER_BYTES:
                self._needed += read_header(data, at)[2]
        return frames

    def _complete(self, data: bytes, frames: list[Frame]) -> int:
        """Complete the frame that has begun, and return the number of bytes used."""
        partial = self._partial
        rest = memoryview(data)
        at = 0
        if self._needed == HEADER_BYTES:
            at = HEADER_BYTES - len(partial)
            partial += rest[:at]
            if len(partial) < HEADER_BYTES:
                return len(data)
            self._needed = HEADER_BYTES + read_header(bytes(partial), 0)[2]
        after = at + self._needed - len(partial)
        if after > len(data):
            partial += rest[at:]
            return len(data)
        kind, flags, _, stream = read_header(bytes(partial[:HEADER_BYTES]), 0)
        payload = b"".join((memoryview(partial)[HEADER_BYTES:], rest[at:after]))
        frames.append((kind, flags, stream, payload))
        partial.clear()
        return after
