"""Page `/invite`: a user registers the first passkey with a one-time link.

The link's secret is in the fragment, which browsers do not send. A button sends it by POST, so
that previews and scanners of links use nothing up, and no log has it.
"""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.secret_format import INVITATION, digest_of, is_secret
from zerotrust.errors import AccessRefused
from zerotrust.server.portal.browser_cookies import set_sign_in
from zerotrust.server.portal.device_names import device_name
from zerotrust.server.portal.forms import read_form
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import browser_of, sign_in_of


class InvitationPages:
    """Registration of a passkey by invitation, which also signs its user in."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of the auth host."""
        return [
            Route("/invite", self._page, methods=["GET"]),
            Route("/invite/options", self._options, methods=["POST"]),
            Route("/invite", self._accept, methods=["POST"]),
            Route("/link", self._link_page, methods=["GET"]),
            Route("/link", self._sign_in, methods=["POST"]),
        ]

    async def _page(self, request: Request) -> Response:
        return self._site.templates.page(request, "invite", title="You are invited")

    async def _link_page(self, request: Request) -> Response:
        return self._site.templates.page(request, "sign_in_link", title="Sign in")

    async def _sign_in(self, request: Request) -> Response:
        """Sign in by a one-time link. It acts on POST only: previews of it use nothing up."""
        form = await read_form(request)
        self._site.check_origin(request)
        self._site.admit(request)
        issued = await self._site.sign_ins.by_link(
            form.get("secret", "").strip(), browser_of(request)
        )
        response = RedirectResponse("/me", 303)
        set_sign_in(response, issued)
        previous = sign_in_of(request)
        if previous is not None:
            await self._site.sign_ins.sign_out(previous, everywhere=False)
        return response

    async def _options(self, request: Request) -> Response:
        form = await read_form(request)
        self._site.check_origin(request)
        self._site.admit(request)
        user = await self._site.people.invited_user(_secret(form.get("secret", "")))
        passkeys = await self._site.people.passkeys(user.id)
        options = self._site.ceremony().registration_options(
            user_id=user.id, name=user.name, shown_name=user.shown_name, existing=passkeys
        )
        return JSONResponse(options)

    async def _accept(self, request: Request) -> Response:
        form = await read_form(request)
        self._site.check_origin(request)
        self._site.admit(request)
        secret = _secret(form.get("secret", ""))
        user = await self._site.people.invited_user(secret)
        browser = browser_of(request)
        passkey = await self._site.ceremony().verify_registration(
            form.get("credential", ""), user.id, label=device_name(browser.user_agent)
        )
        # The registration counts as the first sign-in, with the same value of the counter.
        before = replace(passkey, counter=max(0, passkey.counter - 1))
        await self._site.people.accept_invitation(secret, before)
        issued = await self._site.sign_ins.by_passkey(
            passkey.credential_id,
            browser,
            counter=passkey.counter,
            backed_up=passkey.backed_up,
            spent=digest_of(secret.encode()),
        )
        response = JSONResponse({"next": "/me?welcome=1"})
        set_sign_in(response, issued)
        previous = sign_in_of(request)
        if previous is not None:
            await self._site.sign_ins.sign_out(previous, everywhere=False)
        return response


def _secret(text: str) -> str:
    secret = text.strip()
    if not is_secret(secret, INVITATION):
        raise AccessRefused("this invitation is incomplete; open the whole link that you were sent")
    return secret
