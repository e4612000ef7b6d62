"""Pages of the auth host at which people sign in: `/`, `/go` and `/confirm`."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.gate import Gate, GateRequest, Verdict, VerdictKind, pass_for
from zerotrust.access.hand_over import ARRIVAL_PATH, GO_PATH, Arrival, Attempt
from zerotrust.access.subject import Credential
from zerotrust.errors import ForwardError
from zerotrust.model.access import Rule
from zerotrust.server.portal.page_templates import Action
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import client_of, sign_in_of


class SignInPages:
    """Sign-in, and the hand-over to the host name that sent the browser here."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        """Return the routes of the auth host."""
        return [
            Route("/", self._home, methods=["GET"]),
            Route(GO_PATH, self._go, methods=["GET"]),
            Route("/confirm", self._confirm, methods=["GET"]),
        ]

    async def _home(self, request: Request) -> Response:
        if sign_in_of(request) is not None:
            return RedirectResponse("/me", 303)
        return self._sign_in_page(request, None)

    async def _go(self, request: Request) -> Response:
        attempt = Attempt.from_query(request.url.query)
        if attempt is None:
            return self._site.templates.message(
                request,
                "This link is incomplete",
                "Open the address that you want to use again.",
                status=400,
                actions=[Action("To the sign-in page", "/")],
            )
        gate = self._site.gate_of(attempt.host)
        if gate is None or attempt.host == self._site.access.auth_host:
            return self._site.templates.message(
                request,
                "There is nothing to sign in to",
                f"This server has no service with sign-in at {attempt.host}.",
                status=404,
                actions=[],
            )
        sign_in = sign_in_of(request)
        if sign_in is None:
            if _only_pin(gate.rule):
                return RedirectResponse(self._pin_url(attempt), 303)
            return self._sign_in_page(request, attempt, pin=gate.asks_pin)
        return await self._with_sign_in(request, sign_in, gate, attempt)

    async def _with_sign_in(
        self, request: Request, sign_in: Credential, gate: Gate, attempt: Attempt
    ) -> Response:
        """Ask the gate before the hand-over, so that no refusal leads back here."""
        try:
            verdict = self._verdict(request, sign_in, gate, attempt)
        except ForwardError:
            return self._site.templates.message(
                request,
                "This address is ambiguous",
                "Programs may read its path in several ways. Remove encoded or duplicate slashes"
                " and dots from it.",
                status=400,
                actions=[],
            )
        if verdict.kind is VerdictKind.ALLOW:
            return await self._hand_over(sign_in, attempt)
        if verdict.kind is VerdictKind.PROVE_AGAIN:
            return await self._confirm_page(request, sign_in, attempt)
        return self._refused_page(request, sign_in, gate, attempt)

    def _verdict(
        self, request: Request, sign_in: Credential, gate: Gate, attempt: Attempt
    ) -> Verdict:
        return gate.judge(
            pass_for(sign_in, attempt.host),
            GateRequest(
                b"GET",
                attempt.to.encode("ascii"),
                client=client_of(request).encode("ascii", "replace"),
                unix_time=self._site.clock(),
            ),
        )

    async def _hand_over(self, sign_in: Credential, attempt: Attempt) -> Response:
        code = await self._site.sign_ins.hand_over(
            sign_in, host=attempt.host, challenge=attempt.challenge, target=attempt.to
        )
        arrival = Arrival(code, attempt.n, attempt.to, attempt.again)
        origin = self._site.origin(attempt.host)
        return RedirectResponse(f"{origin}{ARRIVAL_PATH}?{arrival.to_query()}", 303)

    async def _confirm(self, request: Request) -> Response:
        """Let a signed-in user prove their identity again, and return to the page that needs it.

        That is their own page, or, with an attempt, one of another host name of the server.
        """
        attempt = Attempt.from_query(request.url.query)
        if attempt is not None and self._site.gate_of(attempt.host) is None:
            attempt = None
        sign_in = sign_in_of(request)
        if sign_in is None:
            again = "/" if attempt is None else f"{GO_PATH}?{attempt.to_query()}"
            return RedirectResponse(again, 303)
        return await self._confirm_page(request, sign_in, attempt)

    async def _confirm_page(
        self, request: Request, sign_in: Credential, attempt: Attempt | None
    ) -> Response:
        passkeys = await self._site.people.passkeys(sign_in.subject.id)
        return self._site.templates.page(
            request,
            "confirm",
            title="Confirm that it is you",
            name=sign_in.subject.shown_name or sign_in.subject.name,
            attempt=attempt,
            attempt_query="" if attempt is None else attempt.to_query(),
            has_passkey=bool(passkeys),
            providers=self._providers(attempt, only=sign_in.subject.provider, fresh=True),
        )

    def _sign_in_page(
        self, request: Request, attempt: Attempt | None, *, pin: bool = False
    ) -> Response:
        return self._site.templates.page(
            request,
            "sign_in",
            title="Sign in",
            attempt=attempt,
            attempt_query="" if attempt is None else attempt.to_query(),
            providers=self._providers(attempt),
            pin_url=self._pin_url(attempt) if attempt is not None and pin else "",
        )

    def _refused_page(
        self, request: Request, sign_in: Credential, gate: Gate, attempt: Attempt
    ) -> Response:
        return self._site.templates.page(
            request,
            "refused",
            status=403,
            title="You may not open this page",
            name=sign_in.subject.shown_name or sign_in.subject.name,
            provider=self._site.provider_title(sign_in.subject.provider),
            attempt=attempt,
            attempt_query=attempt.to_query(),
            pin_url=self._pin_url(attempt) if gate.asks_pin else "",
        )

    def _providers(
        self, attempt: Attempt | None, *, only: str | None = None, fresh: bool = False
    ) -> list[Action]:
        """Return a link to each identity provider.

        Args:
            only: the one to list; empty for none.
            fresh: ask the provider to let the user prove their identity again.
        """
        query = "" if attempt is None else attempt.to_query()
        if fresh:
            query = f"{query}&fresh=1" if query else "fresh=1"
        return [
            Action(provider.title or name, f"/start/{name}?{query}" if query else f"/start/{name}")
            for name, provider in self._site.access.identity_providers.items()
            if only is None or name == only
        ]

    def _pin_url(self, attempt: Attempt) -> str:
        query = urlencode({"to": attempt.to})
        return f"{self._site.origin(attempt.host)}/.0trust/pin?{query}"


def _only_pin(rule: Rule) -> bool:
    """Return True if a rule lets in those who know the PIN, and no others."""
    return (
        isinstance(rule.allow, list)
        and bool(rule.allow)
        and all(condition.pin for condition in rule.allow)
        and not rule.paths
    )
