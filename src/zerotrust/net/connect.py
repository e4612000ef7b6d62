"""Connects the agent to its server."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

import aiofastnet

NEXT_ADDRESS: Final = 0.25
"""Seconds until an attempt at the next address starts beside the one before (RFC 8305 s5)."""


async def dial(
    protocol: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext,
    server_name: str,
) -> None:
    """Resolve the host and connect a new protocol to it by TLS, to the first address that answers.

    Raises:
        OSError: no address answers.
    """
    loop = asyncio.get_running_loop()
    found = {
        address[0] for *_, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    }
    # Happy eyeballs leave reference cycles of tasks and sockets behind, so use them only for
    # several addresses.
    several = len(found) > 1
    await aiofastnet.create_connection(
        loop,
        protocol,
        host if several else str(found.pop()),
        port,
        ssl=tls,
        server_hostname=server_name,
        happy_eyeballs_delay=NEXT_ADDRESS if several else None,
    )
