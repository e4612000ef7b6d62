"""What the agent reads in the block of a request and what a backend sees differently: Host, Origin, our cookie.

`http.head_block.check_request_block` has passed the block: Host is its first field, and it has the server's own
fields.
"""

import re
from typing import Final

from zerotrust.balancing.affinity import strip

_ORIGIN: Final = re.compile(rb"\r\n(?i:origin):[ \t]*([^\r\n]*)")
_COOKIES: Final = re.compile(rb"\r\n((?i:cookie):[ \t]*)([^\r\n]*)")
_CLIENT: Final = re.compile(rb"\r\nX-Real-IP: ([^\r\n]*)")
_PROTO: Final = re.compile(rb"\r\nX-Forwarded-Proto: ([^\r\n]*)")
_PUBLIC: Final = re.compile(rb"\r\nX-Forwarded-Host: ([^\r\n]*)")
_DEFAULT_PORT: Final = {b"https": b":443", b"http": b":80"}


def client_of(block: bytes) -> bytes:
    """The client's address, as the server wrote it; empty where it did not."""
    return _first(_CLIENT, block)


def is_secure(block: bytes) -> bool:
    """The client came by https."""
    return _first(_PROTO, block) == b"https"


def cookies_of(block: bytes) -> bytes:
    """The values of all Cookie fields, joined as one field has them (RFC 6265 s4.2)."""
    return b"; ".join([match[2] for match in _COOKIES.finditer(block)])


class Edits:
    """The changes for one upstream.

    Args:
        host: what Host becomes; None leaves it.
        origin: what Origin becomes where it is the service's own; None leaves it. A foreign origin stays: the backend
            refuses it, and must be able to.
        cookie: take our cookie out.
    """

    __slots__ = ("_cookie", "_host", "_origin")

    def __init__(self, *, host: bytes | None, origin: bytes | None, cookie: bool) -> None:
        self._host = host
        self._origin = origin
        self._cookie = cookie

    def apply(self, block: bytes) -> bytes:
        """The block as the backend gets it."""
        if self._origin is not None:
            block = _with_origin(block, self._origin)
        if self._host is not None:
            start = block.index(b"\r\n")
            end = block.index(b"\r\n", start + 2)
            block = b"%b\r\nHost: %b%b" % (block[:start], self._host, block[end:])
        return _COOKIES.sub(_stripped, block) if self._cookie else block


def _with_origin(block: bytes, origin: bytes) -> bytes:
    match = _ORIGIN.search(block)
    if match is None or _plain(match[1]) != _plain(b"%b://%b" % (_first(_PROTO, block), _first(_PUBLIC, block))):
        return block
    return block[: match.start(1)] + origin + block[match.end(1) :]


def _plain(origin: bytes) -> bytes:
    """An origin (RFC 6454 s6.2) in small letters, without its scheme's own port."""
    origin = origin.strip().lower()
    return origin.removesuffix(_DEFAULT_PORT.get(origin.partition(b"://")[0], b"\r"))


def _stripped(match: re.Match[bytes]) -> bytes:
    value = strip(match[2])
    return b"\r\n%b%b" % (match[1], value) if value or not match[2] else b""


def _first(pattern: re.Pattern[bytes], block: bytes) -> bytes:
    match = pattern.search(block)
    return match[1] if match is not None else b""
