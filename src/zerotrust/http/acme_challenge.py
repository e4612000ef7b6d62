"""Requests for HTTP-01 challenges of ACME (RFC 8555 s8.3).

An authority sends `GET /.well-known/acme-challenge/TOKEN` to a host name, and expects the key
authorization: the token, a dot, and the thumbprint of the account's key. The Caddy that has ordered
the certificate knows it. Servers that share a database ask each other for it, with a query that
keeps the one that is asked from asking on.
"""

import re
from typing import Final

from zerotrust.http.head import RequestHead

CHALLENGE_PREFIX: Final = b"/.well-known/acme-challenge/"
MAX_KEY_AUTHORIZATION: Final = 172
"""Bytes of the longest key authorization, with a token of 128 characters."""
UNKNOWN_CHALLENGE: Final = b"unknown challenge\n"
"""Body with which a server answers another one that has asked it."""
_ASKED: Final = b"?0trust-member"
_TARGET: Final = re.compile(
    rb"%b([A-Za-z0-9_-]{22,128})(%b)?" % (re.escape(CHALLENGE_PREFIX), re.escape(_ASKED))
)
"""A token has 128 random bits or more, in base64url: 22 characters."""
_THUMBPRINT: Final = re.compile(rb"[A-Za-z0-9_-]{43}")


def challenge_of(head: RequestHead) -> tuple[bytes, bool] | None:
    """Return the token that a request asks for, and True if another server asks; None if it is a
    request of another kind."""
    match = _TARGET.fullmatch(head.target)
    if match is None or head.method != b"GET" or head.fields.upgrade is not None:
        return None
    return match[1], match[2] is not None


def member_target(token: bytes) -> bytes:
    """Return the target with which a server asks another one."""
    return CHALLENGE_PREFIX + token + _ASKED


def is_key_authorization(body: bytes, token: bytes) -> bool:
    """Return True if an answer is a key authorization for the token."""
    return body.startswith(token + b".") and bool(_THUMBPRINT.fullmatch(body, len(token) + 1))
