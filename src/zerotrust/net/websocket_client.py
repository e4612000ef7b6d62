"""Connects the agent to its server through the server's public web server, by a WebSocket."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

from zerotrust.model.base import normalise_host
from zerotrust.model.proxy import Proxy
from zerotrust.net.connect import dial
from zerotrust.net.inner_tls import start_tls
from zerotrust.net.tls import carrier
from zerotrust.net.websocket_connection import WebSocketConnection
from zerotrust.net.websocket_transport import WebSocketTransport

_HTTPS: Final = 443


class WebServer(NamedTuple):
    """Address of a web server, and the name by which it knows the server behind it."""

    host: str
    port: int
    name: str


async def dial_websocket(  # noqa: PLR0913 - keyword arguments
    protocol: Callable[[], asyncio.Protocol],
    *,
    web_server: WebServer,
    connect_timeout: float,
    tls: ssl.SSLContext,
    server_name: str,
    proxy: Proxy | None = None,
    small_segments: bool = False,
    worker: int = 0,
) -> asyncio.Transport:
    """Connect a new protocol to the server behind a web server, by TLS inside a WebSocket.

    It returns the transport of the inner TLS.

    Args:
        connect_timeout: seconds for all of it.
        tls: settings of the inner TLS, which authenticates both ends.
        server_name: expected name in the server's certificate.
        worker: the worker of the server to connect to.

    Raises:
        OSError: the web server does not answer or has no tunnel, or the inner TLS failed.
    """
    opened: asyncio.Future[WebSocketTransport] = asyncio.get_running_loop().create_future()
    host, port, name = web_server
    connection = WebSocketConnection(_authority(name, port), opened, worker=worker)
    try:
        async with asyncio.timeout(connect_timeout):
            await dial(
                connection.as_protocol,
                host,
                port,
                connect_timeout=connect_timeout,
                tls=carrier(),
                server_name=name,
                proxy=proxy,
                small_segments=small_segments,
            )
            websocket = (await opened).as_transport()
            return await start_tls(websocket, protocol, tls=tls, server_name=server_name)
    except BaseException:
        connection.abort()
        raise


def _authority(name: str, port: int) -> bytes:
    """Return the value of Host for a name and a port.

    Raises:
        ConnectionError: the name is no host name.
    """
    try:
        host = f"[{name}]" if ":" in name else normalise_host(name)
    except ValueError as error:
        raise ConnectionError(f"{error}; name the web server in server.websocket_address") from None
    return (host if port == _HTTPS else f"{host}:{port}").encode("ascii")
