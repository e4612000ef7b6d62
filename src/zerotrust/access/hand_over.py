"""Hand-over of a sign-in from the auth host to a service's host: OAuth's code with PKCE.

1. The service's host sends the browser to `https://AUTH_HOST/go` with an `Attempt`: a random N, and
   the challenge C = SHA-256(V). The verifier V = HMAC(way, N || target), where the *way* is a
   random value that this browser has in a cookie of the service's host.
2. The auth host sends it back to `/.0trust/in` with an `Arrival`: a one-time code, N, the target.
3. The service's host computes V from its own cookie. The code is good for this V only.

A code is useless in another browser, and another one's code is useless in this browser. All that an
attempt consists of travels with it, so tabs don't disturb one another.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qs, urlencode

from zerotrust.access.return_target import safe_target

GO_PATH: Final = "/go"
"""Page of the auth host that an attempt is sent to."""

ARRIVAL_PATH: Final = "/.0trust/in"
"""Path of a service's host that an arrival is sent to."""

WAY_SECONDS: Final = 3600
"""Lifetime of the way cookie."""

CODE_SECONDS: Final = 60
"""Lifetime of a code."""

MAX_QUERY: Final = 8192
"""Longest query in characters: a target of 2 KiB, each byte percent-encoded, and the rest."""

_AGAIN: Final = "&again=1"
"""End of the query of an attempt that follows one whose code was not accepted."""
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to sign in to a host name.

    Attributes:
        host: host name of the service.
        to: where the browser returns to on this host (`return_target`).
        n: 128 random bits in base64url.
        challenge: SHA-256 of the verifier.
        again: the code of a former attempt was not accepted.
    """

    host: str
    to: str
    n: str
    challenge: bytes
    again: bool = False

    @classmethod
    def begin(cls, way: bytes, *, host: str, to: str, again: bool = False) -> Self:
        """Return a new attempt of the browser with this way cookie."""
        target, n = safe_target(to), secrets.token_urlsafe(16)
        return cls(host, target, n, challenge_of(verifier_of(way, n, target)), again)

    @classmethod
    def from_query(cls, query: str) -> Self | None:
        """Return the attempt in a query; None if there is none, or it is malformed."""
        fields = _fields(query, "host", "to", "n", "ch")
        if fields is None:
            return None
        host, to, n, challenge = fields
        return cls.from_texts(host, to, n, challenge, again=_is_again(query))

    @classmethod
    def from_texts(
        cls, host: str, to: str, n: str, challenge: str, *, again: bool = False
    ) -> Self | None:
        """Return the attempt with these values; None if one of them is malformed."""
        if len(host) > 253 or not (
            _HOST.fullmatch(host) and _NONCE.fullmatch(n) and _SECRET.fullmatch(challenge)
        ):
            return None
        decoded = base64.urlsafe_b64decode(challenge + "=")
        return cls(host, safe_target(to), n, decoded, again)

    def to_query(self) -> str:
        """Return the attempt as a query."""
        challenge = base64.urlsafe_b64encode(self.challenge).rstrip(b"=").decode("ascii")
        fields = {"host": self.host, "to": self.to, "n": self.n, "ch": challenge}
        return urlencode(fields) + _AGAIN * self.again


@dataclass(frozen=True, slots=True)
class Arrival:
    """A browser's return to a service's host.

    Attributes:
        code: one-time code of the hand-over.
        n, to, again: those of the attempt.
    """

    code: str = field(repr=False)
    n: str
    to: str
    again: bool = False

    @classmethod
    def from_query(cls, query: str) -> Self | None:
        """Return the arrival in a query; None if there is none, or it is malformed."""
        fields = _fields(query, "code", "n", "to")
        if fields is None:
            return None
        code, n, to = fields
        if not (_SECRET.fullmatch(code) and _NONCE.fullmatch(n)):
            return None
        return cls(code, n, safe_target(to), _is_again(query))

    def to_query(self) -> str:
        """Return the arrival as a query."""
        return urlencode({"code": self.code, "n": self.n, "to": self.to}) + _AGAIN * self.again

    def verifier(self, way: bytes) -> bytes:
        """Return the verifier of the browser with this way cookie."""
        return verifier_of(way, self.n, self.to)


def new_way() -> bytes:
    """Return a new value of the way cookie."""
    return secrets.token_urlsafe(32).encode("ascii")


def verifier_of(way: bytes, n: str, to: str) -> bytes:
    """Return V. N has a fixed length, so no two pairs give the same message."""
    return hmac.digest(way, f"{n}{to}".encode("ascii"), "sha256")


def challenge_of(verifier: bytes) -> bytes:
    """Return C, the SHA-256 of a verifier."""
    return hashlib.sha256(verifier).digest()


def _is_again(query: str) -> bool:
    return query.endswith(_AGAIN)


def _fields(query: str, *names: str) -> list[str] | None:
    """Return the values of these fields of a query, each of which occurs once."""
    if len(query) > MAX_QUERY:
        return None
    try:
        values = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=16)
    except ValueError:  # too many fields, or not UTF-8
        return None
    found = [values.get(name, []) for name in names]
    return [value[0] for value in found] if all(len(v) == 1 for v in found) else None
