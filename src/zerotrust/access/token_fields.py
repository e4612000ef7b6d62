"""Tokens of machines and native apps in the header fields of a request.

A token is in one of these fields:

* `X-0Trust-Token`;
* `Authorization: Bearer TOKEN`, or the password of `Authorization: Basic`;
* fields of other products, for apps that know only those, where the rule names them
  (`token_headers`): `CF-Access-Client-Secret` of Cloudflare Access, `P-Access-Token` of Pangolin.
  These products have a second field with an id, which may have any value here.

The fields are removed before the backend. A bearer token or password without our prefix is the
backend's, and passes. A request with two different tokens counts as one without a token.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from zerotrust.access.secret_format import APP, MACHINE, is_secret
from zerotrust.http.headers import folded

_PREFIX: Final = b"0t_"
_KINDS: Final = (MACHINE, APP)
_MAX_TOKEN: Final = 128
"""Longer values are no tokens of ours, and are not kept."""

_PAIRS: Final = {
    "cf_access": (b"cf-access-client-secret", b"cf-access-client-id"),
    "pangolin": (b"p-access-token", b"p-access-token-id"),
}
"""The field with the secret, and the field with the id."""

_SUSPECT: Final = re.compile(
    rb"\n(?:[Aa](?i:uthorization)|[Cc][Ff][^0-9A-Za-z](?i:access)"
    rb"|[Pp][^0-9A-Za-z](?i:access))"
)


class TokenFields(NamedTuple):
    """The token of a request.

    Attributes:
        secret: the token; empty if there is none, or there are several.
        lines: the header lines without it.
    """

    secret: str
    lines: bytes


def find_token(own: bytes | None, lines: bytes, styles: Sequence[str] = ()) -> TokenFields:
    """Return the token of a request, and its lines without the token.

    Args:
        own: the value of `X-0Trust-Token` (`RequestFields.token`).
        lines: canonical header lines.
        styles: `token_headers` of the rule.
    """
    found: set[str] = set()
    if own is not None:
        found.update(_text(value.strip()) for value in own.split(b","))
    if _SUSPECT.search(b"\n" + lines) is not None:
        others, lines = _of_lines(lines, styles)
        found |= others
    if len(found) != 1:
        return TokenFields("", lines)
    secret = found.pop()
    known = any(is_secret(secret, prefix) for prefix in _KINDS)
    return TokenFields(secret if known else "", lines)


def _of_lines(lines: bytes, styles: Sequence[str]) -> tuple[frozenset[str], bytes]:
    """Return all tokens in header lines, and the other lines."""
    pairs = [_PAIRS[style] for style in styles]
    secrets = {secret for secret, _ in pairs}
    ours = {name for pair in pairs for name in pair}
    found: set[str] = set()
    kept: list[bytes] = []
    for line in lines.splitlines(True):
        name, _, rest = line.partition(b":")
        plain, value = folded(name), rest.strip()
        token = _of_authorization(value) if plain == b"authorization" else b""
        if token:
            found.add(_text(token))
        elif plain not in ours:
            kept.append(line)
        elif plain in secrets and name.lower() == plain:
            found.add(_text(value))
    return frozenset(found), b"".join(kept)


def _of_authorization(value: bytes) -> bytes:
    """Return our token in the value of Authorization; empty if there is none."""
    scheme, _, credentials = value.partition(b" ")
    credentials = credentials.strip()
    if scheme.lower() == b"bearer":
        token = credentials
    elif scheme.lower() == b"basic":
        try:
            token = base64.b64decode(credentials).partition(b":")[2]
        except binascii.Error:
            return b""
    else:
        return b""
    return token if token.startswith(_PREFIX) else b""


def _text(token: bytes) -> str:
    return token[:_MAX_TOKEN].decode("latin-1")
