"""The dashboard in a real browser, through Caddy, server and agent of the demo."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.support.browser import BUILD, browser, verified_key
from tests.support.commands import run_product
from tests.support.demo_process import Demo
from tests.support.page_inspection import PageInspection

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("demo"),
]

PAGES = {
    "now": "/",
    "agents": "/agents",
    "agent": "/agents/show?agent=demo-agent",
    "services": "/services",
    "host": "/services/show?host=demo.localhost",
    "connections": "/connections",
    "requests": "/requests",
    "service": "/requests?agent=demo-agent&service=demo",
    "people": "/people",
    "person": "/people/show?user=ben",
    "machines": "/machines",
    "audit": "/audit",
    "doctor": "/doctor",
}
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 850}


@dataclass
class Chain:
    """The running demo, and a browser in which its administrator is signed in."""

    port: int
    folder: Path
    browser: Browser
    state: Any

    def url(self, path: str = "/", host: str = "admin") -> str:
        return f"https://{host}.demo.localhost:{self.port}{path}"

    @asynccontextmanager
    async def page(self, **options: Any) -> AsyncIterator[Page]:
        """Open a page of a browser with the administrator's cookies."""
        context = await self.browser.new_context(storage_state=self.state, **options)
        yield await context.new_page()
        await context.close()

    async def command(self, *words: str) -> str:
        """Run a command of the product."""
        done = await run_product(*words, "--config", self.folder / "server.yaml")
        assert done.code == 0, done.err
        return done.out


@pytest.fixture(scope="module")
async def chain(demo: Demo) -> AsyncIterator[Chain]:
    (link,) = re.findall(r"https://auth\S+/link#\S+", demo.text())
    keys = [
        await asyncio.to_thread(verified_key, f"{name}demo.localhost", demo.port, demo.root)
        for name in ("auth.", "admin.", "")
    ]
    async with browser(*keys) as started:
        context = await started.new_context()
        await sign_in(context, link)
        made = Chain(demo.port, demo.folder, started, await context.storage_state())
        await context.close()
        await fill(made)
        yield made


async def sign_in(context: BrowserContext, link: str) -> None:
    """Sign in by the link that the demo prints, and open the dashboard from the user's page."""
    page = await context.new_page()
    await page.goto(link)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("link", name="Open the dashboard").click()
    await expect(page.get_by_role("heading", name="Now", exact=True)).to_be_visible()


async def fill(chain: Chain) -> None:
    """Give each list a row; the page of the demo keeps a WebSocket open."""
    visitor = await (await chain.browser.new_context()).new_page()
    async with visitor.expect_websocket():
        await visitor.goto(f"https://demo.localhost:{chain.port}/")
    await chain.command("user", "invite", "ben", "--group", "family")
    await chain.command("machine", "create", "frame")
    await chain.command("app", "create", "--user", "ben", "--name", "Ben's phone")
    await chain.command("tokens", "create", "--agent", "attic", "--host", "attic.example.com")
    await chain.command("grants", "add", "demo-agent", "wiki.demo.localhost")


async def test_axe_finds_nothing_and_the_policy_blocks_nothing(chain: Chain) -> None:
    async with chain.page(viewport=DESK) as page:
        seen = await PageInspection.begin(page, phone=PHONE, desk=DESK)
        for name, path in PAGES.items():
            await page.goto(chain.url(path))
            await expect(page.get_by_role("status").first).to_have_text("Live")
            await take_pictures(page, name)
            await seen.look(name)
        await create_join_token(page, chain)
        await take_pictures(page, "join-token")
        await seen.look("join token")
        await examine_server(page, chain)
        await take_pictures(page, "doctor")
        await seen.look("findings")
        await page.goto(f"https://auth.demo.localhost:{chain.port}/")
        await expect(page.get_by_role("link", name="Open the dashboard")).to_be_visible()
        await take_pictures(page, "me")
        await seen.look("me")
        await page.goto(chain.url("/nothing"))
        await seen.look("no page")
    assert not seen.problems, "\n".join(seen.problems)


async def take_pictures(page: Page, name: str) -> None:
    """Keep pictures of a page for the documents; only where they are asked for."""
    if not os.environ.get("ZEROTRUST_PICTURES"):
        return
    BUILD.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        await page.screenshot(path=BUILD / f"dashboard-{name}-{scheme}.png", full_page=True)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await page.screenshot(path=BUILD / f"dashboard-{name}-phone.png", full_page=True)
    await page.set_viewport_size(DESK)  # type: ignore[arg-type]


async def create_join_token(page: Page, chain: Chain) -> None:
    await page.goto(chain.url("/agents"))
    await page.get_by_label("Name of the agent").fill("cellar")
    await page.get_by_label("Host names that it may serve").fill("cellar.example.com")
    await page.get_by_role("button", name="Create a join token").click()
    await expect(page.get_by_role("heading", name="Join token for cellar")).to_be_visible()


async def examine_server(page: Page, chain: Chain) -> None:
    """Let the doctor examine the demo while something is wrong with its keys."""
    folder = chain.folder / "certs"
    issuer, key = folder / "issuer.key", folder / "server.key"
    moved = issuer.rename(folder / "issuer.key.moved")
    key.chmod(0o644)
    try:
        await page.goto(chain.url("/doctor"))
        await page.get_by_role("button", name="Examine the server").click()
        await expect(page.get_by_text("Examined")).to_be_visible(timeout=60_000)
    finally:
        key.chmod(0o600)
        moved.rename(issuer)
    await expect(page.get_by_text("Broken: the private key")).to_be_visible()
    await expect(page.get_by_text("Warning: other users can read")).to_be_visible()


async def test_a_join_token_can_be_copied_and_scanned(chain: Chain) -> None:
    async with chain.page(permissions=["clipboard-read", "clipboard-write"]) as page:
        await create_join_token(page, chain)
        line = await page.get_by_label("Command").input_value()
        assert re.fullmatch(r"0trust agent join 0trust-join-1\.\S+", line)
        await page.get_by_role("button", name="Copy").first.click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == line
        box = await page.get_by_role("img", name="QR code of the join token").bounding_box()
        assert box is not None and box["width"] > 100


async def test_a_page_shows_what_a_command_has_changed(chain: Chain) -> None:
    """The list changes by itself; where the reader is, stays."""
    async with chain.page() as page:
        await page.goto(chain.url("/people"))
        await expect(page.get_by_role("status").first).to_have_text("Live")
        await page.get_by_role("link", name="ben").focus()
        await chain.command("user", "invite", "zoe")
        await expect(page.get_by_role("link", name="zoe")).to_be_visible()
        assert await page.evaluate("document.activeElement.textContent") == "ben"
        await page.get_by_role("link", name="zoe").click()
        await page.get_by_text("Remove the user").click()
        await page.get_by_role("button", name="Remove zoe").click()
        await page.wait_for_url(chain.url("/people"))
        await expect(page.get_by_role("link", name="zoe")).to_have_count(0)


async def test_everything_works_without_scripts(chain: Chain) -> None:
    async with chain.page(java_script_enabled=False) as page:
        for path in PAGES.values():
            reply = await page.goto(chain.url(path))
            assert reply is not None and reply.status == 200
        await chain.command("grants", "add", "demo-agent", "gone.demo.localhost")
        await page.goto(chain.url(PAGES["agent"]))
        await page.get_by_role("button", name="Remove: gone.demo.localhost").click()
        await page.wait_for_url(chain.url(PAGES["agent"]))
        await expect(page.get_by_text("gone.demo.localhost")).to_have_count(0)
        await create_join_token(page, chain)
        assert await page.get_by_role("button", name="Copy").count() == 0
        await page.goto(chain.url("/audit"))
        await page.get_by_role("button", name="Verify all records").click()
        await expect(page.get_by_role("status")).to_contain_text("records are intact")


async def test_a_websocket_is_shown_and_ended(chain: Chain) -> None:
    async with chain.page() as page:
        await page.goto(chain.url("/connections"))
        first = page.get_by_role("button", name="End: demo.localhost").first
        await expect(first).to_be_visible()
        name = await first.get_attribute("aria-label")
        await first.click()
        await expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
        # The page of the demo connects again, and the list shows it by itself.
        await expect(first).to_be_visible()
        await page.goto(chain.url(PAGES["service"]))
        await expect(page.get_by_role("table").last).to_contain_text("ended by: server")


async def test_messages_are_captured_and_forgotten(chain: Chain) -> None:
    async with chain.page(viewport=DESK) as page:
        seen = await PageInspection.begin(page, phone=PHONE, desk=DESK)
        await start_capture(page, chain)
        # The page of the demo connects again, and is captured from its first message.
        capture = page.url
        await page.goto(chain.url("/connections"))
        await page.get_by_role("button", name="End: demo.localhost").first.click()
        await page.goto(capture)
        table = page.get_by_role("group", name="Messages")
        await expect(table).to_contain_text("backend")
        before = await page.get_by_text("The last").inner_text()
        await expect(page.get_by_text("The last")).not_to_have_text(before)
        await take_pictures(page, "capture")
        await seen.look("capture")
        await page.goto(chain.url(PAGES["host"]))
        await expect(page.get_by_role("group", name="Captures")).to_contain_text("running")
        await page.get_by_role("link", name=re.compile("messages of the capture")).first.click()
        await page.get_by_role("link", name=re.compile("^[0-9a-f]+-[0-9a-f]+$")).click()
        await expect(page.get_by_role("heading", name="Capture its messages")).to_be_visible()
        await take_pictures(page, "connection")
        await seen.look("connection")
        await page.get_by_role("button", name=re.compile("^Stop: demo.localhost")).first.click()
        await page.goto(capture)
        await expect(table).to_have_count(0)
        assert not seen.problems, "\n".join(seen.problems)


async def test_messages_are_captured_without_scripts(chain: Chain) -> None:
    async with chain.page(java_script_enabled=False) as page:
        await start_capture(page, chain)
        await page.get_by_role("button", name="Stop and forget").click()
        await page.wait_for_url(chain.url("/connections"))


async def start_capture(page: Page, chain: Chain) -> None:
    """Capture the next WebSocket of the demo."""
    await page.goto(chain.url(PAGES["host"]))
    await page.get_by_label("Reason").fill("the chart stays empty")
    await page.get_by_role("button", name="Capture").click()
    await expect(page.get_by_role("heading", name="Messages", exact=True)).to_be_visible()
    await expect(page.get_by_text("No message yet.")).to_be_visible()


async def test_an_open_page_leaves_when_its_user_is_signed_out(chain: Chain) -> None:
    link = await chain.command("user", "invite", "nina", "--group", "admins", "--sign-in")
    context = await chain.browser.new_context()
    await sign_in(context, link.strip())
    page = context.pages[0]
    await expect(page.get_by_role("status").first).to_have_text("Live")
    await chain.command("session", "end", "--user", "nina")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=10_000)
    await context.close()
