"""Secrets of people and machines: their format, and their digest.

`0t_m_` machine, `0t_a_` app, `0t_l_` share link, `0t_i_` invitation, `0t_s_` sign-in
link; then 256 random bits in base64url (43 characters) and their CRC-32 in base64url (6
characters). The prefix lets scanners find a leaked secret; with the check sum, a typing error is no
look-up.
"""

import base64
import hashlib
import re
import secrets
import zlib
from typing import Final

MACHINE: Final = "0t_m_"
APP: Final = "0t_a_"
LINK: Final = "0t_l_"
INVITATION: Final = "0t_i_"
SIGN_IN_LINK: Final = "0t_s_"

_SECRET: Final = re.compile(r"0t_[malis]_[A-Za-z0-9_-]{49}")
_COOKIE: Final = re.compile(rb"[A-Za-z0-9_-]{43}")


def new_secret(prefix: str) -> str:
    """Return a new random secret with this prefix."""
    body = secrets.token_urlsafe(32)
    return f"{prefix}{body}{_check(prefix + body)}"


def is_secret(text: str, prefix: str = "") -> bool:
    """Return True if the text has the form of a secret (with this prefix) and its check sum."""
    return (
        _SECRET.fullmatch(text) is not None
        and text.startswith(prefix)
        and _check(text[:-6]) == text[-6:]
    )


def new_cookie() -> str:
    """Return 32 random bytes in base64url: the value of a cookie or code."""
    return secrets.token_urlsafe(32)


def is_cookie(value: bytes) -> bool:
    """Return True if the value has the form of `new_cookie`."""
    return _COOKIE.fullmatch(value) is not None


def digest_of(secret: bytes) -> bytes:
    """Return the SHA-256 of a secret, which the database and the index have in its place."""
    return hashlib.sha256(secret).digest()


def _check(text: str) -> str:
    crc = zlib.crc32(text.encode("ascii")).to_bytes(4, "big")
    return base64.urlsafe_b64encode(crc).rstrip(b"=").decode("ascii")
