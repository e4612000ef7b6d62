"""Addresses of the server, and the TLS context to dial it with."""

import asyncio
import datetime
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Self

from zerotrust.agent.enrollment_client import EnrollmentClient
from zerotrust.agent.proxies import Proxies
from zerotrust.agent.server_location import ServerLocation
from zerotrust.agent.transport_selector import TransportSelector
from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.proxy import Proxy
from zerotrust.net.tls import tunnel_client
from zerotrust.pki import key_pair_files
from zerotrust.pki.ca_directory import load_certificate
from zerotrust.pki.identity import agent_id_of

CONNECT_TIMEOUT: Final = 10.0
NEXT_TIMEOUT: Final = 4.0
"""The same if the server has another address to try."""


@dataclass(frozen=True, slots=True, eq=False)
class ServerEndpoint:
    """The server as the agent dials it.

    Attributes:
        locations: its addresses, at least one.
        tls: the TLS context, with the agent's certificate.
        proxies: the proxies to its addresses.
        transport: chooses between a direct connection and a WebSocket.
        worker_tls: the TLS contexts for further workers of the server, by number.
    """

    locations: tuple[ServerLocation, ...]
    tls: ssl.SSLContext
    transport: TransportSelector
    proxies: Proxies
    worker_tls: dict[int, ssl.SSLContext] = field(default_factory=dict)
    make_tls: Callable[[int], ssl.SSLContext] | None = None
    """Makes the TLS context for a worker."""

    @classmethod
    def of(cls, config: AgentConfig, transport: TransportSelector | None = None) -> Self:
        """Return the endpoint of a configuration, with the certificates that its files hold now.

        Args:
            transport: the selector of the same configuration with other certificates.

        Raises:
            PkiError: a certificate can't be used, or is another agent's.
            SetupError: the environment names a proxy that can't be used.
        """
        server = config.server
        key_pair_files.complete(Path(server.cert), Path(server.key))
        _check_identity(config)
        make_tls = partial(
            tunnel_client, certificate=server.cert, key=server.key, authority=server.ca_cert
        )
        return cls(
            ServerLocation.all_of(server),
            make_tls(),
            transport or TransportSelector(server.transport),
            Proxies.of(server, os.environ),
            make_tls=lambda worker: make_tls(worker=worker),
        )

    def at(self, address: str) -> Self:
        """Return another server of the same authority, at `host:port`.

        Its certificate must be for this host, whatever `server_name` says, which is another
        server's.
        """
        return replace(
            self,
            locations=(ServerLocation.of(address),),
            transport=TransportSelector(self.transport.mode),
        )

    def location(self, turn: int) -> ServerLocation:
        """Return the address to try at this turn: round robin."""
        return self.locations[turn % len(self.locations)]

    def proxy(self, turn: int) -> Proxy | None:
        """Return the proxy to `location(turn)`; None if the agent connects directly."""
        location = self.location(turn)
        return self.proxies.choose(location.host, location.port)

    def same_server(self, other: "ServerEndpoint") -> bool:
        """Return True if the two have an address in common."""
        addresses = {(location.host, location.port) for location in self.locations}
        return any((one.host, one.port) in addresses for one in other.locations)

    async def connect(
        self, protocol: Callable[[], asyncio.Protocol], turn: int, *, worker: int = 0
    ) -> None:
        """Connect a new protocol to `location(turn)`; in every second round with small segments.

        Args:
            worker: the worker of the server to connect to.

        Raises:
            OSError: the connection failed; a ProxyError if that is because of the proxy.
            TimeoutError: the server did not answer.
        """
        await self.location(turn).connect(
            protocol,
            self.transport,
            tls=self._tls(worker),
            worker=worker,
            connect_timeout=NEXT_TIMEOUT if len(self.locations) > 1 else CONNECT_TIMEOUT,
            proxies=self.proxies,
            small_segments=self._small_segments(turn),
        )

    async def connect_directly(self, turn: int, *, worker: int = 0) -> asyncio.Transport:
        """Return a new connection to `location(turn)`, made without a WebSocket.

        Raises:
            OSError: the connection failed.
        """
        return await self.location(turn).connect_directly(
            asyncio.Protocol,
            tls=self._tls(worker),
            connect_timeout=CONNECT_TIMEOUT,
            proxies=self.proxies,
            small_segments=self._small_segments(turn),
        )

    def _tls(self, worker: int) -> ssl.SSLContext:
        """Return the TLS context for a worker.

        Raises:
            ConnectionError: a certificate can't be used any more.
        """
        if not worker or self.make_tls is None:
            return self.tls
        if worker not in self.worker_tls:
            try:
                self.worker_tls[worker] = self.make_tls(worker)
            except PkiError as error:
                raise ConnectionError(str(error)) from error
        return self.worker_tls[worker]

    def _small_segments(self, turn: int) -> bool:
        return turn // len(self.locations) % 2 == 1

    async def compare_clocks(self, turn: int) -> datetime.timedelta | None:
        """Return how far the server's clock is ahead; None if it is right or unknown."""
        return await EnrollmentClient(
            self.location(turn), self.transport, trusted="", proxies=self.proxies
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
