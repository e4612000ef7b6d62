"""Connections that the agent makes to its server."""

import asyncio
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
    await aiofastnet.create_connection(
        asyncio.get_running_loop(),
        protocol,
        host,
        port,
        ssl=tls,
        server_hostname=server_name,
        happy_eyeballs_delay=NEXT_ADDRESS,
    )
