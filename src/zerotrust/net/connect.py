"""Connections of the agent to its server: all of them begin here."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

import aiofastnet
import aiohappyeyeballs

from zerotrust.model.proxy import Proxy
from zerotrust.net.inner_tls import start_tls
from zerotrust.net.proxy_handshake import MAX_HEAD, broken, late, request_tunnel, unreachable

NEXT_ADDRESS: Final = 0.25
"""Seconds until an attempt at the next address starts beside the one before (RFC 8305 s5)."""

SMALL_SEGMENT: Final = 1220
"""Bytes of a TCP segment that every path carries: the smallest MTU of IPv6 is 1,280 (RFC 8200)."""


async def dial(  # noqa: PLR0913 - keyword arguments
    protocol: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    connect_timeout: float,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    proxy: Proxy | None = None,
    small_segments: bool = False,
) -> asyncio.Transport:
    """Connect a new protocol to an address, by TLS if there is a context, and return its transport.

    Of several addresses of a name, the first one that answers is taken. Behind a proxy, the proxy
    resolves the name.

    Args:
        connect_timeout: seconds for all of it, the TLS handshake included.
        server_name: expected name in the certificate, if it is not the host.
        small_segments: let both ends send segments that every path carries. On a path that drops
            larger packets without a word (RFC 2923), TCP connects, and then the handshake hangs.

    Raises:
        OSError: no address answers, or the TLS handshake failed.
        ProxyError: the same, because of the proxy.
        TimeoutError: the server did not answer in time.
    """
    connect = _connect if proxy is None else partial(_through, proxy)
    try:
        async with asyncio.timeout(connect_timeout):
            return await connect(
                protocol,
                host,
                port,
                tls=tls,
                server_name=server_name or host,
                small_segments=small_segments,
            )
    except TimeoutError:
        if proxy is None:
            raise
        raise late(proxy, host, port, connect_timeout) from None


async def _connect(
    protocol: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None,
    server_name: str,
    small_segments: bool,
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    raw = await aiohappyeyeballs.start_connection(
        addresses,
        happy_eyeballs_delay=NEXT_ADDRESS,
        socket_factory=_small_socket if small_segments else None,
    )
    try:
        transport, _ = await aiofastnet.create_connection(
            loop, protocol, sock=raw, ssl=tls, server_hostname=None if tls is None else server_name
        )
    except Exception:
        raw.close()
        raise
    # When this is cancelled, aiofastnet closes the socket. If the handshake is done, it first ends
    # TLS, and until then the loop watches the descriptor: its number must not be used again.
    return transport


def _small_socket(address: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    raw = socket.socket(family, kind, protocol)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
    return raw


async def _through(
    proxy: Proxy,
    protocol: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None,
    server_name: str,
    small_segments: bool,
) -> asyncio.Transport:
    reader = asyncio.StreamReader(limit=MAX_HEAD)
    proxy_tls = ssl.create_default_context() if proxy.scheme == "https" else None
    try:
        transport = await _connect(
            lambda: asyncio.StreamReaderProtocol(reader),
            proxy.host,
            proxy.port,
            tls=proxy_tls,
            server_name=proxy.host,
            small_segments=small_segments,
        )
    except OSError as error:
        raise unreachable(proxy, error) from error
    try:
        await request_tunnel(proxy, host, port, reader, transport)
        try:
            return await _hand_over(transport, protocol, tls=tls, server_name=server_name)
        except ConnectionError as error:
            raise broken(proxy, host, port, error) from error
    except BaseException:
        transport.abort()
        raise


async def _hand_over(
    transport: asyncio.Transport,
    protocol: Callable[[], asyncio.Protocol],
    *,
    tls: ssl.SSLContext | None,
    server_name: str,
) -> asyncio.Transport:
    """Give a connection to a new protocol, by TLS if there is a context."""
    if tls is not None:
        return await start_tls(transport, protocol, tls=tls, server_name=server_name)
    made = protocol()
    transport.set_protocol(made)
    made.connection_made(transport)
    return transport
