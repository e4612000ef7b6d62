"""What each kind of handler may be told: the `config` of `{type: …, config: {…}}`.

Nothing in it is skipped: a key that the kind does not have is refused, because most kinds keep somebody out.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from zerotrust.model.base import Duration
from zerotrust.model.fields import MAX_FIELDS, FieldName, SetFields, refuse_request_field, refuse_response_field
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
"""Each may be a target of 32 KiB."""


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
    """How many requests in what time: `1000/minute`, `10/s`."""

    burst: int | None = Field(default=None, ge=1, le=1_000_000)
    """So many requests may come at once; where it is not said, the number in `rate`."""

    key: Annotated[str, AfterValidator(_key)] = "client"
    """What is counted apart: `client`, `service` or `header:NAME`."""


class HeaderEdits(Strict):
    """Fields of one direction. They are deleted first, then set (which replaces), then added."""

    set: SetFields = {}
    """Fields that have this value, or these values, and no others."""

    add: SetFields = {}
    """Values that are added."""

    delete: list[FieldName] = Field(default=[], max_length=MAX_FIELDS)
    """Fields that go away."""

    @property
    def names(self) -> list[str]:
        """Every field that is touched."""
        return [*self.set, *self.add, *self.delete]


class HeadersConfig(Strict):
    """Fields of the request on its way to the backend, and of the response on its way back."""

    request: HeaderEdits = HeaderEdits()
    """On the way to the backend."""

    response: HeaderEdits = HeaderEdits()
    """On the way to the client."""

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
    """Addresses and networks, IPv4 and IPv6."""


class IpDenyConfig(Strict):
    """Clients with these addresses do not pass."""

    denied_ips: Networks
    """Addresses and networks, IPv4 and IPv6."""


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
    """Who may read responses: `https://app.example.com`, `https://*.example.com` or `"*"`."""

    methods: list[Method] = []
    """Methods that may be used; GET, HEAD and POST where none are named."""

    headers: list[FieldName] = []
    """Request fields that scripts may set."""

    expose_headers: list[FieldName] = []
    """Response fields that scripts may read."""

    allow_credentials: bool = False
    """Whether cookies and logins may come along."""

    max_age: Duration = 600.0
    """How long a browser may keep the answer to a preflight."""

    @model_validator(mode="after")
    def _no_credentials_for_all(self) -> Self:
        if self.allow_credentials and "*" in self.origins:
            raise ValueError('allow_credentials needs origins by name: "*" would let every site act for its visitors')
        return self


def _location(value: str) -> str:
    if not _LOCATION.fullmatch(value):
        raise ValueError("location has a character that is not allowed in a URL; percent-encode it")
    names = _PLACEHOLDER.findall(value)
    if len(names) > _MAX_PLACEHOLDERS:
        raise ValueError(f"location has {len(names)} placeholders, at most {_MAX_PLACEHOLDERS} are filled in")
    for name in names:
        if name not in LOCATION_PLACEHOLDERS:
            raise ValueError(f"location knows {{host}}, {{uri}} and {{path}}, not {{{name}}}")
    return value


class RedirectConfig(Strict):
    """Where to go instead. `{host}` is the host name asked for, `{uri}` path and query, `{path}` the path alone."""

    location: Annotated[str, AfterValidator(_location)] = Field(max_length=2048)
    """Where to; may hold `{host}`, `{uri}` and `{path}`."""

    status: Literal[301, 302, 303, 307, 308] = 302
    """301 and 308 are for good, 307 and 308 keep the method."""


class RespondConfig(Strict):
    """An answer from here."""

    status: int = Field(default=200, ge=200, le=599)
    """The status."""

    body: str = Field(default="", max_length=65536)
    """The content, as plain text unless `headers` says another Content-Type."""

    headers: SetFields = {}
    """Fields of the answer."""

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


def _old_prefix(value: str) -> str:
    if ";" in value or "\\" in value:
        raise ValueError(f'"{value}" matches nothing: paths are compared without ; and \\')
    return _prefix(value)


Prefix = Annotated[str, AfterValidator(_prefix)]
OldPrefix = Annotated[str, AfterValidator(_old_prefix)]


class RewriteConfig(Strict):
    """The path that the backend sees; the query stays. `replace_prefix` is `{/old: /new}`, the first that fits.

    A path with `.` or `..` as a segment, in any encoding, gets a 400 `ambiguous_path`: it would lead out of the new
    prefix. So does one that backends may read differently and that is rewritten differently then.
    """

    strip_prefix: OldPrefix | None = None
    """The beginning of a path that is cut off."""

    replace_prefix: dict[OldPrefix, Prefix] = {}
    """Beginnings of paths and what takes their place; the first that fits."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.strip_prefix is None) == (not self.replace_prefix):
            raise ValueError("rewrite needs either strip_prefix: /api or replace_prefix: {/old: /new}")
        return self
