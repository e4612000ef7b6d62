"""Entry point for clients: Caddy's HTTPS, or the server's proxy API without Caddy.

Every host name is at 127.0.0.1, or at another address of this machine.
"""

import ssl
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from tests.support.client import Client, Fields, Response

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL."""


def trusting(root: Path, *protocols: str) -> ssl.SSLContext:
    """Return a client's TLS context that trusts one root and offers these ALPN protocols.

    It accepts certificates that begin now: OpenSSL takes the time from time(), which lags some
    milliseconds behind the clock from which Caddy takes the start of a new certificate.
    """
    context = ssl.create_default_context(cafile=root)
    context.verify_flags |= _NO_CHECK_TIME
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class Entrypoint:
    """One port of the stack and its protocol."""

    def __init__(self, port: int, *, root: Path | None = None, address: str = "127.0.0.1") -> None:
        self.port = port
        self.address = address
        self.root = root
        self.tls = trusting(root, "http/1.1") if root else None

    def url(self, host: str, path: str = "/") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    async def open(
        self, host: str, *, patience: float = 15.0, address: str | None = None
    ) -> Client:
        """Open a connection for HTTP/1.1; `address` is the client's own, one of 127.0.0.0/8."""
        return await Client.open(
            self.port,
            host=host,
            tls=self.tls,
            patience=patience,
            address=address,
            to=self.address,
        )

    async def request(
        self, host: str, method: str, target: str, fields: Fields = (), body: bytes = b""
    ) -> Response:
        """Send one request on a new connection."""
        async with await self.open(host) as client:
            return await client.request(method, target, fields, body)

    async def get(self, host: str, target: str, *fields: tuple[str, str]) -> Response:
        return await self.request(host, "GET", target, fields)

    def websocket(self, host: str, path: str = "/", **options: Any) -> connect:
        """Open a WebSocket over HTTP/1.1; options as for `websockets.connect`."""
        every: dict[str, Any] = {
            "max_size": None,
            "ping_interval": None,
            "open_timeout": 15,
            **options,
        }
        scheme = "wss" if self.tls else "ws"
        return connect(
            f"{scheme}://{host}:{self.port}{path}",
            host=self.address,
            port=self.port,
            ssl=self.tls,
            proxy=None,
            **every,
        )
