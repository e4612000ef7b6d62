"""Cookies of this server among those of a request, and among those that a backend sets.

Browsers send the server's cookies to the host name of a service. They are found, and removed before
the request is forwarded, because the backend could use them. Removal is wide: it takes every
spelling of the names that some backend reads as one of them. Search is narrow: a spelling that no
browser of ours sends proves nothing.
"""

import re
from typing import Final

from zerotrust.access.secret_format import is_cookie
from zerotrust.http.parse_cache import recent

COOKIE: Final = b"__Host-0trust"
"""Name of the cookie with the secret of a sign-in or pass."""
WAY: Final = b"__Host-0trust-way"
"""Name of the cookie with the browser's own secret while it signs in."""

_TOKEN: Final = rb"!#$%&*+\-.^_`|~0-9A-Za-z"


def _spelled(character: int) -> bytes:
    """Return an expression for a character as PHP and others write it in names of cookies.

    They decode percent-encoding, and some characters become `_` (CVE-2020-7070, CVE-2022-31629).
    """
    others = b"_.+[ " if character == 0x5F else bytes((character,))
    forms = [re.escape(bytes((other,))) for other in others]
    return b"(?:%b)" % b"|".join((*forms, *(b"%%%02x" % other for other in others)))


_NAME: Final = b"".join(map(_spelled, COOKIE)) + b"(?:%b)?+" % b"".join(map(_spelled, b"-way"))
_OWN: Final = re.compile(rb"(?i)(?<![^;,\s\"'])[\"']*+%b(?![%b])[^;]*+" % (_NAME, _TOKEN))
_SET: Final = re.compile(
    rb"(?i)\r\nset-cookie2?+:[\s=\"']*+%b(?![%b])[^\r]*+(?=\r\n)" % (_NAME, _TOKEN)
)


def cookie_value(name: bytes, fields: list[bytes]) -> bytes | None:
    """Return the value of the only cookie of this name if it is well-formed, else None.

    Args:
        fields: values of the `Cookie` fields of a request.
    """
    pairs = [
        pair.partition(b"=") for field in fields if name in field for pair in field.split(b";")
    ]
    found = [value.strip(b" \t") for key, _, value in pairs if key.strip(b" \t") == name]
    return found[0] if len(found) == 1 and is_cookie(found[0]) else None


def without_own(field: bytes) -> bytes:
    """Return the value of a `Cookie` field without the server's cookies; empty if none is left."""
    rest, count = _OWN.subn(b"", field)
    if not count:
        return field
    return b"; ".join(pair for part in rest.split(b";") if (pair := part.strip(b" \t")))


@recent
def without_own_set_cookie(block: bytes) -> bytes:
    """Return the head block of a response without `Set-Cookie` fields of the server's cookies."""
    return _SET.sub(b"", block)
