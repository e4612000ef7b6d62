"""`jwt`: signed tokens (RFC 7519), with the precautions of RFC 8725.

The algorithm comes from the configuration, never from the token (s3.1), and only keys of its type
are accepted, so a public key is never used as a secret. A verified token is remembered until it
expires, for at most five minutes.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from zerotrust.limits.ttl_cache import TtlCache
from zerotrust.middleware.interface import Answer, Request
from zerotrust.model.authentication import JwtConfig
from zerotrust.routing.match import values_of
from zerotrust.routing.query import QueryTooLong, TooManyParameters, parameters_of

MAX_REMEMBERED: Final = 4096
MAX_TOKEN_BYTES: Final = 8192
_MAX_REMEMBERED_SECONDS: Final = 300.0
MAX_COOKIES: Final = 256
"""Maximum cookies of a request if the token may be in one. Browsers keep fewer per site (Chrome
180, Firefox 150)."""
_MAX_RSA_EXPONENT_BITS: Final = 32
"""Bits. Nearly all keys have 65537; verifying with a long exponent takes milliseconds."""
_MIN_RSA_BITS: Final = 2048  # RFC 7518 s3.3

_KEY_TYPES: Final[dict[str, type[RSAKey | ECKey | OKPKey]]] = {
    "R": RSAKey,
    "P": RSAKey,
    "ES": ECKey,
    "Ed": OKPKey,
}
_NOT_ACCEPTABLE: Final = (
    JoseError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    OverflowError,
)
"""Exceptions that joserfc may raise for a malicious token."""

_PUBLIC_MEMBERS: Final = frozenset(("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y"))

_NO_KEYS: Final = Answer(
    503,
    b"Retry-After: 5\r\n",
    code="keys_missing",
    message="the token issuer's keys are not available yet; try again",
)


class _Pinned(JWSRegistry):
    """Registry with the one accepted algorithm.

    Unknown header parameters are ignored (RFC 7515 s4).
    """

    max_header_length = 2048  # x5c and its like

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)
        self._algorithm = algorithm

    def get_alg(self, name: str) -> Any:
        if name != self._algorithm:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


class JwtMiddleware:
    """Requires a valid token.

    With `jwks_url` the handler has no keys and answers 503, until the agent sends them
    (`usable_keys`) and the policy is built anew.

    Raises:
        ValueError: the key is invalid; the message states the reason.
    """

    __slots__ = (
        "_config",
        "_key",
        "_missing",
        "_options",
        "_refusal",
        "_registry",
        "_remembered",
        "_secret",
    )

    def __init__(self, config: JwtConfig, *, secret: bytes) -> None:
        if config.files:
            raise ValueError(f"{next(iter(config.files))} of jwt was not read")
        self._config = config
        self._secret = secret
        self._registry = _Pinned(config.algorithm)
        self._options = _claims_options(config)
        self._remembered: TtlCache[tuple[float, float]] = TtlCache(MAX_REMEMBERED)
        self._key: OctKey | RSAKey | ECKey | OKPKey | KeySet | None = None
        if config.secret is not None:
            self._key = OctKey.import_key(config.secret)
        elif config.key is not None:
            self._key = _public_key(config.key, config.algorithm)
        elif config.jwks is not None:
            self._key = _key_set(config.jwks, config.algorithm)
        challenge = b'WWW-Authenticate: Bearer realm="%b"' % config.realm.encode()
        self._missing = Answer(
            401, challenge + b"\r\n", code="unauthorized", message="a token is required"
        )
        challenge += b', error="invalid_token"'
        self._refusal = Answer(
            401,
            challenge + b"\r\n",
            code="unauthorized",
            message="the token is invalid or has expired",
        )

    def request(self, request: Request, now: float) -> Answer | None:
        if self._key is None:
            return _NO_KEYS
        try:
            token = self._token(request)
        except (QueryTooLong, TooManyParameters) as error:
            return Answer(error.status, code=error.code, message=str(error))
        if not token:
            return self._missing
        digest = hashlib.blake2b(token, key=self._secret, digest_size=32).digest()
        known = self._remembered.get(digest, now)
        # The clock may have been changed meanwhile.
        if known is not None and known[0] <= request.unix_time < known[1]:
            return None
        lasts = self._check(token, request.unix_time) if len(token) <= MAX_TOKEN_BYTES else None
        if lasts is None:
            return self._refusal
        good = (request.unix_time, request.unix_time + lasts)
        self._remembered.put(digest, good, until=now + min(lasts, _MAX_REMEMBERED_SECONDS))
        return None

    def _token(self, request: Request) -> bytes:
        values = values_of(b"authorization", request.fields)
        if len(values) > 1:
            return b""
        words = values[0].split(None, 1) if values else []
        if words and words[0].lower() == b"bearer":
            return words[1] if len(words) > 1 else b""
        # If there are several values, the backend may read another one than this handler.
        if self._config.cookie is not None:
            found = _cookies(values_of(b"cookie", request.fields), self._config.cookie.encode())
            if found:
                return found.pop() if len(found) == 1 else b""
        if self._config.query is not None:
            return parameters_of(request.target).only_value(self._config.query)
        return b""

    def _check(self, token: bytes, unix_time: float) -> float | None:
        """Return the seconds for which the token is valid; None if it is not."""
        assert self._key is not None
        try:
            claims = jwt.decode(token, self._key, registry=self._registry).claims
            registry = jwt.JWTClaimsRegistry(now=int(unix_time), leeway=int(self._config.leeway))
            registry.options = self._options
            registry.validate(claims)
            lasts = (
                float(claims.get("exp", unix_time + _MAX_REMEMBERED_SECONDS))
                + self._config.leeway
                - unix_time
            )
        except _NOT_ACCEPTABLE:
            return None
        return lasts if lasts > 0 else None  # Python's JSON parser accepts NaN


def _claims_options(config: JwtConfig) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in config.required_claims.items():
        options[name] = {"essential": True}
        if value is not None:
            options[name]["values" if isinstance(value, list) else "value"] = value
    if config.require_exp:
        options.setdefault("exp", {"essential": True})
    if config.issuer is not None:
        options["iss"] = {"essential": True, "value": config.issuer}
    if config.audience:
        options["aud"] = {"essential": True, "values": config.audience}
    return options


def _cookies(fields: Sequence[bytes], name: bytes) -> set[bytes]:
    """Return the values of the cookie (RFC 6265 s4.2.1).

    Raises:
        TooManyParameters: the request has more than `MAX_COOKIES` cookies.
    """
    if sum(field.count(b";") + 1 for field in fields) > MAX_COOKIES:
        raise TooManyParameters(f"the request has more than {MAX_COOKIES} cookies")
    pairs = (pair.strip(b" \t").partition(b"=") for field in fields for pair in field.split(b";"))
    return {value.strip(b'"') for found, _, value in pairs if found == name}


def _key_type(algorithm: str) -> type[RSAKey | ECKey | OKPKey]:
    return _KEY_TYPES.get(algorithm[:2]) or _KEY_TYPES[algorithm[:1]]


def _public_key(pem: str, algorithm: str) -> RSAKey | ECKey | OKPKey:
    kind = _key_type(algorithm)
    try:
        key = _imported(kind, pem)
    except _NOT_ACCEPTABLE as error:
        raise ValueError(f"key is not a PEM key for {algorithm}: {error}") from None
    if not _acceptable(key):
        raise ValueError(
            f"key needs at least {_MIN_RSA_BITS} bits and a public exponent of at most"
            f" {_MAX_RSA_EXPONENT_BITS} bits"
        )
    return key


def usable_keys(document: bytes, algorithm: str) -> dict[str, Any]:
    """Return a JWKS document (RFC 7517 s5) with the keys that fit the algorithm.

    It has only the members that verifying needs, and does not depend on the order of the keys.

    Raises:
        ValueError: not a JWKS document, or none of its keys fits.
    """
    try:
        parsed = json.loads(document)
    except RecursionError:
        raise ValueError("not a JWKS document: nested too deeply") from None
    entries = [
        {
            member: value
            for member, value in entry.items()
            if member in _PUBLIC_MEMBERS and isinstance(value, str)
        }
        for entry, _ in _usable(parsed, algorithm)
    ]
    return {"keys": sorted(entries, key=lambda entry: sorted(entry.items()))}


def _key_set(document: object, algorithm: str) -> KeySet:
    keys: list[OctKey | RSAKey | ECKey | OKPKey] = [key for _, key in _usable(document, algorithm)]
    return KeySet(keys)


def _usable(
    document: object, algorithm: str
) -> list[tuple[dict[str, Any], RSAKey | ECKey | OKPKey]]:
    """Return the keys of a JWKS document that fit the algorithm; skip others (RFC 7517 s5)."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError('not a JWKS document: expected {"keys": [...]}')
    kind = _key_type(algorithm)
    found = []
    for entry in entries:
        if (
            not isinstance(entry, dict)
            or entry.get("kty") != kind.key_type
            or not _verifies(entry, algorithm)
        ):
            continue
        try:
            key = _imported(kind, entry)
        except _NOT_ACCEPTABLE:
            continue
        if _acceptable(key):
            found.append((entry, key))
    if not found:
        raise ValueError(f"the JWKS document has no key for {algorithm}")
    return found


def _verifies(entry: dict[str, Any], algorithm: str) -> bool:
    """Return True if the key's own parameters allow this use (RFC 7517 s4.2 to s4.4)."""
    operations = entry.get("key_ops", ["verify"])
    return (
        entry.get("use", "sig") == "sig"
        and entry.get("alg", algorithm) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
    )


def _imported(kind: type[RSAKey | ECKey | OKPKey], value: Any) -> RSAKey | ECKey | OKPKey:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about short keys, which `_acceptable` refuses
        return kind.import_key(value)


def _acceptable(key: RSAKey | ECKey | OKPKey) -> bool:
    if not isinstance(key, RSAKey):
        return True
    public = key.public_key
    return (
        public.key_size >= _MIN_RSA_BITS
        and public.public_numbers().e.bit_length() <= _MAX_RSA_EXPONENT_BITS
    )
