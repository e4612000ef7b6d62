"""A provider in this process, with the auth host's pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.support.auth_host import AuthHost
from tests.support.oidc_provider import OidcProviderServer


class SignInStandIn(AuthHost):
    """A provider, the auth host's pages about it, and their browsers."""

    def __init__(self, provider: OidcProviderServer, folder: Path, **config: Any) -> None:
        self.provider = provider
        super().__init__(provider.issuer, folder, **config)

    async def sign_in(self, browser: httpx2.AsyncClient, **changes: str) -> httpx2.Response:
        """Sign in; return the answer to the browser's return."""
        url = self.provider.authorize(await self.leave(browser), **changes)
        return await browser.get(url)

    async def refused(self, **changes: str) -> str:
        """Return why a sign-in was refused: its browser must get no cookie."""
        async with self.browser() as browser:
            response = await self.sign_in(browser, **changes)
        assert response.status_code in (403, 502), response.text
        assert "__Host-0trust=" not in response.headers.get("set-cookie", "")
        assert self.store.accounts == []
        return str(response.json()["error"])


@asynccontextmanager
async def signing_in(folder: Path, **config: Any) -> AsyncIterator[SignInStandIn]:
    """Yield a provider with the auth host's pages; `config` is that of the provider."""
    async with OidcProviderServer() as provider:
        yield SignInStandIn(provider, folder, **config)
