"""The JWKS document: public keys with which backends verify assertions."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from zerotrust.server.access.identity_keys import IdentityKeys

PATH: Final = "/.well-known/0trust/jwks.json"
"""On the auth host and on each host name with a gate; open to everyone."""

_HEADERS: Final = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}


def jwks_endpoint(keys: IdentityKeys) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint for `PATH`."""

    async def jwks_response(_: Request) -> Response:
        document = await keys.jwks()
        return JSONResponse(document, headers=_HEADERS, media_type="application/jwk-set+json")

    return jwks_response
