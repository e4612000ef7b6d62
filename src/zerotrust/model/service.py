"""A published service: its host names and the backends that answer their requests.

`docs/reference` is generated from the keys and docstrings here.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from zerotrust.model.base import (
    Duration,
    HostName,
    Model,
    check_a_labels,
    is_pattern,
    parse_service_host,
)
from zerotrust.model.fields import refuse_condition
from zerotrust.model.middleware import (
    FINAL,
    MAX_HANDLERS,
    Authentication,
    Handler,
    Redirect,
    ReverseProxy,
)
from zerotrust.model.middleware import Cors as CorsHandler
from zerotrust.model.middleware_settings import CorsConfig, RedirectConfig
from zerotrust.model.path_pattern import check_path_pattern
from zerotrust.model.rates import ByteRate, ByteSize
from zerotrust.model.service_access import ServiceAccess
from zerotrust.model.upstream import (
    LoadBalancing,
    Upstream,
    UpstreamAddress,
    UpstreamEndpoint,
    endpoint_of,
)
from zerotrust.model.websocket_limits import WebSocketLimits

MAX_ROUTES: Final = 1024
"""Maximum routes of a service. A request is compared with each: 1,024 take half of the maximum cost
of a policy (`zerotrust.middleware.policy_cost`)."""

MAX_HOSTS: Final = 256
"""Maximum host names of a service (docs/spec/tunnel-v1.md, section 4)."""

NO_HOST = (
    "a service needs a host name: add hostname: app.example.com, or hostnames with a list of them"
)
TWO_HOSTS = "{} and hostnames exclude each other: list all host names in hostnames"
NO_BACKEND = (
    "a service needs a backend: add upstreams: [{address: host:port}] or backend: host:port"
)
TWO_BACKENDS = "backend and upstreams exclude each other: remove one"
REDIRECTS = "redirect_to answers every request: remove {}, or redirect_to"

_HOST_FIELD: Final = re.compile(r"[\[\]:%!$&'()*+,;=._~0-9A-Za-z-]{1,255}")


def _as_lists(value: object) -> object:
    """Replace each value `v` of a mapping by the list `[v]`."""
    if not isinstance(value, dict):
        return value
    return {key: item if isinstance(item, list) else [item] for key, item in value.items()}


class RouteMatch(Model):
    """Conditions of a route. A request must meet all of them."""

    path: str = "/*"
    """Path of the request, in any percent-encoding. `/admin` is that path only: not `/admin/`,
    which many backends take for the same, and not `/ADMIN`. `/admin/*` is `/admin`, `/admin/` and
    everything below. For the two spellings alone, write a route for each. `*` stands for any
    characters."""

    method: str | list[str] | None = None
    """Method or list of methods."""

    headers: Annotated[dict[str, list[str]], BeforeValidator(_as_lists)] = {}
    """Header names and values. One value of each header must match: `v` matches that value, `v*` a
    value that begins with v, `*` any value."""

    query: dict[str, str] = {}
    """Query parameters and their values, written as in `headers`. A request gets 400 if only some
    backends would read such a parameter from it: `Debug=1` or `debug[]=1` for `debug`, the same
    parameter twice, or `;` as a separator."""

    @field_validator("path")
    @classmethod
    def _matchable_path(cls, value: str) -> str:
        return check_path_pattern(value)

    @field_validator("headers")
    @classmethod
    def _matchable_headers(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name in value:
            refuse_condition(name)
        return value


class Route(Model):
    """Conditions, and the handlers for requests that meet them."""

    match: RouteMatch = RouteMatch()
    """Conditions. The first route whose conditions a request meets applies."""

    handle: list[Handler] = Field(default=[], max_length=MAX_HANDLERS)
    """Handlers for the request, in order. Then it goes to a backend."""

    @model_validator(mode="after")
    def _all_reached(self) -> "Route":
        acting = [handler for handler in self.handle if not isinstance(handler, ReverseProxy)]
        for handler, behind in pairwise(acting):
            if isinstance(handler, FINAL):
                raise ValueError(
                    f"{handler.type} answers every request: move {behind.type} before it, or"
                    " remove it"
                )
        methods = (
            [self.match.method] if isinstance(self.match.method, str) else self.match.method or []
        )
        cors = any(isinstance(handler, CorsHandler) for handler in acting)
        if cors and methods and "OPTIONS" not in map(str.upper, methods):
            raise ValueError(
                "cors answers OPTIONS requests: add OPTIONS to method, or move cors to security"
            )
        return self


def tls_version(value: object) -> object:
    """Return `1.2` or `1.3` for a TLS version in any spelling: 1.3, "TLS1.3", "TLSv1.3", "tls13".

    Raises:
        ValueError: another version, or not a version.
    """
    if not isinstance(value, (str, float)):
        return value
    text = str(value).strip().lower().removeprefix("tls").lstrip(" v_")
    known = {"1.2": "1.2", "12": "1.2", "1.3": "1.3", "13": "1.3"}
    if text not in known:
        raise ValueError(f'invalid TLS version "{value}": use 1.2 or 1.3')
    return known[text]


class ServiceTls(Model):
    """TLS to the backends.

    TLS to clients is Caddy's: the keys for it (`cert_file`, `key_file`, `ciphers`, `client_auth`,
    `client_ca_file`) are refused.
    """

    cert_file: str | None = None
    """Refused. Clients get Caddy's certificate, or one of the server's `caddy.certificates`."""

    key_file: str | None = None
    """Refused, like `cert_file`."""

    ca_file: str | None = None
    """File with the certificate authority of the backends. Default: the authorities that the system
    trusts."""

    server_name: str | None = None
    """Expected certificate name (SNI), if it differs from the backend's host."""

    client_cert_file: str | None = None
    """Certificate that the agent presents to the backends."""

    client_key_file: str | None = None
    """Private key of `client_cert_file`, if it is in a file of its own."""

    insecure_skip_verify: bool = False
    """Skip certificate verification. Insecure: anyone on the path can read and modify the traffic.
    The agent warns at each start."""

    min_version: Annotated[Literal["1.2", "1.3"] | None, BeforeValidator(tls_version)] = None
    """Minimum TLS version to the backends: 1.2 or 1.3. Clients always need 1.2 or newer."""

    ciphers: list[str] = []
    """Refused. Caddy chooses the ciphers for clients, all with forward secrecy and authenticated
    encryption."""

    client_auth: str | None = None
    """Refused, except for `none`: Caddy does not ask clients for certificates."""

    client_ca_file: str | None = None
    """Refused, like `client_auth`."""

    @model_validator(mode="after")
    def _consistent(self) -> "ServiceTls":
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file needs client_cert_file: add it")
        if self.insecure_skip_verify and (self.ca_file or self.server_name):
            raise ValueError(
                "insecure_skip_verify contradicts ca_file and server_name: remove it, or both of"
                " them"
            )
        return self


class ServiceSecurity(Model):
    """Cross-origin rules and authentication, in this order, for all routes of the service."""

    cors: CorsConfig | None = None
    """Cross-origin rules."""

    auth: Authentication | None = None
    """Authentication of clients: `basic_auth` or `jwt`."""


class Monitoring(Model):
    """Metrics of the service."""

    metrics_enabled: bool = True
    """Include the service in the agent's metrics for each service."""


class TrafficShaping(Model):
    """Bandwidth limits for bodies and for upgraded connections, for example "10MB/s".

    MB is 10^6 bytes, MiB 2^20 bytes, Mbit 10^6 bits. Streams share a limit evenly. After a pause, a
    burst of 0.2 s of the limit may pass at once (at least 16 KiB). A changed limit applies to new
    requests.
    """

    upload_limit: ByteRate | None = None
    """Maximum rate from all clients together."""

    download_limit: ByteRate | None = None
    """Maximum rate to all clients together."""

    per_ip_limit: ByteRate | None = None
    """Maximum rate from one client, and to one client. A client is an IPv4 address or an IPv6 /64
    network."""


def _redirect_target(value: str) -> str:
    name = check_a_labels(parse_service_host(value))
    if is_pattern(name):
        raise ValueError(f'"{value}" is a wildcard; write the host name to redirect to')
    port = value.strip().rpartition("]")[2].partition(":")[2]
    if not port:
        return name
    if not 0 < int(port) < 65536:
        raise ValueError(f'"{value}" has no valid port; write {name} or {name}:8443')
    return f"{name}:{int(port)}"


def _supported_protocol(value: object) -> object:
    if value in ("tcp", "udp"):
        raise ValueError(f"protocol {value} is not supported; use http, https, ws or wss")
    return value


Protocol = Annotated[Literal["http", "https", "ws", "wss"], BeforeValidator(_supported_protocol)]


class Service(Model):
    """One published service.

    There are two forms: the full one (`upstreams`) and the short one (`hostname`, `backend`,
    `protocol`).
    """

    id: str = Field(default="", max_length=128, pattern=r"^[\x21-\x7e]*$")
    """Unique name of the service in logs and commands: at most 128 ASCII characters without spaces.
    Default: its first host name."""

    name: str = ""
    """Description for people who read the file. It has no effect."""

    hostname: HostName | None = None
    """Host name of the service, or a wildcard: `*.apps.example.com` stands for every name one label
    longer than `apps.example.com`, and `*` for every host name that no other service has. A request
    goes to the service with its host name, else to the one with the wildcard, else to `*`. The
    server must have granted each host name and wildcard to this agent."""

    hostnames: list[HostName] = []
    """Host names of the service if it has several; instead of `hostname`."""

    hosts: list[HostName] = []
    """The same as `hostnames`. Together with `hostname`, further host names."""

    redirect_to: Annotated[str, AfterValidator(_redirect_target)] | None = None
    """Redirect every request with 308 to this host name, and keep scheme, method, path and query.
    The service needs no backend. Example: `hostname: www.example.com` with
    `redirect_to: example.com`. Add a port if clients need one: `example.com:8443`."""

    backend: UpstreamAddress | None = None
    """Address of the only backend: short form of `upstreams`."""

    protocol: Protocol = "http"
    """Scheme for backend addresses that have none."""

    websocket: bool = True
    """Forward requests for an upgrade, such as WebSockets. If false, they get 403. It may be a
    section: `websocket: {enabled: true, idle_timeout: 30s, max_duration: 8h}`, with the keys of
    `websocket_limits`, too."""

    max_websockets: int | None = Field(default=None, ge=1, le=1_000_000)
    """Maximum concurrent upgraded connections; beyond it, 503."""

    max_websockets_per_client: int | None = Field(default=None, ge=1, le=1_000_000)
    """Maximum concurrent upgraded connections of one client (IPv4 address or IPv6 /64 network);
    beyond it, 429."""

    max_websockets_per_user: int | None = Field(default=None, ge=1, le=1_000_000)
    """Maximum concurrent upgraded connections of one user, machine or app whom the server's rules
    have let in; beyond it, 429."""

    websocket_limits: WebSocketLimits | None = None
    """Limits of WebSockets: sizes and rates, origins, pings."""

    max_request_body: ByteSize | None = None
    """Maximum size of a request body, for example "10MB"; beyond it, 413."""

    http_redirect: bool | None = None
    """Redirect http to https: 301 for GET and HEAD, 308 for other methods. Default: true if
    `listen_on` is `both`, else false."""

    listen_on: Literal["http", "https", "both"] = "both"
    """Schemes that clients may use; requests over the other one get 404. A service with `http` gets
    no certificate."""

    timeout: Duration = 0.0
    """Maximum time for a backend to begin its response, after it has received the whole request. 0
    means `load_balancing.timeout`, or 2m if that is not set."""

    connect_timeout: Duration = Field(default=5.0, gt=0)
    """Maximum time to connect to a backend, including the TLS handshake."""

    idle_timeout: Duration = 0.0
    """Maximum time without any data in either direction of a request. 0 means no limit. It does not
    apply to upgraded connections."""

    total_timeout: Duration = 0.0
    """Maximum duration of a request. 0 means no limit. It does not apply to upgraded
    connections."""

    websocket_idle_timeout: Duration = 0.0
    """Maximum time without any data on an upgraded connection; pings of the client and the backend
    count as data. 0 means no limit. The server enforces it."""

    websocket_max_duration: Duration = 0.0
    """Maximum duration of an upgraded connection. 0 means no limit. The server enforces it."""

    host_header: str = "preserve"
    """Value of the `Host` header for backends: `preserve` keeps the client's, `upstream` uses the
    backend's address, any other value is sent as it is."""

    origin: Literal["preserve", "upstream"] = "preserve"
    """Value of the `Origin` header for backends. `upstream` replaces the service's own origin by
    the backend's address; foreign origins stay unchanged. `preserve` keeps all."""

    upstreams: list[Upstream] = []
    """Backends of the service. At least one is needed, here or in `backend`."""

    load_balancing: LoadBalancing = LoadBalancing()
    """Distribution of requests over the upstreams."""

    routes: list[Route] = Field(default=[], max_length=MAX_ROUTES)
    """Routes: conditions and handlers. Without routes, all requests go to the backends. With
    routes, a request that matches none of them gets 404."""

    strict_upstream: bool = False
    """Refuse responses that deviate from HTTP/1.1, with 502. If false, responses whose meaning is
    clear are repaired: lines that end in LF alone, folded fields, a blank before a colon, a
    repeated `Content-Length`, padded chunk sizes; lines that are no field are dropped. The log of
    the agent names each deviation of an upstream once, with its fix."""

    tls: ServiceTls | None = None
    """TLS to the backends."""

    security: ServiceSecurity | None = None
    """Cross-origin rules and authentication."""

    access: ServiceAccess | None = None
    """Users, machines and apps that may use the service, and statements about them to the backend.
    The server's own rules apply in addition."""

    monitoring: Monitoring | None = None
    """Metrics of the service."""

    traffic_shaping: TrafficShaping | None = None
    """Bandwidth limits."""

    @field_validator("host_header")
    @classmethod
    def _valid_host_header(cls, value: str) -> str:
        if not _HOST_FIELD.fullmatch(value):
            raise ValueError(
                f'invalid Host header "{value[:60]}": use preserve, upstream or a host such as'
                " app.internal:8080"
            )
        return value

    @model_validator(mode="after")
    def _complete(self) -> "Service":
        for message in contradictory_keys(dict(self)):
            raise ValueError(message)
        if len(self.host_names) > MAX_HOSTS:
            raise ValueError(
                f"{len(self.host_names)} host names, at most {MAX_HOSTS} allowed: make two services"
            )
        return self

    @property
    def is_counted(self) -> bool:
        """Return True if metrics may name the service."""
        return self.monitoring is None or self.monitoring.metrics_enabled

    @property
    def service_id(self) -> str:
        """Return the id. Default: the first host name."""
        return self.id or self.host_names[0]

    @property
    def host_names(self) -> tuple[str, ...]:
        """Return all host names without duplicates, `hostname` first."""
        names = [self.hostname] if self.hostname else []
        return tuple(dict.fromkeys([*names, *self.hosts, *self.hostnames]))

    @property
    def redirects(self) -> bool:
        """Return True if http requests are redirected to https."""
        return self.listen_on == "both" if self.http_redirect is None else self.http_redirect

    @property
    def backends(self) -> tuple[Upstream, ...]:
        """Return the upstreams, from either form of the file; none if the service redirects."""
        if self.backend:
            return (Upstream(address=self.backend),)
        return tuple(self.upstreams)

    @property
    def redirect(self) -> Redirect | None:
        """Return the handler for `redirect_to`; None if the service has backends."""
        if self.redirect_to is None:
            return None
        # Without a scheme, a URL keeps that of the request (RFC 3986 s4.2).
        both = self.listen_on == "both" and not self.redirects
        scheme = "" if both else "http:" if self.listen_on == "http" else "https:"
        location = f"{scheme}//{self.redirect_to}{{uri}}"
        return Redirect(type="redirect", config=RedirectConfig(location=location, status=308))

    @property
    def tls_files(self) -> tuple[str, ...]:
        """Return the files with the backends' authority and the agent's client certificate."""
        tls = self.tls or ServiceTls()
        return tuple(
            name for name in (tls.ca_file, tls.client_cert_file, tls.client_key_file) if name
        )

    def endpoint(self, upstream: Upstream) -> UpstreamEndpoint:
        """Return the endpoint of one of the upstreams."""
        return endpoint_of(upstream.address, protocol=self.protocol)

    def host_for(self, endpoint: UpstreamEndpoint) -> str:
        """Return the `Host` header for requests to an upstream.

        If it is the client's own, this is the first host name of the service that is no wildcard.
        """
        if self.host_header not in ("preserve", "upstream"):
            return self.host_header
        names = [name for name in self.host_names if not is_pattern(name)]
        return names[0] if names and self.host_header == "preserve" else endpoint.authority


def contradictory_keys(service: dict[str, Any]) -> Iterator[str]:
    """Yield an error for each key of a service that is missing or excludes another one."""
    named = [key for key in ("hostname", "hosts") if service.get(key)]
    if not named and not service.get("hostnames"):
        yield NO_HOST
    if named and service.get("hostnames"):
        yield TWO_HOSTS.format(named[0])
    if service.get("redirect_to"):
        for key in ("backend", "upstreams", "routes"):
            if service.get(key):
                yield REDIRECTS.format(key)
    elif not service.get("upstreams") and not service.get("backend"):
        yield NO_BACKEND
    if service.get("upstreams") and service.get("backend"):
        yield TWO_BACKENDS
