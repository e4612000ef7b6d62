"""Pages of a service's host that end a hand-over: `/.0trust/in` and `/.0trust/landed`.

A code that is not accepted leads back to the auth host once: tabs that began at the same time, in a
browser without a way cookie, have each got another one, of which the browser keeps the last. A
browser that keeps no cookies sees a page, and no endless redirects.
"""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.gate import GateRequest, VerdictKind
from zerotrust.access.hand_over import ARRIVAL_PATH, GO_PATH, Arrival, Attempt
from zerotrust.access.return_target import safe_target
from zerotrust.access.subject import Credential
from zerotrust.errors import AccessRefused, ForwardError
from zerotrust.server.portal.browser_cookies import ensure_way, set_sign_in, way_of
from zerotrust.server.portal.page_templates import Action
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import client_of, credential_of, host_of

LANDED_PATH = "/.0trust/landed"


class HandOverPages:
    """Arrival of a browser at a service's host."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of service hosts."""
        return [
            Route(ARRIVAL_PATH, self._arrive, methods=["GET"]),
            Route(LANDED_PATH, self._landed, methods=["GET"]),
        ]

    async def _arrive(self, request: Request) -> Response:
        if not request.url.query:
            return self._begin(request, "/")
        arrival = Arrival.from_query(request.url.query)
        if arrival is None:
            return self._again(
                request, "/", "This sign-in link is incomplete", "Begin again at the start page."
            )
        credential = credential_of(request)
        if credential is not None and opens(self._site, request, credential, arrival.to):
            return landing(arrival.to)  # an old or foreign code is no reason to stop
        way = way_of(request)
        if way is None:
            return self._no_cookies(request, arrival.to)
        try:
            issued = await self._site.sign_ins.accept_hand_over(
                arrival.code, host=host_of(request), verifier=arrival.verifier(way)
            )
        except AccessRefused:
            if not arrival.again:
                return self._begin(request, arrival.to, again=True)
            return self._again(
                request,
                arrival.to,
                "This sign-in link is no longer valid",
                "It was used already, is older than a minute, or was made for another browser.",
            )
        response = landing(issued.target)
        set_sign_in(response, issued)
        return response

    def _begin(self, request: Request, target: str, *, again: bool = False) -> Response:
        """Begin an attempt: refusals of scripts name this path (`access.refusal`)."""
        if credential_of(request) is not None and not again:
            return landing(target)
        response = RedirectResponse("/", 302, headers={"Cache-Control": "no-store"})
        way = ensure_way(request, response)
        attempt = Attempt.begin(way, host=host_of(request), to=target, again=again)
        response.headers["Location"] = f"{self._site.auth_origin}{GO_PATH}?{attempt.to_query()}"
        return response

    async def _landed(self, request: Request) -> Response:
        target = safe_target(request.query_params.get("to", "/"))
        if credential_of(request) is None:
            return self._no_cookies(request, target)
        return RedirectResponse(target, 303)

    def _again(self, request: Request, target: str, title: str, text: str) -> Response:
        actions = [Action("Sign in again", target)]
        return self._site.templates.message(request, title, text, status=403, actions=actions)

    def _no_cookies(self, request: Request, target: str) -> Response:
        return self._site.templates.message(
            request,
            "Your sign-in did not arrive",
            f"This browser does not keep cookies of {host_of(request)}, or has just been signed"
            " out.",
            "Allow cookies for this site in the settings of the browser, then try again.",
            status=403,
            actions=[Action("Try again", target)],
        )


def opens(site: Site, request: Request, credential: Credential, target: str) -> bool:
    """Return True if a pass opens a target of this host name now."""
    gate = site.find_gate(host_of(request))
    if gate is None:
        return True
    client = client_of(request).encode("ascii", "replace")
    asked = GateRequest(b"GET", target.encode("ascii"), client=client, unix_time=site.clock())
    try:
        return gate.judge(credential, asked).kind is VerdictKind.ALLOW
    except ForwardError:
        return False


def landing(target: str) -> RedirectResponse:
    """Return a redirect to the page that looks for the cookie, which then leads to the target."""
    query = urlencode({"to": safe_target(target)})
    return RedirectResponse(f"{LANDED_PATH}?{query}", 303)
