"""Binary payloads of OPEN, HEAD, RESET, GOAWAY and CLOSE (docs/spec/tunnel-v1.md)."""

import struct
from typing import Final

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.codes import Code

MAX_OPEN_PAYLOAD_BYTES: Final = 72 * 1024
"""The largest head of a request (64 KiB), and what the server adds."""
MAX_HEAD_PAYLOAD_BYTES: Final = 136 * 1024
"""The largest head of an answer (128 KiB), and what the agent adds."""
MAX_HEAD_FRAME_BYTES: Final = 40000
"""Part of an OPEN or HEAD in one frame; the whole of it without the capability `large_heads`."""
MAX_REASON_BYTES: Final = 256

_OPEN: Final = struct.Struct(">BBHQHH")
_HEAD: Final = struct.Struct(">BBHQ")
_REPORT: Final = struct.Struct(">II")
MAX_UPSTREAM_BYTES: Final = 255
"""Longest address of an upstream in a report."""
MAX_REPORT_BYTES: Final = _REPORT.size + MAX_UPSTREAM_BYTES
_MAX_MICROSECONDS: Final = 0xFFFFFFFF
_REASON: Final = struct.Struct(">H")


def printable(text: str) -> str:
    """Return a peer's text without control characters, for logs and terminals."""
    return "".join(c if c.isprintable() else "?" for c in text)


class RequestOpen:
    """Fields of an OPEN payload."""

    __slots__ = ("block", "flags", "kind", "length", "request_id", "service")

    def __init__(
        self, kind: int, flags: int, length: int, names: tuple[str, str], block: bytes
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.length = length
        self.service, self.request_id = names
        self.block = block


def pack_open(
    kind: int, length: int, *, flags: int, service: bytes, request_id: bytes, block: bytes
) -> bytes:
    """Return the payload of OPEN; service and request id are ASCII."""
    return b"".join(
        (
            _OPEN.pack(kind, flags, len(service), length, len(request_id), 0),
            service,
            request_id,
            block,
        )
    )


def unpack_open(payload: bytes) -> RequestOpen:
    """Return the fields of OPEN.

    Raises:
        RemoteProtocolError: it is shorter than its own lengths say, or its names are not ASCII.
    """
    if len(payload) < _OPEN.size:
        raise RemoteProtocolError(f"OPEN of {len(payload)} bytes, at least {_OPEN.size} expected")
    kind, flags, service_bytes, length, id_bytes, _ = _OPEN.unpack_from(payload)
    id_end = _OPEN.size + service_bytes + id_bytes
    if id_end > len(payload):
        raise RemoteProtocolError("OPEN is shorter than its own lengths say")
    try:
        names = payload[_OPEN.size : id_end].decode("ascii")
    except UnicodeDecodeError:
        names = "\0"
    if not names.isprintable():
        raise RemoteProtocolError("OPEN: service and request id must be visible ASCII")
    return RequestOpen(
        kind, flags, length, (names[:service_bytes], names[service_bytes:]), payload[id_end:]
    )


def pack_head(kind: int, flags: int, length: int, block: bytes, report: bytes = b"") -> bytes:
    """Return the payload of HEAD."""
    return _HEAD.pack(kind, flags, len(report), length) + report + block


def unpack_head(payload: bytes) -> tuple[int, int, int, bytes]:
    """Return kind, flags, content length and block of HEAD.

    Raises:
        RemoteProtocolError: too short.
    """
    if len(payload) < _HEAD.size:
        raise RemoteProtocolError(f"HEAD of {len(payload)} bytes, at least {_HEAD.size} expected")
    kind, flags, report_bytes, length = _HEAD.unpack_from(payload)
    return kind, flags, length, payload[_HEAD.size + report_bytes :]


def pack_report(queued: float, backend: float, upstream: bytes) -> bytes:
    """Return the report of an agent on an answer.

    Args:
        queued: seconds until the agent had a connection to the upstream.
        backend: seconds from then to the head of the answer.
        upstream: address of the upstream, ASCII.
    """
    return (
        _REPORT.pack(_microseconds(queued), _microseconds(backend)) + upstream[:MAX_UPSTREAM_BYTES]
    )


def unpack_report(payload: bytes) -> tuple[int, int, str] | None:
    """Return the report in HEAD: both times in microseconds, and the upstream; None without one."""
    _, _, report_bytes, _ = _HEAD.unpack_from(payload)
    start = _HEAD.size + _REPORT.size
    if not _REPORT.size <= report_bytes <= MAX_REPORT_BYTES or len(payload) < start:
        return None
    queued, backend = _REPORT.unpack_from(payload, _HEAD.size)
    upstream = payload[start : _HEAD.size + report_bytes].decode("ascii", "replace")
    return queued, backend, printable(upstream)


def _microseconds(seconds: float) -> int:
    return min(max(int(seconds * 1e6), 0), _MAX_MICROSECONDS)


def pack_reason(code: int, reason: str) -> bytes:
    """Return the payload of CLOSE, GOAWAY and RESET; a long reason is cut."""
    text = reason.encode(errors="replace")[:MAX_REASON_BYTES]
    return _REASON.pack(code) + text.decode(errors="ignore").encode()


def unpack_reason(payload: bytes) -> tuple[Code, str]:
    """Return code and reason, without control characters, because the reason goes into logs.

    Raises:
        RemoteProtocolError: shorter than a code.
    """
    if len(payload) < _REASON.size:
        raise RemoteProtocolError("a code needs two bytes")
    text = payload[_REASON.size : _REASON.size + MAX_REASON_BYTES].decode(errors="replace")
    return Code(_REASON.unpack_from(payload)[0]), printable(text)
