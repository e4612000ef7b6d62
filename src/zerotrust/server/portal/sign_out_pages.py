"""Pages for signing out, at each host name: GET shows a button, POST signs out."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.subject import Credential, CredentialKind
from zerotrust.server.portal import csrf
from zerotrust.server.portal.browser_cookies import remove_sign_in
from zerotrust.server.portal.forms import read_form
from zerotrust.server.portal.page_templates import Action
from zerotrust.server.portal.site import Site, next_path
from zerotrust.server.portal.visitor import credential_of, host_of

PATH = "/.0trust/out"


class SignOutPages:
    """Sign-out from one browser, or from all."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of all host names."""
        return [
            Route(PATH, self._ask, methods=["GET"]),
            Route(PATH, self._sign_out, methods=["POST"]),
        ]

    async def _ask(self, request: Request) -> Response:
        credential = credential_of(request)
        if credential is None:
            return self._done(request)
        return self._site.templates.page(
            request,
            "sign_out",
            title="Sign out",
            name=credential.subject.shown_name or credential.subject.name,
            is_user=_sign_in_behind(credential) is not None,
        )

    async def _sign_out(self, request: Request) -> Response:
        form = await read_form(request)
        credential = credential_of(request)
        if credential is None:
            self._site.check_origin(request)
            return RedirectResponse(PATH, 303)
        csrf.check_token(request, form, origin=self._site.origin(host_of(request)))
        sign_in = _sign_in_behind(credential)
        if sign_in is None:
            await self._site.links.sign_out(credential)
        else:
            await self._site.sign_ins.sign_out(sign_in, everywhere=form.get("everywhere") == "1")
        done = PATH
        if credential.subject.provider:
            done = f"{PATH}?{urlencode({'provider': credential.subject.provider})}"
        if host_of(request) == self._site.access.auth_host:
            done = next_path(form.get("attempt", ""), otherwise=done)
        response = RedirectResponse(done, 303)
        remove_sign_in(response)
        return response

    def _done(self, request: Request) -> Response:
        if host_of(request) == self._site.access.auth_host:
            actions = [Action("Sign in", "/")]
        else:
            actions = [Action(f"Open {host_of(request)} again", "/")]
        name = request.query_params.get("provider", "")
        provider = self._site.access.identity_providers.get(name)
        url = None if provider is None else self._site.logout_url(name)
        if provider is not None and url is not None:
            actions.append(Action(f"Sign out at {provider.title or name}, too", url))
        return self._site.templates.message(
            request, "You are signed out", "This browser is signed out.", actions=actions
        )


def _sign_in_behind(credential: Credential) -> Credential | None:
    """Return the sign-in itself, or the one that a pass was made from; None for others."""
    return credential if credential.kind is CredentialKind.SIGN_IN else credential.sign_in
