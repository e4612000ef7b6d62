"""Cookies that the server gives to browsers: the sign-in or pass, and the way.

Two cookies of one name, or a malformed one, count as none.
"""

import time
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from zerotrust.access.hand_over import WAY_SECONDS, new_way
from zerotrust.access.secret_format import is_cookie
from zerotrust.server.access.sign_ins import IssuedCookie

COOKIE: Final = "__Host-0trust"
"""Value of a sign-in (auth host) or of a pass (other hosts)."""

WAY: Final = "__Host-0trust-way"
"""Random value of a browser, the same for all its tabs while they sign in."""

MAX_AGE: Final = 400 * 86400
"""Longest Max-Age that browsers accept (RFC 6265bis)."""


def cookie_of(request: Request, name: str) -> bytes | None:
    """Return the only well-formed cookie of this name, else None."""
    found = [
        value.strip(" \t")
        for line in request.headers.getlist("cookie")
        for key, _, value in (pair.partition("=") for pair in line.split(";"))
        if key.strip(" \t") == name
    ]
    if len(found) != 1 or not found[0].isascii():
        return None
    value = found[0].encode("ascii")
    return value if is_cookie(value) else None


def set_sign_in(response: Response, issued: IssuedCookie) -> None:
    """Give the browser the cookie of a new sign-in or pass, for what is left of its lifetime."""
    left = int(issued.credential.ends_at - time.time())
    _set(response, COOKIE, issued.value, max(1, min(left, MAX_AGE)))


def remove_sign_in(response: Response) -> None:
    """Remove the cookie of a sign-in or pass."""
    _set(response, COOKIE, "", 0)


def way_of(request: Request) -> bytes | None:
    """Return the value of the way cookie; None without a usable one."""
    return cookie_of(request, WAY)


def set_way(response: Response, way: bytes) -> None:
    """Give the browser a way cookie."""
    _set(response, WAY, way.decode("ascii"), WAY_SECONDS)


def ensure_way(request: Request, response: Response) -> bytes:
    """Return the value of the way cookie, which is new if the browser has none.

    The cookie is sent again in any case, so that it does not expire during the attempt.
    """
    way = way_of(request) or new_way()
    set_way(response, way)
    return way


def _set(response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax"
    )
