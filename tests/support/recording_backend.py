"""A backend in the test's own loop: answers its name, echoes WebSockets, records requests."""

import contextlib
import ssl
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support.ports import free_port


class RecordingBackend:
    """Answer every path with the backend's name; an upgrade becomes a WebSocket echo.

    Attributes:
        requests: the head of each request.
    """

    def __init__(self, name: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.port = free_port()
        self.tls = tls
        self.requests: list[Request] = []
        self._server: Server | None = None

    @property
    def paths(self) -> list[str]:
        """Paths of the requests."""
        return [request.path for request in self.requests]

    async def start(self) -> None:
        self._server = await serve(
            self.converse,
            "127.0.0.1",
            self.port,
            process_request=self._answer,
            ssl=self.tls,
            ping_interval=None,
        )

    async def stop(self) -> None:
        """Close the listener and all connections; the port stays reserved."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    def _answer(self, _: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return None
        body = self.name.encode()
        headers = Headers([("Content-Length", str(len(body))), ("Connection", "close")])
        return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, headers, body)

    async def converse(self, socket: ServerConnection) -> None:
        """Echo, until the other end is gone."""
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                await socket.send(message)
