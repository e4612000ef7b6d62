"""Requests of the script that signs in with a passkey: `POST /passkey/…` at the auth host.

The script goes on to the page in `next` itself, because a form may not lead to another host.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zerotrust.server.portal.browser_cookies import set_sign_in
from zerotrust.server.portal.forms import read_form
from zerotrust.server.portal.site import Site, next_path
from zerotrust.server.portal.visitor import browser_of, sign_in_of


class PasskeyPages:
    """Sign-in with a passkey; with a sign-in of the same user, a new proof for it."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of the auth host."""
        return [
            Route("/passkey/sign-in/options", self._options, methods=["POST"]),
            Route("/passkey/sign-in", self._sign_in, methods=["POST"]),
        ]

    async def _options(self, request: Request) -> Response:
        self._site.check_origin(request)
        self._site.admit(request)
        return JSONResponse(self._site.ceremony().sign_in_options())

    async def _sign_in(self, request: Request) -> Response:
        form = await read_form(request)
        self._site.check_origin(request)
        self._site.admit(request)
        passkey = await self._site.ceremony().verify_sign_in(
            form.get("credential", ""), self._site.people.passkey
        )
        response = JSONResponse({"next": next_path(form.get("attempt", ""))})
        current = sign_in_of(request)
        if current is not None and current.subject.id == passkey.user_id:
            await self._site.sign_ins.prove_again(
                current, passkey.credential_id, browser_of(request), **passkey.use
            )
            return response
        issued = await self._site.sign_ins.by_passkey(
            passkey.credential_id, browser_of(request), **passkey.use
        )
        set_sign_in(response, issued)
        if current is not None:  # its cookie is gone from this browser; its passes would stay
            await self._site.sign_ins.sign_out(current, everywhere=False)
        return response
