"""The portal: one ASGI application for the auth host, and for `/.0trust/` of the others."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from zerotrust.errors import (
    AccessError,
    AccessRefused,
    StateError,
    TooManyAttempts,
    TooManyTries,
    ZeroTrustError,
)
from zerotrust.server.access.gatekeeper import JWKS_PATH, OWN_PREFIX
from zerotrust.server.portal.hand_over_pages import HandOverPages
from zerotrust.server.portal.invitation_pages import InvitationPages
from zerotrust.server.portal.me_pages import MePages
from zerotrust.server.portal.own_session import ProofTooOld
from zerotrust.server.portal.page_templates import Action, sentence
from zerotrust.server.portal.pairing_pages import PairingPages
from zerotrust.server.portal.passkey_pages import PasskeyPages
from zerotrust.server.portal.security_headers import SecurityHeaders
from zerotrust.server.portal.share_pages import SharePages
from zerotrust.server.portal.sign_in_pages import SignInPages
from zerotrust.server.portal.sign_out_pages import SignOutPages
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.user_links_pages import UserLinksPages
from zerotrust.server.portal.visitor import wants_json
from zerotrust.server.portal.who_am_i import who_am_i_route
from zerotrust.telemetry import logs

_log = logs.logger("portal")


class Portal:
    """All pages of the server.

    Args:
        auth_routes: more routes of the auth host: identity providers, keys for backends.
        service_routes: more routes of the other host names.
        dashboard: serves all pages of the admin host but those below `/.0trust/`.

    Attributes:
        app: the application. `scope["state"]` has `host`, `client` and `credential`.
    """

    def __init__(
        self,
        site: Site,
        *,
        auth_routes: Sequence[Route] = (),
        service_routes: Sequence[Route] = (),
        dashboard: ASGIApp | None = None,
    ) -> None:
        self._site = site
        self._dashboard = dashboard
        everywhere = [
            *site.templates.static.routes(),
            *SignOutPages(site).routes(),
            who_am_i_route(),
        ]
        pairing = PairingPages(site)
        self._auth = self._application(
            *everywhere,
            *SignInPages(site).routes(),
            *PasskeyPages(site).routes(),
            *InvitationPages(site).routes(),
            *MePages(site).routes(),
            *UserLinksPages(site).routes(),
            *pairing.routes(),
            *auth_routes,
        )
        self._service = self._application(
            *everywhere,
            *HandOverPages(site).routes(),
            *SharePages(site).routes(),
            *pairing.service_routes(),
            *service_routes,
        )
        self.app: ASGIApp = SecurityHeaders(self._answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; raises what is an error of ours, after its page; `net.asgi` logs it."""
        host, access = scope["state"]["host"], self._site.access
        app: ASGIApp = self._service
        if host == access.auth_host:
            app = self._auth
        elif (
            host == access.admin_host
            and self._dashboard is not None
            and not scope["path"].startswith(OWN_PREFIX.decode())
            and scope["path"] != JWKS_PATH.decode()
        ):
            app = self._dashboard
        await app(scope, receive, send)

    def _application(self, *routes: Route) -> Starlette:
        handlers: Mapping[Any, ExceptionHandler] = {
            ZeroTrustError: self._error,
            HTTPException: self._http_error,
            Exception: self._fault,
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    async def _error(self, request: Request, error: Exception) -> Response:
        match error:
            case TooManyAttempts() | TooManyTries():
                response = self._problem(request, "Too many attempts", str(error), 429)
                response.headers["Retry-After"] = str(error.retry_after)
                return response
            case ProofTooOld():
                action = Action("Confirm that it is you", "/confirm")
                return self._problem(request, "One more step", str(error), 403, action)
            case AccessRefused():
                return self._problem(request, "That did not work", str(error), error.status)
            case AccessError():
                return self._problem(request, "That is not possible", str(error), error.status)
            case StateError():
                _log.error("the database cannot be used", reason=str(error))
                response = self._problem(request, "Not available just now", _TRY_LATER, 503)
                response.headers["Retry-After"] = "30"
                return response
            case _:
                raise error

    async def _http_error(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        title, text = _BY_STATUS.get(status, ("That did not work", "Open the page again."))
        response = self._problem(request, title, text, status)
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        return response

    async def _fault(self, request: Request, error: Exception) -> Response:
        return self._problem(request, "Something went wrong", _OUR_FAULT, 500)

    def _problem(
        self, request: Request, title: str, text: str, status: int, action: Action | None = None
    ) -> Response:
        if wants_json(request):
            return JSONResponse({"error": sentence(text)}, status)
        action = action or Action("To the start page", "/")
        return self._site.templates.message(
            request, title, sentence(text), status=status, actions=[action]
        )


_TRY_LATER: Final = "The server cannot read its database. Try again in a minute."
_OUR_FAULT: Final = "The server's log has the details. Try again in a minute."
_BY_STATUS: Final = {
    404: ("There is no such page", "Check the address, or begin at the start page."),
    405: ("That did not work", "This page cannot be used in this way. Open it again."),
}
