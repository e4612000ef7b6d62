"""The steps in the handling of a request, as they are written: `{type: rate_limit, config: {rate: "1000/minute"}}`.

One model for each kind. What a kind does is in `zerotrust.handlers`. Nothing in a `config` is skipped: a key that the
kind does not have is refused, because most kinds keep somebody out.
"""

import difflib
import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from zerotrust.model.authentication import BasicAuthConfig, JwtConfig
from zerotrust.model.base import Duration, Model
from zerotrust.model.fields import AddedFields, FieldName, SetFields, refuse_request_field, refuse_response_field
from zerotrust.model.rates import Rate
from zerotrust.model.strict import Strict

_KEY: Final = re.compile(r"client|service|header:(.+)", re.ASCII)
_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://(?P<any>\*\.)?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?"
)
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_PATH: Final = re.compile(r"/[\x21\x22\x24-\x3e\x40-\x7e]*")
_LOCATION: Final = re.compile(r"[\x21-\x7e]+")
LOCATION_PLACEHOLDERS: Final = ("host", "uri", "path")


def _key(value: str) -> str:
    match = _KEY.fullmatch(value)
    if match is None or (match[1] and not _METHOD.fullmatch(match[1])):
        raise ValueError(f'"{value}": requests are counted by client, by service or by header:NAME')
    return value


class RateLimitConfig(Strict):
    """`burst` requests may come at once (the rate's own number, where it is not said); then they come at `rate`.

    `key` is what is counted: `client` (its address; of IPv6 the /64), `service`, or `header:NAME` (its value; the
    client where the request does not have it). Put a header that anyone may invent behind an authentication.
    """

    rate: Rate
    burst: int | None = Field(default=None, ge=1, le=1_000_000)
    key: Annotated[str, AfterValidator(_key)] = "client"


class HeaderEdits(Strict):
    """Fields of one direction. They are deleted first, then set (which replaces), then added."""

    set: SetFields = {}
    add: AddedFields = {}
    delete: list[FieldName] = []

    @property
    def names(self) -> list[str]:
        """Every field that is touched."""
        return [*self.set, *self.add, *self.delete]


class HeadersConfig(Strict):
    """Fields of the request on its way to the backend, and of the response on its way back."""

    request: HeaderEdits = HeaderEdits()
    response: HeaderEdits = HeaderEdits()

    @model_validator(mode="after")
    def _ours(self) -> Self:
        for name in self.request.names:
            refuse_request_field(name)
        for name in self.response.names:
            refuse_response_field(name)
        return self


def _network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        message = f'"{value}" is not an address or network; write 192.168.1.0/24, 203.0.113.7 or 2001:db8::/32'
        raise ValueError(message) from None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:  # RFC 4291 s2.5.5.2: the same host, written as IPv6
            network = ipaddress.ip_network((mapped, network.prefixlen - 96))
    return str(network)


Networks = Annotated[list[Annotated[str, AfterValidator(_network)]], Field(min_length=1, max_length=10_000)]


class IpAllowConfig(Strict):
    """Only clients with these addresses pass."""

    allowed_ips: Networks


class IpDenyConfig(Strict):
    """Clients with these addresses do not pass."""

    denied_ips: Networks


def _origin(value: str) -> str:
    text = value.strip().lower().rstrip("/")
    match = _ORIGIN.fullmatch(text)
    if text != "*" and match is None:
        message = f'"{value}" is not an origin; write https://app.example.com, https://*.example.com or "*"'
        raise ValueError(message)
    default = {"http": ":80", "https": ":443"}.get(match[1]) if match else None
    return text.removesuffix(default) if default else text


def _method(value: str) -> str:
    if not _METHOD.fullmatch(value):
        raise ValueError(f'"{value}" is not a method; write GET, POST or another in capitals')
    return value.upper()


Method = Annotated[str, AfterValidator(_method)]


class CorsConfig(Strict):
    """Cross-origin rules (the Fetch standard, "CORS protocol").

    Methods: GET, HEAD and POST where none are named. `"*"` among methods or headers permits each one asked for.
    """

    origins: list[Annotated[str, AfterValidator(_origin)]] = Field(min_length=1)
    methods: list[Method] = []
    headers: list[FieldName] = []
    expose_headers: list[FieldName] = []
    allow_credentials: bool = False
    max_age: Duration = 600.0

    @model_validator(mode="after")
    def _no_credentials_for_all(self) -> Self:
        if self.allow_credentials and "*" in self.origins:
            raise ValueError('allow_credentials needs origins by name: "*" would let every site act for its visitors')
        return self


def _location(value: str) -> str:
    if not _LOCATION.fullmatch(value):
        raise ValueError("location has a character that is not allowed in a URL; percent-encode it")
    for name in _PLACEHOLDER.findall(value):
        if name not in LOCATION_PLACEHOLDERS:
            raise ValueError(f"location knows {{host}}, {{uri}} and {{path}}, not {{{name}}}")
    return value


class RedirectConfig(Strict):
    """Where to go instead. `{host}` is the host name asked for, `{uri}` path and query, `{path}` the path alone."""

    location: Annotated[str, AfterValidator(_location)] = Field(max_length=2048)
    status: Literal[301, 302, 303, 307, 308] = 302


class RespondConfig(Strict):
    """An answer from here."""

    status: int = Field(default=200, ge=200, le=599)
    body: str = Field(default="", max_length=65536)
    headers: SetFields = {}

    @field_validator("headers")
    @classmethod
    def _ours(cls, value: Mapping[str, list[str]]) -> Mapping[str, list[str]]:
        for name in value:
            refuse_response_field(name)
        return value

    @model_validator(mode="after")
    def _bodiless(self) -> Self:
        if self.body and self.status in (204, 205, 304):
            raise ValueError(f"an answer with status {self.status} has no body; remove body or change status")
        return self


def _prefix(value: str) -> str:
    if not _PATH.fullmatch(value) or "%" in value or "//" in value:
        raise ValueError(f'"{value}" is not the beginning of a path; write it decoded, for example /api')
    if {".", ".."} & set(value.split("/")):
        raise ValueError(f'"{value}": write the path without . and ..')
    return value.rstrip("/")


Prefix = Annotated[str, AfterValidator(_prefix)]


class RewriteConfig(Strict):
    """The path that the backend sees; the query stays. `replace_prefix` is `{/old: /new}`, the first that fits."""

    strip_prefix: Prefix | None = None
    replace_prefix: dict[Prefix, Prefix] = {}

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.strip_prefix is None) == (not self.replace_prefix):
            raise ValueError("rewrite needs either strip_prefix: /api or replace_prefix: {/old: /new}")
        return self


class ReverseProxy(Strict):
    """On to the backend: what happens anyway, wherever among the handlers it is said."""

    type: Literal["reverse_proxy"] = "reverse_proxy"
    config: dict[str, Any] = {}


class Unneeded(Strict):
    """What the original skipped and what nobody relies on: without effect."""

    type: Literal["compress", "encode", "gzip", "logging"]
    config: dict[str, Any] = {}


class Headers(Strict):
    """Sets, adds and deletes fields."""

    type: Literal["headers"] = "headers"
    config: HeadersConfig


class RateLimit(Strict):
    """Answers 429 to those who ask too often."""

    type: Literal["rate_limit"] = "rate_limit"
    config: RateLimitConfig


class IpAllow(Strict):
    """Answers 403 to clients from elsewhere. `ip_whitelist` is its older name."""

    type: Literal["ip_allow", "ip_whitelist"] = "ip_allow"
    config: IpAllowConfig


class IpDeny(Strict):
    """Answers 403 to clients from these networks."""

    type: Literal["ip_deny"] = "ip_deny"
    config: IpDenyConfig


class Cors(Strict):
    """Answers preflights, and says in responses which origins may read them."""

    type: Literal["cors"] = "cors"
    config: CorsConfig


class BasicAuth(Strict):
    """Asks for a name and a password (RFC 7617)."""

    type: Literal["basic_auth"] = "basic_auth"
    config: BasicAuthConfig


class Jwt(Strict):
    """Asks for a signed token (RFC 7519)."""

    type: Literal["jwt"] = "jwt"
    config: JwtConfig


class Redirect(Strict):
    """Sends the client elsewhere."""

    type: Literal["redirect"] = "redirect"
    config: RedirectConfig


class Respond(Strict):
    """Answers without the backend."""

    type: Literal["respond"] = "respond"
    config: RespondConfig


class Rewrite(Strict):
    """Changes the path."""

    type: Literal["rewrite"] = "rewrite"
    config: RewriteConfig


_MODELS: Final[dict[str, type[Strict]]] = {
    kind: model
    for model in (Headers, RateLimit, IpAllow, IpDeny, Cors, BasicAuth, Jwt, Redirect, Respond, Rewrite, ReverseProxy)
    for kind in model.model_fields["type"].annotation.__args__  # type: ignore[union-attr]
} | dict.fromkeys(("compress", "encode", "gzip", "logging"), Unneeded)
KINDS: Final = tuple(_MODELS)

_REFUSED: Final = {
    "cache": "cache is not offered, because no well-kept library carries it; let the backend do it",
    "auth": '"auth" is not a kind of handler; write basic_auth or jwt',
    "oauth2": "oauth2 is not offered; write jwt with the issuer's jwks_url",
    "ip_blacklist": '"ip_blacklist" is not a kind of handler, did you mean "ip_deny"?',
}


def _known(value: str) -> str:
    kind = value.strip().lower().replace("-", "_")
    if kind in _REFUSED:
        raise ValueError(_REFUSED[kind])
    if kind not in _MODELS:
        near = difflib.get_close_matches(kind, [*KINDS, "cache"], n=1)
        raise ValueError(
            f'"{kind[:60]}" is not a kind of handler' + (f', did you mean "{near[0]}"?' if near else "; remove it")
        )
    return kind


class _Kind(Model):
    type: Annotated[str, AfterValidator(_known)]


def _typed(value: object) -> object:
    """The model of the kind that `type` names; so the places in objections are those of the file."""
    if not isinstance(value, dict):
        return value
    kind = _Kind.model_validate(value).type
    return _MODELS[kind].model_validate({**value, "type": kind})


Handler = Annotated[
    ReverseProxy
    | Unneeded
    | Headers
    | RateLimit
    | IpAllow
    | IpDeny
    | Cors
    | BasicAuth
    | Jwt
    | Redirect
    | Respond
    | Rewrite,
    Field(discriminator="type"),
    BeforeValidator(_typed),
]
"""One step in the handling of a request."""


def _authentication(value: object) -> object:
    if isinstance(value, dict) and value.get("type") in ("basic", "basic-auth"):
        value = {**value, "type": "basic_auth"}
    handler = _typed(value)
    if isinstance(handler, Strict) and not isinstance(handler, (BasicAuth, Jwt)):
        raise ValueError("the type of auth is basic_auth or jwt")
    return handler


Authentication = Annotated[BasicAuth | Jwt, Field(discriminator="type"), BeforeValidator(_authentication)]
"""The handlers that know who the client is."""

FINAL: Final = (Redirect, Respond)
"""Kinds that answer every request: nothing behind them is reached."""
