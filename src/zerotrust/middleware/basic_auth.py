"""`basic_auth`: a name and a password (RFC 7617), against hashes that are meant to be slow.

A hash costs up to half a second, so it is computed in a thread (`Verification`), once for all requests that wait for
the same credentials. Credentials that were right are remembered for as long as they are used: not the password, but a
digest of it, with a key that only this process has. They need no thread and wait for nobody. This is no weaker than to
compute the hash again: other users or hashes make another handler, which remembers nothing.

A name that no user has is checked against the hash of some user, always the same one for the same name. So where all
hashes cost the same, the time says nothing about which names exist.
"""

import base64
import binascii
import hashlib
from functools import partial
from typing import Final

import argon2
import bcrypt

from zerotrust.limits.ttl_cache import TtlCache
from zerotrust.middleware.header_edits import delete_field
from zerotrust.middleware.interface import Answer, NeedsVerification, Request, Verification
from zerotrust.model.authentication import BasicAuthConfig
from zerotrust.routing.match import values_of

MAX_REMEMBERED: Final = 4096
MAX_CREDENTIALS_BYTES: Final = 2048
"""Of the field's value; a name and a password of any person fit."""

_BUSY: Final = Answer(503, b"Retry-After: 1\r\n", code="auth_busy", message="too many logins at the same time")
_REMOVE_CREDENTIALS: Final = delete_field("Authorization")


class BasicAuthMiddleware:
    """Lets pass who says a name and its password.

    Args:
        secret: 16 to 64 random bytes, for the digests.
    """

    __slots__ = ("_forward", "_hashes", "_refusal", "_remember", "_remembered", "_secret", "_users")

    def __init__(self, config: BasicAuthConfig, *, secret: bytes) -> None:
        if not config.users:
            raise ValueError("the users of basic_auth were not read from their file")
        self._users = {name.encode(): hashed.encode() for name, hashed in config.users.items()}
        self._hashes = tuple(self._users.values())
        self._secret = secret
        self._remember = config.remember
        self._forward = config.forward_credentials
        self._remembered: TtlCache[bool] = TtlCache(MAX_REMEMBERED)
        challenge = b'WWW-Authenticate: Basic realm="%b", charset="UTF-8"\r\n' % config.realm.encode()
        self._refusal = Answer(401, challenge, code="unauthorized", message="name and password are needed")

    def request(self, request: Request, now: float) -> Answer | NeedsVerification | None:
        values = values_of(b"authorization", request.fields)
        credentials = _credentials(values[0]) if len(values) == 1 else None
        if credentials is None:
            return self._refusal
        digest = self._digest(b":".join(credentials))
        if not self._remembered.get(digest, now):
            return NeedsVerification(self, Verification(digest, self._check(*credentials)))
        self._pass(digest, request, now)
        return None

    def verified(self, verification: Verification, result: bool | None, request: Request, now: float) -> Answer | None:
        if result is None:
            return _BUSY
        if not result:
            return self._refusal
        self._pass(verification.digest, request, now)
        return None

    def _pass(self, digest: bytes, request: Request, now: float) -> None:
        self._remembered.put(digest, True, until=now + self._remember)
        if not self._forward:
            request.edits.append(_REMOVE_CREDENTIALS)

    def _check(self, name: bytes, password: bytes) -> "partial[bool]":
        known = self._users.get(name)
        stand_in = self._hashes[int.from_bytes(self._digest(name)) % len(self._hashes)]
        return partial(_verify, known or stand_in, password, known is not None)

    def _digest(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._secret, digest_size=32).digest()


def _credentials(value: bytes) -> tuple[bytes, bytes] | None:
    """Name and password of an Authorization field; None where it has none."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic" or len(encoded) > MAX_CREDENTIALS_BYTES:
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (name, password) if colon else None


def _verify(hashed: bytes, password: bytes, known: bool) -> bool:
    try:
        if hashed.startswith(b"$2"):
            right = bcrypt.checkpw(password, hashed)
        else:
            right = argon2.PasswordHasher().verify(hashed, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError, ValueError):
        # bcrypt raises on passwords of more than 72 bytes, of which it would see only these.
        right = False
    return right and known
