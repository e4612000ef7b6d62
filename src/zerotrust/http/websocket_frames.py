"""Frames of WebSockets: the header (RFC 6455 s5.2), and the frames that the server sends itself."""

from typing import Final

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
MESSAGE_TOO_BIG: Final = 1009
SERVICE_RESTART: Final = 1012
"""Close codes: RFC 6455 s7.4.1, and 1012 of the IANA registry "WebSocket Close Code Number"."""

_MASKED: Final = 0x80
_CLOSE: Final = 0x88
_PING: Final = 0x89


def close_frame(code: int, reason: str = "") -> bytes:
    """Return an unmasked Close frame, as a server sends it; the reason is cut to 123 bytes of
    ASCII."""
    text = reason.encode("ascii", "replace")[:123]
    return bytes((_CLOSE, 2 + len(text))) + code.to_bytes(2, "big") + text


def ping_frame(payload: bytes) -> bytes:
    """Return an unmasked Ping, as a server sends it; the payload has at most 125 bytes."""
    return bytes((_PING, len(payload))) + payload


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
