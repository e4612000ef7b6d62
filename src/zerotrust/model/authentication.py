"""Settings of `basic_auth` and `jwt`, the handlers that authenticate clients.

Some settings name files (`users_file`, `key_file`, …). The loader of the configuration reads them:
`files` returns their names, `with_files` takes their contents.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from zerotrust.model.base import Duration
from zerotrust.model.fields import FieldName
from zerotrust.model.password_hash import HOW_TO_HASH, REFERENCE_SPEED, hash_cost
from zerotrust.model.strict import Strict

_REALM: Final = re.compile(r"[ !#-\[\]-~]{1,100}")


def _hash(value: str) -> str:
    hash_cost(value).check(REFERENCE_SPEED, "on a small server")
    return value


def _user(value: str) -> str:
    if not value or ":" in value or not value.isprintable() or len(value) > 256:
        raise ValueError(
            "a user name must be printable, without colon, with at most 256 characters"
        )
    return value


def parse_users(text: str) -> dict[str, str]:
    """Return users and password hashes from lines of `name:hash`, as htpasswd writes them.

    A line that begins with # is a comment.

    Raises:
        ValueError: a line has another form, its hash is not accepted, or a name occurs twice.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, hashed = line.strip().partition(":")
        if not colon:
            raise ValueError(f"line {number}: expected name:hash")
        if name in users:
            raise ValueError(f'line {number}: user "{name[:60]}" is given twice; remove one')
        try:
            _hash(hashed)
        except ValueError as error:
            raise ValueError(f'line {number}: user "{name[:60]}": {error}') from None
        users[name] = hashed
    return users


def _users(value: object) -> object:
    """Return users as a mapping; they may be given as a list of `name:hash`."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return parse_users("\n".join(value))
    return value


def _realm(value: str) -> str:
    if not _REALM.fullmatch(value):
        raise ValueError("realm must be 1 to 100 ASCII characters without quotes and backslashes")
    return value


Realm = Annotated[str, AfterValidator(_realm)]
UserName = Annotated[str, AfterValidator(_user)]
PasswordHash = Annotated[str, AfterValidator(_hash)]


class _WithFiles(Strict):
    FILES: ClassVar[Mapping[str, str]]
    """Keys that name a file, and the keys that the contents of the file are for."""

    @property
    def files(self) -> dict[str, str]:
        """Return the key and the name of each file to read."""
        return {key: name for key in self.FILES if (name := getattr(self, key))}

    def with_files(self, contents: Mapping[str, bytes]) -> Self:
        """Return a copy with the contents of the files; `contents` is by file name.

        Raises:
            ValueError: the contents of a file are invalid; the message begins with the key and the
                file name.
        """
        data = self.model_dump(exclude_unset=True)
        for key, name in self.files.items():
            try:
                data[self.FILES[key]] = self._read(key, contents[name].decode())
                del data[key]
            except ValueError as error:
                raise ValueError(f"{key} {name}: {error}") from None
        try:
            return self.model_validate(data)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"{', '.join(self.files)}: {message}") from None

    def _read(self, key: str, text: str) -> object:
        raise NotImplementedError


class BasicAuthConfig(_WithFiles):
    """Users and passwords that may use the service.

    The server verifies a password once and then remembers it, until it was not used for `remember`.
    It removes the `Authorization` header, unless `forward_credentials` is true.
    """

    FILES = {"users_file": "users"}

    users: Annotated[dict[UserName, PasswordHash], BeforeValidator(_users)] = Field(
        default={}, repr=False
    )
    """User names and password hashes (argon2 or bcrypt), as keys and values or as a list of
    `name:hash`. A hash may take at most 0.5 s of processor time, like bcrypt with cost 13 on a
    small server, and argon2 at most 128 MiB of memory (`m=131072,t=5,p=4`)."""

    users_file: str | None = None
    """File with lines of `name:hash`, as htpasswd writes them."""

    realm: Realm = "restricted"
    """Name of the protected area that the browser shows."""

    remember: Duration = 300.0
    """Time after its last use for which a verified password is not verified again."""

    forward_credentials: bool = False
    """Forward the `Authorization` header to the backend."""

    @model_validator(mode="after")
    def _has_users(self) -> Self:
        if bool(self.users) == (self.users_file is not None):
            raise ValueError(
                "basic_auth needs either users: {name: hash} or users_file; " + HOW_TO_HASH
            )
        return self

    def _read(self, key: str, text: str) -> object:
        return parse_users(text)


Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
]
_URL: Final = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_MAX_CLAIMS: Final = 16
"""Maximum required claims, and values of one claim. Each is compared with the values in the token,
of which there may be 1,400."""
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}


def _algorithm(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() == "none":
        raise ValueError('"none" would accept unsigned tokens; use RS256, ES256, EdDSA or HS256')
    return value


def _claims(value: object) -> object:
    """Return required claims as a mapping; `[sub, email]` requires only that they exist."""
    return (
        dict.fromkeys(value)
        if isinstance(value, list) and all(isinstance(name, str) for name in value)
        else value
    )


def _few_values(claims: dict[str, Any]) -> dict[str, Any]:
    for name, value in claims.items():
        if isinstance(value, list) and len(value) > _MAX_CLAIMS:
            raise ValueError(
                f'claim "{name[:60]}" has {len(value)} values; at most {_MAX_CLAIMS} are allowed'
            )
    return claims


def _strings(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _issuer_url(value: str) -> str:
    try:
        url = urlsplit(value)
        valid = _URL.fullmatch(value) is not None and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid or url.scheme not in ("https", "http"):
        raise ValueError(
            f'invalid URL "{value[:80]}": write for example'
            " https://issuer.example/.well-known/jwks.json"
        )
    if "@" in url.netloc:
        raise ValueError(
            "the URL contains a user name or password; remove it: public keys need none"
        )
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise ValueError(
            "keys fetched over http could be forged; use https:// (http is allowed on this machine"
            " only)"
        )
    return value


IssuerUrl = Annotated[str, Field(max_length=2048), AfterValidator(_issuer_url)]


class KeySource(NamedTuple):
    """URL of a JWKS document, and the algorithm that its keys are used with."""

    url: str
    algorithm: str


class JwtConfig(_WithFiles):
    """Rules for accepted tokens: key, algorithm, issuer, audience and claims.

    Exactly one key is needed: `secret` (for HS…), `key` (PEM), `jwks` or `jwks_url`; the first
    three may be in a file. The token is read from `Authorization: Bearer`, else from the cookie or
    the query parameter named here.

    The agent fetches `jwks_url` every minute and sends the keys to the server; the server itself
    opens no address that an agent names. The issuer's certificate must be signed by an authority
    that the agent's system trusts, or by one in the file that `SSL_CERT_FILE` names. If the issuer
    does not answer, its last keys are used for up to a day. Without keys, requests get 503.
    """

    FILES = {"secret_file": "secret", "key_file": "key", "jwks_file": "jwks"}

    algorithm: Annotated[Algorithm, BeforeValidator(_algorithm)]
    """The only accepted signature algorithm."""

    secret: str | None = Field(default=None, repr=False)
    """Secret for HS256, HS384 or HS512: at least 32, 48 or 64 bytes."""

    secret_file: str | None = None
    """File with the secret."""

    key: str | None = None
    """Public key of the issuer, PEM."""

    key_file: str | None = None
    """File with the public key."""

    jwks: dict[str, Any] | None = Field(default=None, repr=False)
    """Public keys of the issuer, a JWKS document."""

    jwks_file: str | None = None
    """File with the JWKS document."""

    jwks_url: IssuerUrl | None = None
    """URL of the issuer's JWKS document: `https://…`, or `http://` on this machine."""

    issuer: str | None = None
    """Required value of the claim `iss`."""

    audience: Annotated[list[str], BeforeValidator(_strings)] = Field(
        default=[], max_length=_MAX_CLAIMS
    )
    """Accepted audiences. The claim `aud` must contain one of them."""

    required_claims: Annotated[
        dict[str, Any], BeforeValidator(_claims), AfterValidator(_few_values)
    ] = Field(default={}, max_length=_MAX_CLAIMS)
    """Claims that a token must have: a list of names, or names with a value. If a value is a list,
    one of its entries must match."""

    require_exp: bool = True
    """Refuse tokens without expiry (claim `exp`)."""

    leeway: Duration = Field(default=30.0, le=300.0)
    """Accepted difference between the clocks of issuer and server."""

    cookie: FieldName | None = None
    """Name of a cookie that may contain the token."""

    query: str | None = Field(default=None, min_length=1)
    """Name of a query parameter that may contain the token."""

    realm: Realm = "restricted"
    """Name of the protected area in the `WWW-Authenticate` header."""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        sources = ("secret", "secret_file", "key", "key_file", "jwks", "jwks_file", "jwks_url")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"jwt needs exactly one of {', '.join(sources)}; found {', '.join(given) or 'none'}"
            )
        symmetric = self.algorithm.startswith("HS")
        if symmetric != given[0].startswith("secret"):
            kind = "a secret: secret" if symmetric else "a public key: key, jwks or jwks_url"
            raise ValueError(f"{self.algorithm} needs {kind}; {given[0]} does not fit")
        if self.secret is not None:
            self._check_secret(self.secret)
        return self

    @property
    def key_source(self) -> KeySource | None:
        """Return the source of the keys, if they are to be fetched."""
        return KeySource(self.jwks_url, self.algorithm) if self.jwks_url is not None else None

    def _check_secret(self, secret: str) -> None:
        # RFC 8725 s2.1: with a public key as the secret, everybody can sign tokens.
        if "-----BEGIN" in secret or '"kty"' in secret:
            raise ValueError(
                "secret contains a key; write it as key or jwks, with an algorithm such as RS256"
            )
        minimum = _SECRET_BYTES[self.algorithm]
        if len(secret.encode()) < minimum:  # RFC 7518 s3.2
            raise ValueError(
                f"the secret for {self.algorithm} must have at least {minimum} bytes: use openssl"
                f" rand -hex {minimum}"
            )

    def _read(self, key: str, text: str) -> object:
        if key == "jwks_file":
            return json.loads(text)
        return text.strip() if key == "secret_file" else text
