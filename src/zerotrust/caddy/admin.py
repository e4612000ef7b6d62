"""Client of Caddy's admin API, over TCP or a unix socket.

Caddy restarts the listener of this API with each change, and drops the connections in its queue. So
changes go one at a time, each on a new connection, and a request whose connection was dropped is
sent once more. Caddy accepts `{}` and `null` as a configuration and then stops serving; `load`
refuses to send them.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from zerotrust.errors import CaddyError
from zerotrust.net.tls import trusting_nobody

_TIMEOUT: Final = httpx2.Timeout(30.0, connect=5.0)


class AdminApi:
    """Client of the admin API of one Caddy; use it as an async context manager."""

    def __init__(self, address: str) -> None:
        """`address` is a URL, a host:port, or a unix socket in Caddy's form
        (`unix//run/caddy/admin.sock|0600`)."""
        self.address = address
        self._changes = asyncio.Lock()
        socket = socket_path(address)
        base = (
            "http://localhost"
            if socket
            else f"http://{address.removeprefix('http://').rstrip('/')}"
        )
        self._client = httpx2.AsyncClient(
            base_url=base,
            transport=httpx2.AsyncHTTPTransport(
                uds=socket,
                limits=httpx2.Limits(max_keepalive_connections=0),
                verify=trusting_nobody(),
            ),
            timeout=_TIMEOUT,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def ready(self) -> bool:
        """Return True if Caddy runs a configuration.

        While it loads one, it answers only after that has started.
        """
        try:
            return bool(await self.config())
        except CaddyError:
            return False

    async def config(self) -> dict[str, Any] | None:
        """Return the running configuration; None if there is none."""
        response = await self._request("GET", "/config/")
        try:
            document = response.json()
        except ValueError as error:
            raise CaddyError(
                f"{self.address} is not Caddy's admin API: the answer is not JSON"
            ) from error
        return document if isinstance(document, dict) else None

    async def load(self, document: Mapping[str, Any]) -> None:
        """Replace the whole configuration; if Caddy refuses it, the old one keeps running.

        Raises:
            CaddyError: Caddy refuses it, with its reason, or does not answer.
        """
        if not document.get("apps"):
            raise CaddyError(
                "not sent to Caddy: a configuration without apps would stop it from serving"
            )
        async with self._changes:
            await self._request("POST", "/load", dict(document))

    async def stop(self) -> None:
        """Ask Caddy to exit."""
        async with self._changes:
            await self._request("POST", "/stop")

    async def _request(self, method: str, path: str, body: object = None) -> httpx2.Response:
        try:
            response = await self._send(method, path, body)
        except httpx2.TransportError as error:
            raise CaddyError(
                f"the admin API of Caddy at {self.address} does not answer"
                f" ({str(error) or type(error).__name__}); is Caddy running, and is caddy.admin_api"
                " its address?"
            ) from error
        except httpx2.InvalidURL as error:
            raise CaddyError(
                f"caddy.admin_api: {self.address} is not an address ({error})"
            ) from error
        if response.is_error:
            raise CaddyError(f"Caddy refused {method} {path}: {_reason(response)}")
        return response

    async def _send(self, method: str, path: str, body: object) -> httpx2.Response:
        """Send a request; if Caddy drops its connection, send it once more.

        A connection that waits at the listener from before a change is lost; the next one waits at
        the new listener. A request for `/stop` may have been obeyed, and is sent only once.
        """
        try:
            return await self._client.request(method, path, json=body)
        except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError):
            if path == "/stop":
                raise
        return await self._client.request(method, path, json=body)


def socket_path(address: str) -> str | None:
    """Return the path of a unix socket in `unix//path|mode` or `unix:/path`; None for TCP."""
    if not address.startswith(("unix/", "unix:")):
        return None
    path = address[5:].partition("|")[0]
    return "/" + path.lstrip("/") if path.startswith("/") else path


def _reason(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code} {response.text[:200]}".strip()
