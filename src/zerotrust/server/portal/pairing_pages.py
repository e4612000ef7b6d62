"""Pages for pairing: a signed-in user makes a code, a device without passkeys enters it.

The code is entered on the auth host, in the device's own browser or in the web view of an app.
"""

from urllib.parse import urlencode

import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.hand_over import Attempt, new_way
from zerotrust.access.return_target import safe_target
from zerotrust.errors import AccessRefused
from zerotrust.server.portal.browser_cookies import set_sign_in, set_way, way_of
from zerotrust.server.portal.forms import read_form
from zerotrust.server.portal.site import Site, next_path
from zerotrust.server.portal.visitor import browser_of, host_of, sign_in_of

PATH = "/pair"
SERVICE_PATH = "/.0trust/pair"
"""The same at the hosts of services, for apps that know only their own host name."""


class PairingPages:
    """Entry of a pairing code."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of the auth host."""
        return [
            Route(PATH, self._page, methods=["GET"]),
            Route(PATH, self._pair, methods=["POST"]),
        ]

    def service_routes(self) -> list[Route]:
        """Return the routes of service hosts."""
        return [Route(SERVICE_PATH, self._to_auth_host, methods=["GET"])]

    async def _page(self, request: Request) -> Response:
        return self._form(request, Attempt.from_query(request.url.query))

    async def _pair(self, request: Request) -> Response:
        form = await read_form(request)
        self._site.check_origin(request)
        self._site.admit(request)
        attempt = Attempt.from_query(form.get("attempt", ""))
        try:
            issued = await self._site.sign_ins.pair(form.get("code", ""), browser_of(request))
        except AccessRefused as error:
            return self._form(request, attempt, problem=error)
        response = self._site.templates.page(
            request,
            "paired",
            title="This device is signed in",
            name=issued.credential.subject.shown_name or issued.credential.subject.name,
            attempt=attempt,
            next=next_path(form.get("attempt", "")),
        )
        set_sign_in(response, issued)
        previous = sign_in_of(request)
        if previous is not None:
            await self._site.sign_ins.sign_out(previous, everywhere=False)
        return response

    def _form(
        self, request: Request, attempt: Attempt | None, *, problem: AccessRefused | None = None
    ) -> Response:
        return self._site.templates.page(
            request,
            "pair",
            status=200 if problem is None else problem.status,
            title="Sign in with a code",
            attempt=attempt,
            attempt_query="" if attempt is None else attempt.to_query(),
            problem_text="" if problem is None else str(problem),
        )

    async def _to_auth_host(self, request: Request) -> Response:
        """Begin an attempt of this host name, and lead to the page for the code."""
        way = way_of(request) or new_way()
        target = safe_target(request.query_params.get("to", "/"))
        attempt = Attempt.begin(way, host=host_of(request), to=target)
        response = RedirectResponse(f"{self._site.auth_origin}{PATH}?{attempt.to_query()}", 303)
        set_way(response, way)
        return response


def shown_code(code: str) -> str:
    """Return a code in two groups, which people can remember while they type."""
    half = len(code) // 2
    return f"{code[:half]}-{code[half:]}"


def qr_code(url: str) -> Markup:
    """Return a QR code as inline SVG without styles."""
    return Markup(  # noqa: S704 - the library escapes, and the URL is ours
        segno.make(url, micro=False).svg_inline(
            border=3, dark="#000", light="#fff", svgclass="qr", lineclass=None, omitsize=True
        )
    )


def pairing_url(origin: str, code: str) -> str:
    """Return the address that a device can scan; the code is in the fragment."""
    return f"{origin}{PATH}#{urlencode({'code': code})}"
