"""A home behind 0Trust: three web sites, a family that signs in, and browsers."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.support.assertion_verifier import AssertionVerifier
from tests.support.browser import browser, verified_key
from tests.support.commands import Commands
from tests.support.stack import Authority, Stack, service
from tests.support.virtual_authenticator import Passkey, VirtualAuthenticator
from tests.support.web_site import WebSite

AUTH = "auth.home.localhost"
PHOTOS = "photos.home.localhost"
CHARTS = "charts.home.localhost"
OTHER = "other.home.localhost"
"""Everyone may enter this one, which is a sibling of the others: the same site for browsers."""

OWN_COOKIES = {"__Host-0trust", "__Host-0trust-way"}
ACCESS = {
    "auth_host": AUTH,
    "rules": [
        {
            "hosts": [PHOTOS, CHARTS],
            "allow": [{"group": "family"}],
            "paths": [{"match": ["/open/*"], "allow": "anyone"}],
        },
        {"hosts": [OTHER], "allow": "anyone"},
    ],
}


@dataclass
class WebHome:
    """The running home.

    Attributes:
        sites: the web sites by host name.
        keys: hashes of the keys of all certificates, for browsers.
        passkeys: those on the device of each person who has accepted an invitation.
    """

    stack: Stack
    sites: dict[str, WebSite]
    keys: list[str]
    passkeys: dict[str, list[Passkey]] = field(default_factory=dict)

    @property
    def commands(self) -> Commands:
        return Commands(self.stack.folder / "state" / "admin.sock")

    def url(self, host: str, path: str = "/") -> str:
        return self.stack.caddy.url(host, path)

    async def invite(self, name: str) -> str:
        """Invite a member of the family by the command; return the link that it prints."""
        done = await self.commands("user", "invite", name, "--group", "family")
        assert done.code == 0, done
        found = re.search(r"https://\S+/invite#\S+", done.out)
        assert found, done.out
        return found[0]

    async def visitor(self, started: Browser, name: str) -> "Visitor":
        """Return a member of the family at a browser of their own, signed in."""
        made = await Visitor.begin(started, self)
        page = await made.page()
        if name in self.passkeys:
            made.passkeys = self.passkeys[name]
            await page.goto(self.url(AUTH))
            await made.use_passkey(page)
            await page.wait_for_url("**/me")
        else:
            await made.accept_invitation(page, await self.invite(name))
            self.passkeys[name] = made.passkeys
        await page.close()
        return made


@contextlib.asynccontextmanager
async def web_home(folder: Path) -> AsyncIterator[WebHome]:
    """Start Caddy, server, agent and sites."""
    stacks: list[Stack] = []

    async def fetch_keys() -> bytes:
        answer = await stacks[0].caddy.get(PHOTOS, "/.well-known/0trust/jwks.json")
        assert answer.status == 200
        return answer.body

    async with contextlib.AsyncExitStack() as everything:
        sites = {}
        for host in (OTHER, PHOTOS, CHARTS):  # `Stack` waits for the first; the others show a gate
            verifier = AssertionVerifier(
                issuer=f"https://{AUTH}", audience=f"https://{host}", fetch_keys=fetch_keys
            )
            sites[host] = await everything.enter_async_context(WebSite(verifier))
        authority = folder / "ca"
        authority.mkdir()
        stack = Stack(
            folder / "home",
            Authority(authority),
            agents={"agent-1": [service(host, site.port) for host, site in sites.items()]},
            sections={"access": ACCESS},
        )
        stacks.append(await everything.enter_async_context(stack))
        keys = [
            await asyncio.to_thread(verified_key, host, stack.caddy.port, stack.caddy_root)
            for host in (AUTH, *sites)
        ]
        yield WebHome(stack, sites, keys)


@contextlib.asynccontextmanager
async def home_browser(home: WebHome, *options: str) -> AsyncIterator[Browser]:
    """Start a browser that trusts the home's certificates."""
    async with browser(*home.keys, options=options) as started:
        yield started


@dataclass
class Visitor:
    """A person at a browser of their own.

    Attributes:
        passkeys: those of the person's device.
        devices: the device as each page sees it, by page.
    """

    context: BrowserContext
    home: WebHome
    passkeys: list[Passkey] = field(default_factory=list)
    devices: dict[Page, VirtualAuthenticator] = field(default_factory=dict)

    @classmethod
    async def begin(cls, started: Browser, home: WebHome) -> Self:
        """Open a browser without any cookies."""
        context = await started.new_context()
        context.set_default_timeout(10_000)
        return cls(context, home)

    async def page(self) -> Page:
        """Open a tab to which the device is connected."""
        page = await self.context.new_page()
        await self.connect(page)
        return page

    async def connect(self, page: Page) -> None:
        """Connect the device to a tab."""
        self.devices[page] = await VirtualAuthenticator.add(page)

    async def accept_invitation(self, page: Page, link: str) -> None:
        """Create a passkey with an invitation's link."""
        await page.goto(link)
        await page.get_by_role("button", name="Create a passkey").click()
        await expect(page.get_by_role("status")).to_contain_text("Your passkey is ready")
        self.passkeys[:] = await self.devices[page].passkeys()

    async def sign_in(self, page: Page) -> None:
        """Press the button of the sign-in page that the tab shows; wait for the page beyond."""
        await self.use_passkey(page)
        await page.wait_for_url(_is_arrival)

    async def use_passkey(self, page: Page) -> None:
        """Press the button of the sign-in page that the tab shows."""
        await self.devices[page].hold(self.passkeys)
        async with page.expect_request("**/passkey/sign-in"):
            await page.get_by_role("button", name="Sign in with a passkey").click()
        self.passkeys[:] = await self.devices[page].passkeys()

    async def open_chart(self, host: str = CHARTS) -> Page:
        """Open the live chart; wait until it moves."""
        page = await self.page()
        await page.goto(self.home.url(host, "/chart"))
        await page.wait_for_function("Number(document.getElementById('value').textContent) >= 2")
        return page

    async def sign_out(self) -> None:
        """Sign out in a tab of its own."""
        page = await self.page()
        await page.goto(self.home.url(AUTH, "/.0trust/out"))
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await expect(page.get_by_role("heading")).to_have_text("You are signed out")
        await page.close()

    async def own_cookies(self) -> dict[str, set[str]]:
        """Return the names of 0Trust's cookies in this browser, by host name."""
        found: dict[str, set[str]] = {}
        for cookie in await self.context.cookies():
            if "0trust" in cookie["name"].lower():
                found.setdefault(cookie["domain"], set()).add(cookie["name"])
        return found

    async def close(self) -> None:
        await self.context.close()


def _is_arrival(url: str) -> bool:
    """Return True for a page of a service, at the end of the hand-over."""
    return not url.startswith(f"https://{AUTH}:") and "/.0trust/" not in url


async def closed(chart: Page) -> tuple[int, str, float]:
    """Wait until a chart's WebSocket is closed; return code, reason and the time."""
    await expect(chart.locator("#closed")).not_to_be_empty()
    code, reason, at = await chart.evaluate(
        "JSON.parse(document.getElementById('closed').textContent)"
    )
    return code, reason, at / 1000


async def fetched(page: Page, path: str) -> dict[str, Any]:
    """Let a script of a page fetch a path of its own host; return what the script sees."""
    answer: dict[str, Any] = await page.evaluate(
        "(path) => fetch(path).then(async (r) => ({ status: r.status, redirected: r.redirected,"
        " error: r.headers.get('X-0Trust-Error'), text: await r.text() }))",
        path,
    )
    return answer


async def shown_claims(page: Page) -> dict[str, Any]:
    """Return the claims that the page's site has verified."""
    answer = await fetched(page, "/whoami")
    assert answer["status"] == 200, answer
    claims: dict[str, Any] = json.loads(answer["text"])
    return claims


async def socket_events(page: Page, url: str) -> list[Any]:
    """Let a script of a page open a WebSocket; return its events until it is closed."""
    found: list[Any] = await page.evaluate(
        "(url) => new Promise((done) => { const events = []; const socket = new WebSocket(url);"
        " socket.onopen = () => { events.push('open'); socket.close(); };"
        " socket.onerror = () => events.push('error');"
        " socket.onclose = (event) => { events.push(event.code); done(events); }; })",
        url,
    )
    return found
