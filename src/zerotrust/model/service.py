"""A service: host names that the world may ask for and the backends that answer them.

`docs/reference` is generated from the keys and docstrings here.
"""

import re
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from zerotrust.model.base import Duration, HostName, Model
from zerotrust.model.fields import refuse_condition
from zerotrust.model.middleware import FINAL, MAX_HANDLERS, Authentication, Handler, ReverseProxy
from zerotrust.model.middleware import Cors as CorsHandler
from zerotrust.model.middleware_settings import CorsConfig
from zerotrust.model.rates import ByteRate, ByteSize
from zerotrust.model.upstream import LoadBalancing, Upstream, UpstreamAddress, UpstreamEndpoint, endpoint_of

MAX_ROUTES: Final = 1024
"""A request is compared with each: half of what a policy may cost (`zerotrust.middleware.policy_cost`)."""

NO_HOST = "a service needs a host name: add hostname: app.example.com"
NO_BACKEND = "a service needs a backend: add upstreams: [{address: host:port}] or backend: host:port"
TWO_BACKENDS = "a service has either backend or upstreams, not both"

_HOST_FIELD: Final = re.compile(r"[\[\]:%!$&'()*+,;=._~0-9A-Za-z-]{1,255}")


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

    handle: list[Handler] = Field(default=[], max_length=MAX_HANDLERS)
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


def tls_version(value: object) -> object:
    """`1.2` or `1.3`, however it is written: 1.3, "TLS1.3", "TLSv1.3", "tls13".

    Raises:
        ValueError: another version, or none.
    """
    if not isinstance(value, (str, float)):
        return value
    text = str(value).strip().lower().removeprefix("tls").lstrip(" v_")
    known = {"1.2": "1.2", "12": "1.2", "1.3": "1.3", "13": "1.3"}
    if text not in known:
        raise ValueError(f'"{value}" is not a version of TLS; write "1.2" or "1.3"')
    return known[text]


class ServiceTls(Model):
    """TLS towards the backends. What the original's files say of TLS towards clients is refused: that is Caddy's."""

    cert_file: str | None = None
    """Refused: clients get the certificate that Caddy has, by itself or of the server's `caddy.certificates`."""

    key_file: str | None = None
    """Refused: the private key of `cert_file`."""

    ca_file: str | None = None
    """The authority of the backends' certificates, in place of those that the system trusts."""

    server_name: str | None = None
    """The name in the backends' certificates, where it is another one than in their addresses."""

    client_cert_file: str | None = None
    """The certificate by which the backends know the agent."""

    client_key_file: str | None = None
    """The private key of `client_cert_file`, where it is not in the same file."""

    insecure_skip_verify: bool = False
    """Take any certificate: whoever is on the way can read and change everything. Warned about at each start."""

    min_version: Annotated[Literal["1.2", "1.3"] | None, BeforeValidator(tls_version)] = None
    """The oldest TLS towards the backends: 1.2 or 1.3. Clients have 1.2 or newer in any case."""

    ciphers: list[str] = []
    """Refused: clients have those of Caddy, all with forward secrecy and authenticated encryption."""

    client_auth: str | None = None
    """Refused, except for `none`: clients are not asked for certificates."""

    client_ca_file: str | None = None
    """Refused: the authority of the clients' certificates."""

    @model_validator(mode="after")
    def _consistent(self) -> "ServiceTls":
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file is the key of client_cert_file: add it")
        if self.insecure_skip_verify and (self.ca_file or self.server_name):
            raise ValueError("insecure_skip_verify verifies nothing: remove it, or ca_file and server_name")
        return self


class ServiceSecurity(Model):
    """What stands in front of all routes of the service: cross-origin rules, then who may use it."""

    cors: CorsConfig | None = None
    """Cross-origin rules."""

    auth: Authentication | None = None
    """Who may use the service: `basic_auth` or `jwt`."""


class Monitoring(Model):
    """What is logged and counted about the service."""

    metrics_enabled: bool = True
    """False leaves the service out of the metrics that the agent has for each."""


class TrafficShaping(Model):
    """How fast the bytes of bodies and of upgraded connections may pass, both ways, written "10MB/s".

    MB is 10^6 bytes, MiB 2^20, Mbit 10^6 bits. Streams share a limit evenly. A fifth of a second's worth, 16 KiB at
    least, may pass at once after a rest. A change holds for what begins after it.
    """

    upload_limit: ByteRate | None = None
    """What all clients together send."""

    download_limit: ByteRate | None = None
    """What all clients together get."""

    per_ip_limit: ByteRate | None = None
    """What one client sends, and what one client gets: by its address, of IPv6 the /64."""


def _carried(value: object) -> object:
    if value in ("tcp", "udp"):
        raise ValueError(f"{value} is not carried: 0Trust publishes what speaks HTTP; for the rest take a VPN")
    return value


Protocol = Annotated[Literal["http", "https", "ws", "wss"], BeforeValidator(_carried)]


class Service(Model):
    """One published service.

    Two forms are read: the full one (`upstreams`) and the simple one (`hostname`, `backend`, `protocol`).
    """

    id: str = Field(default="", max_length=128, pattern=r"^[\x21-\x7e]*$")
    """Its name in logs and commands, at most 128 characters of ASCII without spaces; else its first host name. Each
    service has its own."""

    name: str = ""
    """For people who read this file."""

    hostname: HostName | None = None
    """The host name by which clients find the service, no wildcard. Each one needs a grant at the server."""

    hosts: list[HostName] = []
    """Further host names, or all of them."""

    backend: UpstreamAddress | None = None
    """The simple form of `upstreams`: the address of the only one."""

    protocol: Protocol = "http"
    """How backends are spoken to whose address names no scheme."""

    websocket: bool = True
    """Whether upgrades of connections are forwarded; where not, they get a 403. As a section it is
    `websocket: {enabled: true, idle_timeout: 30s, max_duration: 8h}`."""

    max_websockets: int | None = Field(default=None, ge=1, le=1_000_000)
    """So many upgraded connections are open at the same time; the next one gets a 503."""

    max_websockets_per_client: int | None = Field(default=None, ge=1, le=1_000_000)
    """So many of one client, by its address (of IPv6 the /64); the next one gets a 429."""

    max_request_body: ByteSize | None = None
    """The largest body of a request, "10MB"; a larger one gets a 413."""

    http_redirect: bool | None = None
    """Send http to https: 301 for GET and HEAD, 308 for others. Where it is not said: yes with `both`, else no."""

    listen_on: Literal["http", "https", "both"] = "both"
    """Where clients find the service; over the other one they get a 404. A service over `http` has no certificate."""

    timeout: Duration = 0.0
    """How long a backend may take to begin to answer, once it has the request; 0 is `load_balancing.timeout`, or 2m."""

    connect_timeout: Duration = Field(default=5.0, gt=0)
    """How long a backend may take to accept a connection, TLS included."""

    idle_timeout: Duration = 0.0
    """How long nothing of a request or its answer may move; 0 is for ever. Not for upgraded connections."""

    total_timeout: Duration = 0.0
    """How long a request may take from beginning to end; 0 is for ever. Not for upgraded connections."""

    websocket_idle_timeout: Duration = 0.0
    """How long nothing may move on an upgraded connection; 0 is for ever. Pings count."""

    websocket_max_duration: Duration = 0.0
    """How long an upgraded connection may last; 0 is for ever."""

    host_header: str = "preserve"
    """The Host that backends see: the client's (`preserve`), that of their address (`upstream`), or a name."""

    origin: Literal["preserve", "upstream"] = "preserve"
    """`upstream`: where Origin is the service's own, backends see their own address. A foreign one is never changed."""

    upstreams: list[Upstream] = []
    """The backends; one at least, here or in `backend`."""

    load_balancing: LoadBalancing = LoadBalancing()
    """How requests are spread over them."""

    routes: list[Route] = Field(default=[], max_length=MAX_ROUTES)
    """What is done with which requests. Without any, all go on; with some, one that none of them takes gets a 404."""

    tls: ServiceTls | None = None
    """TLS towards the backends."""

    security: ServiceSecurity | None = None
    """Who may use the service."""

    monitoring: Monitoring | None = None
    """What is counted about the service."""

    traffic_shaping: TrafficShaping | None = None
    """How fast bytes may pass."""

    @field_validator("host_header")
    @classmethod
    def _fits_a_field(cls, value: str) -> str:
        if not _HOST_FIELD.fullmatch(value):
            raise ValueError(
                f'"{value[:60]}" cannot be a Host; write preserve, upstream, or for example app.internal:8080'
            )
        return value

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
    def is_counted(self) -> bool:
        """Whether metrics may name it."""
        return self.monitoring is None or self.monitoring.metrics_enabled

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
    def redirects(self) -> bool:
        """Clients that ask over http are sent to https."""
        return self.listen_on == "both" if self.http_redirect is None else self.http_redirect

    @property
    def backends(self) -> tuple[Upstream, ...]:
        """The upstreams, in either form of the file."""
        return tuple(self.upstreams) or (Upstream(address=self.backend or ""),)

    @property
    def tls_files(self) -> tuple[str, ...]:
        """The files by which the agent knows the backends, and proves itself to them."""
        tls = self.tls or ServiceTls()
        return tuple(name for name in (tls.ca_file, tls.client_cert_file, tls.client_key_file) if name)

    def endpoint(self, upstream: Upstream) -> UpstreamEndpoint:
        """Where one of the upstreams listens."""
        return endpoint_of(upstream.address, protocol=self.protocol)

    def host_for(self, endpoint: UpstreamEndpoint) -> str:
        """The Host that requests to an upstream have; where it is the client's, the first of the service's names."""
        if self.host_header == "upstream":
            return endpoint.authority
        return self.host_names[0] if self.host_header == "preserve" else self.host_header
