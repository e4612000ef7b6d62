"""Credentials that a request shows: the cookie of a sign-in or pass, or a token.

Most heads repeat, so the result is remembered for each parsed head (as in `http.parse_cache`), with
the digests by which the index knows credentials.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from zerotrust.access.cookies import COOKIE, WAY, cookie_value, without_own
from zerotrust.access.identity_headers import is_identity_field
from zerotrust.access.secret_format import digest_of
from zerotrust.access.token_fields import find_token
from zerotrust.http.head import RequestFields
from zerotrust.http.headers import folded
from zerotrust.http.parse_cache import MAX_BYTES, MAX_HEADS


class ShownCredentials:
    """Credentials that a request shows, and the fields that are left of its header.

    Attributes:
        cookie: digest of the cookie of a sign-in or pass; None without one.
        token: digest of the token; None without one.
        way: value of the way cookie; None without one.
        original: the fields as they came.
        fields: the fields to forward.
    """

    __slots__ = ("cookie", "fields", "original", "token", "way")

    def __init__(
        self,
        cookie: bytes | None,
        token: bytes | None,
        way: bytes | None,
        *,
        original: RequestFields,
        fields: RequestFields,
    ) -> None:
        self.cookie = cookie
        self.token = token
        self.way = way
        self.original = original
        self.fields = fields


def shown_credentials(
    fields: RequestFields, *, gated: bool, styles: tuple[str, ...] = ()
) -> ShownCredentials:
    """Return the credentials in the header fields of a request.

    Args:
        gated: the host name has a gate, so clients may not send fields that name the user.
        styles: `token_headers` of the rule.
    """
    if len(fields.lines) <= MAX_BYTES:
        return _recent(fields, gated, styles)
    return _find(fields, gated, styles)


def without_names(fields: RequestFields, names: tuple[str, ...]) -> RequestFields:
    """Return the fields of a request without those of these names, in any spelling.

    Names of a service's own identity fields (`access.identity_headers`) are the server's alone.
    """
    lines = fields.lines
    return _recent_without(fields, names) if len(lines) <= MAX_BYTES else _without(fields, names)


def _without(fields: RequestFields, names: tuple[str, ...]) -> RequestFields:
    removed = {folded(name.encode()) for name in names}
    rows = fields.lines.splitlines(True)
    kept = [row for row in rows if folded(row.partition(b":")[0]) not in removed]
    return fields if len(kept) == len(rows) else fields.with_lines(b"".join(kept), fields.spoofable)


_recent_without: Final = lru_cache(maxsize=MAX_HEADS)(_without)


def _find(fields: RequestFields, gated: bool, styles: Sequence[str]) -> ShownCredentials:
    secret, lines = find_token(fields.token, fields.lines, styles)
    cookies: list[bytes] = []
    lines = _forwarded(lines, cookies, gated=gated)
    cookie, way = cookie_value(COOKIE, cookies), cookie_value(WAY, cookies)
    spoofable = _forwarded(fields.spoofable, [], gated=gated) if fields.spoofable else b""
    unchanged = lines == fields.lines and spoofable == fields.spoofable
    return ShownCredentials(
        digest_of(cookie) if cookie is not None else None,
        digest_of(secret.encode()) if secret else None,
        way,
        original=fields,
        fields=fields if unchanged else fields.with_lines(lines, spoofable),
    )


_recent: Final = lru_cache(maxsize=MAX_HEADS)(_find)


def _forwarded(lines: bytes, cookies: list[bytes], *, gated: bool) -> bytes:
    """Return the lines to forward; add the values of `Cookie` to the list."""
    kept: list[bytes] = []
    for line in lines.splitlines(True):
        name, _, value = line.partition(b": ")
        plain = folded(name)
        if plain == b"cookie":
            shown = value.removesuffix(b"\r\n")
            if shown:
                cookies.append(shown)
            rest = without_own(shown)
            if rest is shown:
                kept.append(line)
            elif rest:
                kept.append(b"%b: %b\r\n" % (name, rest))
        elif not (gated and is_identity_field(plain)):
            kept.append(line)
    return b"".join(kept)
