"""Where metrics can be read."""

from pydantic import model_validator

from zerotrust.model.base import Listen, Model, is_loopback


class Metrics(Model):
    """Where Prometheus reads metrics (`/metrics`), and others whether the process is alive (`/healthz`).

    Whoever reaches the address reads which agents or services there are and how much they are used, so it is loopback
    or a unix socket unless `expose_to_network_without_authentication` says that the risk is taken. From elsewhere it is
    read through what has TLS and credentials.
    """

    listen_addr: Listen | None = None
    """`127.0.0.1:PORT` or `unix:/path`; nowhere where it is not given."""

    expose_to_network_without_authentication: bool = False
    """Takes the risk of an address that others can reach."""

    @model_validator(mode="after")
    def _loopback(self) -> "Metrics":
        address = self.listen_addr
        if address is not None and not is_loopback(address) and not self.expose_to_network_without_authentication:
            raise ValueError(
                f'metrics.listen_addr "{address}" is reachable from the network and has no authentication; '
                "write 127.0.0.1:PORT or unix:/path, or set "
                "metrics.expose_to_network_without_authentication: true if something else protects it"
            )
        return self
