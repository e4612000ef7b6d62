"""Sign-in at OpenID Connect providers: authorization code flow with PKCE, state and nonce."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from authlib.integrations.httpx_client import OAuthError
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from zerotrust.errors import AccessRefused, ProviderFailed
from zerotrust.model.access import GOOGLE, Access, IdentityProvider, issuer_of
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.portal.oidc_state import CLOCK_LEEWAY, SignInState
from zerotrust.server.portal.oidc_token import (
    Expected,
    LogoutToken,
    id_token_claims,
    logout_token,
)
from zerotrust.server.portal.provider_account import (
    account_of,
    claims_in_rules,
    lacks,
    many,
    proof_time,
)
from zerotrust.server.portal.provider_http import ProviderHttp
from zerotrust.server.portal.provider_metadata import MetadataCache, ProviderMetadata

MAX_AT_ONCE: Final = 20
"""Requests of browsers that wait for providers. The pages answer 32 requests at the same time
(`net.asgi`), and a provider that hangs must not occupy all of them."""
MAX_CODE: Final = 4096
MAX_REFRESH_TOKEN: Final = 8192

_REFUSALS: Final = ("invalid_grant", "interaction_required", "login_required", "consent_required")


class RefreshRefused(AccessRefused):
    """A provider does not accept a refresh token any more: the user may not sign in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswer:
    """Parameters with which a provider sends a browser back."""

    code: str = field(default="", repr=False)
    error: str = ""
    issuer: str = ""


class OidcProvider:
    """One identity provider.

    Args:
        auth_origin: origin of the sign-in pages.
        named_claims: claims that rules name; no others are kept.
        clock: returns seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        config: IdentityProvider,
        *,
        auth_origin: str,
        named_claims: frozenset[str],
        http: ProviderHttp,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.config = config
        self.named_claims = named_claims
        self.redirect_uri = f"{auth_origin}/in/{name}"
        self._http = http
        self._clock = clock
        self._cache = MetadataCache(issuer_of(config), http, clock=monotonic)
        self._logout_endpoint = ""

    @property
    def title(self) -> str:
        """Return the name for people."""
        return self.config.title or self.name

    async def sign_in_url(self, state: SignInState, way: bytes) -> str:
        """Return the URL at the provider that the browser is sent to.

        Args:
            way: the browser's cookie of the auth host.

        Raises:
            ProviderFailed: the provider does not answer.
        """
        metadata = await self._metadata()
        query = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self._scopes()),
            "state": state.seal(way),
            "nonce": state.nonce(way),
            "code_challenge": create_s256_code_challenge(state.verifier(way)),
            "code_challenge_method": "S256",
            **self._hints(state),
        }
        endpoint = metadata.authorization_endpoint
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def account(
        self, answer: ProviderAnswer, state: SignInState, way: bytes
    ) -> ProviderAccount:
        """Return the account of the user who comes back from the provider.

        Raises:
            AccessRefused: the user or the provider refused, or this user may not sign in.
            ProviderFailed: the provider does not answer, or its answer can't be trusted.
        """
        metadata = await self._metadata()
        self._check_answer(answer, metadata)
        tokens = await self._exchange(
            metadata,
            code=answer.code,
            redirect_uri=self.redirect_uri,
            code_verifier=state.verifier(way),
        )
        claims = await id_token_claims(
            tokens.get("id_token"),
            self._expected(metadata),
            now=self._clock(),
            nonce=state.nonce(way),
        )
        if state.purpose == "prove_again":
            self._check_proof(claims, state)
        return await self._account(metadata, claims, tokens)

    async def refresh(self, subject: str, refresh_token: str) -> ProviderAccount:
        """Ask again what the provider says about a user.

        Raises:
            RefreshRefused: the provider refuses the token.
            AccessRefused: this user may no longer sign in.
            ProviderFailed: the provider does not answer, or its answer can't be trusted.
        """
        metadata = await self._metadata()
        tokens = await self._exchange(metadata, refresh_token=refresh_token)
        token, claims = tokens.get("id_token"), {"sub": subject}
        if token is not None:
            claims = await id_token_claims(
                token, self._expected(metadata), now=self._clock(), nonce=None
            )
        elif not metadata.user_info_endpoint:
            raise ProviderFailed("a refresh token brings no ID token, and there is no UserInfo")
        else:
            claims = await self._user_info(metadata, claims, tokens)
        if claims["sub"] != subject:
            raise ProviderFailed("the refreshed token is of another user")
        return await self._account(metadata, claims, tokens)

    async def logout(self, token: str) -> LogoutToken:
        """Return the content of a logout token.

        Raises:
            ProviderFailed: it is not valid.
        """
        expected = self._expected(await self._metadata())
        return await logout_token(token, expected, now=self._clock())

    @property
    def logout_url(self) -> str | None:
        """Return the provider's own logout page; None if it has none or was not asked yet."""
        if not self._logout_endpoint:
            return None
        query = urlencode({"client_id": self.config.client_id})
        return f"{self._logout_endpoint}{'&' if '?' in self._logout_endpoint else '?'}{query}"

    async def _metadata(self) -> ProviderMetadata:
        metadata = await self._cache.metadata()
        self._logout_endpoint = metadata.end_session_endpoint
        return metadata

    def _scopes(self) -> list[str]:
        scopes = list(self.config.scopes)
        # Google gives refresh tokens by `access_type`, and knows no such scope.
        if self.config.recheck and self.config.kind != "google" and "offline_access" not in scopes:
            scopes.append("offline_access")
        return scopes

    def _hints(self, state: SignInState) -> dict[str, str]:
        again = state.purpose == "prove_again"
        if self.config.kind != "google":
            # OpenID Connect Core s11: without consent, there is no refresh token. Keycloak and
            # Entra do without, and the users of Entra may not be able to consent.
            consents = self.config.recheck is not None and self.config.kind == "oidc"
            prompt = " ".join(["login"] * again + ["consent"] * consents)
            return ({"prompt": prompt} if prompt else {}) | ({"max_age": "0"} if again else {})
        hints = {}
        if self.config.recheck:
            hints = {"access_type": "offline", "prompt": "consent"}
        elif again or state.purpose == "join":
            hints = {"prompt": "select_account"}
        domains = [one for some in self.config.sign_in for one in many(some.email_domain or [])]
        if len(domains) == 1:
            hints["hd"] = domains[0]
        return hints

    def _check_answer(self, answer: ProviderAnswer, metadata: ProviderMetadata) -> None:
        if answer.issuer and answer.issuer != metadata.issuer:
            raise ProviderFailed("the answer is of another issuer (mix-up attack)")
        if metadata.sends_issuer and not answer.issuer:
            raise ProviderFailed("the answer has no iss, although the provider announces it")
        if answer.error or not answer.code:
            reason = f" ({answer.error})" if _is_error_code(answer.error) else ""
            raise AccessRefused(f"{self.title} did not sign you in{reason}")
        if len(answer.code) > MAX_CODE:
            raise ProviderFailed(f"the code is longer than {MAX_CODE} characters")

    def _check_proof(self, claims: Mapping[str, Any], state: SignInState) -> None:
        """Refuse a sign-in without a new proof of identity; Google alone does not say."""
        proven_at = proof_time(claims)
        if self.config.kind == "google" and not proven_at:
            return
        if proven_at < state.begun_at - CLOCK_LEEWAY:
            raise AccessRefused(
                f"{self.title} did not ask you to prove who you are; use a passkey, or sign out"
                " there and try again"
            )

    def _expected(self, metadata: ProviderMetadata) -> Expected:
        # Google documents both forms.
        other = (GOOGLE.removeprefix("https://"),) if self.config.kind == "google" else ()
        return Expected(
            issuers=(metadata.issuer, *other),
            client_id=self.config.client_id,
            algorithms=metadata.algorithms,
            keys=self._cache.keys,
        )

    async def _exchange(self, metadata: ProviderMetadata, **said: str) -> dict[str, Any]:
        """Send a code or a refresh token to the token endpoint; return its answer."""
        url = metadata.token_endpoint
        try:
            async with self._http.client(
                secured=urlsplit(url).scheme == "https",
                client_id=self.config.client_id,
                client_secret=await self._secret(),
                auth_method=metadata.auth_method,
            ) as client:
                if "refresh_token" in said:
                    return dict(await client.refresh_token(url, **said))
                return dict(await client.fetch_token(url, **said))
        except OAuthError as error:
            code = error.error if _is_error_code(error.error) else "unknown error"
            if code in _REFUSALS:
                refusal = RefreshRefused if "refresh_token" in said else AccessRefused
                raise refusal(f"{self.title} did not sign you in; try again") from None
            raise ProviderFailed(f"the token endpoint answers {code}") from None

    async def _secret(self) -> str | None:
        path = self.config.client_secret_file
        if path is None:
            return None
        try:
            return (await asyncio.to_thread(Path(path).read_text, "utf-8")).strip()
        except (OSError, ValueError) as error:
            raise ProviderFailed(f"client_secret_file {path}: {error}") from error

    async def _account(
        self, metadata: ProviderMetadata, claims: dict[str, Any], tokens: Mapping[str, Any]
    ) -> ProviderAccount:
        if self.config.kind == "entra" and claims.get("tid", self.config.tenant) != (
            self.config.tenant
        ):
            raise ProviderFailed("the ID token is of another tenant")
        if lacks(self.config, claims, self.named_claims) and metadata.user_info_endpoint:
            claims = await self._user_info(metadata, claims, tokens)
        refresh = tokens.get("refresh_token") if self.config.recheck else None
        good = isinstance(refresh, str) and 0 < len(refresh) <= MAX_REFRESH_TOKEN
        account = account_of(
            self.name,
            self.config,
            claims,
            named=self.named_claims,
            refresh=refresh if good else None,
        )
        if self.config.kind == "google" and not account.proven_at:
            # Google neither says when the user has proven their identity nor asks for it again.
            return replace(account, proven_at=self._clock())
        return account

    async def _user_info(
        self, metadata: ProviderMetadata, claims: dict[str, Any], tokens: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the claims with those of UserInfo, which replace none."""
        token = tokens.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise ProviderFailed("there is no usable access token")
        more = await self._http.user_info(metadata.user_info_endpoint, token)
        if more.get("sub") != claims["sub"]:
            raise ProviderFailed("UserInfo is of another user than the ID token")
        return {**more, **claims}


class Providers:
    """All identity providers of the configuration."""

    def __init__(
        self,
        access: Access,
        *,
        auth_origin: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = ProviderHttp()
        self._clock = clock
        self._monotonic = monotonic
        self._by_name: dict[str, OidcProvider] = {}
        self._waiting = 0
        self.reconfigure(access, auth_origin=auth_origin)

    def reconfigure(self, access: Access, *, auth_origin: str) -> None:
        """Use another section `access`; unchanged providers keep their documents."""
        named = claims_in_rules(access)
        providers = {}
        for name, config in access.identity_providers.items():
            known = self._by_name.get(name)
            if known is None or (known.config, known.redirect_uri) != (
                config,
                f"{auth_origin}/in/{name}",
            ):
                known = OidcProvider(
                    name,
                    config,
                    auth_origin=auth_origin,
                    named_claims=named,
                    http=self._http,
                    clock=self._clock,
                    monotonic=self._monotonic,
                )
            known.named_claims = named
            providers[name] = known
        self._by_name = providers

    def find(self, name: str) -> OidcProvider | None:
        """Return the provider with this name."""
        return self._by_name.get(name)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a provider inside this context.

        Raises:
            ProviderFailed: many wait already.
        """
        if self._waiting >= MAX_AT_ONCE:
            raise ProviderFailed(f"{MAX_AT_ONCE} sign-ins wait for providers already")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def logout_url(self, name: str) -> str | None:
        """Return the provider's own logout page, if it is known."""
        provider = self._by_name.get(name)
        return None if provider is None else provider.logout_url


def _is_error_code(text: object) -> bool:
    """Return True for error codes such as `access_denied`; other texts are not shown."""
    return isinstance(text, str) and 0 < len(text) <= 40 and text.replace("_", "").isalnum()
