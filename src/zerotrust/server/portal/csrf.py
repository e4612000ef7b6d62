"""Protection of forms against requests that other pages cause (CSRF)."""

import base64
import hmac
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from zerotrust.errors import AccessRefused
from zerotrust.server.portal.browser_cookies import COOKIE, cookie_of

FIELD: Final = "csrf"
"""Name of the form field with the token."""


def token_of(request: Request) -> str:
    """Return the token that is bound to the browser's sign-in or pass; empty without one."""
    cookie = cookie_of(request, COOKIE)
    if cookie is None:
        return ""
    digest = hmac.digest(cookie, b"csrf", "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def check_origin(request: Request, *, origin: str) -> None:
    """Refuse a request that does not come from a page of this origin.

    Raises:
        AccessRefused: another page caused it, or it does not say.
    """
    site = request.headers.get("sec-fetch-site")
    same = site == "same-origin" if site else request.headers.get("origin") == origin
    if not same:
        raise AccessRefused("this form was sent by another page; open this page again")


def check_token(request: Request, form: Mapping[str, str], *, origin: str) -> None:
    """Refuse a form that does not have the token of the browser's session, or another origin.

    Raises:
        AccessRefused: see `check_origin`; or the form is from before the last sign-in.
    """
    check_origin(request, origin=origin)
    token = token_of(request)
    given = form.get(FIELD, "").encode("utf-8", "replace")
    if not token or not hmac.compare_digest(token.encode("ascii"), given):
        raise AccessRefused("this page is too old; open it again")
