"""The upstreams of a service: where each one is, how it is asked whether it is well, how requests are shared out."""

import re
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from zerotrust.model.base import Duration, Model, split_address
from zerotrust.model.fields import FieldName, FieldValue

_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


_UNIX: Final = "unix:"
_TARGET: Final = re.compile(r"/[\x21\x22\x24-\x7e]*")


class UpstreamEndpoint(NamedTuple):
    """Where an upstream listens: a path of a unix socket, or else host and port; and whether it speaks TLS."""

    host: str
    port: int
    secured: bool
    path: str = ""

    @property
    def authority(self) -> str:
        """Host and, where it is not the scheme's own, port: what a client writes into Host (RFC 9110 s7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secured else 80) else f"{host}:{self.port}"


def _upstream(value: str) -> str:
    if value.startswith(_UNIX):
        if not value.startswith("unix:/") or "\0" in value:
            raise ValueError(f'"{value}": after unix: comes the path of a socket, for example unix:/run/app.sock')
        return value
    scheme, separator, rest = value.partition("://")
    if separator and scheme.lower() not in _SCHEMES:
        raise ValueError(f'"{value}": the scheme of a backend is http, https, ws or wss')
    address = rest if separator else value
    if "/" in address.rstrip("/") or (address.rstrip("/") != address and not separator):
        raise ValueError(f'"{value}": a backend is host:port without a path')
    default_port = {"http": 80, "https": 443}[_SCHEMES[scheme.lower()]] if separator else None
    host, port = split_address(address.rstrip("/"), default_port=default_port)
    if not host or not port:
        raise ValueError(f'"{value}": a backend is host:port, for example 192.168.1.100:80')
    return value.rstrip("/")


UpstreamAddress = Annotated[str, AfterValidator(_upstream)]


def endpoint_of(address: str, *, protocol: str) -> UpstreamEndpoint:
    """Where an upstream listens; `protocol` is the scheme of an address without one."""
    if address.startswith(_UNIX):
        return UpstreamEndpoint("localhost", 80, secured=False, path=address.removeprefix(_UNIX))
    scheme, separator, rest = address.partition("://")
    kind = _SCHEMES[scheme.lower() if separator else protocol]
    host, port = split_address(rest if separator else address, default_port=443 if kind == "https" else 80)
    return UpstreamEndpoint(host, port, secured=kind == "https")


_STATUS = re.compile(r"([1-5])xx|([1-5]\d\d)(?:\s*-\s*([1-5]\d\d))?", re.IGNORECASE | re.ASCII)


def _status_range(value: object) -> tuple[int, int]:
    match = _STATUS.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f'"{value}" is not a status; write 200, "2xx", "200-399" or a list of these')
    hundred, first, last = match.groups()
    low, high = (int(hundred) * 100, int(hundred) * 100 + 99) if hundred else (int(first), int(last or first))
    if low > high:
        raise ValueError(f'"{value}": the lower status comes first')
    return low, high


def _status_ranges(value: object) -> object:
    """The ranges in 200, "2xx", "200-399", "200, 204" or a list of these."""
    parts: list[object] = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        parts += item.split(",") if isinstance(item, str) else [item]
    if not parts:
        raise ValueError('an empty list of statuses: write 200, "2xx", "200-399" or a list of these')
    return tuple(_status_range(part) for part in parts)


StatusRanges = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_status_ranges)]
"""Status codes as ranges, both ends included; written 200, "2xx", "200-399" or a list of these."""


class HealthCheck(Model):
    """How an upstream is asked whether it is well: by a request, or (`type: tcp`) by a connection alone."""

    type: Literal["http", "tcp"] = "http"
    """A request, or a connection alone."""

    path: str = "/"
    """What is asked for, with its query."""

    method: FieldName = "GET"
    """The method of the request."""

    interval: Duration = 30.0
    """Time from one check to the next, give or take a tenth."""

    timeout: Duration = Field(default=5.0, gt=0)
    """How long the upstream has for an answer."""

    headers: dict[FieldName, FieldValue] = {}
    """Fields of the request. Host is the one that the service's requests have, unless it stands here."""

    expected_status: StatusRanges = ((200, 299),)
    """The answers that are good: 200, "2xx", "200-399" or a list of these. Redirects are not followed."""

    unhealthy_threshold: int = Field(default=3, ge=1)
    """So many failed checks in a row, and the upstream counts as down."""

    healthy_threshold: int = Field(default=2, ge=1)
    """So many good checks in a row, and it counts as up again."""

    @field_validator("path")
    @classmethod
    def _a_target(cls, value: str) -> str:
        if not _TARGET.fullmatch(value):
            raise ValueError(f'"{value[:60]}" is not a path; write for example /health')
        return value


class Upstream(Model):
    """One backend of a service."""

    address: UpstreamAddress
    """`host:port`, with a scheme where it differs from the service's `protocol`, or `unix:/path`."""

    weight: int = Field(default=100, ge=0, le=1_000_000)
    """Its share of the requests, relative to the others; 0 is a reserve for when no other is well or has room (the
    original took 0 for 100)."""

    max_connections: int | None = Field(default=None, ge=1)
    """So many requests at the same time; what comes beyond goes to others or waits."""

    health_check: HealthCheck | None = None
    """How it is asked whether it is well; without, only its requests tell."""


Policy = Literal["round_robin", "weighted_round_robin", "least_conn", "ip_hash", "random_two", "first"]


class OutlierDetection(Model):
    """When an upstream whose requests fail is left out for a while.

    A run of 0 is never reached. `consecutive_failures` counts connections that fail or break; `consecutive_5xx` counts
    these and answers of 500 and above. At most `max_ejection_percent` of the upstreams (rounded up) are out at a time.
    """

    consecutive_failures: int = Field(default=3, ge=0)
    """So many connections in a row that fail, or break before the end of an answer, and it is left out."""

    consecutive_5xx: int = Field(default=5, ge=0)
    """So many of these or answers of 500 and above in a row, and it is left out."""

    base_ejection_time: Duration = 10.0
    """How long it is left out the first time; each further time twice as long."""

    max_ejection_time: Duration = 300.0
    """How long it is left out at most; not below `base_ejection_time`."""

    max_ejection_percent: int = Field(default=50, ge=0, le=100)
    """The part of the upstreams that may be left out at the same time."""

    @model_validator(mode="after")
    def _grows(self) -> "OutlierDetection":
        if self.max_ejection_time < self.base_ejection_time:
            raise ValueError(
                f"max_ejection_time ({self.max_ejection_time:g} s) is shorter than base_ejection_time; make it longer"
            )
        return self


class LoadBalancing(Model):
    """How requests are spread over the upstreams.

    `queue` requests wait, for `queue_timeout` at most, where all connections of `max_connections` are taken.
    """

    policy: Policy = "round_robin"
    """In turn; in turn by weight; the fewest requests for its weight; by the client's address; the less busy of two
    that are drawn; the first one that is well."""

    health_check_required: bool = False
    """Where no upstream is well: true answers 503 at once, false takes the least bad one."""

    outlier_detection: OutlierDetection = OutlierDetection()
    """When an upstream is left out for a while because its requests fail."""

    slow_start: Duration = 0.0
    """How long one that has come back takes to get its whole share, from a tenth on; 0 is at once."""

    session_affinity: bool = False
    """Keep a browser with its upstream, by a signed cookie. Its secret is in a file beside the agent's `server.key`
    that ends in `.affinity`."""

    affinity_duration: Duration = Field(default=3600.0, gt=0)
    """How long the cookie of `session_affinity` holds; it is renewed when more than half of that is over."""

    max_connections: int | None = Field(default=None, ge=1)
    """So many requests at the same time in the whole service; what comes beyond waits."""

    queue: int = Field(default=100, ge=0, le=100_000)
    """So many requests wait; the next one gets a 503 with `Retry-After`. 0: none waits."""

    queue_timeout: Duration = 10.0
    """How long a request waits at most; then it gets the same."""

    timeout: Duration | None = None
    """What the service's `timeout` is where that is not given."""

    keep_alive_timeout: Duration | None = None
    """How long a connection to an upstream is kept for the next request; 4s. Stay below what the upstream keeps it."""

    @property
    def keeps_clients(self) -> bool:
        """A client is to stay where it was."""
        return self.session_affinity or self.policy == "ip_hash"
