"""Rewrites Host, Origin and Cookie in the head block of a request, and reads the client from it.

The block has passed `http.head_block.check_request_block`: Host is its first field, and it has the
fields that the server adds.
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
    """Return the client's address from the server's X-Real-IP; empty if there is none."""
    return _first(_CLIENT, block)


def is_secure(block: bytes) -> bool:
    """Return True if the client used https."""
    return _first(_PROTO, block) == b"https"


def cookies_of(block: bytes) -> bytes:
    """Return the values of all Cookie fields, joined into one (RFC 6265 s4.2)."""
    return b"; ".join([match[2] for match in _COOKIES.finditer(block)])


class Edits:
    """Edits of the heads of requests to one upstream.

    Args:
        host: new value of Host; None keeps it.
        origin: new value of Origin if it is the service's own origin; None keeps it. A foreign
            origin stays, so that the backend can refuse it.
        cookie: remove the cookie of session affinity.
    """

    __slots__ = ("_cookie", "_host", "_origin")

    def __init__(self, *, host: bytes | None, origin: bytes | None, cookie: bool) -> None:
        self._host = host
        self._origin = origin
        self._cookie = cookie

    def apply(self, block: bytes) -> bytes:
        """Return the block with these edits."""
        if self._origin is not None:
            block = _with_origin(block, self._origin)
        if self._host is not None:
            start = block.index(b"\r\n")
            end = block.index(b"\r\n", start + 2)
            block = b"%b\r\nHost: %b%b" % (block[:start], self._host, block[end:])
        return _COOKIES.sub(_stripped, block) if self._cookie else block


def _with_origin(block: bytes, origin: bytes) -> bytes:
    match = _ORIGIN.search(block)
    own = b"%b://%b" % (_first(_PROTO, block), _first(_PUBLIC, block))
    if match is None or _normalise_origin(match[1]) != _normalise_origin(own):
        return block
    return block[: match.start(1)] + origin + block[match.end(1) :]


def _normalise_origin(origin: bytes) -> bytes:
    """Return an origin (RFC 6454 s6.2) in lower case, without the default port of its scheme."""
    origin = origin.strip().lower()
    return origin.removesuffix(_DEFAULT_PORT.get(origin.partition(b"://")[0], b"\r"))


def _stripped(match: re.Match[bytes]) -> bytes:
    value = strip(match[2])
    return b"\r\n%b%b" % (match[1], value) if value or not match[2] else b""


def _first(pattern: re.Pattern[bytes], block: bytes) -> bytes:
    match = pattern.search(block)
    return match[1] if match is not None else b""
