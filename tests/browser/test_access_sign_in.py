"""Tests of signing in with a browser: invitation, passkey, hand-over, and pages on the way."""

import asyncio
import json

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.web_home import (
    AUTH,
    CHARTS,
    OWN_COOKIES,
    PHOTOS,
    Visitor,
    WebHome,
    fetched,
    shown_claims,
    socket_events,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("access_browser"),
]


async def test_the_browsers_speak_both_protocols(
    home: WebHome, http2: Browser, http1: Browser
) -> None:
    for started, protocol in ((http2, "h2"), (http1, "http/1.1")):
        page = await started.new_page()
        await page.goto(home.url(AUTH))
        spoken = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert await page.evaluate(spoken) == protocol
        await page.context.close()


async def test_an_invited_person_gets_in_and_a_stranger_does_not(
    home: WebHome, either: Browser
) -> None:
    anna = await Visitor.begin(either, home)
    page = await anna.page()
    await anna.accept_invitation(page, await home.invite("anna"))
    await page.goto(home.url(PHOTOS, "/album/7"))
    assert page.url == home.url(PHOTOS, "/album/7")
    await expect(page.get_by_role("heading")).to_have_text("Album 7")
    stranger = await Visitor.begin(either, home)
    before = len(home.sites[PHOTOS].requests)
    page = await stranger.page()
    await page.goto(home.url(PHOTOS, "/album/7"))
    assert page.url.startswith(home.url(AUTH, "/go?"))
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert len(home.sites[PHOTOS].requests) == before
    await stranger.close()
    await anna.close()


async def test_the_backend_knows_who_it_is_and_never_sees_our_cookies(
    home: WebHome, either: Browser
) -> None:
    anna = await home.visitor(either, "anna")
    site = home.sites[CHARTS]
    site.requests.clear()
    chart = await anna.open_chart()
    claims = await shown_claims(chart)
    assert claims["preferred_username"] == "anna"
    assert (claims["groups"], claims["amr"]) == (["family"], ["passkey"])
    (upgrade,) = site.requests_of("/live")
    assert await site.verifier.verify(upgrade.headers.get_list("X-0Trust-Jwt-Assertion"))
    assert len(site.requests) >= 3
    assert site.cookies_seen() == {"flavour"}
    assert await anna.own_cookies() == {
        AUTH: {"__Host-0trust"},
        CHARTS: OWN_COOKIES,
    }
    await anna.close()


async def test_a_page_with_many_parts_returns_to_itself(home: WebHome, http2: Browser) -> None:
    """Requests of another tab's page change neither what is asked for nor the cookies."""
    anna = await home.visitor(http2, "anna")
    await anna.context.clear_cookies()
    page, other = await anna.page(), await anna.page()
    wanted = home.url(PHOTOS, "/album/7?sort=new&q=a%2Fb#photo-3")
    await page.goto(wanted)
    cookies = await anna.own_cookies()
    await other.goto(home.url(PHOTOS, "/open/album"))
    await expect(other.locator("#seen")).not_to_be_empty()
    assert await parts_seen(other) == ["failed"] * 12 + [401] * 8
    assert await anna.own_cookies() == cookies
    await anna.sign_in(page)
    assert page.url == wanted
    await expect(page.locator("#seen")).not_to_be_empty()
    assert await parts_seen(page) == [200] * 20
    await anna.close()


async def test_scripts_see_401_and_where_to_sign_in(home: WebHome, either: Browser) -> None:
    stranger = await Visitor.begin(either, home)
    page = await stranger.page()
    await page.goto(home.url(PHOTOS, "/open/page"))
    before = len(home.sites[PHOTOS].requests)
    answer = await fetched(page, "/data/1")
    assert (answer["status"], answer["error"]) == (401, "login_required")
    assert not answer["redirected"]
    assert await socket_events(page, f"wss://{PHOTOS}:{home.stack.https_port}/live") == [
        "error",
        1006,
    ]
    worker = "navigator.serviceWorker.register('/worker.js').catch((error) => error.message)"
    assert "401" in await page.evaluate(worker)
    assert len(home.sites[PHOTOS].requests) == before
    await page.goto(json.loads(answer["text"])["login_url"])
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    await stranger.close()


async def test_manifest_of_an_app(home: WebHome, http2: Browser) -> None:
    """Browsers ask for a manifest without cookies, unless the page says `use-credentials`."""
    anna = await home.visitor(http2, "anna")
    page = await anna.page()
    found = {"/open/app": False, "/open/app-with-open-manifest": True}
    for path, has_manifest in {**found, "/open/app-with-credentials": False}.items():
        await page.goto(home.url(PHOTOS, path))
        assert await manifest_name(page) == ("Photos" if has_manifest else None), path
    await page.goto(home.url(PHOTOS, "/album/7"))  # a pass
    for path, has_manifest in {**found, "/open/app-with-credentials": True}.items():
        await page.goto(home.url(PHOTOS, path))
        assert await manifest_name(page) == ("Photos" if has_manifest else None), path
    await anna.close()


async def test_ten_tabs_sign_in_to_ten_pages(home: WebHome, either: Browser) -> None:
    anna = await home.visitor(either, "anna")
    await anna.context.clear_cookies()
    tabs = [await anna.page() for _ in range(10)]
    urls = [home.url(PHOTOS if number % 2 else CHARTS, f"/page/{number}") for number in range(10)]
    await asyncio.gather(*(tab.goto(url) for tab, url in zip(tabs, urls, strict=True)))
    for tab in tabs:
        await expect(tab.get_by_role("button", name="Sign in with a passkey")).to_be_enabled()
    for tab in tabs[:3]:  # one after the other, as a person does
        await anna.sign_in(tab)
    await asyncio.gather(*(tab.reload() for tab in tabs[3:]))
    assert [tab.url for tab in tabs] == urls
    cookies = await anna.own_cookies()
    assert set(cookies) == {AUTH, PHOTOS, CHARTS}
    assert all(names <= OWN_COOKIES for names in cookies.values())
    await anna.close()


async def test_a_form_whose_pass_has_ended_arrives_after_sign_in(
    home: WebHome, http2: Browser
) -> None:
    anna = await home.visitor(http2, "anna")
    page = await anna.page()
    await page.goto(home.url(PHOTOS, "/form"))
    await page.get_by_label("Text").fill("a long letter")
    await anna.sign_out()
    async with page.expect_response("**/form") as answered:
        await page.get_by_role("button", name="Send").click()
    answer = await answered.value
    assert (answer.status, answer.headers["x-0trust-error"]) == (401, "login_required")
    await expect(page.get_by_role("heading")).to_have_text("Not sent: sign in first")
    async with anna.context.expect_page() as opened:
        await page.get_by_role("link", name="Sign in").click()
    other = await opened.value
    await anna.connect(other)
    await anna.sign_in(other)
    await page.reload()
    await expect(page.get_by_role("heading")).to_have_text("Received a long letter")
    await anna.close()


async def parts_seen(page: Page) -> list[object]:
    """Return the status of each part of an album's page, as its script has seen it."""
    seen: list[object] = json.loads(await page.inner_text("#seen"))
    return seen


async def manifest_name(page: Page) -> str | None:
    """Return the name in the manifest that the browser has read; None without one."""
    session = await page.context.new_cdp_session(page)
    found = await session.send("Page.getAppManifest")
    name: str | None = json.loads(found["data"])["name"] if found.get("data") else None
    return name
