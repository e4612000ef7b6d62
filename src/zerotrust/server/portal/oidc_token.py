"""ID tokens and logout tokens of identity providers (OpenID Connect Core s3.1.3.7, Back-Channel
Logout s2.6), with the precautions of RFC 8725.

Only asymmetric algorithms that the provider announces are accepted, and only keys of their type: a
public key is never used as a secret, and an unsigned token is refused.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import KeySet

from zerotrust.errors import ProviderFailed
from zerotrust.server.portal.oidc_state import CLOCK_LEEWAY

MAX_SUBJECT: Final = 255
MAX_TOKEN: Final = 128 * 1024
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_SECONDS: Final = 300
"""Longest age of a logout token."""

_MALFORMED: Final = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""Exceptions that joserfc may raise for a malicious token."""

KeysOf = Callable[[str, str | None], Awaitable[KeySet]]
"""Returns the provider's keys for an algorithm and the id of a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Properties that a token must have.

    Attributes:
        issuers: one of them must have issued it.
        algorithms: one of them must have signed it.
        keys: the provider's keys.
    """

    issuers: tuple[str, ...]
    client_id: str
    algorithms: frozenset[str]
    keys: KeysOf


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutToken:
    """A provider's message that a session, or all sessions of a user, have ended."""

    id: str
    subject: str
    session: str


async def id_token_claims(
    token: object, expected: Expected, *, now: float, nonce: str | None
) -> dict[str, Any]:
    """Return the claims of an ID token.

    Args:
        now: seconds since 1970.
        nonce: of the request; None for a token that came with a refresh token.

    Raises:
        ProviderFailed: the token is not valid for this sign-in.
    """
    claims = await _claims(token, expected, now=now, needed=("sub", "exp"))
    if nonce is not None and claims.get("nonce") != nonce:
        raise ProviderFailed("the ID token is of another sign-in (nonce)")
    if not is_subject(claims["sub"]):
        raise ProviderFailed(f"sub is not a text of 1 to {MAX_SUBJECT} ASCII characters")
    return claims


async def logout_token(token: object, expected: Expected, *, now: float) -> LogoutToken:
    """Return the content of a logout token.

    Args:
        now: seconds since 1970.

    Raises:
        ProviderFailed: the token is not valid.
    """
    claims = await _claims(token, expected, now=now, needed=("jti",))
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise ProviderFailed("the token is no logout token (events)")
    if "nonce" in claims:
        raise ProviderFailed("the token is no logout token (it has a nonce)")
    if now - claims["iat"] > LOGOUT_SECONDS + CLOCK_LEEWAY:
        raise ProviderFailed("the logout token is too old")
    subject, session = claims.get("sub", ""), claims.get("sid", "")
    if not (subject or session):
        raise ProviderFailed("the logout token names neither a session nor a user")
    for value in (claims["jti"], subject or "-", session or "-"):
        if not is_subject(value):
            raise ProviderFailed("jti, sub and sid must be texts of at most 255 ASCII characters")
    return LogoutToken(id=claims["jti"], subject=subject, session=session)


def is_subject(value: object) -> bool:
    """Return True for identifiers: 1 to 255 printable ASCII characters."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_SUBJECT
        and value.isascii()
        and value.isprintable()
    )


async def _claims(
    token: object, expected: Expected, *, now: float, needed: tuple[str, ...]
) -> dict[str, Any]:
    """Return the claims of a token after the checks that both kinds have."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        raise ProviderFailed("there is no token, or it is too long")
    algorithm, kid = _header(token)
    if algorithm not in expected.algorithms:
        raise ProviderFailed(
            f"the token is signed with {algorithm[:20]!r}, which the provider does not announce or"
            " which is not accepted"
        )
    claims = _verified(token, await expected.keys(algorithm, kid), algorithm)
    _check_claims(claims, expected, now=now, needed=needed)
    return claims


class _Pinned(jws.JWSRegistry):
    """Registry with one algorithm; unknown header parameters are ignored (RFC 7515 s4)."""

    max_header_length = 4096  # x5c and its like

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        if self.allowed is None or name not in self.allowed:
            raise ProviderFailed("the token has two algorithms")
        return self.algorithms[name]  # without joserfc's warning about EdDSA


def _header(token: str) -> tuple[str, str | None]:
    """Return algorithm and key id of a token that is not verified."""
    try:
        header = jws.extract_compact(token.encode("ascii")).headers()
        algorithm, kid = header["alg"], header.get("kid")
    except _MALFORMED:
        raise ProviderFailed("the token is malformed") from None
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        raise ProviderFailed("the token is malformed")
    return algorithm, kid


def _verified(token: str, keys: KeySet, algorithm: str) -> dict[str, Any]:
    for key in keys.keys:
        try:
            return jwt.decode(token, key, registry=_Pinned(algorithm)).claims
        except _MALFORMED:
            continue
    raise ProviderFailed("the signature of the token is not valid")


def _check_claims(
    claims: dict[str, Any], expected: Expected, *, now: float, needed: tuple[str, ...]
) -> None:
    registry = jwt.JWTClaimsRegistry(now=int(now), leeway=CLOCK_LEEWAY)
    registry.options = {
        "iss": {"essential": True, "values": list(expected.issuers)},
        "aud": {"essential": True, "value": expected.client_id},
        "iat": {"essential": True},
        **{name: {"essential": True} for name in needed},
    }
    try:
        registry.validate(claims)
    except (*_MALFORMED, OverflowError) as error:
        late = isinstance(error, ExpiredTokenError) or "future" in str(error)
        reason = f"{str(error)[:200]}{'; compare the clocks of both' if late else ''}"
        raise ProviderFailed(f"the token is not valid: {reason}") from None
    if not isinstance(claims["iss"], str):
        raise ProviderFailed("the token is not valid: iss")
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    authorized = claims.get("azp", expected.client_id if len(audiences) == 1 else None)
    if authorized != expected.client_id:
        raise ProviderFailed("the token is for another client (azp)")
