"""Checks that the ports of the edge are free.

Caddy listens with SO_REUSEPORT. A second Caddy on the same ports starts without an error and gets
half of the connections. So the server tries to bind each port without this option, before it starts
Caddy.
"""

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from zerotrust.caddy.render import listen_hosts
from zerotrust.errors import CaddyError
from zerotrust.model.server import Caddy
from zerotrust.net.listen import NO_SUCH_FAMILY, try_bind

_NO_IPV6: Final = "::"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on, and the configuration key that sets it."""

    host: str
    port: int
    key: str
    udp: bool = False


def endpoints(caddy: Caddy) -> list[ListenAddress]:
    """Return all addresses that Caddy listens on; UDP is for HTTP/3."""
    found: list[ListenAddress] = []
    for host in listen_hosts(caddy):
        found.append(ListenAddress(host, caddy.https_port, "caddy.https_port"))
        found.append(ListenAddress(host, caddy.https_port, "caddy.https_port", udp=True))
        if caddy.http_port:
            found.append(ListenAddress(host, caddy.http_port, "caddy.http_port"))
    return found


def check_free(wanted: Iterable[ListenAddress]) -> None:
    """Check that each address is free.

    Raises:
        CaddyError: one is in use, needs a privilege that the process lacks, or is not on this
            machine.
    """
    for endpoint in wanted:
        for host in [endpoint.host] if endpoint.host else ["0.0.0.0", _NO_IPV6]:  # noqa: S104
            try:
                try_bind(host, endpoint.port, udp=endpoint.udp)
            except OSError as error:
                if host == _NO_IPV6 and not endpoint.host and error.errno in NO_SUCH_FAMILY:
                    continue
                raise CaddyError(explain(endpoint, error)) from error


def explain(endpoint: ListenAddress, error: OSError) -> str:
    """Return a message for a port that cannot be bound, with a way out."""
    what = f"{'UDP' if endpoint.udp else 'TCP'} port {endpoint.port}"
    where = f"on {endpoint.host}" if endpoint.host else "on all interfaces"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{what} {where} is in use by another program; stop it, or choose another"
            f" {endpoint.key}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{what} {where} needs a privilege that this user lacks; grant CAP_NET_BIND_SERVICE to"
            f" the service, or choose a port above 1023 for {endpoint.key}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f'caddy.bind "{endpoint.host}" is not an address of this machine'
    return (
        f"cannot listen on {what} {where} ({error.strerror or error}); check {endpoint.key} and"
        " caddy.bind"
    )
