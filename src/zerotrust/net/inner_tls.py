"""TLS inside a connection that exists: in a WebSocket, or through a proxy."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

import aiofastnet

SHUTDOWN_TIMEOUT: Final = 2.0


async def start_tls(
    carrier: asyncio.Transport,
    protocol: Callable[[], asyncio.Protocol],
    *,
    tls: ssl.SSLContext,
    server_name: str | None,
) -> asyncio.Transport:
    """Connect a new protocol by TLS inside a connection, and return its transport.

    Args:
        carrier: transport of the connection; it is closed if the handshake fails.
        server_name: expected name in the server's certificate; None at the server's end.

    Raises:
        OSError: the handshake failed.
    """
    early = _EarlyBytes()
    try:
        if carrier.is_closing():  # its protocol of before was told; TLS would wait for ever
            raise ConnectionResetError
        transport = await aiofastnet.start_tls(
            asyncio.get_running_loop(),
            carrier,
            early,
            tls,
            server_side=server_name is None,
            server_hostname=server_name,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        if transport.is_closing():
            raise ConnectionResetError
    except BaseException:
        carrier.abort()
        raise
    made = protocol()
    transport.set_protocol(made)
    made.connection_made(transport)
    if early.received:
        # `made` may have passed the transport on.
        receiver = cast("asyncio.Protocol", transport.get_protocol())
        receiver.data_received(bytes(early.received))
    return transport


class _EarlyBytes(asyncio.Protocol):
    """Keeps what arrives right behind the handshake, before its caller knows that it has ended."""

    def __init__(self) -> None:
        self.received = bytearray()

    def data_received(self, data: bytes) -> None:
        self.received += data
