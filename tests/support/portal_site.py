"""The server's own pages over HTTPS, for a real browser with a virtual authenticator."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from playwright.async_api import Browser, CDPSession, Page

from tests.support.asgi_server import AsgiServer, certificate_of, serving
from tests.support.browser import browser, key_of
from tests.support.people import Stores
from tests.support.portal_server import PortalServer, start_portal

RULES: list[dict[str, Any]] = [
    {
        "hosts": ["photos.localhost", "wiki.localhost"],
        "allow": [{"group": "family"}],
        "links": True,
        "paths": [{"match": ["/admin/*"], "allow": [{"group": "family"}], "fresh": "15m"}],
    },
    {"hosts": ["parents.localhost"], "allow": [{"user": "carla"}]},
    {"hosts": ["party.localhost"], "allow": [{"pin": True}]},
]
NAMES = [f"{name}.localhost" for name in ("auth", "photos", "wiki", "parents", "party")]
KEY = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@dataclass
class Site:
    """The pages over HTTPS.

    Attributes:
        ahead: seconds by which the server's clock is ahead.
        without_cookies: host name of which the browser keeps no cookies.
    """

    portal: PortalServer
    http: AsgiServer
    ahead: float = 0.0
    without_cookies: str = ""

    def url(self, host: str, path: str = "/") -> str:
        return f"https://{host}.localhost:{self.http.port}{path}"

    async def invitation(self, name: str = "anna") -> str:
        issued = await self.portal.store.people.invite(name, email=None, groups=[], actor="uid 0")
        return self.url("auth", f"/invite#{issued.secret}")


@asynccontextmanager
async def portal_site(servers: Stores, folder: Path, **settings: Any) -> AsyncIterator[Site]:
    """Serve the pages of a new portal.

    Args:
        settings: more settings of `access`.
    """
    users = [{"name": "anna", "groups": ["family"]}, {"name": "ben"}]
    portal = await start_portal(
        servers, folder, auth_host="auth.localhost", users=users, **{"rules": RULES, **settings}
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        servers.clock.now = time.time() + made.ahead
        if scope["state"]["host"] == made.without_cookies:
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"cookie"]
        await portal.app()(scope, receive, send)

    async with serving(app, folder, *NAMES) as http:
        portal.site = replace(portal.site, https_port=http.port)
        portal.portal = portal.build()
        made = Site(portal, http)
        yield made


@asynccontextmanager
async def site_browser() -> AsyncIterator[Browser]:
    """Start a browser that trusts the certificate of all sites."""
    certificate = x509.load_pem_x509_certificate(certificate_of(*NAMES))
    async with browser(key_of(certificate)) as started:
        yield started


async def authenticator(page: Page) -> tuple[CDPSession, str]:
    """Give a page a virtual authenticator; return the session and its id."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": KEY})
    return session, made["authenticatorId"]


async def register(site: Site, page: Page, name: str = "anna") -> None:
    await page.goto(await site.invitation(name))
    await page.get_by_role("button", name="Create a passkey").click()
    await page.wait_for_url(site.url("auth", "/me?welcome=1"))
