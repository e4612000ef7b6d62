"""A service: host names that the world may ask for and the backends that answer them.

The keys are those of `docs/reference` and of the files that users of the original program already have; a key whose
effect comes with a later release is read and checked here all the same, and `0trust config check` says so.
"""

import re
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from zerotrust.model.base import Duration, HostName, Model, split_address
from zerotrust.model.fields import refuse_condition
from zerotrust.model.handler_settings import CorsConfig
from zerotrust.model.handlers import FINAL, Authentication, Handler, ReverseProxy
from zerotrust.model.handlers import Cors as CorsHandler
from zerotrust.model.rates import ByteRate, ByteSize

NO_HOST = "a service needs a host name: add hostname: app.example.com"
NO_BACKEND = "a service needs a backend: add upstreams: [{address: host:port}] or backend: host:port"
TWO_BACKENDS = "a service has either backend or upstreams, not both"

_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


def _upstream(value: str) -> str:
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
    path: str = "/"
    method: str = "GET"
    interval: Duration = 30.0
    timeout: Duration = 5.0
    headers: dict[str, str] = {}
    expected_status: StatusRanges = ((200, 299),)
    unhealthy_threshold: int = Field(default=3, ge=1)
    healthy_threshold: int = Field(default=2, ge=1)


class Upstream(Model):
    """One backend of a service: `host:port`, or with a scheme."""

    address: UpstreamAddress
    weight: int = Field(default=100, ge=0, le=1_000_000)
    max_connections: int | None = Field(default=None, ge=1)
    health_check: HealthCheck | None = None


Policy = Literal["round_robin", "weighted_round_robin", "least_conn", "ip_hash", "random_two", "first"]


class OutlierDetection(Model):
    """When an upstream whose requests fail is left out for a while.

    A run of 0 is never reached. `consecutive_failures` counts connections that fail or break; `consecutive_5xx` counts
    these and answers of 500 and above. At most `max_ejection_percent` of the upstreams (rounded up) are out at a time.
    """

    consecutive_failures: int = Field(default=3, ge=0)
    consecutive_5xx: int = Field(default=5, ge=0)
    base_ejection_time: Duration = 10.0
    max_ejection_time: Duration = 300.0
    max_ejection_percent: int = Field(default=50, ge=0, le=100)


class LoadBalancing(Model):
    """How requests are spread over the upstreams.

    `queue` requests wait, for `queue_timeout` at most, where all connections of `max_connections` are taken.
    """

    policy: Policy = "round_robin"
    health_check_required: bool = False
    outlier_detection: OutlierDetection = OutlierDetection()
    slow_start: Duration = 0.0
    session_affinity: bool = False
    affinity_duration: Duration = 3600.0
    max_connections: int | None = Field(default=None, ge=1)
    queue: int = Field(default=100, ge=0, le=100_000)
    queue_timeout: Duration = 10.0
    timeout: Duration | None = None
    keep_alive_timeout: Duration | None = None


def _many(value: object) -> object:
    """`k: v` where `k: [v]` is meant."""
    if not isinstance(value, dict):
        return value
    return {key: item if isinstance(item, list) else [item] for key, item in value.items()}


class RouteMatch(Model):
    """Which requests a route is for. All conditions hold at once."""

    path: str = "/*"
    """`/x` is that path, `/admin/*` `/admin` and all below it; `*` stands for any characters."""

    method: str | list[str] | None = None
    """One method or several."""

    headers: Annotated[dict[str, list[str]], BeforeValidator(_many)] = {}
    """Fields and their values, one of which must be there: `v` is that value, `v*` one that begins so, `*` any."""

    query: dict[str, str] = {}
    """Parameters and their values, written as in `headers`."""

    @field_validator("path")
    @classmethod
    def _decided_on(cls, value: str) -> str:
        if value and value[0] not in "/*":
            raise ValueError(f'"{value}" matches nothing: a path begins with /, as in /{value}')
        if any(sign in value for sign in "?#;\\") or "%2f" in value.lower():
            raise ValueError(
                f'"{value}": write the path alone, with / between its parts; conditions on the query are in query'
            )
        if "//" in value or {".", ".."} & set(value.split("/")):
            raise ValueError(f'"{value}" matches nothing: paths are compared without //, . and ..')
        return value

    @field_validator("headers")
    @classmethod
    def _seen_here(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name in value:
            refuse_condition(name)
        return value


class Route(Model):
    """A match and what is done with the requests that it takes."""

    match: RouteMatch = RouteMatch()
    """Which requests the route is for; of several routes that fit, the first."""

    handle: list[Handler] = []
    """What is done with them, in order, before they go on to a backend."""

    @model_validator(mode="after")
    def _all_reached(self) -> "Route":
        acting = [handler for handler in self.handle if not isinstance(handler, ReverseProxy)]
        for handler, behind in pairwise(acting):
            if isinstance(handler, FINAL):
                raise ValueError(f"{handler.type} answers every request: put {behind.type} before it, or remove it")
        methods = [self.match.method] if isinstance(self.match.method, str) else self.match.method or []
        cors = any(isinstance(handler, CorsHandler) for handler in acting)
        if cors and methods and "OPTIONS" not in map(str.upper, methods):
            raise ValueError("cors answers OPTIONS requests: add OPTIONS to method, or write cors below security")
        return self


class ServiceTls(Model):
    """TLS towards the backends and, as the original had it, towards the clients."""

    cert_file: str | None = None
    key_file: str | None = None
    ca_file: str | None = None
    min_version: str | None = None
    ciphers: list[str] = []
    client_auth: str | None = None
    client_ca_file: str | None = None


class ServiceSecurity(Model):
    """What stands in front of all routes of the service: cross-origin rules, then who may use it."""

    cors: CorsConfig | None = None
    """Cross-origin rules."""

    auth: Authentication | None = None
    """Who may use the service: `basic_auth` or `jwt`."""


class Monitoring(Model):
    """What is logged and counted about the service."""

    metrics_enabled: bool = True
    logging_format: str | None = None
    logging_fields: list[str] = []


class TrafficShaping(Model):
    """Limits of rate, written "10MB/s"."""

    upload_limit: ByteRate | None = None
    """What all clients together send."""

    download_limit: ByteRate | None = None
    """What all clients together get."""

    per_ip_limit: ByteRate | None = None
    """What one client sends, and what one client gets."""


class Service(Model):
    """One published service.

    Two forms are read: the full one (`upstreams`) and the simple one (`hostname`, `backend`, `protocol`).
    """

    id: str = Field(default="", max_length=128, pattern=r"^[\x21-\x7e]*$")
    name: str = ""
    hostname: HostName | None = None
    hosts: list[HostName] = []
    backend: UpstreamAddress | None = None
    protocol: Literal["http", "https", "ws", "wss"] = "http"
    websocket: bool = True
    max_websockets: int | None = Field(default=None, ge=1, le=1_000_000)
    """So many upgraded connections are open at the same time; the next one gets a 503."""

    max_websockets_per_client: int | None = Field(default=None, ge=1, le=1_000_000)
    """So many of one client, by its address (of IPv6 the /64); the next one gets a 429."""

    max_request_body: ByteSize | None = None
    """The largest body of a request, "10MB"; a larger one gets a 413."""

    http_redirect: bool | None = None
    listen_on: Literal["http", "https", "both"] | None = None
    timeout: Duration = 0.0
    upstreams: list[Upstream] = []
    load_balancing: LoadBalancing = LoadBalancing()
    routes: list[Route] = []
    tls: ServiceTls | None = None
    security: ServiceSecurity | None = None
    monitoring: Monitoring | None = None
    traffic_shaping: TrafficShaping | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Service":
        if not self.hostname and not self.hosts:
            raise ValueError(NO_HOST)
        if not self.upstreams and not self.backend:
            raise ValueError(NO_BACKEND)
        if self.upstreams and self.backend:
            raise ValueError(TWO_BACKENDS)
        return self

    @property
    def service_id(self) -> str:
        """The id; in the simple form, the first host name."""
        return self.id or self.host_names[0]

    @property
    def host_names(self) -> tuple[str, ...]:
        """All host names, `hostname` first, each once."""
        names = ([self.hostname] if self.hostname else []) + self.hosts
        return tuple(dict.fromkeys(names))

    @property
    def first_upstream(self) -> tuple[str, int, bool]:
        """Host, port and whether to speak TLS to it."""
        written = self.upstreams[0].address if self.upstreams else self.backend or ""
        scheme, separator, rest = written.partition("://")
        kind = _SCHEMES[scheme.lower() if separator else self.protocol]
        host, port = split_address(rest if separator else written, default_port=443 if kind == "https" else 80)
        return host, port, kind == "https"
