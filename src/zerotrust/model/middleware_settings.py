"""Settings of the handlers: the `config` of `{type: …, config: {…}}`.

Unknown keys are refused, because most handlers protect a service.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from zerotrust.model.base import Duration
from zerotrust.model.fields import (
    MAX_FIELDS,
    FieldName,
    SetFields,
    refuse_request_field,
    refuse_response_field,
)
from zerotrust.model.rates import Rate
from zerotrust.model.strict import Strict

_KEY: Final = re.compile(r"client|service|header:(.+)", re.ASCII)
_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://(?:\*\.)?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?"
)
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_PATH: Final = re.compile(r"/[\x21\x22\x24-\x3e\x40-\x7e]*")
_LOCATION: Final = re.compile(r"[\x21-\x7e]+")
LOCATION_PLACEHOLDERS: Final = ("host", "uri", "path")
_MAX_PLACEHOLDERS: Final = 8
"""Maximum placeholders in a location. Each may be replaced by a target of 32 KiB."""


def _key(value: str) -> str:
    match = _KEY.fullmatch(value)
    if match is None or (match[1] and not _METHOD.fullmatch(match[1])):
        raise ValueError(f'invalid key "{value}": use client, service or header:NAME')
    return value


class RateLimitConfig(Strict):
    """Settings of a rate limit.

    Up to `burst` requests may come at once, then requests at `rate`. Requests are counted
    separately for each client, service or header value, see `key`. A client can choose the value of
    a header freely: use `header:NAME` only behind an authentication.
    """

    rate: Rate
    """Requests per time: `1000/minute`, `10/s`."""

    burst: int | None = Field(default=None, ge=1, le=1_000_000)
    """Maximum requests at once. Default: the number in `rate`."""

    key: Annotated[str, AfterValidator(_key)] = "client"
    """Unit that has a count of its own: `client` (IPv4 address or IPv6 /64 network), `service`, or
    `header:NAME` (value of the header; the client if the request does not have it)."""


class HeaderEdits(Strict):
    """Changes of headers in one direction: first `delete`, then `set`, then `add`."""

    set: SetFields = {}
    """Headers to set. Existing values are replaced."""

    add: SetFields = {}
    """Headers to add. Existing values stay."""

    delete: list[FieldName] = Field(default=[], max_length=MAX_FIELDS)
    """Headers to remove."""

    @property
    def names(self) -> list[str]:
        """Return the name of every header that changes."""
        return [*self.set, *self.add, *self.delete]


class HeadersConfig(Strict):
    """Changes of request and response headers."""

    request: HeaderEdits = HeaderEdits()
    """Headers of the request to the backend."""

    response: HeaderEdits = HeaderEdits()
    """Headers of the response to the client."""

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
        raise ValueError(
            f'invalid address or network "{value}": write 192.168.1.0/24, 203.0.113.7 or'
            " 2001:db8::/32"
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:  # RFC 4291 s2.5.5.2: the same host, written as IPv6
            network = ipaddress.ip_network((mapped, network.prefixlen - 96))
    return str(network)


Networks = Annotated[
    list[Annotated[str, AfterValidator(_network)]], Field(min_length=1, max_length=10_000)
]


class IpAllowConfig(Strict):
    """Client addresses that may use the service."""

    allowed_ips: Networks
    """IPv4 and IPv6 addresses and networks."""


class IpDenyConfig(Strict):
    """Client addresses that may not use the service."""

    denied_ips: Networks
    """IPv4 and IPv6 addresses and networks."""


def _origin(value: str) -> str:
    text = value.strip().lower().rstrip("/")
    match = _ORIGIN.fullmatch(text)
    if text != "*" and match is None:
        raise ValueError(
            f'invalid origin "{value}": use https://app.example.com, https://*.example.com or "*"'
        )
    default = {"http": ":80", "https": ":443"}.get(match[1]) if match else None
    return text.removesuffix(default) if default else text


def _method(value: str) -> str:
    if not _METHOD.fullmatch(value):
        raise ValueError(f'invalid method "{value}": write for example GET or POST')
    return value.upper()


Method = Annotated[str, AfterValidator(_method)]


class CorsConfig(Strict):
    """Cross-origin rules ("CORS protocol" of the Fetch standard).

    In `methods` and `headers`, `"*"` allows each one that a browser asks for.
    """

    origins: list[Annotated[str, AfterValidator(_origin)]] = Field(min_length=1)
    """Origins that may read responses: `https://app.example.com`, `https://*.example.com` or
    `"*"`."""

    methods: list[Method] = []
    """Allowed methods. Default: GET, HEAD and POST."""

    headers: list[FieldName] = []
    """Request headers that scripts may set."""

    expose_headers: list[FieldName] = []
    """Response headers that scripts may read."""

    allow_credentials: bool = False
    """Allow requests with cookies and logins."""

    max_age: Duration = 600.0
    """Time for which a browser may cache the response to a preflight request."""

    @model_validator(mode="after")
    def _no_credentials_for_all(self) -> Self:
        if self.allow_credentials and "*" in self.origins:
            raise ValueError(
                'allow_credentials does not go with origin "*", which lets every site act for its '
                "visitors; list the origins"
            )
        return self


def _location(value: str) -> str:
    if not _LOCATION.fullmatch(value):
        raise ValueError("location contains a character that URLs do not allow; percent-encode it")
    names = _PLACEHOLDER.findall(value)
    if len(names) > _MAX_PLACEHOLDERS:
        raise ValueError(
            f"location has {len(names)} placeholders; at most {_MAX_PLACEHOLDERS} are allowed"
        )
    for name in names:
        if name not in LOCATION_PLACEHOLDERS:
            raise ValueError(
                f"unknown placeholder {{{name}}} in location: use {{host}}, {{uri}} or {{path}}"
            )
    return value


class RedirectConfig(Strict):
    """Target of a redirect.

    Placeholders in `location`: `{host}` is the requested host name, `{uri}` path and query,
    `{path}` the path alone.
    """

    location: Annotated[str, AfterValidator(_location)] = Field(max_length=2048)
    """URL to redirect to. It may contain `{host}`, `{uri}` and `{path}`."""

    status: Literal[301, 302, 303, 307, 308] = 302
    """301 and 308 are permanent; 307 and 308 keep the method."""


class RespondConfig(Strict):
    """A fixed response."""

    status: int = Field(default=200, ge=200, le=599)
    """Status code."""

    body: str = Field(default="", max_length=65536)
    """Body. It is plain text, unless `headers` sets another `Content-Type`."""

    headers: SetFields = {}
    """Headers of the response."""

    @field_validator("headers")
    @classmethod
    def _ours(cls, value: Mapping[str, list[str]]) -> Mapping[str, list[str]]:
        for name in value:
            refuse_response_field(name)
        return value

    @model_validator(mode="after")
    def _bodiless(self) -> Self:
        if self.body and self.status in (204, 205, 304):
            raise ValueError(
                f"a response with status {self.status} has no body; remove body or change status"
            )
        return self


def _prefix(value: str) -> str:
    if not _PATH.fullmatch(value) or "%" in value or "//" in value:
        raise ValueError(f'invalid prefix "{value}": write a decoded path, for example /api')
    if {".", ".."} & set(value.split("/")):
        raise ValueError(f'"{value}": write the path without . and ..')
    return value.rstrip("/")


def _old_prefix(value: str) -> str:
    if ";" in value or "\\" in value:
        raise ValueError(f'"{value}" matches no request: write the prefix without ; and \\')
    return _prefix(value)


Prefix = Annotated[str, AfterValidator(_prefix)]
OldPrefix = Annotated[str, AfterValidator(_old_prefix)]


class RewriteConfig(Strict):
    """Settings of a rewrite.

    Give either `strip_prefix` or `replace_prefix`.

    A path with a segment `.` or `..`, in any encoding, gets 400 `ambiguous_path`, because it could
    leave the new prefix. So does a path that backends may read in different ways, if the rules
    rewrite these differently.
    """

    strip_prefix: OldPrefix | None = None
    """Prefix to remove from the path."""

    replace_prefix: dict[OldPrefix, Prefix] = {}
    """Prefixes and their replacements, `{/old: /new}`. The first prefix that matches applies."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.strip_prefix is None) == (not self.replace_prefix):
            raise ValueError(
                "rewrite needs either strip_prefix: /api or replace_prefix: {/old: /new}"
            )
        return self
