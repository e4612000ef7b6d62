"""A backend that signs users in by the assertion, as Grafana does with `auth.jwt`.

It knows the issuer, its own address and the URL of the keys, and nothing else of 0Trust. Keys are
fetched when a key id is unknown, and kept.
"""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.support.ports import free_port

HEADER = "X-0Trust-Jwt-Assertion"


class AssertionBackend:
    """Answer with the user of the assertion as JSON; 401 without a valid one.

    Args:
        issuer, audience: required claims.
        fetch_keys: returns the JWKS document.

    Attributes:
        requests: the head of each request.
        fetches: how many times the keys were fetched.
    """

    def __init__(
        self, *, issuer: str, audience: str, fetch_keys: Callable[[], Awaitable[bytes]]
    ) -> None:
        self.port = free_port()
        self.requests: list[Request] = []
        self.fetches = 0
        self._fetch_keys = fetch_keys
        self._keys = KeySet([])
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
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
        values = request.headers.get_all(HEADER)
        claims = await self._verified(values[0]) if len(values) == 1 else None
        if claims is None:
            return _response(HTTPStatus.UNAUTHORIZED, {"error": "sign in"})
        return _response(HTTPStatus.OK, claims)

    async def _verified(self, assertion: str) -> dict[str, Any] | None:
        for fresh in (False, True):
            if fresh:
                self.fetches += 1
                self._keys = KeySet.import_key_set(json.loads(await self._fetch_keys()))
            try:
                token = jwt.decode(assertion, self._keys, algorithms=["ES256"])
                self._claims.validate(token.claims)
            except (JoseError, ValueError):
                continue
            return token.claims
        return None


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
