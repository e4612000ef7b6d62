"""Addresses of the server, and the TLS context to dial it with."""

import asyncio
import datetime
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from zerotrust.agent.enrollment_client import EnrollmentClient
from zerotrust.agent.proxies import Proxies
from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import join_address, split_address
from zerotrust.model.proxy import Proxy
from zerotrust.net.connect import dial
from zerotrust.net.tls import tunnel_client
from zerotrust.pki import key_pair_files
from zerotrust.pki.ca_directory import load_certificate
from zerotrust.pki.identity import agent_id_of

_DEFAULT_PORT = 8443

CONNECT_TIMEOUT: Final = 10.0
NEXT_TIMEOUT: Final = 4.0
"""The same if the server has another address to try."""


class ServerLocation(NamedTuple):
    """An address of the server, and the expected name in its certificate."""

    host: str
    port: int
    server_name: str

    def __str__(self) -> str:
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True, eq=False)
class ServerEndpoint:
    """The server as the agent dials it.

    Attributes:
        locations: its addresses, at least one.
        tls: the TLS context, with the agent's certificate.
        proxies: the proxies to its addresses.
    """

    locations: tuple[ServerLocation, ...]
    tls: ssl.SSLContext
    proxies: Proxies

    @classmethod
    def of(cls, config: AgentConfig) -> Self:
        """Return the endpoint of a configuration, with the certificates that its files hold now.

        Raises:
            PkiError: a certificate can't be used, or is another agent's.
            SetupError: the environment names a proxy that can't be used.
        """
        server = config.server
        key_pair_files.complete(Path(server.cert), Path(server.key))
        _check_identity(config)
        addresses = (
            split_address(one, default_port=_DEFAULT_PORT)
            for one in (server.address, *server.addresses)
        )
        locations = (
            ServerLocation(host, port, server.server_name or host) for host, port in addresses
        )
        tls = tunnel_client(certificate=server.cert, key=server.key, authority=server.ca_cert)
        return cls(tuple(dict.fromkeys(locations)), tls, Proxies.of(server, os.environ))

    def location(self, turn: int) -> ServerLocation:
        """Return the address to try at this turn: round robin."""
        return self.locations[turn % len(self.locations)]

    def proxy(self, turn: int) -> Proxy | None:
        """Return the proxy to `location(turn)`; None if the agent connects directly."""
        location = self.location(turn)
        return self.proxies.choose(location.host, location.port)

    def same_server(self, other: "ServerEndpoint") -> bool:
        """Return True if the two have an address in common."""
        return not set(self.locations).isdisjoint(other.locations)

    async def connect(self, protocol: Callable[[], asyncio.Protocol], turn: int) -> None:
        """Connect a new protocol to `location(turn)`; in every second round with small segments.

        Raises:
            OSError: the connection failed; a ProxyError if that is because of the proxy.
            TimeoutError: the server did not answer.
        """
        location = self.location(turn)
        await dial(
            protocol,
            location.host,
            location.port,
            connect_timeout=NEXT_TIMEOUT if len(self.locations) > 1 else CONNECT_TIMEOUT,
            tls=self.tls,
            server_name=location.server_name,
            proxy=self.proxy(turn),
            small_segments=turn // len(self.locations) % 2 == 1,
        )

    async def compare_clocks(self, turn: int) -> datetime.timedelta | None:
        """Return how far the server's clock is ahead; None if it is right or unknown."""
        location = self.location(turn)
        return await EnrollmentClient(
            location.host,
            location.port,
            trusted="",
            server_name=location.server_name,
            proxy=self.proxy(turn),
        ).compare_clocks()


def _check_identity(config: AgentConfig) -> None:
    """Check that the configured agent id is the one in the certificate, which is what the server
    reads.

    Raises:
        PkiError: the certificate can't be read, or names another agent.
    """
    certificate = load_certificate(Path(config.server.cert))
    try:
        named = agent_id_of(certificate)
    except PkiError as error:
        raise PkiError(f"{config.server.cert}: {error}") from error
    declared = config.declared_id
    if declared is not None and declared != named:
        raise PkiError(
            f'{config.server.cert} is the certificate of "{named}", but the configuration says'
            f' agent.id "{declared}"; make them the same (0trust ca issue agent {declared})'
        )
