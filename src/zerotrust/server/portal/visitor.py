"""Access to what the server knows about the browser of a request."""

from typing import cast

from starlette.requests import Request

from zerotrust.access.subject import Credential, CredentialKind
from zerotrust.server.access.sign_ins import BrowserInfo

MAX_USER_AGENT = 200


def host_of(request: Request) -> str:
    """Return the normalised host name of a request."""
    return cast("str", request.scope["state"]["host"])


def client_of(request: Request) -> str:
    """Return the address of the client; empty if unknown."""
    return cast("str", request.scope["state"].get("client", ""))


def credential_of(request: Request) -> Credential | None:
    """Return the valid sign-in (auth host) or pass (other hosts) of a request.

    It was found when the head of the request came, and may have ended while the body came.
    """
    credential = cast("Credential | None", request.scope["state"].get("credential"))
    return None if credential is None or credential.ended else credential


def sign_in_of(request: Request) -> Credential | None:
    """Return the valid sign-in of a request to the auth host."""
    credential = credential_of(request)
    signed_in = credential is not None and credential.kind is CredentialKind.SIGN_IN
    return credential if signed_in else None


def browser_of(request: Request) -> BrowserInfo:
    """Return address and user agent, for the list of sign-ins."""
    agent = request.headers.get("user-agent", "")
    return BrowserInfo(client=client_of(request), user_agent=agent[:MAX_USER_AGENT])


def wants_json(request: Request) -> bool:
    """Return True if a script of the portal made the request."""
    return request.headers.get("accept", "") == "application/json"
