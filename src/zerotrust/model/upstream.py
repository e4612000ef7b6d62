"""Upstreams of a service: addresses, health checks, load balancing."""

import re
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from zerotrust.model.base import Duration, Model, split_address
from zerotrust.model.fields import FieldName, FieldValue

_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


_UNIX: Final = "unix:"
_TARGET: Final = re.compile(r"/[\x21\x22\x24-\x7e]*")


class UpstreamEndpoint(NamedTuple):
    """Address of an upstream: host and port, or the path of a unix socket. `secured` means TLS."""

    host: str
    port: int
    secured: bool
    path: str = ""

    @property
    def authority(self) -> str:
        """Return the value of a `Host` header for this endpoint (RFC 9110 s7.2).

        It is the host, and the port if it is not the default port of the scheme.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secured else 80) else f"{host}:{self.port}"


def _upstream(value: str) -> str:
    if value.startswith(_UNIX):
        if not value.startswith("unix:/") or "\0" in value:
            raise ValueError(
                f'"{value}": write the path of a socket after unix:, for example unix:/run/app.sock'
            )
        return value
    scheme, separator, rest = value.partition("://")
    if separator and scheme.lower() not in _SCHEMES:
        raise ValueError(f'"{value}": unsupported scheme; use http, https, ws or wss')
    address = rest if separator else value
    if "/" in address.rstrip("/") or (address.rstrip("/") != address and not separator):
        raise ValueError(f'"{value}": write host:port without a path')
    default_port = {"http": 80, "https": 443}[_SCHEMES[scheme.lower()]] if separator else None
    host, port = split_address(address.rstrip("/"), default_port=default_port)
    if not host or not port:
        raise ValueError(f'"{value}": write host:port, for example 192.168.1.100:80')
    return value.rstrip("/")


UpstreamAddress = Annotated[str, AfterValidator(_upstream)]


def endpoint_of(address: str, *, protocol: str) -> UpstreamEndpoint:
    """Return the endpoint in an address. `protocol` is the scheme of an address without one."""
    if address.startswith(_UNIX):
        return UpstreamEndpoint("localhost", 80, secured=False, path=address.removeprefix(_UNIX))
    scheme, separator, rest = address.partition("://")
    kind = _SCHEMES[scheme.lower() if separator else protocol]
    host, port = split_address(
        rest if separator else address, default_port=443 if kind == "https" else 80
    )
    return UpstreamEndpoint(host, port, secured=kind == "https")


_STATUS = re.compile(r"([1-5])xx|([1-5]\d\d)(?:\s*-\s*([1-5]\d\d))?", re.IGNORECASE | re.ASCII)


def _status_range(value: object) -> tuple[int, int]:
    match = _STATUS.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f'invalid status "{value}": use 200, 2xx, 200-399 or a list of these')
    hundred, first, last = match.groups()
    low, high = (
        (int(hundred) * 100, int(hundred) * 100 + 99)
        if hundred
        else (int(first), int(last or first))
    )
    if low > high:
        raise ValueError(f'invalid range "{value}": write the lower status first')
    return low, high


def _status_ranges(value: object) -> object:
    """Return the ranges in 200, "2xx", "200-399", "200, 204" or a list of these."""
    parts: list[object] = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        parts += item.split(",") if isinstance(item, str) else [item]
    if not parts:
        raise ValueError("empty list of statuses: use 200, 2xx, 200-399 or a list of these")
    return tuple(_status_range(part) for part in parts)


StatusRanges = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_status_ranges)]
"""Ranges of status codes, both ends included; written 200, "2xx", "200-399" or a list of these."""


class HealthCheck(Model):
    """Active health check of an upstream."""

    type: Literal["http", "tcp"] = "http"
    """`http` sends a request; `tcp` only opens a connection."""

    path: str = "/"
    """Path of the request, with its query."""

    method: FieldName = "GET"
    """Method of the request."""

    interval: Duration = 30.0
    """Time between two checks. It varies by 10 %, so that checks do not run in step."""

    timeout: Duration = Field(default=5.0, gt=0)
    """Maximum time for the upstream to answer."""

    headers: dict[FieldName, FieldValue] = {}
    """Headers of the request. `Host` is the one of the service's requests, unless it is set
    here."""

    expected_status: StatusRanges = ((200, 299),)
    """Status codes of a successful check: 200, "2xx", "200-399" or a list of these. Redirects are
    not followed."""

    unhealthy_threshold: int = Field(default=3, ge=1)
    """Number of consecutive failed checks after which the upstream is unhealthy."""

    healthy_threshold: int = Field(default=2, ge=1)
    """Number of consecutive successful checks after which the upstream is healthy again."""

    @field_validator("path")
    @classmethod
    def _a_target(cls, value: str) -> str:
        if not _TARGET.fullmatch(value):
            raise ValueError(f'invalid path "{value[:60]}": write for example /health')
        return value


class Upstream(Model):
    """One backend of a service."""

    address: UpstreamAddress
    """`host:port` or `unix:/path`. Put a scheme in front if it differs from the service's
    `protocol`: `https://host:port`."""

    weight: int = Field(default=100, ge=0, le=1_000_000)
    """Share of requests, relative to the other upstreams. 0 makes it a reserve: it is used only if
    no other upstream is healthy and has room."""

    max_connections: int | None = Field(default=None, ge=1)
    """Maximum concurrent requests. Further requests go to other upstreams or wait in the queue."""

    health_check: HealthCheck | None = None
    """Active health check. Without one, only passive checks apply."""


Policy = Literal[
    "round_robin", "weighted_round_robin", "least_conn", "ip_hash", "random_two", "first"
]


class OutlierDetection(Model):
    """Passive health check: an upstream is ejected for a while after its requests failed.

    At most `max_ejection_percent` of the upstreams (rounded up) are ejected at the same time, and
    never all of them.
    """

    consecutive_failures: int = Field(default=3, ge=0)
    """Number of consecutive connections that failed, or broke before the end of a response, after
    which an upstream is ejected. 0 disables this check."""

    consecutive_5xx: int = Field(default=5, ge=0)
    """Number of consecutive failures after which an upstream is ejected, where responses with
    status 500 or above count as failures as well. 0 disables this check."""

    base_ejection_time: Duration = 10.0
    """Duration of the first ejection. Each further ejection lasts twice as long."""

    max_ejection_time: Duration = 300.0
    """Maximum duration of an ejection; at least `base_ejection_time`."""

    max_ejection_percent: int = Field(default=50, ge=0, le=100)
    """Maximum percentage of the upstreams that may be ejected at the same time."""

    @model_validator(mode="after")
    def _grows(self) -> "OutlierDetection":
        if self.max_ejection_time < self.base_ejection_time:
            raise ValueError(
                f"max_ejection_time ({self.max_ejection_time:g} s) is shorter than"
                " base_ejection_time; make it longer"
            )
        return self


class LoadBalancing(Model):
    """Distribution of requests over the upstreams.

    If all upstreams have reached `max_connections`, up to `queue` requests wait, each for at most
    `queue_timeout`.
    """

    policy: Policy = "round_robin"
    """`round_robin`: each upstream in turn. `weighted_round_robin`: in turn, by weight.
    `least_conn`: fewest active requests per weight. `ip_hash`: by client IP. `random_two`: the less
    loaded of two random upstreams. `first`: the first healthy upstream."""

    health_check_required: bool = False
    """If no upstream is healthy: true answers 503 at once, false uses the upstream with the fewest
    failed checks."""

    outlier_detection: OutlierDetection = OutlierDetection()
    """Passive health check: ejection of upstreams whose requests fail."""

    slow_start: Duration = 0.0
    """Ramp-up time for a recovered upstream, starting at 10 % of its weight; 0 disables slow
    start."""

    session_affinity: bool = False
    """Keep a browser on the same upstream, by a signed cookie. The secret for it is in a file next
    to the agent's `server.key`, with the ending `.affinity`."""

    affinity_duration: Duration = Field(default=3600.0, gt=0)
    """Lifetime of the cookie of `session_affinity`. It is renewed after half of that time."""

    max_connections: int | None = Field(default=None, ge=1)
    """Maximum concurrent requests of the whole service. Further requests wait in the queue."""

    queue: int = Field(default=100, ge=0, le=100_000)
    """Maximum queue length. When full, requests get 503 with `Retry-After`. 0 disables queueing."""

    queue_timeout: Duration = 10.0
    """Maximum time in the queue; then a request gets 503 with `Retry-After`."""

    timeout: Duration | None = None
    """Default for the service's `timeout`."""

    keep_alive_timeout: Duration | None = None
    """Maximum idle time of a connection to an upstream that is kept for reuse. Default: 4s. It must
    be shorter than the upstream's own keep-alive timeout."""

    @property
    def keeps_clients(self) -> bool:
        """Return True if requests of a client go to the same upstream."""
        return self.session_affinity or self.policy == "ip_hash"
