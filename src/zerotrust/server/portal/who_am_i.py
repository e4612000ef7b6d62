"""`GET /.0trust/me`, at each host name: tells scripts of pages who is signed in, and until when."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zerotrust.server.portal.visitor import credential_of

PATH = "/.0trust/me"


def who_am_i_route() -> Route:
    """Return the route of all host names."""
    return Route(PATH, _who_am_i, methods=["GET"])


async def _who_am_i(request: Request) -> Response:
    credential = credential_of(request)
    if credential is None:
        return JSONResponse({"error": "login_required"}, 401)
    subject, until = credential.subject, credential.ends_at
    if credential.sign_in is not None:
        until = min(until, credential.sign_in.ends_at)
    return JSONResponse(
        {
            "kind": subject.kind.value,
            "id": subject.id,
            "name": subject.name,
            "shown_name": subject.shown_name,
            "until": int(until),
        }
    )
