"""A backend that signs users in by the assertion, as Grafana does with `auth.jwt`.

It knows the issuer, its own address and the URL of the keys, and nothing else of 0Trust.
"""

import json
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.support.assertion_verifier import HEADER, AssertionVerifier
from tests.support.ports import free_port


class AssertionBackend:
    """Answer with the user of the assertion as JSON; 401 without a valid one.

    Attributes:
        requests: the head of each request.
    """

    def __init__(self, verifier: AssertionVerifier) -> None:
        self.port = free_port()
        self.verifier = verifier
        self.requests: list[Request] = []
        self._server: Server | None = None

    async def __aenter__(self) -> "AssertionBackend":
        self._server = await serve(
            _refuse, "127.0.0.1", self.port, process_request=self._answer, ping_interval=None
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, _: ServerConnection, request: Request) -> Response:
        self.requests.append(request)
        claims = await self.verifier.verify(request.headers.get_all(HEADER))
        if claims is None:
            return _response(HTTPStatus.UNAUTHORIZED, {"error": "sign in"})
        return _response(HTTPStatus.OK, claims)


async def _refuse(connection: ServerConnection) -> None:
    """Close a WebSocket: each request is answered before it becomes one."""
    await connection.close()


def _response(status: HTTPStatus, data: dict[str, Any]) -> Response:
    body = json.dumps(data).encode()
    headers = Headers(
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
    )
    return Response(status.value, status.phrase, headers, body)
