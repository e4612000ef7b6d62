"""Address of the server, and the ways to connect to it."""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Self

from zerotrust.agent.proxies import Proxies
from zerotrust.agent.transport_selector import TransportSelector
from zerotrust.model.agent import ServerAddress
from zerotrust.model.base import join_address, split_address
from zerotrust.net.connect import dial
from zerotrust.net.websocket_client import WebServer, dial_websocket

DEFAULT_PORT: Final = 8443
WEB_PORT: Final = 443


class ServerLocation(NamedTuple):
    """An address of the server, and the expected name in its certificate.

    Attributes:
        web_server: the public web server that leads to the same server by a WebSocket.
    """

    host: str
    port: int
    server_name: str
    web_server: WebServer

    @classmethod
    def of(
        cls, address: str, *, server_name: str | None = None, websocket_address: str | None = None
    ) -> Self:
        """Return the location at an address; `websocket_address` is that of its web server."""
        host, port = split_address(address, default_port=DEFAULT_PORT)
        name = server_name or host
        web_server = WebServer(host, WEB_PORT, name)
        if websocket_address is not None:
            web_host, web_port = split_address(websocket_address, default_port=WEB_PORT)
            web_server = WebServer(web_host, web_port, web_host)
        return cls(host, port, name, web_server)

    @classmethod
    def all_of(cls, server: ServerAddress) -> tuple[Self, ...]:
        """Return the locations of a configured server, at least one."""
        locations = (
            cls.of(
                address,
                server_name=server.server_name,
                websocket_address=server.websocket_address,
            )
            for address in (server.address, *server.addresses)
        )
        return tuple(dict.fromkeys(locations))

    def __str__(self) -> str:
        return join_address(self.host, self.port)

    async def connect(
        self,
        protocol: Callable[[], asyncio.Protocol],
        transport: TransportSelector,
        *,
        tls: ssl.SSLContext,
        connect_timeout: float,
        proxies: Proxies,
        small_segments: bool = False,
        worker: int = 0,
    ) -> asyncio.Transport:
        """Connect a new protocol by TLS, by a way that `transport` selects; return its transport.

        Raises:
            OSError: the connection failed.
        """
        return await transport.connect(
            protocol,
            direct=partial(
                self.connect_directly,
                tls=tls,
                connect_timeout=connect_timeout,
                proxies=proxies,
                small_segments=small_segments,
            ),
            websocket=partial(
                dial_websocket,
                web_server=self.web_server,
                connect_timeout=connect_timeout,
                tls=tls,
                server_name=self.server_name,
                proxy=proxies.choose(self.web_server.host, self.web_server.port),
                small_segments=small_segments,
                worker=worker,
            ),
        )

    async def connect_directly(
        self,
        protocol: Callable[[], asyncio.Protocol],
        *,
        tls: ssl.SSLContext,
        connect_timeout: float,
        proxies: Proxies,
        small_segments: bool = False,
    ) -> asyncio.Transport:
        """Connect a new protocol by TLS to the address itself; return its transport.

        Raises:
            OSError: the connection failed.
        """
        return await dial(
            protocol,
            self.host,
            self.port,
            connect_timeout=connect_timeout,
            tls=tls,
            server_name=self.server_name,
            proxy=proxies.choose(self.host, self.port),
            small_segments=small_segments,
        )
