"""How clients prove who they are: the settings of `basic_auth` and `jwt`.

What stands in files (`users_file`, `key_file`, …) is read by whoever loads the configuration: `files` names them,
`with_files` puts their contents in.
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
        raise ValueError("the name of a user is printable, without colon, and has at most 256 characters")
    return value


def parse_users(text: str) -> dict[str, str]:
    """Users and hashes from lines of `name:hash`, as htpasswd writes them; # begins a comment.

    Raises:
        ValueError: a line is something else, its hash is not accepted, or a name is there twice.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, hashed = line.strip().partition(":")
        if not colon:
            raise ValueError(f"line {number} is not name:hash")
        if name in users:
            raise ValueError(f'line {number}: "{name[:60]}" is there twice')
        try:
            _hash(hashed)
        except ValueError as error:
            raise ValueError(f'line {number}: user "{name[:60]}": {error}') from None
        users[name] = hashed
    return users


def _users(value: object) -> object:
    """Users as lines of `name:hash`, where they are not keys and values."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return parse_users("\n".join(value))
    return value


def _realm(value: str) -> str:
    if not _REALM.fullmatch(value):
        raise ValueError("realm is 1 to 100 characters of ASCII, without quotes and backslashes")
    return value


Realm = Annotated[str, AfterValidator(_realm)]
UserName = Annotated[str, AfterValidator(_user)]
PasswordHash = Annotated[str, AfterValidator(_hash)]


class _WithFiles(Strict):
    FILES: ClassVar[Mapping[str, str]]
    """Keys that name a file, and the keys that its contents belong to."""

    @property
    def files(self) -> dict[str, str]:
        """The key and the name of each file whose contents are wanted."""
        return {key: name for key in self.FILES if (name := getattr(self, key))}

    def with_files(self, contents: Mapping[str, bytes]) -> Self:
        """The same with what stands in the files; `contents` is by file name.

        Raises:
            ValueError: what stands in a file cannot be used; the message begins with the key and the file.
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
            said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"{', '.join(self.files)}: {said}") from None

    def _read(self, key: str, text: str) -> object:
        raise NotImplementedError


class BasicAuthConfig(_WithFiles):
    """Who may pass, by name and password.

    A password that was right is not computed again until it was not used for `remember`. The backend sees the
    credentials only with `forward_credentials`.
    """

    FILES = {"users_file": "users"}

    users: Annotated[dict[UserName, PasswordHash], BeforeValidator(_users)] = Field(default={}, repr=False)
    """Names and hashes of their passwords (argon2 or bcrypt); also as a list of `name:hash`. A hash may take half a
    second of the server's processor, as bcrypt of cost 13 does on a small server, and argon2 128 MiB of memory
    (`m=131072,t=5,p=4`)."""

    users_file: str | None = None
    """A file with lines of `name:hash`, as htpasswd writes them."""

    realm: Realm = "restricted"
    """What the browser calls the place that the password is for."""

    remember: Duration = 300.0
    """Time after its last use in which a password that was right is not computed again."""

    forward_credentials: bool = False
    """Whether the backend sees the Authorization field."""

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if bool(self.users) == (self.users_file is not None):
            raise ValueError("basic_auth needs either users: {name: hash} or users_file; " + HOW_TO_HASH)
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
"""Required claims, and values of one: each is compared with the values in the token, of which there may be 1,400."""
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}


def _algorithm(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() == "none":
        raise ValueError('"none" would take tokens that nobody signed; write RS256, ES256, EdDSA or HS256')
    return value


def _claims(value: object) -> object:
    """`[sub, email]` asks that they be there."""
    return dict.fromkeys(value) if isinstance(value, list) and all(isinstance(name, str) for name in value) else value


def _few_values(claims: dict[str, Any]) -> dict[str, Any]:
    for name, value in claims.items():
        if isinstance(value, list) and len(value) > _MAX_CLAIMS:
            raise ValueError(f'"{name[:60]}" has {len(value)} values, at most {_MAX_CLAIMS} are compared')
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
        raise ValueError(f'"{value[:80]}" is not a URL; write for example https://issuer.example/.well-known/jwks.json')
    if "@" in url.netloc:
        raise ValueError("a URL with a name or password in it; keys that verify need none")
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise ValueError("keys that come over http may be anybody's; write https:// (http is for this machine only)")
    return value


IssuerUrl = Annotated[str, Field(max_length=2048), AfterValidator(_issuer_url)]


class KeySource(NamedTuple):
    """Where keys come from, and what for."""

    url: str
    algorithm: str


class JwtConfig(_WithFiles):
    """Which tokens are good: signed by this key with this algorithm, of this issuer, for this audience, at this time.

    One of `secret` (HS…), `key` (PEM), `jwks` and `jwks_url`; the first three also from a file. `required_claims` is a
    list of names, or names with the value (or the list of values, one of which is enough) that each must have. The
    token is in `Authorization: Bearer`, else in the cookie or the query parameter that is named here.

    The agent fetches `jwks_url`, each minute, and sends the keys to the server, which opens no addresses that agents
    name. The issuer's certificate is verified against the authorities that the agent's system trusts, or those in the
    file that SSL_CERT_FILE names. While the issuer does not answer, its last keys hold for a day; without any, requests
    get a 503.
    """

    FILES = {"secret_file": "secret", "key_file": "key", "jwks_file": "jwks"}

    algorithm: Annotated[Algorithm, BeforeValidator(_algorithm)]
    """The one algorithm that tokens are signed with."""

    secret: str | None = Field(default=None, repr=False)
    """The secret of HS256, HS384 and HS512: at least 32, 48 and 64 bytes."""

    secret_file: str | None = None
    """A file with the secret."""

    key: str | None = None
    """The issuer's public key, PEM."""

    key_file: str | None = None
    """A file with the public key."""

    jwks: dict[str, Any] | None = Field(default=None, repr=False)
    """The issuer's public keys, a JWKS document."""

    jwks_file: str | None = None
    """A file with the document."""

    jwks_url: IssuerUrl | None = None
    """Where the issuer publishes the document: `https://…`; `http://` of this machine only."""

    issuer: str | None = None
    """What `iss` must be."""

    audience: Annotated[list[str], BeforeValidator(_strings)] = Field(default=[], max_length=_MAX_CLAIMS)
    """What `aud` must name, one of several."""

    required_claims: Annotated[dict[str, Any], BeforeValidator(_claims), AfterValidator(_few_values)] = Field(
        default={}, max_length=_MAX_CLAIMS
    )
    """Claims that must be there, or must have a value."""

    require_exp: bool = True
    """Whether a token must say when it ends."""

    leeway: Duration = Field(default=30.0, le=300.0)
    """By how much the clocks may differ."""

    cookie: FieldName | None = None
    """A cookie that may hold the token."""

    query: str | None = Field(default=None, min_length=1)
    """A query parameter that may hold the token."""

    realm: Realm = "restricted"
    """What the client is told that the token is for."""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        sources = ("secret", "secret_file", "key", "key_file", "jwks", "jwks_file", "jwks_url")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"jwt needs one of {', '.join(sources)}; found {', '.join(given) or 'none'}")
        symmetric = self.algorithm.startswith("HS")
        if symmetric != given[0].startswith("secret"):
            kind = "a secret" if symmetric else "a public key: key, jwks or jwks_url"
            raise ValueError(f"{self.algorithm} is checked with {kind}; {given[0]} does not fit it")
        if self.secret is not None:
            self._check_secret(self.secret)
        return self

    @property
    def key_source(self) -> KeySource | None:
        """Where its keys are to be fetched."""
        return KeySource(self.jwks_url, self.algorithm) if self.jwks_url is not None else None

    def _check_secret(self, secret: str) -> None:
        # RFC 8725 s2.1: a public key taken for a secret lets everybody sign.
        if "-----BEGIN" in secret or '"kty"' in secret:
            raise ValueError("secret holds a key; write it as key or jwks, with an algorithm such as RS256")
        least = _SECRET_BYTES[self.algorithm]
        if len(secret.encode()) < least:  # RFC 7518 s3.2
            raise ValueError(f"the secret of {self.algorithm} has at least {least} bytes: openssl rand -hex {least}")

    def _read(self, key: str, text: str) -> object:
        if key == "jwks_file":
            return json.loads(text)
        return text.strip() if key == "secret_file" else text
