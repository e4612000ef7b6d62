"""Tests of the demo's page in a real browser, over Caddy's HTTPS."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Error, Page, expect

from tests.support.browser import BUILD, PageErrors, browser, chromium, cookies, verified_key
from tests.support.demo_process import Demo

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("demo"),
]

HOST = "demo.localhost"


@pytest.fixture(scope="module")
async def started(demo: Demo) -> AsyncIterator[Browser]:
    """A browser that trusts the demo's certificate."""
    key = await asyncio.to_thread(verified_key, HOST, demo.port, demo.root)
    async with browser(key) as started:
        yield started


def url(demo: Demo) -> str:
    return f"https://{HOST}:{demo.port}/"


async def messages(page: Page) -> int:
    return int((await page.inner_text("#messages")).replace(",", ""))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_page_is_live(demo: Demo, started: Browser, scheme: str) -> None:
    page_errors = PageErrors()
    async with cookies(started, scheme=scheme) as context:
        page = await context.new_page()
        page_errors.watch(page)
        await page.goto(url(demo))
        await expect(page.locator("#state")).to_have_text("Live")
        await page.wait_for_function(
            "() => Number(document.getElementById('messages').textContent) >= 10"
        )
        before, drawn = await messages(page), await page.evaluate("() => chart.toDataURL()")
        await page.wait_for_function(
            f"() => Number(document.getElementById('messages').textContent) >= {before + 20}"
        )
        assert await page.evaluate("() => chart.toDataURL()") != drawn
        await expect(page.locator("#latency")).to_have_text(re.compile(r"\d+\.\d ms"))
        await expect(page.locator("#reconnects")).to_have_text("0")
        BUILD.mkdir(exist_ok=True)
        await page.screenshot(path=BUILD / f"demo-{scheme}.png")
    assert page_errors.errors == []
    assert sorted(page_errors.sockets) == [
        f"wss://{HOST}:{demo.port}/echo",
        f"wss://{HOST}:{demo.port}/live",
    ]


async def test_page_fits_a_small_screen_and_has_names_for_all(demo: Demo, started: Browser) -> None:
    async with cookies(started) as context:
        page = await context.new_page()
        await page.set_viewport_size({"width": 360, "height": 640})
        await page.goto(url(demo))
        await expect(page.get_by_role("heading", level=1)).to_have_text("0Trust demo")
        await expect(page.get_by_role("img", name=re.compile("Line chart"))).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("Live")
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360


async def test_page_comes_back_after_the_connection_was_lost(demo: Demo, started: Browser) -> None:
    async with cookies(started) as context:
        page = await context.new_page()
        await page.add_init_script(
            "const Real = WebSocket; window.all = [];window.WebSocket = class extends Real {"
            " constructor(...a) { super(...a); all.push(this); } };"
        )
        await page.goto(url(demo))
        await expect(page.locator("#state")).to_have_text("Live")
        await page.evaluate("() => all.forEach((socket) => socket.close())")
        await expect(page.locator("#reconnects")).to_have_text("1")
        before = await messages(page)
        await expect(page.locator("#state")).to_have_text("Live", timeout=10_000)
        await page.wait_for_function(
            f"() => Number(document.getElementById('messages').textContent) > {before}"
        )


async def test_browser_that_does_not_know_the_root_refuses(demo: Demo) -> None:
    """Prove that the other tests verify the certificate."""
    async with chromium() as context:
        page = await context.new_page()
        with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
            await page.goto(url(demo))
