"""`cors`: answers to preflight requests, and CORS headers of responses (Fetch standard).

Only the configuration counts: `Access-Control-*` headers of a backend are replaced. A request from
an origin that is not listed still reaches the backend, but its response has no CORS headers, so the
browser hides it from the page. To keep requests out, use an authentication.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from zerotrust.middleware.header_edits import Edit
from zerotrust.middleware.interface import Answer, Request
from zerotrust.model.middleware_settings import CorsConfig
from zerotrust.routing.match import values_of

_SAFELISTED: Final = ("GET", "HEAD", "POST")
_NAMES: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z, \t]{0,2048}")
_WITH_LABELS: Final = re.compile(
    rb"([a-z][a-z0-9+.-]*+://)([a-z0-9_-]++(?:\.[a-z0-9_-]++)+)(:[0-9]++)?"
)
_MAX_ORIGIN_BYTES: Final = 300
"""Maximum length of a scheme, a host name of 253 bytes and a port. Longer values match no
origin."""
_NONE: Final = tuple(
    Edit(b"access-control-" + name, b"", True)
    for name in (b"allow-origin", b"allow-credentials", b"expose-headers")
)
_VARY: Final = Edit(b"vary", b"Vary: Origin\r\n", False)
_PREFLIGHT_VARY: Final = (
    b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
)


class CorsMiddleware:
    """Handler that evaluates the `Origin` header."""

    __slots__ = ("_all", "_exact", "_extras", "_headers", "_max_age", "_methods")

    def __init__(self, config: CorsConfig) -> None:
        origins = [origin.encode() for origin in config.origins]
        self._all = b"*" in origins
        self._exact = frozenset(origins)
        self._methods = (
            None if "*" in config.methods else ", ".join(config.methods or _SAFELISTED).encode()
        )
        self._headers = None if "*" in config.headers else ", ".join(config.headers).encode()
        self._max_age = int(config.max_age)
        self._extras: list[Edit] = []
        if config.allow_credentials:
            line = b"Access-Control-Allow-Credentials: true\r\n"
            self._extras.append(Edit(b"access-control-allow-credentials", line, False))
        if config.expose_headers:
            line = (
                b"Access-Control-Expose-Headers: %b\r\n" % ", ".join(config.expose_headers).encode()
            )
            self._extras.append(Edit(b"access-control-expose-headers", line, False))

    def request(self, request: Request, now: float) -> Answer | None:
        if request.method == b"OPTIONS":
            origin = _one(values_of(b"origin", request.fields))
            method = _one(values_of(b"access-control-request-method", request.fields))
            if origin is not None and method is not None:
                return (
                    self._preflight(request, origin, method)
                    if self._allows(origin)
                    else self._refusal()
                )
        self.admit(request)
        return None

    def admit(self, request: Request) -> None:
        """Add the CORS headers for the request's origin to the response."""
        origin = _one(values_of(b"origin", request.fields))
        request.response_edits += _NONE
        if origin is not None and self._allows(origin):
            line = b"Access-Control-Allow-Origin: %b\r\n" % self._named(origin)
            request.response_edits.append(Edit(b"access-control-allow-origin", line, False))
            request.response_edits += self._extras
        if not self._all:
            request.response_edits.append(_VARY)

    def _allows(self, origin: bytes) -> bool:
        return self._all or (
            len(origin) <= _MAX_ORIGIN_BYTES
            and (
                origin in self._exact or any(pattern in self._exact for pattern in patterns(origin))
            )
        )

    def _named(self, origin: bytes) -> bytes:
        return b"*" if self._all else origin

    def _refusal(self) -> Answer:
        return Answer(
            403,
            _PREFLIGHT_VARY,
            code="origin_refused",
            message="the service does not allow requests from this origin",
        )

    def _preflight(self, request: Request, origin: bytes, method: bytes) -> Answer:
        asked = b", ".join(values_of(b"access-control-request-headers", request.fields))
        headers = (
            (asked if _NAMES.fullmatch(asked) else b"") if self._headers is None else self._headers
        )
        methods = (
            method if self._methods is None and _NAMES.fullmatch(method) else self._methods or b""
        )
        lines = (
            b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Methods:"
            b" %b\r\n%b%bAccess-Control-Max-Age: %d\r\n"
            % (
                self._named(origin),
                methods,
                b"Access-Control-Allow-Headers: %b\r\n" % headers if headers else b"",
                b"".join(edit.lines for edit in self._extras if b"credentials" in edit.name),
                self._max_age,
            )
        )
        return Answer(204, lines + _PREFLIGHT_VARY)


def _one(values: Sequence[bytes]) -> bytes | None:
    return values[0] if len(values) == 1 else None


def patterns(origin: bytes) -> Iterator[bytes]:
    """Yield each wildcard pattern that matches an origin: `*.` replaces its first labels.

    Looking these up in a set makes the cost independent of the number of configured origins.
    """
    match = _WITH_LABELS.fullmatch(origin)
    if match is not None:
        scheme, domain, port = match.groups(b"")
        while domain:
            _, _, domain = domain.partition(b".")
            yield b"%b*.%b%b" % (scheme, domain, port)
