"""Where the server is, and with what the agent proves itself to it."""

import asyncio
import datetime
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from zerotrust.agent.enrollment_client import EnrollmentClient
from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import split_address
from zerotrust.net.connect import dial
from zerotrust.net.tls import tunnel_client
from zerotrust.pki import key_pair_files
from zerotrust.pki.ca_directory import load_certificate
from zerotrust.pki.identity import agent_id_of

_DEFAULT_PORT = 8443

CONNECT_TIMEOUT: Final = 10.0
NEXT_TIMEOUT: Final = 4.0
"""The same where the server has another address to try."""


class ServerLocation(NamedTuple):
    """An address of the server, and the name that its certificate has there."""

    host: str
    port: int
    server_name: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, eq=False)
class ServerEndpoint:
    """Where to dial the server, and the TLS context for it.

    Attributes:
        places: its addresses, at least one.
    """

    places: tuple[ServerLocation, ...]
    tls: ssl.SSLContext

    @classmethod
    def of(cls, config: AgentConfig) -> Self:
        """The target of a configuration, with the certificates that its files hold now.

        Raises:
            PkiError: a certificate can't be used, or is another agent's.
        """
        server = config.server
        key_pair_files.complete(Path(server.cert), Path(server.key))
        _check_identity(config)
        addresses = (split_address(one, default_port=_DEFAULT_PORT) for one in (server.address, *server.addresses))
        places = (ServerLocation(host, port, server.server_name or host) for host, port in addresses)
        tls = tunnel_client(certificate=server.cert, key=server.key, authority=server.ca_cert)
        return cls(tuple(dict.fromkeys(places)), tls)

    def place(self, turn: int) -> ServerLocation:
        """The address to try at this turn: each in its turn, and again from the first on."""
        return self.places[turn % len(self.places)]

    def same_server(self, other: "ServerEndpoint") -> bool:
        """Both lead to the same server: they have an address in common."""
        return not set(self.places).isdisjoint(other.places)

    async def connect(self, protocol: Callable[[], asyncio.Protocol], turn: int) -> None:
        """Give a new protocol a connection to `place(turn)`.

        Raises:
            OSError: there is none to be had.
            TimeoutError: nobody answers.
        """
        place = self.place(turn)
        async with asyncio.timeout(NEXT_TIMEOUT if len(self.places) > 1 else CONNECT_TIMEOUT):
            await dial(protocol, place.host, place.port, tls=self.tls, server_name=place.server_name)

    async def compare_clocks(self, turn: int) -> datetime.timedelta | None:
        """How far the server's clock is ahead; None where it makes no difference, or nobody says."""
        place = self.place(turn)
        return await EnrollmentClient(
            place.host, place.port, trusted="", server_name=place.server_name
        ).compare_clocks()


def _check_identity(config: AgentConfig) -> None:
    """The server goes by the certificate; a file that says otherwise is a mistake to be told now.

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
            f'{config.server.cert} is the certificate of "{named}", but the configuration says agent.id "{declared}"; '
            f"make them the same (0trust ca issue agent {declared})"
        )
