"""Back-channel logout: identity providers end sign-ins (OpenID Connect Back-Channel Logout 1.0)."""

from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zerotrust.access.secret_format import digest_of
from zerotrust.errors import ProviderFailed
from zerotrust.limits.ttl_cache import TtlCache
from zerotrust.server.portal.oidc import Providers
from zerotrust.server.portal.oidc_state import CLOCK_LEEWAY
from zerotrust.server.portal.oidc_token import LOGOUT_SECONDS, MAX_TOKEN
from zerotrust.server.portal.site import Site
from zerotrust.telemetry import logs

_log = logs.logger("sign_in")

MAX_REMEMBERED: Final = 4096
"""Ids of logout tokens that are remembered, so that each counts once."""

_NO_STORE: Final = {"Cache-Control": "no-store"}


class ProviderLogout:
    """Endpoint that providers call when a session has ended, or a user may no longer sign in.

    Anyone may call it. It does nothing for a message that the provider has not signed.
    """

    def __init__(self, site: Site, providers: Providers) -> None:
        self._site = site
        self._providers = providers
        self._seen: TtlCache[bool] = TtlCache(MAX_REMEMBERED)

    def routes(self) -> list[Route]:
        """Return the routes of the auth host."""
        return [Route("/out/{provider}", self._logout, methods=["POST"])]

    async def _logout(self, request: Request) -> Response:
        provider = self._providers.find(request.path_params["provider"])
        if provider is None:
            return _refusal("there is no identity provider of this name", 404)
        token = _token(request.headers.get("content-type", ""), await request.body())
        if token is None:
            return _refusal("logout_token is missing, or occurs twice", 400)
        try:
            with self._providers.turn():
                message = await provider.logout(token)
        except ProviderFailed as error:
            _log.warning("logout by provider refused", provider=provider.name, reason=str(error))
            return _refusal("the logout token is not valid", 400)
        now = self._site.clock()
        known = digest_of(f"{provider.name}\0{message.id}".encode())
        if self._seen.get(known, now):
            return _refusal("this logout token was used already", 400)
        ended = await self._site.sign_ins.provider_logout(
            provider.name, session=message.session, subject=message.subject
        )
        # Only now: if the database failed, the provider must be able to try again.
        self._seen.put(known, True, until=now + LOGOUT_SECONDS + 2 * CLOCK_LEEWAY)
        _log.info("sign-ins ended by provider", provider=provider.name, ended=ended)
        return Response(status_code=200, headers=_NO_STORE)


def _token(media_type: str, body: bytes) -> str | None:
    if media_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return None
    if len(body) > MAX_TOKEN:
        return None
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=16)
    except ValueError:
        return None
    found = fields.get("logout_token", [])
    return found[0] if len(found) == 1 else None


def _refusal(message: str, status: int) -> JSONResponse:
    body = {"error": "invalid_request", "error_description": message}
    return JSONResponse(body, status, headers=_NO_STORE)
