"""The auth host's pages about providers in this process, without a database."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.support.oidc_provider import CLIENT_ID, SECRET
from zerotrust.access.hand_over import Attempt, new_way
from zerotrust.access.secret_format import digest_of, new_cookie
from zerotrust.access.subject import Credential, CredentialKind, Subject, SubjectKind
from zerotrust.errors import AccessRefused, ZeroTrustError
from zerotrust.model.access import Access
from zerotrust.server.access.people import People, ProviderAccount
from zerotrust.server.access.sign_ins import BrowserInfo, IssuedCookie, SignIns
from zerotrust.server.portal.oidc import Providers
from zerotrust.server.portal.provider_routes import provider_routes
from zerotrust.server.portal.site import Site

AUTH = "https://auth.example.com"
HOST = "app.example.com"


class SignInsInMemory:
    """Records what the pages ask for, and spends each state once."""

    def __init__(self) -> None:
        self.accounts: list[ProviderAccount] = []
        self.spent: set[bytes] = set()
        self.logouts: list[tuple[str, str, str]] = []
        self.linked: list[tuple[str, ProviderAccount, str]] = []
        self.due: list[tuple[str, str, str]] = []
        self.rechecks: list[ProviderAccount] = []
        self.refused: list[tuple[str, str]] = []
        self.renewed: list[str] = []
        self.signed_out: list[str] = []

    async def by_provider(
        self, account: ProviderAccount, browser: BrowserInfo, *, spent: bytes
    ) -> IssuedCookie:
        if spent in self.spent:
            raise AccessRefused("used already")
        self.spent.add(spent)
        self.accounts.append(account)
        value = new_cookie()
        return IssuedCookie(value=value, credential=sign_in_of("u_1", digest_of(value.encode())))

    async def renew_by_provider(
        self, sign_in: Credential, account: ProviderAccount, browser: BrowserInfo, *, spent: bytes
    ) -> bool:
        if sign_in.subject.id != "u_1":
            return False
        self.renewed.append(sign_in.subject.id)
        return True

    async def sign_out(self, sign_in: Credential, *, everywhere: bool) -> int:
        self.signed_out.append(sign_in.subject.id)
        return 1

    async def provider_logout(self, provider: str, *, session: str, subject: str) -> int:
        self.logouts.append((provider, session, subject))
        return 1

    async def link_account(self, user_id: str, account: ProviderAccount, *, actor: str) -> None:
        self.linked.append((user_id, account, actor))

    async def due_rechecks(self) -> list[tuple[str, str, str]]:
        return self.due

    async def rechecked(self, account: ProviderAccount) -> None:
        self.rechecks.append(account)

    async def refused_by_provider(
        self, provider: str, subject: str, *, refresh: str | None = None
    ) -> int:
        self.refused.append((provider, subject))
        return 1


def sign_in_of(user: str, digest: bytes = b"", *, method: str = "passkey") -> Credential:
    """Return a sign-in of a user, who has just proven their identity."""
    subject = Subject(kind=SubjectKind.USER, id=user, name="anna")
    return Credential(
        CredentialKind.SIGN_IN,
        "1",
        digest=digest,
        subject=subject,
        ends_at=time.time() + 3600,
        proven_at=time.time(),
        method=method,
    )


@dataclass
class StandInSite:
    """The parts of the portal that the provider pages need."""

    sign_ins: SignIns
    people: People
    clock: Callable[[], float] = time.time
    gates: set[str] = field(default_factory=lambda: {HOST})

    def origin(self, host: str) -> str:
        return f"https://{host}"

    def gate_of(self, host: str) -> object:
        return host if host in self.gates else None

    def check_origin(self, request: Request) -> None:
        if request.headers.get("sec-fetch-site") != "same-origin":
            raise AccessRefused("this form was sent by another page")

    def admit(self, request: Request) -> None:
        pass


class AuthHost:
    """The auth host's pages about providers, and their browsers.

    Args:
        issuer: of the providers `main` and `other`, which are the same one.
        config: more keys of their configuration, and `rules`.

    Attributes:
        ahead: seconds by which the clock of the server is ahead.
        elapsed: time of the server's monotonic clock.
        signed_in: the sign-in that the server finds in requests.
    """

    def __init__(self, issuer: str, folder: Path, /, **config: Any) -> None:
        self.store = SignInsInMemory()
        self.ahead = self.elapsed = 0.0
        self.signed_in: Credential | None = None
        secret = folder / "client.secret"
        secret.write_text(f"{SECRET}\n")
        entry = {
            "issuer": issuer,
            "client_id": CLIENT_ID,
            "client_secret_file": str(secret),
            **config,
        }
        rules = entry.pop("rules", [])
        self.access = Access.model_validate(
            {
                "auth_host": "auth.example.com",
                "identity_providers": {"main": entry, "other": entry},
                "rules": rules,
            }
        )
        self.providers = Providers(
            self.access, auth_origin=AUTH, clock=self._clock, monotonic=lambda: self.elapsed
        )
        self.site = StandInSite(
            cast("SignIns", self.store), cast("People", self.store), clock=self._clock
        )
        self._app = Starlette(
            routes=provider_routes(cast("Site", self.site), self.providers),
            exception_handlers={ZeroTrustError: _shown},
        )

    def _clock(self) -> float:
        return time.time() + self.ahead

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {
            "host": "auth.example.com",
            "client": "192.0.2.7",
            "credential": self.signed_in,
        }
        await self._app(scope, receive, send)

    def browser(self) -> httpx2.AsyncClient:
        """Return a new browser."""
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url=AUTH)

    async def leave(
        self, browser: httpx2.AsyncClient, *, to: str = "/x?y=1", provider: str = "main"
    ) -> str:
        """Begin a sign-in; return the URL at the provider."""
        attempt = Attempt.begin(new_way(), host=HOST, to=to)
        response = await browser.get(f"/start/{provider}?{attempt.to_query()}")
        assert response.status_code == 303, response.text
        return str(response.headers["location"])


async def _shown(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, getattr(error, "status", 500))
