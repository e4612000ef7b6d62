"""Connecting: TLS contexts, sockets, and a limit for concurrent handshakes."""

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import picows

from benchmarks.load.jobs import Endpoint

AT_A_TIME: Final = 64
CONNECT_TIMEOUT: Final = 20.0

T = TypeVar("T", bound=asyncio.BaseProtocol)
Opened = TypeVar("Opened")


@functools.cache
def tls(endpoint: Endpoint) -> ssl.SSLContext | None:
    """Return the TLS context for an endpoint: HTTP/1.1 only, to compare all targets alike."""
    if not endpoint.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    if endpoint.root is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(endpoint.root)
    return context


async def connect(endpoint: Endpoint, factory: Callable[[], T]) -> T:
    """Open a connection."""
    context, loop = tls(endpoint), asyncio.get_running_loop()
    if endpoint.path:
        return (await loop.create_unix_connection(factory, endpoint.path))[1]
    _, protocol = await loop.create_connection(
        factory,
        endpoint.address,
        endpoint.port,
        ssl=context,
        server_hostname=endpoint.host if context else None,
    )
    return protocol


async def websocket(
    endpoint: Endpoint, factory: Callable[[], picows.WSListener], path: str = "/"
) -> None:
    """Open a WebSocket."""
    context = tls(endpoint)
    options: dict[str, Any] = {"server_hostname": endpoint.host} if context else {}
    await picows.ws_connect(
        factory,
        f"{'wss' if context else 'ws'}://{endpoint.host}:{endpoint.port}{path}",
        ssl_context=context,
        socket_factory=lambda _url: _connected(endpoint),
        websocket_handshake_timeout=CONNECT_TIMEOUT,
        **options,
    )


async def open_all(count: int, open_one: Callable[[], Awaitable[Opened]]) -> list[Opened]:
    """Open many connections, a few at a time, so that no backlog overflows."""
    gate = asyncio.Semaphore(AT_A_TIME)

    async def opened() -> Opened:
        async with gate:
            return await open_one()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(opened()) for _ in range(count)]
    return [task.result() for task in tasks]


async def _connected(endpoint: Endpoint) -> socket.socket:
    """Connect a socket ourselves: the requested host names are in no DNS."""
    address: str | tuple[str, int] = endpoint.path or (endpoint.address, endpoint.port)
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    raw = _UnixSocket() if endpoint.path else socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(raw, address)
    except BaseException:
        raw.close()
        raise
    return raw


class _UnixSocket(socket.socket):
    """A unix socket on which options of TCP have no effect: picows sets and reads them."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)

    def setsockopt(self, level: int, *option: Any) -> None:
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *option)

    def getsockopt(self, level: int, *option: Any) -> Any:
        return 0 if level == socket.IPPROTO_TCP else super().getsockopt(level, *option)
