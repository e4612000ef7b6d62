"""Opening handshake of the WebSocket that carries a tunnel (RFC 6455 s4).

No field of it identifies an agent: that is left to the TLS inside.
"""

import base64
import binascii
import hashlib
import re
from typing import Final

from zerotrust.errors import HttpError
from zerotrust.http.head import RequestHead, ResponseHead
from zerotrust.http.headers import tokens

TUNNEL_PATH: Final = b"/.0trust/tunnel"
WORKER_QUERY: Final = b"worker="
"""Before the number of a worker, in the query."""
PROTOCOL: Final = b"0trust-tunnel-v1"
KEY_BYTES: Final = 16

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = b"13"
_FIELD: Final = re.compile(rb"(?im)^sec-websocket-(key|version|protocol|accept): ([^\r]*)\r$")


def request(host: bytes, key: bytes, *, worker: int = 0) -> bytes:
    """Return the client's request.

    Args:
        key: KEY_BYTES random bytes.
        worker: the worker of the server to connect to.
    """
    target = b"%b?%b%d" % (TUNNEL_PATH, WORKER_QUERY, worker) if worker else TUNNEL_PATH
    return (
        b"GET %b HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n"
        % (target, host, base64.b64encode(key), _VERSION, PROTOCOL)
    )


def response_block(head: RequestHead) -> bytes:
    """Return start line and fields of the answer to a valid request, without Connection.

    Raises:
        HttpError: the request opens no tunnel; `reply` is the status to answer.
    """
    fields = _fields(head.fields.lines)
    upgrade = head.fields.upgrade
    if head.method != b"GET" or upgrade is None or upgrade.lower() != b"websocket":
        raise HttpError("this address is for agents: it takes WebSockets only", 426)
    if fields.get(b"version") != _VERSION or PROTOCOL not in tokens(fields.get(b"protocol", b"")):
        raise HttpError(f"this address takes WebSockets of protocol {PROTOCOL.decode()} only", 426)
    key = fields.get(b"key", b"")
    try:
        size = len(base64.b64decode(key, validate=True))
    except binascii.Error:
        size = 0
    if size != KEY_BYTES:
        raise HttpError("invalid Sec-WebSocket-Key")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: %b\r\n" % (_accept(key), PROTOCOL)
    )


def refusal(head: ResponseHead, key: bytes) -> str | None:
    """Return the reason why a response opens no tunnel; None if it opens one."""
    if head.status != 101:
        return f"answers with status {head.status}"
    fields = _fields(head.lines)
    accept = _accept(base64.b64encode(key))
    if (head.upgrade or b"").lower() != b"websocket" or fields.get(b"accept") != accept:
        return "does not speak WebSocket"
    if fields.get(b"protocol") != PROTOCOL:
        return "is no server of 0trust that accepts tunnels"
    return None


def _accept(key: bytes) -> bytes:
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False)
    return base64.b64encode(digest.digest())


def _fields(lines: bytes) -> dict[bytes, bytes]:
    """Return the values of the fields `Sec-WebSocket-…` by the end of their name."""
    return {match[1].lower(): match[2] for match in _FIELD.finditer(lines)}
