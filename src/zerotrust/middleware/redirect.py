"""`redirect`: redirects clients."""

import re
from typing import Final

from zerotrust.middleware.interface import Answer, Request
from zerotrust.model.middleware_settings import RedirectConfig

_PLACEHOLDER: Final = re.compile(rb"(\{(?:host|uri|path)\})")
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")


def ascii_uri(target: bytes) -> bytes:
    """Return a target with the bytes percent-encoded that a URI cannot have (RFC 3986 s2.1).

    Clients may send bytes from 0x80 to 0xFF in a target; a `Location` needs a URI.
    """
    if target.isascii():
        return target
    return _NOT_ASCII.sub(lambda match: b"%%%02X" % ord(match[0]), target)


class RedirectMiddleware:
    """Handler that answers with a redirect and fills in its placeholders.

    A path is inserted with exactly one leading slash: `//evil.example` would name a host (RFC 3986
    s4.2), and browsers treat `/\\` in the same way. Other than `rewrite`, it does not compare
    different readings of the path: a client that follows the redirect sends a new request, which is
    checked again.
    """

    __slots__ = ("_parts", "_status")

    def __init__(self, config: RedirectConfig) -> None:
        self._status = int(config.status)
        self._parts = _PLACEHOLDER.split(config.location.encode())

    def request(self, request: Request, now: float) -> Answer:
        uri = b"/" + request.target.lstrip(b"/\\*")
        values = {
            b"{host}": request.fields.host.encode(),
            b"{uri}": uri,
            b"{path}": uri.partition(b"?")[0],
        }
        location = ascii_uri(b"".join([values.get(part, part) for part in self._parts]))
        return Answer(self._status, b"Location: %b\r\n" % location)
