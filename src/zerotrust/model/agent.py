"""The agent's configuration file."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator

from zerotrust.model.base import Duration, Model, split_address
from zerotrust.model.logging import HotReload, Logging
from zerotrust.model.metrics import Metrics
from zerotrust.model.middleware import MAX_HANDLERS, Handler
from zerotrust.model.proxy import NONE, Proxy
from zerotrust.model.service import Service
from zerotrust.model.tracing import AgentTracing


class AgentIdentity(Model):
    """Identity of the agent. The server uses the subject of the agent's certificate."""

    id: str | None = None
    """Expected name in the agent's certificate. The agent does not start if the certificate has
    another name."""

    weight: int = Field(default=100, ge=1, le=1000)
    """Share of requests, relative to the weights of other agents that serve the same host names."""


def _reachable(value: str) -> str:
    host, port = split_address(value, default_port=8443)
    if not host or not port:
        raise ValueError(
            f'"{value}" is not a valid server address; write host:port, for example'
            " tunnel.example.com:8443"
        )
    return value


def _proxy_setting(value: str) -> str:
    Proxy.parse_setting(value)
    return value


def _web_server(value: str) -> str:
    host, port = split_address(value, default_port=443)
    if not host or not port:
        raise ValueError(
            f'"{value}" is not a valid address; write host:port, for example tunnel.example.com:443'
        )
    return value


Address = Annotated[str, AfterValidator(_reachable)]
WebAddress = Annotated[str, AfterValidator(_web_server)]


class ServerAddress(Model):
    """Connection to the server, and the certificates of the mutual TLS.

    When this section changes, the agent opens a new connection; running requests finish on the old
    one.
    """

    address: Address = "localhost:8443"
    """Address of the server, `host:port`. The default port is 8443. If the file does not set it,
    the environment applies: `ZERO_TRUST_SERVER`, then `SERVER_ADDRESS`, then port `SERVER_PORT` on
    localhost."""

    addresses: list[Address] = Field(default=[], max_length=7)
    """Further addresses of the same server, for example over another provider. The agent uses them
    for its other connections, and if `address` does not answer."""

    follow_members: bool = True
    """Keep sessions with all servers that share the database of this one, as this one names them;
    at most 8 in all. They must have certificates of `ca_cert` for the host names that are dialled.
    `false`: only with the addresses in this file."""

    connections: int = Field(default=2, ge=1, le=4)
    """Number of connections to each server. New requests use the best one; the others stand by, so
    that no request waits for a broken connection."""

    transport: Literal["auto", "direct", "websocket"] = "auto"
    """Way to the server. `direct` connects to `address`. `websocket` goes through the server's
    public Caddy, by a WebSocket on port 443, for networks that let nothing else out. `auto` tries
    both, prefers `direct`, and returns to it when it works again."""

    websocket_address: WebAddress | None = None
    """Address of the server's public Caddy for `transport: websocket`, `host:port`. The default
    port is 443. Default: the host in `address` (and in each of `addresses`), port 443."""

    server_name: str | None = None
    """Expected name in the server's certificate, if it differs from the host in `address`."""

    proxy: Annotated[str, AfterValidator(_proxy_setting)] | None = None
    """Proxy for all connections to the server: `http://proxy.example.com:3128` (CONNECT),
    `https://…` (the same over TLS) or `socks5://…`, with the user as in `http://USER@…`. The proxy
    resolves the server's name. `none`: no proxy. If the file does not set it, the environment
    applies: `HTTPS_PROXY`, then `ALL_PROXY`, except for the addresses in `NO_PROXY`. Connections to
    backends use no proxy."""

    proxy_password_file: str | None = None
    """File with the password of the user in `proxy`."""

    ca_cert: str = "/config/certs/ca.crt"
    """Certificate of the authority that signed the certificates of agents and servers."""

    cert: str = "/config/certs/agent.crt"
    """Certificate of the agent."""

    key: str = "/config/certs/agent.key"
    """Private key of `cert`."""

    _proxy_password: str = PrivateAttr("")

    @field_validator("proxy_password_file")
    @classmethod
    def _password_has_user(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or "proxy" not in info.data:  # an invalid proxy is reported itself
            return value
        proxy = Proxy.parse_setting(info.data["proxy"] or NONE)
        if proxy is None or not proxy.user:
            raise ValueError(
                "needs a user in server.proxy: write http://USER@proxy.example.com:3128"
            )
        return value

    @property
    def configured_proxy(self) -> Proxy | None:
        """Return the proxy of this section, with its password; None if it names none."""
        proxy = None if self.proxy is None else Proxy.parse_setting(self.proxy)
        return None if proxy is None else proxy.with_password(self._proxy_password)

    @property
    def files(self) -> dict[str, str]:
        """Return the key and the name of the file with the proxy's password, if there is one."""
        name = self.proxy_password_file
        return {} if name is None else {"proxy_password_file": name}

    def with_files(self, contents: Mapping[str, bytes]) -> Self:
        """Return a copy with the proxy's password from its file.

        Raises:
            ValueError: the file has no usable password.
        """
        proxy, name = self.configured_proxy, self.proxy_password_file
        if proxy is None or name is None:
            return self
        try:
            password = contents[name].decode().rstrip("\r\n")
            proxy.with_password(password)
        except ValueError as error:
            reason = "it is not text" if isinstance(error, UnicodeDecodeError) else str(error)
            raise ValueError(f"{name}: {reason}") from None
        filled = self.model_copy()
        filled._proxy_password = password
        return filled


class GlobalHealthSettings(Model):
    """Defaults for the health checks of all services."""

    check_interval: Duration = 30.0
    """Time between two checks of an upstream."""

    timeout: Duration = Field(default=5.0, gt=0)
    """Maximum time for an upstream to answer a check."""

    unhealthy_threshold: int = Field(default=3, ge=1)
    """Number of consecutive failed checks after which an upstream is unhealthy."""

    healthy_threshold: int = Field(default=2, ge=1)
    """Number of consecutive successful checks after which an upstream is healthy again."""


class HealthChecks(Model):
    """Settings for all health checks."""

    global_settings: GlobalHealthSettings = GlobalHealthSettings()
    """Defaults for the health checks of all services."""


class AgentConfig(Model):
    """The agent's configuration file."""

    version: str | float | None = None
    """Version of the file format: `"1.0"`. It has no effect yet."""

    agent_id: str | None = None
    """Short form of `agent.id`. If both are given, `agent.id` applies."""

    agent: AgentIdentity = AgentIdentity()
    """Identity of the agent."""

    server: ServerAddress = ServerAddress()
    """Connection to the server."""

    metrics: Metrics = Metrics()
    """Metrics endpoint."""

    logging: Logging = Logging()
    """Log of the agent."""

    tracing: AgentTracing = AgentTracing()
    """Traces of requests."""

    services: list[Service] = []
    """Services to publish. A change of one service does not disturb the others."""

    global_middleware: list[Handler] = Field(default=[], max_length=MAX_HANDLERS)
    """Handlers for the requests of all services. They run before a service's own handlers."""

    health_checks: HealthChecks = HealthChecks()
    """Settings for all health checks."""

    hot_reload: HotReload = HotReload()
    """Reload of the configuration and the certificates."""

    @property
    def declared_id(self) -> str | None:
        """Return the agent's id in the file, for comparison with the certificate."""
        return self.agent.id or self.agent_id
