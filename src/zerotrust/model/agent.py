"""The agent's configuration file."""

from typing import Any

from pydantic import Field

from zerotrust.model.base import Duration, Model
from zerotrust.model.logging import HotReload, Logging
from zerotrust.model.service import Service


class AgentIdentity(Model):
    """Who the agent is. The server goes by the certificate's subject; `id` must equal it."""

    id: str | None = None
    name: str = ""
    region: str = ""
    tags: list[str] = []


class ServerAddress(Model):
    """Where the server is, and how agent and server prove themselves to each other."""

    address: str = "localhost:8443"
    server_name: str | None = None
    ca_cert: str = "/config/certs/ca.crt"
    cert: str = "/config/certs/agent.crt"
    key: str = "/config/certs/agent.key"


class GlobalHealthSettings(Model):
    """Defaults of the services' health checks."""

    check_interval: Duration = 30.0
    timeout: Duration = 5.0
    unhealthy_threshold: int = Field(default=3, ge=1)
    healthy_threshold: int = Field(default=2, ge=1)


class HealthEndpoint(Model):
    """A path at which the agent itself answers."""

    path: str
    response: Any = None


class HealthChecks(Model):
    """The agent's health section."""

    global_settings: GlobalHealthSettings = GlobalHealthSettings()
    endpoints: list[HealthEndpoint] = []


class Middleware(Model):
    """One step applied to all services."""

    type: str
    config: dict[str, Any] = {}


class AgentConfig(Model):
    """The whole file. `agent_id` at the root is the reference document's form of `agent.id`."""

    version: str | float | None = None
    agent_id: str | None = None
    agent: AgentIdentity = AgentIdentity()
    server: ServerAddress = ServerAddress()
    logging: Logging = Logging()
    log_level: str | None = None
    services: list[Service] = []
    global_middleware: list[Middleware] = []
    health_checks: HealthChecks = HealthChecks()
    hot_reload: HotReload = HotReload()

    @property
    def declared_id(self) -> str | None:
        """The agent's id as the file says it, for comparison with the certificate."""
        return self.agent.id or self.agent_id
