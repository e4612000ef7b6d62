"""Settings of the metrics endpoint."""

from pydantic import model_validator

from zerotrust.model.base import Listen, Model, is_loopback


class Metrics(Model):
    """Endpoint for Prometheus (`/metrics`) and for liveness checks (`/healthz`).

    It has no authentication and shows the names and the use of agents and services. So the address
    must be loopback or a unix socket, unless `expose_to_network_without_authentication` is true. To
    read it from another machine, put a proxy with TLS and credentials in front.
    """

    listen_addr: Listen | None = None
    """`127.0.0.1:PORT` or `unix:/path`. Without it there is no endpoint."""

    expose_to_network_without_authentication: bool = False
    """Allow an address that other machines can reach."""

    @model_validator(mode="after")
    def _loopback(self) -> "Metrics":
        address = self.listen_addr
        if (
            address is not None
            and not is_loopback(address)
            and not self.expose_to_network_without_authentication
        ):
            raise ValueError(
                f'metrics.listen_addr "{address}" is reachable from the network without'
                " authentication; use 127.0.0.1:PORT or unix:/path, or set"
                " metrics.expose_to_network_without_authentication: true if another program"
                " protects it"
            )
        return self
