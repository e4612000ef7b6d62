"""Tests of what a browser loses at once when a person signs out or is disabled."""

import time

import pytest
from playwright.async_api import Browser, expect

from tests.support.web_home import (
    AUTH,
    CHARTS,
    OTHER,
    PHOTOS,
    Visitor,
    WebHome,
    closed,
    fetched,
    socket_events,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("access_browser"),
]


async def test_sign_out_in_one_tab_closes_the_chart_in_another(
    home: WebHome, either: Browser
) -> None:
    ben = await home.visitor(either, "ben")
    chart = await ben.open_chart()
    assert (await fetched(chart, "/data/1"))["status"] == 200
    page = await ben.page()
    await page.goto(home.url(AUTH, "/me"))
    await page.goto(home.url(PHOTOS, "/album/7"))  # a pass, which signs out as well
    await page.goto(home.url(PHOTOS, "/.0trust/out"))
    began = time.time()
    await page.get_by_role("button", name="Sign out", exact=True).click()
    code, reason, at = await closed(chart)
    assert (code, reason) == (1008, "signed out")
    assert at - began < 1
    await expect(page.get_by_role("heading")).to_have_text("You are signed out")
    assert (await fetched(chart, "/data/1"))["status"] == 401
    assert not await is_signed_in(ben)
    for _ in range(3):  # back to the pages of the server: none is shown as it was
        await page.go_back()
        assert "signed in as" not in (await page.inner_text("body")).lower()
    assert page.url == home.url(AUTH)
    await ben.close()


async def test_disabling_a_user_closes_the_chart_on_the_screen(
    home: WebHome, either: Browser
) -> None:
    carla = await home.visitor(either, "carla")
    bystander = await home.visitor(either, "ben")
    chart, other = await carla.open_chart(), await bystander.open_chart()
    done = await home.commands("user", "disable", "carla")
    disabled_at = time.time()
    assert done.code == 0, done
    code, reason, at = await closed(chart)
    assert (code, reason) == (1008, "access withdrawn")
    assert at - disabled_at < 1
    assert (await fetched(chart, "/data/1"))["status"] == 401
    await chart.reload()
    await carla.use_passkey(chart)
    await expect(chart.get_by_role("alert")).to_contain_text("is disabled")
    assert (await home.commands("user", "enable", "carla")).code == 0
    await carla.sign_in(chart)
    await chart.wait_for_function("Number(document.getElementById('value').textContent) >= 2")
    await expect(other.locator("#closed")).to_be_empty()
    await carla.close()
    await bystander.close()


async def test_a_service_worker_opens_nothing_new_after_sign_out(
    home: WebHome, http2: Browser
) -> None:
    ben = await home.visitor(http2, "ben")
    page = await ben.page()
    await page.goto(home.url(PHOTOS, "/page/kept"))
    await page.evaluate(
        "navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready)"
    )
    await page.wait_for_function("navigator.serviceWorker.controller !== null")
    await page.reload()  # the worker keeps it
    await ben.sign_out()
    site = home.sites[PHOTOS]
    site.requests.clear()
    await page.goto(home.url(PHOTOS, "/page/kept"))
    await expect(page.get_by_role("heading")).to_have_text("/page/kept")  # its own copy
    assert (await fetched(page, "/data/new"))["status"] == 401
    await page.goto(home.url(PHOTOS, "/page/new"))
    assert page.url.startswith(home.url(AUTH, "/go?"))
    assert site.requests == []
    await ben.sign_in(page)
    await expect(page.get_by_role("heading")).to_have_text("/page/new")
    await ben.close()


async def test_a_frame_of_a_sibling_asks_to_sign_in_in_a_new_tab(
    home: WebHome, http2: Browser
) -> None:
    ben = await home.visitor(http2, "ben")
    page = await ben.page()
    await page.goto(home.url(OTHER, "/page/1"))
    await page.evaluate(
        "(url) => { const frame = document.createElement('iframe'); frame.src = url;"
        " document.body.append(frame); }",
        home.url(CHARTS, "/chart"),
    )
    frame = page.frame_locator("iframe")
    await expect(frame.get_by_role("heading")).to_have_text("Sign in to see this content")
    async with ben.context.expect_page() as opened:
        await frame.get_by_role("link", name="Sign in").click()
    other = await opened.value
    await expect(other.get_by_role("heading")).to_have_text("Chart")
    await page.reload()
    await ben.close()


async def test_a_sibling_opens_no_websocket_with_a_pass(home: WebHome, either: Browser) -> None:
    """Pages of a sibling host send the cookie, since they are of the same site."""
    ben = await home.visitor(either, "ben")
    await ben.open_chart()
    page = await ben.page()
    await page.goto(home.url(OTHER, "/page/1"))
    site = home.sites[CHARTS]
    site.requests.clear()
    live = f"wss://{CHARTS}:{home.stack.https_port}/live"
    since = home.stack.server.position()
    assert await socket_events(page, live) == ["error", 1006]
    assert site.requests_of("/live") == []
    assert "code=origin_refused" in home.stack.server.text(since)  # not for want of the cookie
    await ben.close()


async def is_signed_in(visitor: Visitor) -> bool:
    """Return True if the auth host shows the person's account."""
    page = await visitor.page()
    await page.goto(visitor.home.url(AUTH))
    signed_in = page.url.endswith("/me")
    await page.close()
    return signed_in
