"""Pages for visitors without an account: `/.0trust/share` and `/.0trust/pin`.

The secret of a share link is in the fragment. The page's script sends it by POST to show what the
link opens; a button makes the pass. GET uses nothing up.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.return_target import safe_target
from zerotrust.access.secret_format import LINK, is_secret
from zerotrust.access.subject import Credential, SubjectKind
from zerotrust.errors import AccessRefused
from zerotrust.server.access.sign_ins import IssuedCookie
from zerotrust.server.portal.browser_cookies import set_sign_in
from zerotrust.server.portal.forms import read_form
from zerotrust.server.portal.hand_over_pages import landing, opens
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import browser_of, credential_of, host_of

SHARE_PATH = "/.0trust/share"
PIN_PATH = "/.0trust/pin"


class SharePages:
    """Passes from share links and PINs."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of service hosts."""
        return [
            Route(SHARE_PATH, self._share_page, methods=["GET"]),
            Route(f"{SHARE_PATH}/show", self._show, methods=["POST"]),
            Route(SHARE_PATH, self._use, methods=["POST"]),
            Route(PIN_PATH, self._pin_page, methods=["GET"]),
            Route(PIN_PATH, self._enter_pin, methods=["POST"]),
        ]

    async def _share_page(self, request: Request) -> Response:
        return self._share_form(request)

    async def _show(self, request: Request) -> Response:
        """Tell the page's script what a link opens, without using it."""
        form = await read_form(request)
        self._site.check_origin(request)
        self._site.admit(request)
        row = await self._site.links.show(_secret(form.get("secret", "")), host=host_of(request))
        return JSONResponse(
            {
                "host": row.host,
                "path": row.path,
                "methods": row.methods,
                "until": row.expires_at,
                "pin": row.pin_hash is not None,
            }
        )

    async def _use(self, request: Request) -> Response:
        form = await read_form(request)
        self._site.check_origin(request)
        self._site.admit(request)
        secret, host = form.get("secret", ""), host_of(request)
        try:
            row = await self._site.links.show(_secret(secret), host=host)
            target = safe_target(row.path)
            if self._may_enter_already(request, target):
                return RedirectResponse(target, 303)
            issued = await self._site.links.use(
                secret.strip(),
                host=host,
                pin=form.get("pin", "").strip() or None,
                browser=browser_of(request),
            )
        except AccessRefused as error:
            return self._share_form(request, secret=secret, problem=error)
        return _enter(issued, target)

    async def _pin_page(self, request: Request) -> Response:
        return self._pin_form(request, safe_target(request.query_params.get("to", "/")))

    async def _enter_pin(self, request: Request) -> Response:
        form = await read_form(request)
        self._site.check_origin(request)
        target = safe_target(form.get("to", "/"))
        if self._may_enter_already(request, target):
            return RedirectResponse(target, 303)
        self._site.admit(request)
        try:
            issued = await self._site.links.enter_pin(
                host_of(request), form.get("pin", "").strip(), browser=browser_of(request)
            )
        except AccessRefused as error:
            return self._pin_form(request, target, problem=error)
        return _enter(issued, target)

    def _may_enter_already(self, request: Request, target: str) -> bool:
        """Return True if the browser's pass opens the target: it must not get a weaker one."""
        credential = credential_of(request)
        return credential is not None and opens(self._site, request, credential, target)

    def _share_form(
        self, request: Request, *, secret: str = "", problem: AccessRefused | None = None
    ) -> Response:
        return self._site.templates.page(
            request,
            "share",
            status=200 if problem is None else problem.status,
            title="Shared with you",
            secret=secret if is_secret(secret.strip(), LINK) else "",
            problem_text="" if problem is None else str(problem),
            user=_user_of(credential_of(request)),
        )

    def _pin_form(
        self, request: Request, target: str, *, problem: AccessRefused | None = None
    ) -> Response:
        return self._site.templates.page(
            request,
            "pin",
            status=200 if problem is None else problem.status,
            title="Enter the PIN",
            to=target,
            problem_text="" if problem is None else str(problem),
        )


def _enter(issued: IssuedCookie, target: str) -> Response:
    response = landing(target)
    set_sign_in(response, issued)
    return response


def _secret(text: str) -> str:
    secret = text.strip()
    if not is_secret(secret, LINK):
        raise AccessRefused("this link is incomplete; open the whole link that you were sent")
    return secret


def _user_of(credential: Credential | None) -> str:
    """Return the name of a signed-in user, whose pass a link would replace."""
    if credential is None or credential.subject.kind is not SubjectKind.USER:
        return ""
    return credential.subject.shown_name or credential.subject.name
