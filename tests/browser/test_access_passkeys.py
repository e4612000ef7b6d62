"""Tests of passkeys that are lost, copied, or used at another page; and of a browser without
cookies."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import chromium_without_cookies
from tests.support.virtual_authenticator import VirtualAuthenticator
from tests.support.web_home import AUTH, OTHER, PHOTOS, Visitor, WebHome

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("access_browser"),
]


async def test_a_lost_key_is_replaced_by_invitation(home: WebHome, http2: Browser) -> None:
    dora = await home.visitor(http2, "dora")
    lost = list(dora.passkeys)
    fresh = await Visitor.begin(http2, home)
    page = await fresh.page()
    await fresh.accept_invitation(page, await home.invite("dora"))
    rows = page.get_by_role("region", name="Passkeys").get_by_role("listitem")
    await expect(rows).to_have_count(2)
    # Both may be of the same second, so that either may be the first row.
    identifier = lost[0]["credentialId"].translate(str.maketrans("+/", "-_"))
    row = rows.filter(has=page.locator(f"input[value='{identifier}']"))
    await row.get_by_role("button", name="Remove").click()
    await expect(rows).to_have_count(1)
    await page.goto(home.url(PHOTOS, "/album/7"))
    await expect(page.get_by_role("heading")).to_have_text("Album 7")
    thief = await Visitor.begin(http2, home)
    thief.passkeys = lost
    assert "not known here" in await refused(thief)
    owner = await Visitor.begin(http2, home)
    owner.passkeys = fresh.passkeys
    page = await owner.page()
    await page.goto(home.url(PHOTOS, "/album/7"))
    await owner.sign_in(page)
    for one in (dora, fresh, thief, owner):
        await one.close()


async def test_a_copied_passkey_is_refused(home: WebHome, http2: Browser) -> None:
    """A copy has a counter of its own, which is behind after the owner's next sign-in."""
    emil = await home.visitor(http2, "emil")
    copy = [dict(passkey) for passkey in emil.passkeys]
    await emil.context.clear_cookies()
    page = await emil.page()
    await page.goto(home.url(PHOTOS, "/album/7"))
    await emil.sign_in(page)
    thief = await Visitor.begin(http2, home)
    thief.passkeys = copy
    assert "copied" in await refused(thief)
    await thief.close()
    await emil.close()


async def test_a_page_of_another_origin_cannot_use_a_passkey(home: WebHome, http2: Browser) -> None:
    """The browser refuses, since the page's host is not below the auth host."""
    fred = await home.visitor(http2, "fred")
    page = await fred.page()
    await fred.devices[page].hold(fred.passkeys)
    await page.goto(home.url(OTHER, "/page/1"))
    ask = (
        "(rpId) => navigator.credentials.get({ publicKey: { rpId,"
        " challenge: new Uint8Array(32), userVerification: 'required' } })"
        ".then(() => 'used', (error) => error.name)"
    )
    assert await page.evaluate(ask, AUTH) == "SecurityError"
    await fred.close()


async def test_a_device_that_does_not_know_its_user_is_refused(
    home: WebHome, http2: Browser
) -> None:
    gina = await Visitor.begin(http2, home)
    page = await gina.context.new_page()
    device = await VirtualAuthenticator.add(page, verified=False)
    await page.goto(await home.invite("gina"))
    await page.get_by_role("button", name="Create a passkey").click()
    await expect(page.get_by_role("alert")).not_to_be_empty()
    assert await device.passkeys() == []
    await gina.close()


@pytest.mark.parametrize("host", [AUTH, PHOTOS])
async def test_a_browser_that_keeps_no_cookies_sees_a_page_that_says_so(
    home: WebHome, http2: Browser, tmp_path: Path, host: str
) -> None:
    await (await home.visitor(http2, "anna")).close()
    async with chromium_without_cookies(tmp_path / "profile", host, *home.keys) as context:
        visitor = Visitor(context, home, home.passkeys["anna"])
        page = await visitor.page()
        loads: list[str] = []
        page.on("request", lambda r: loads.append(r.url) if r.is_navigation_request() else None)
        await page.goto(home.url(PHOTOS, "/album/7"))
        await visitor.use_passkey(page)
        await expect(page.get_by_role("main")).to_contain_text(f"does not keep cookies of {host}")
        await page.wait_for_load_state()
        assert len(loads) <= 6, loads
        assert not {cookie["domain"] for cookie in await context.cookies()} & {host}


async def refused(thief: Visitor) -> str:
    """Try to sign in with the thief's passkeys; return what the page says."""
    page = await thief.page()
    await page.goto(thief.home.url(PHOTOS, "/album/7"))
    await thief.use_passkey(page)
    alert = page.get_by_role("alert")
    await expect(alert).not_to_be_empty()
    assert page.url.startswith(thief.home.url(AUTH, "/go?"))
    return await alert.inner_text()
