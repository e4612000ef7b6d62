"""Connections that the agent makes to its server."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

import aiofastnet

NEXT_ADDRESS: Final = 0.25
"""Seconds until the next address is tried beside the first (RFC 8305 s5)."""


async def dial(
    protocol: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext, server_name: str
) -> None:
    """Give a new protocol a TLS connection. The name is looked up anew; of several addresses one that answers is taken.

    Raises:
        OSError: there is none to be had.
    """
    loop = asyncio.get_running_loop()
    found = {place[0] for *_, place in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    # Trying several beside each other leaves a knot of tasks and sockets to the garbage collector.
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
