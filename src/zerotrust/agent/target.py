"""Where the server is, and with what the agent proves itself to it."""

import asyncio
import datetime
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from zerotrust.agent.asking import Asking
from zerotrust.errors import PkiError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import split_address
from zerotrust.net.dial import dial
from zerotrust.net.tls import tunnel_client
from zerotrust.pki import pair
from zerotrust.pki.files import load_certificate
from zerotrust.pki.identity import agent_id_of

_DEFAULT_PORT = 8443


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An address to dial, and the TLS context for it."""

    host: str
    port: int
    server_name: str
    tls: ssl.SSLContext

    @classmethod
    def of(cls, config: AgentConfig) -> Self:
        """The target of a configuration, with the certificates that its files hold now.

        Raises:
            PkiError: a certificate can't be used, or is another agent's.
        """
        server = config.server
        pair.complete(Path(server.cert), Path(server.key))
        _check_identity(config)
        host, port = split_address(server.address, default_port=_DEFAULT_PORT)
        tls = tunnel_client(certificate=server.cert, key=server.key, authority=server.ca_cert)
        return cls(host, port, server.server_name or host, tls)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def same_place(self, other: "Target") -> bool:
        """Both lead to the same server."""
        return (self.host, self.port) == (other.host, other.port)

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Give a new protocol a connection.

        Raises:
            OSError: there is none to be had.
        """
        await dial(protocol, self.host, self.port, tls=self.tls, server_name=self.server_name)

    async def compare_clocks(self) -> datetime.timedelta | None:
        """How far the server's clock is ahead; None where it makes no difference, or nobody says."""
        return await Asking(self.host, self.port, trusted="", server_name=self.server_name).compare_clocks()


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
