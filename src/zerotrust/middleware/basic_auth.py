"""`basic_auth`: user names and passwords (RFC 7617), with slow password hashes.

Verifying a hash takes up to 0.5 s, so it runs in a thread (`Verification`), once for all requests
that wait for the same credentials. Verified credentials are remembered while they are used: not the
password, but a digest of it with a key of this process. Requests with remembered credentials need
no thread and do not wait. This is as safe as verifying the hash again: when users or hashes change,
the configuration builds another handler, which remembers nothing.

For an unknown user name, the password is verified against the hash of some user, always the same
one for the same name. If all hashes cost the same, the response time does not reveal which names
exist.
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
"""Maximum length of the encoded user name and password."""

_BUSY: Final = Answer(
    503,
    b"Retry-After: 1\r\n",
    code="auth_busy",
    message="too many logins at the same time; try again",
)
_REMOVE_CREDENTIALS: Final = delete_field("Authorization")


class BasicAuthMiddleware:
    """Requires a valid user name and password.

    Args:
        secret: 16 to 64 random bytes, the key of the digests.

    Attributes:
        remembered: digests of credentials that were verified, and their results.
    """

    __slots__ = ("_forward", "_hashes", "_refusal", "_remember", "_secret", "_users", "remembered")

    def __init__(self, config: BasicAuthConfig, *, secret: bytes) -> None:
        if not config.users:
            raise ValueError("users_file of basic_auth was not read")
        self._users = {name.encode(): hashed.encode() for name, hashed in config.users.items()}
        self._hashes = tuple(self._users.values())
        self._secret = secret
        self._remember = config.remember
        self._forward = config.forward_credentials
        self.remembered: TtlCache[bool] = TtlCache(MAX_REMEMBERED)
        challenge = (
            b'WWW-Authenticate: Basic realm="%b", charset="UTF-8"\r\n' % config.realm.encode()
        )
        self._refusal = Answer(
            401,
            challenge,
            code="unauthorized",
            message="a valid user name and password are required",
        )

    def request(self, request: Request, now: float) -> Answer | NeedsVerification | None:
        values = values_of(b"authorization", request.fields)
        credentials = _credentials(values[0]) if len(values) == 1 else None
        if credentials is None:
            return self._refusal
        digest = self._digest(b":".join(credentials))
        if not self.remembered.get(digest, now):
            return NeedsVerification(self, Verification(digest, self._check(*credentials)))
        self._pass(digest, request, now)
        return None

    def verified(
        self, verification: Verification, result: bool | None, request: Request, now: float
    ) -> Answer | None:
        if result is None:
            return _BUSY
        if not result:
            return self._refusal
        self._pass(verification.digest, request, now)
        return None

    def _pass(self, digest: bytes, request: Request, now: float) -> None:
        self.remembered.put(digest, True, until=now + self._remember)
        if not self._forward:
            request.edits.append(_REMOVE_CREDENTIALS)

    def _check(self, name: bytes, password: bytes) -> "partial[bool]":
        known = self._users.get(name)
        stand_in = self._hashes[int.from_bytes(self._digest(name)) % len(self._hashes)]
        return partial(_verify, known or stand_in, password, known is not None)

    def _digest(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._secret, digest_size=32).digest()


def _credentials(value: bytes) -> tuple[bytes, bytes] | None:
    """Return name and password from an `Authorization` header; None if it has none."""
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
        # bcrypt raises on passwords of more than 72 bytes, because it would ignore the rest.
        right = False
    return right and known
