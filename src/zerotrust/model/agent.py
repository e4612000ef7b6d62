"""The agent's configuration file."""

from typing import Annotated

from pydantic import AfterValidator, Field

from zerotrust.model.base import Duration, Model, split_address
from zerotrust.model.logging import HotReload, Logging
from zerotrust.model.metrics import Metrics
from zerotrust.model.middleware import MAX_HANDLERS, Handler
from zerotrust.model.service import Service


class AgentIdentity(Model):
    """Who the agent is. The server goes by the certificate's subject."""

    id: str | None = None
    """The name in the agent's certificate. Where it is another one, the agent does not start."""

    weight: int = Field(default=100, ge=1, le=1000)
    """This agent's share of the requests, compared with the weights of other agents that have the same host names."""


def _reachable(value: str) -> str:
    host, port = split_address(value, default_port=8443)
    if not host or not port:
        raise ValueError(f'"{value}" is nowhere to connect to; write host:port, for example tunnel.example.com:8443')
    return value


Address = Annotated[str, AfterValidator(_reachable)]


class ServerAddress(Model):
    """Where the server is, and how agent and server prove themselves to each other.

    A change makes another connection; what the former one has begun goes on there.
    """

    address: Address = "localhost:8443"
    """`host:port`; the port is 8443 where none is said. Where the file has none, `ZERO_TRUST_SERVER` of the environment
    counts, then `SERVER_ADDRESS`, then `SERVER_PORT` at localhost."""

    addresses: list[Address] = Field(default=[], max_length=7)
    """More addresses of the same server, for example over another provider: used by the other connections, and where
    `address` does not answer."""

    connections: int = Field(default=2, ge=1, le=4)
    """How many connections are kept. One of them carries the requests, the others stand by: new requests go over the
    one that is best, and none of them waits for one that has broken."""

    server_name: str | None = None
    """The name that the server's certificate must have, where it is another one than in `address`."""

    ca_cert: str = "/config/certs/ca.crt"
    """Certificate of the authority of agents and servers."""

    cert: str = "/config/certs/agent.crt"
    """The agent's certificate."""

    key: str = "/config/certs/agent.key"
    """The private key of `cert`."""


class GlobalHealthSettings(Model):
    """What the services' health checks take where they say nothing themselves."""

    check_interval: Duration = 30.0
    """Time from one check of an upstream to the next."""

    timeout: Duration = Field(default=5.0, gt=0)
    """How long an upstream has to answer a check."""

    unhealthy_threshold: int = Field(default=3, ge=1)
    """So many failed checks in a row, and an upstream counts as down."""

    healthy_threshold: int = Field(default=2, ge=1)
    """So many good checks in a row, and it counts as up again."""


class HealthChecks(Model):
    """The agent's health section."""

    global_settings: GlobalHealthSettings = GlobalHealthSettings()
    """Defaults of the services' health checks."""


class AgentConfig(Model):
    """The agent's file."""

    version: str | float | None = None
    """Version of the language; `"1.0"`. Says nothing yet."""

    agent_id: str | None = None
    """The short form of `agent.id`, which wins where both are given."""

    agent: AgentIdentity = AgentIdentity()
    """Who the agent is."""

    server: ServerAddress = ServerAddress()
    """Where the server is."""

    metrics: Metrics = Metrics()
    """Where metrics can be read."""

    logging: Logging = Logging()
    """The agent's log."""

    services: list[Service] = []
    """What is published. A change disturbs nothing but the services that it is about."""

    global_middleware: list[Handler] = Field(default=[], max_length=MAX_HANDLERS)
    """Handlers for all services, before their own."""

    health_checks: HealthChecks = HealthChecks()
    """What holds for all health checks."""

    hot_reload: HotReload = HotReload()
    """When this file is read again."""

    @property
    def declared_id(self) -> str | None:
        """The agent's id as the file says it, for comparison with the certificate."""
        return self.agent.id or self.agent_id
