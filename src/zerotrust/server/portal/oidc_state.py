"""State, nonce and PKCE verifier of a sign-in at an identity provider.

Servers keep nothing while a browser is at the provider. The state is encrypted with a key that is
derived from the *way* cookie of the auth host, a random value of this browser: the state of another
browser does not open, any number of tabs may sign in at once, and any server may finish what
another one has begun. Nonce and verifier are derived from the same cookie and from a random value
in the state. That value is used up with the sign-in (`spent`), so each state is good for one.

The owner of a browser can read its cookies, and so write states of their own. A state therefore
proves nothing about rights: it says which attempt the browser continues.
"""

import base64
import hmac
import json
import secrets
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self, get_args

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from zerotrust.access.hand_over import Attempt
from zerotrust.access.secret_format import digest_of

STATE_SECONDS: Final = 600
"""Time in which a browser must come back from the provider."""

CLOCK_LEEWAY: Final = 60
"""Difference between the clocks of two machines that is accepted."""

MAX_STATE: Final = 2048
"""Longest state in bytes. Providers and their proxies refuse long URLs."""

_HEADER: Final = {"alg": "dir", "enc": "A256GCM"}
_REGISTRY: Final = jwe.JWERegistry(algorithms=list(_HEADER.values()))

Purpose = Literal["sign_in", "prove_again", "join"]
_PURPOSES: Final[dict[str, Purpose]] = {name: name for name in get_args(Purpose)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInState:
    """A sign-in that has been sent to a provider.

    Attributes:
        provider: name of the provider.
        begun_at: seconds since 1970.
        r: random value that nonce and verifier depend on.
        attempt: the service that the browser goes on to; None for the pages of the auth host. Its
            `n` is empty if its target was too long: then the service begins a new attempt.
        purpose: `prove_again` needs a new proof of identity, `join` adds the account to a user.
        user: id of the user that the account is joined to.
    """

    provider: str
    begun_at: int
    r: bytes = field(repr=False)
    attempt: Attempt | None = None
    purpose: Purpose = "sign_in"
    user: str = ""

    @classmethod
    def begin(
        cls,
        provider: str,
        attempt: Attempt | None,
        *,
        now: float,
        purpose: Purpose = "sign_in",
        user: str = "",
    ) -> Self:
        """Return the state of a new sign-in.

        Args:
            now: seconds since 1970.
        """
        return cls(
            provider=provider,
            begun_at=int(now),
            r=secrets.token_bytes(16),
            attempt=attempt,
            purpose=purpose,
            user=user,
        )

    @property
    def spent(self) -> bytes:
        """Return the digest under which the state is used up."""
        return digest_of(self.r)

    def nonce(self, way: bytes) -> str:
        """Return the nonce, which the provider repeats in the ID token."""
        return _text(hmac.digest(_key(way, "nonce"), self.r, "sha256"))

    def verifier(self, way: bytes) -> str:
        """Return PKCE's verifier, 43 characters."""
        return _text(hmac.digest(_key(way, "pkce"), self.r, "sha256"))

    def seal(self, way: bytes) -> str:
        """Return the state as JWE of at most `MAX_STATE` bytes, for the browser with this way."""
        for state in self._shorter():
            sealed = jwe.encrypt_compact(
                dict(_HEADER), state._to_json(), _oct_key(way), registry=_REGISTRY
            )
            if len(sealed) <= MAX_STATE:
                return sealed
        raise AssertionError("a state without a target is short")

    @classmethod
    def open(cls, sealed: str, way: bytes, *, provider: str, now: float) -> Self | None:
        """Return the state that this browser has been given; None if it is not good.

        It is not good for another browser, for another provider, and after `STATE_SECONDS`.
        """
        if len(sealed) > MAX_STATE or not sealed.isascii():
            return None
        try:
            opened = jwe.decrypt_compact(sealed, _oct_key(way), registry=_REGISTRY).plaintext
            state = cls._from_json(json.loads(opened or b""))
        except (JoseError, ValueError, KeyError, RecursionError):
            return None
        good = now - STATE_SECONDS <= state.begun_at <= now + CLOCK_LEEWAY
        return state if good and state.provider == provider else None

    def _shorter(self) -> list[Self]:
        """Return the state, and states with shorter targets, which the service begins anew."""
        if self.attempt is None:
            return [self]
        path = self.attempt.to.partition("?")[0]
        anew = replace(self.attempt, n="", challenge=b"")
        return [
            self,
            replace(self, attempt=replace(anew, to=path)),
            replace(self, attempt=replace(anew, to="/")),
        ]

    def _to_json(self) -> bytes:
        parts: list[Any] = [self.provider, self.begun_at, _text(self.r), self.purpose, self.user]
        if self.attempt is not None:
            one = self.attempt
            parts += [one.host, one.to, one.n, _text(one.challenge)]
        return json.dumps(parts, separators=(",", ":")).encode("ascii")

    @classmethod
    def _from_json(cls, parts: Any) -> Self:
        """Return the state of its parts, which the owner of the browser could have written.

        Raises:
            ValueError: it is none that a server has written.
        """
        match parts:
            case [str(provider), int(begun_at), str(r), str(purpose), str(user), *rest]:
                return cls(
                    provider=provider,
                    begun_at=begun_at,
                    r=_bytes(r),
                    attempt=_attempt(rest) if rest else None,
                    purpose=_PURPOSES[purpose],
                    user=user,
                )
        raise ValueError("no state")


def _attempt(parts: list[Any]) -> Attempt:
    """Return the attempt of its parts: host, target, N and challenge, or without the latter two.

    Raises:
        ValueError: they are malformed.
    """
    match parts:
        case [str(host), str(to), "", ""]:
            attempt = Attempt.from_texts(host, to, "A" * 22, "A" * 43)
            found = None if attempt is None else replace(attempt, n="", challenge=b"")
        case [str(host), str(to), str(n), str(challenge)]:
            found = Attempt.from_texts(host, to, n, challenge)
        case _:
            found = None
    if found is None or found.to != parts[1]:
        raise ValueError("no attempt")
    return found


def _key(way: bytes, purpose: str) -> bytes:
    info = f"0trust {purpose}".encode("ascii")
    return HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(way)


def _oct_key(way: bytes) -> OctKey:
    return OctKey.import_key(_key(way, "state"))


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _bytes(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
