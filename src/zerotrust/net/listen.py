"""Listening sockets: plain ones for Caddy, TLS ones for agents."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiofastnet

from zerotrust.errors import SetupError
from zerotrust.model.base import split_address
from zerotrust.net.channel import describe
from zerotrust.net.tasks import Tasks

BACKLOG: Final = 1024
HANDSHAKE_TIMEOUT: Final = 10.0
SHUTDOWN_TIMEOUT: Final = 2.0
ACCEPT_PAUSE: Final = 0.5
"""After an accept that failed: no descriptors are left, and asking again at once would not help."""
MAX_HANDSHAKES: Final = 256
"""At the same time: a handshake costs a millisecond of CPU, and strangers can ask for many."""

Factory = Callable[[], asyncio.Protocol]


async def listen_plain(address: str, factory: Factory, *, key: str) -> asyncio.Server:
    """Accept plain connections at "host:port" or "unix:path" (mode 0600).

    Args:
        key: the configuration key of the address, for the error.

    Raises:
        SetupError: the address can't be used.
    """
    loop = asyncio.get_running_loop()
    try:
        if address.startswith("unix:"):
            return await loop.create_unix_server(factory, sock=_bind_unix(address.removeprefix("unix:")))
        host, port = split_address(address)
        return await loop.create_server(factory, host or None, port, backlog=BACKLOG)
    except OSError as error:
        raise SetupError(f"{key}: cannot listen on {address}: {describe(error)}") from error


class TlsListener:
    """Accepts TLS connections; a handshake that fails is told to `refused` with its reason.

    The handshakes run here and not in the loop's own server, because that one hides why they fail.
    """

    def __init__(
        self, *, context: ssl.SSLContext, factory: Factory, refused: Callable[[str, str], None], tasks: Tasks
    ) -> None:
        self._context = context
        self._factory = factory
        self._refused = refused
        self._tasks = tasks
        self._handshakes = asyncio.Semaphore(MAX_HANDSHAKES)
        self._sockets: list[socket.socket] = []

    async def start(self, address: str, *, key: str) -> None:
        """Listen at "host:port"; without a host, on all interfaces of both families.

        Raises:
            SetupError: the address can't be used.
        """
        host, port = split_address(address)
        try:
            self._sockets = [_bind(family, where, port) for family, where in _families(host)]
        except OSError as error:
            raise SetupError(f"{key}: cannot listen on {address}: {describe(error)}") from error
        for listening in self._sockets:
            self._tasks.spawn(self._accept(listening), "accept agents")

    def use(self, context: ssl.SSLContext) -> None:
        """Handshakes from now on are with this context; connections that there are stay."""
        self._context = context

    async def close(self) -> None:
        """Accept no more."""
        for listening in self._sockets:
            listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await aiofastnet.sock_accept(loop, listening)
            except OSError as error:
                self._refused("-", describe(error))
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            self._tasks.spawn(self._handshake(connection, f"{address[0]}:{address[1]}"), "tls handshake")

    async def _handshake(self, connection: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with self._handshakes:
                await aiofastnet.connect_accepted_socket(
                    loop,
                    self._factory,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                    ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
                )
        except OSError as error:
            self._refused(peer, describe(error))


def _bind_unix(name: str) -> socket.socket:
    """A socket at a path that only we may open; what an earlier run left there is taken away."""
    path = Path(name)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        mask = os.umask(0o177)
        try:
            listening.bind(name)
        finally:
            os.umask(mask)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _families(host: str) -> list[tuple[int, str]]:
    if not host:
        return [(socket.AF_INET, ""), (socket.AF_INET6, "::")] if socket.has_ipv6 else [(socket.AF_INET, "")]
    return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)]


def _bind(family: int, host: str, port: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
