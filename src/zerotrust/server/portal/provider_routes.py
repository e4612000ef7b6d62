"""Pages of the auth host that send browsers to an identity provider and take them back."""

from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from zerotrust.access.hand_over import GO_PATH, Attempt
from zerotrust.errors import AccessRefused, ProviderFailed, UserUnknown
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.portal.browser_cookies import ensure_way, set_sign_in, set_way, way_of
from zerotrust.server.portal.oidc import OidcProvider, ProviderAnswer, Providers
from zerotrust.server.portal.oidc_state import Purpose, SignInState
from zerotrust.server.portal.own_session import ProofTooOld, actor_of, is_fresh, user_of
from zerotrust.server.portal.provider_logout import ProviderLogout
from zerotrust.server.portal.site import Site
from zerotrust.server.portal.visitor import browser_of, sign_in_of
from zerotrust.telemetry import logs

_log = logs.logger("sign_in")

MAX_QUERY: Final = 16 * 1024
ME_PATH: Final = "/me"


class ProviderPages:
    """Sign-in at identity providers."""

    def __init__(self, site: Site, providers: Providers) -> None:
        self._site = site
        self._providers = providers

    def routes(self) -> list[Route]:
        """Return the routes of the auth host.

        `/start/NAME` signs in. With `fresh=1`, the user has to prove their identity again; with
        `join=1`, the account is added to the user who is signed in.
        """
        return [
            Route("/start/{provider}", self._start, methods=["GET"]),
            Route("/in/{provider}", self._back, methods=["GET"]),
        ]

    async def _start(self, request: Request) -> Response:
        if request.query_params.get("join") == "1":
            return await self._join(request)
        attempt = Attempt.from_query(request.url.query)
        if attempt is not None and self._site.gate_of(attempt.host) is None:
            attempt = None
        again = request.query_params.get("fresh") == "1"
        return await self._leave(request, attempt, "prove_again" if again else "sign_in")

    async def _join(self, request: Request) -> Response:
        # A link of another page must not add an account. A form would not do either: its answer
        # leads to the provider, which the page's policy (`form-action`) forbids.
        self._site.check_origin(request)
        sign_in = user_of(request)
        if not is_fresh(self._site, sign_in):
            raise ProofTooOld("to add an account, first confirm that it is you")
        return await self._leave(request, None, "join", user=sign_in.subject.id)

    async def _leave(
        self, request: Request, attempt: Attempt | None, purpose: Purpose, *, user: str = ""
    ) -> Response:
        provider = self._provider(request)
        self._site.admit(request)
        state = SignInState.begin(
            provider.name, attempt, now=self._site.clock(), purpose=purpose, user=user
        )
        response = RedirectResponse("/", 303)
        way = ensure_way(request, response)
        try:
            with self._providers.turn():
                response.headers["location"] = await provider.sign_in_url(state, way)
        except ProviderFailed as error:
            raise _shown(provider, error) from error
        return response

    async def _back(self, request: Request) -> Response:
        """Take a browser back from a provider."""
        provider = self._provider(request)
        way, fields = way_of(request), _fields(request.url.query)
        state = None
        if way is not None:
            state = SignInState.open(
                fields.get("state", ""), way, provider=provider.name, now=self._site.clock()
            )
        if way is None or state is None:
            raise AccessRefused(
                "this sign-in was begun in another browser or more than 10 minutes ago, or the"
                " browser does not keep cookies; begin again"
            )
        self._site.admit(request)
        account = await self._account(provider, state, way, fields)
        if state.purpose == "join":
            return await self._joined(request, state, account)
        response = RedirectResponse(self._next(state), 303)
        set_way(response, way)
        await self._sign_in(request, response, account, spent=state.spent)
        return response

    async def _sign_in(
        self, request: Request, response: Response, account: ProviderAccount, *, spent: bytes
    ) -> None:
        """Sign in, or renew the proof of who is signed in: a browser has one sign-in."""
        sign_ins, browser, previous = self._site.sign_ins, browser_of(request), sign_in_of(request)
        if previous is not None and await sign_ins.renew_by_provider(
            previous, account, browser, spent=spent
        ):
            return
        set_sign_in(response, await sign_ins.by_provider(account, browser, spent=spent))
        if previous is not None:  # its cookie is gone from this browser; its passes would stay
            await sign_ins.sign_out(previous, everywhere=False)

    async def _account(
        self, provider: OidcProvider, state: SignInState, way: bytes, fields: dict[str, str]
    ) -> ProviderAccount:
        answer = ProviderAnswer(
            code=fields.get("code", ""),
            error=fields.get("error", ""),
            issuer=fields.get("iss", ""),
        )
        try:
            with self._providers.turn():
                return await provider.account(answer, state, way)
        except ProviderFailed as error:
            raise _shown(provider, error) from error
        except AccessRefused as error:
            _log.info("sign-in refused", provider=provider.name, reason=str(error))
            raise

    async def _joined(
        self, request: Request, state: SignInState, account: ProviderAccount
    ) -> Response:
        sign_in = sign_in_of(request)
        if sign_in is None or sign_in.subject.id != state.user:
            raise AccessRefused("you are signed out, or signed in as another user; begin again")
        if not is_fresh(self._site, sign_in):
            raise ProofTooOld("to add an account, first confirm that it is you")
        await self._site.people.link_account(state.user, account, actor=actor_of(sign_in))
        return RedirectResponse(ME_PATH, 303)

    def _next(self, state: SignInState) -> str:
        """Return where the browser goes on to."""
        attempt = state.attempt
        if attempt is None or self._site.gate_of(attempt.host) is None:
            return ME_PATH
        if attempt.n:
            return f"{GO_PATH}?{attempt.to_query()}"
        return self._site.origin(attempt.host) + attempt.to  # which begins a new attempt

    def _provider(self, request: Request) -> OidcProvider:
        provider = self._providers.find(request.path_params["provider"])
        if provider is None:
            raise UserUnknown("there is no identity provider of this name")
        return provider


def provider_routes(site: Site, providers: Providers) -> list[Route]:
    """Return all routes of the auth host that have to do with identity providers."""
    return [*ProviderPages(site, providers).routes(), *ProviderLogout(site, providers).routes()]


def _shown(provider: OidcProvider, error: ProviderFailed) -> ProviderFailed:
    """Log a failure; return the error for the page, without details."""
    _log.warning("the identity provider failed", provider=provider.name, reason=str(error))
    return ProviderFailed(
        f"{provider.title} did not answer as it must, so you are not signed in; try again in a"
        " minute. The server's log has the reason"
    )


def _fields(query: str) -> dict[str, str]:
    """Return the fields of a query that occur once."""
    if len(query) > MAX_QUERY:
        return {}
    try:
        values = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError:
        return {}
    return {name: found[0] for name, found in values.items() if len(found) == 1}
