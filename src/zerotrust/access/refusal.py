"""Answers of the server to requests that may not pass the gate of their host name.

A person's page load is led to the sign-in. Everything else gets a status: a redirect would lose the
body of a form, and a script or a WebSocket could not follow it.
"""

import base64
import hashlib
import json
from enum import Enum
from html import escape
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from zerotrust.access.cookies import WAY
from zerotrust.access.hand_over import ARRIVAL_PATH, GO_PATH, WAY_SECONDS, Attempt, new_way
from zerotrust.access.return_target import safe_target

LOGIN_REQUIRED: Final = "login_required"
ACCESS_DENIED: Final = "access_denied"
ORIGIN_REFUSED: Final = "origin_refused"
UNAVAILABLE: Final = "access_unavailable"
RATE_LIMITED: Final = "rate_limited"
"""Codes in X-0Trust-Error."""

SIGN_OUT_PATH: Final = "/.0trust/out"
"""Page of each host name with a button to sign out."""

_STYLE: Final = (
    ":root{color-scheme:light dark;background:Canvas;color:CanvasText;"
    "font:16px/1.5 system-ui,sans-serif}"
    "body{max-width:32rem;margin:12vh auto;padding:0 1rem}h1{font-size:1.4rem}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGES: Final = frozenset((b"document", b"empty"))
"""Page loads that pass through the service worker of a page lose their destination."""
_FRAMES: Final = frozenset((b"iframe", b"frame", b"embed", b"object", b"fencedframe"))
_TARGET_SAFE: Final = "/!$&'()*+,;=:@?%-._~[]|^`{}\"<>"
"""Characters of a target that stay as they are; other bytes are percent-encoded."""


class AskedFor(Enum):
    """Kind of a request, by what its client can do with an answer."""

    PAGE = "page"
    """A person's page load by GET."""
    FORM = "form"
    """A person's page load by another method."""
    FRAME = "frame"
    """A page inside another page."""
    PREFLIGHT = "preflight"
    UPGRADE = "upgrade"
    SCRIPT = "script"
    """A request of a script or of a part of a page, in a browser."""
    PROGRAM = "program"
    """A request of another program, or of a browser that does not say what it is for."""


class RefusedRequest(NamedTuple):
    """A request to refuse.

    Attributes:
        target: path and query as the client sent them.
        lines: canonical header lines.
        upgrade: the request asks for another protocol.
        way: the browser's way cookie, or None.
    """

    method: bytes
    target: bytes
    host: str
    host_field: bytes
    lines: bytes
    upgrade: bool
    way: bytes | None


class Refusal(NamedTuple):
    """An answer; `lines` are header lines in canonical form, without framing."""

    status: int
    lines: bytes
    body: bytes
    code: str


def asked_for(method: bytes, lines: bytes, *, upgrade: bool) -> AskedFor:
    """Return the kind of a request."""
    if upgrade:
        return AskedFor.UPGRADE
    if is_preflight(method, lines):
        return AskedFor.PREFLIGHT
    mode, destination = _value(b"sec-fetch-mode", lines), _value(b"sec-fetch-dest", lines)
    if mode or destination:
        if mode != b"navigate":
            return AskedFor.SCRIPT
        if destination in _FRAMES:
            return AskedFor.FRAME
        page = destination in _PAGES
    else:
        page = b"text/html" in _value(b"accept", lines).lower()
    if not page or method == b"HEAD":
        return AskedFor.SCRIPT if mode else AskedFor.PROGRAM
    return AskedFor.PAGE if method == b"GET" else AskedFor.FORM


def is_preflight(method: bytes, lines: bytes) -> bool:
    """Return True for a CORS preflight (Fetch standard)."""
    return (
        method == b"OPTIONS"
        and bool(_value(b"origin", lines))
        and bool(_value(b"access-control-request-method", lines))
    )


def origin_of(lines: bytes) -> bytes:
    """Return the value of the only Origin field; empty without one."""
    return _value(b"origin", lines)


def sign_in_refusal(request: RefusedRequest, *, auth_origin: str, basic: bool = False) -> Refusal:
    """Return the answer to a request that needs a sign-in, or a newer one.

    Args:
        auth_origin: scheme, host and port of the sign-in pages.
        basic: programs are asked for a token as password (RFC 7617).
    """
    kind = asked_for(request.method, request.lines, upgrade=request.upgrade)
    match kind:
        case AskedFor.PAGE:
            return _begin(request, auth_origin)
        case AskedFor.FORM:
            text = (
                "<p>Your form was <strong>not sent</strong>: you are not signed in.</p>"
                f'<p><a href="{ARRIVAL_PATH}" target="_blank" rel="noopener">Sign in</a> (opens a'
                " new tab). Then reload this page; the browser offers to send the form again.</p>"
            )
            return _page(401, LOGIN_REQUIRED, "Not sent: sign in first", text)
        case AskedFor.FRAME:
            target = escape(safe_target(_target(request)), quote=True)
            text = (
                f'<p><a href="{target}" target="_blank" rel="noopener">Sign in</a> (opens a new'
                " tab). Then reload this page.</p>"
            )
            return _page(401, LOGIN_REQUIRED, "Sign in to see this content", text, framed=True)
    # Without a way cookie: the requests of one page would overwrite each other's.
    login_url = f"https://{request.host_field.decode('ascii')}{ARRIVAL_PATH}"
    challenge = _CHALLENGE if basic and kind is AskedFor.PROGRAM else b""
    if kind is AskedFor.SCRIPT or (kind is AskedFor.PROGRAM and _wants_json(request)):
        return _data(401, LOGIN_REQUIRED, {"login_url": login_url}, challenge)
    message = f"Sign in: open {login_url} in a browser, or send a token."
    return _text(401, LOGIN_REQUIRED, message, challenge)


def denial(request: RefusedRequest, *, name: str | None) -> Refusal:
    """Return the answer to a request that may not pass.

    Args:
        name: of the user who has signed in; None without one.
    """
    message = "You may not use this page."
    match asked_for(request.method, request.lines, upgrade=request.upgrade):
        case AskedFor.PAGE | AskedFor.FORM as kind:
            return _page(403, ACCESS_DENIED, "Access denied", _denied(name, kind))
        case AskedFor.FRAME as kind:
            return _page(403, ACCESS_DENIED, "Access denied", _denied(name, kind), framed=True)
        case AskedFor.SCRIPT:
            return _data(403, ACCESS_DENIED, {"message": message}, b"")
        case AskedFor.PROGRAM if _wants_json(request):
            return _data(403, ACCESS_DENIED, {"message": message}, b"")
    return _text(403, ACCESS_DENIED, message, b"")


def origin_refusal() -> Refusal:
    """Return the answer to an upgrade with a cookie that a page of another origin asks for."""
    message = "A page of another origin may not open connections with your sign-in."
    return _text(403, ORIGIN_REFUSED, message, b"")


def unavailable(request: RefusedRequest) -> Refusal:
    """Return the answer while the server cannot know who has been signed out."""
    message = "The server cannot check your sign-in at the moment. Try again in a minute."
    lines = b"Retry-After: 60\r\n"
    match asked_for(request.method, request.lines, upgrade=request.upgrade):
        case AskedFor.PAGE | AskedFor.FORM:
            page = _page(503, UNAVAILABLE, "Try again in a minute", f"<p>{message}</p>")
        case AskedFor.FRAME:
            text = f"<p>{message}</p>"
            page = _page(503, UNAVAILABLE, "Try again in a minute", text, framed=True)
        case _:
            page = _text(503, UNAVAILABLE, message, b"")
    return page._replace(lines=lines + page.lines)


def too_many(wait: int) -> Refusal:
    """Return the answer to a request beyond the rate limit of a profile.

    Args:
        wait: seconds until the next request may pass.
    """
    message = f"Too many requests. Try again in {wait} s."
    return _text(429, RATE_LIMITED, message, b"Retry-After: %d\r\n" % wait)


# ---- parts of answers

_COMMON: Final = (
    b"Content-Type: %b\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
    b"X-0Trust-Error: %b\r\n%b"
)
_CHALLENGE: Final = b'WWW-Authenticate: Basic realm="0Trust", charset="UTF-8"\r\n'
_POLICY: Final = (
    "Content-Security-Policy: default-src 'none'; style-src 'sha256-"
    f"{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
).encode()
_HTML: Final = b"text/html; charset=utf-8"


def _page(status: int, code: str, title: str, text: str, *, framed: bool = False) -> Refusal:
    """Return a page; `text` is HTML. With `framed` other pages may show it inside."""
    policy = _POLICY + (b"" if framed else b"; frame-ancestors 'none'") + b"\r\n"
    lines = _COMMON % (_HTML, code.encode(), policy + b"Referrer-Policy: no-referrer\r\n")
    shown = escape(title)
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{shown}</title>'
        f"<style>{_STYLE}</style><main><h1>{shown}</h1>{text}</main></html>\n"
    )
    return Refusal(status, lines, body.encode(), code)


def _data(status: int, code: str, values: dict[str, str], lines: bytes) -> Refusal:
    body = json.dumps({"error": code, **values}) + "\n"
    lines = _COMMON % (b"application/json", code.encode(), lines)
    return Refusal(status, lines, body.encode(), code)


def _text(status: int, code: str, message: str, lines: bytes) -> Refusal:
    lines = _COMMON % (b"text/plain; charset=utf-8", code.encode(), lines)
    return Refusal(status, lines, f"{message}\n".encode(), code)


def _denied(name: str | None, kind: AskedFor) -> str:
    target = "" if kind is AskedFor.PAGE else ' target="_blank" rel="noopener"'
    if name is None:
        return "<p>This page is not open to you.</p>"
    return (
        f"<p>You are signed in as <strong>{escape(name[:200])}</strong>, who may not use this"
        f' page.</p><p><a href="{SIGN_OUT_PATH}"{target}>Use another account</a></p>'
    )


def _begin(request: RefusedRequest, auth_origin: str) -> Refusal:
    """Return the redirect with which an attempt to sign in begins; it sets the way cookie."""
    way = request.way or new_way()
    attempt = Attempt.begin(way, host=request.host, to=_target(request))
    location = f"{auth_origin}{GO_PATH}?{attempt.to_query()}"
    lines = b"Location: %b\r\nCache-Control: no-store\r\n" % location.encode("ascii")
    if request.way is None:
        lines += b"Set-Cookie: %b=%b; Max-Age=%d; Path=/; Secure; HttpOnly; SameSite=Lax\r\n" % (
            WAY,
            way,
            WAY_SECONDS,
        )
    return Refusal(302, lines, b"", LOGIN_REQUIRED)


def _target(request: RefusedRequest) -> str:
    """Return the target as characters of a URL; browsers and scripts may send other bytes."""
    return quote_from_bytes(request.target, safe=_TARGET_SAFE)


def _wants_json(request: RefusedRequest) -> bool:
    return b"json" in _value(b"accept", request.lines).lower()


def _value(name: bytes, lines: bytes) -> bytes:
    """Return the value of the only field of this name; empty if there is none, or several."""
    plain, start = b"\n" + lines.lower(), b"\n%b: " % name
    begin = plain.find(start)
    if begin < 0 or plain.find(start, begin + 1) >= 0:
        return b""
    begin += len(start) - 1
    return lines[begin : lines.find(b"\r\n", begin)]
