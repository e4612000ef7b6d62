"""Tests of the server's own pages in a real browser, with a virtual authenticator."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, CDPSession, Page, expect

from tests.support.browser import PageErrors, cookies
from tests.support.people import Stores, stores
from tests.support.portal_site import Site, authenticator, portal_site, register
from zerotrust.server.portal.browser_cookies import COOKIE, WAY

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("portal"),
]


@pytest.fixture
def servers(tmp_path: Path) -> Any:
    with stores(f"sqlite:///{tmp_path / 'state.db'}") as made:
        yield made


@pytest.fixture
async def site(servers: Stores, tmp_path: Path) -> AsyncIterator[Site]:
    async with portal_site(servers, tmp_path) as made:
        yield made


@pytest.fixture
async def context(portal_browser: Browser) -> AsyncIterator[BrowserContext]:
    async with cookies(portal_browser) as made:
        yield made


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    return await context.new_page()


@pytest.fixture
async def key(page: Page) -> tuple[CDPSession, str]:
    return await authenticator(page)


async def test_a_family_member_registers_signs_in_and_signs_out(
    site: Site, page: Page, key: object
) -> None:
    seen = PageErrors()
    seen.watch(page)
    await register(site, page)
    await expect(page.get_by_role("status")).to_contain_text("Your passkey is ready")
    await page.goto(site.url("photos", "/album/7?x=y#top"))
    assert page.url == site.url("photos", "/album/7?x=y#top"), "the fragment survives"
    await expect(page.locator("body")).to_contain_text("/album/7?x=y for anna")
    await page.goto(site.url("auth", "/me"))
    await page.get_by_role("button", name="Sign out", exact=True).first.click()
    await expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    await page.goto(site.url("photos", "/album/8"))
    await expect(page.get_by_text("You are on your way to photos.localhost")).to_be_visible()
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await page.wait_for_url(site.url("photos", "/album/8"))
    await expect(page.locator("body")).to_contain_text("/album/8 for anna")
    await page.go_back()
    assert page.url == site.url("auth", "/.0trust/out"), "no sign-in page is in the way back"
    await expect(page.get_by_role("heading", name="You are signed out")).to_be_hidden()
    assert not seen.errors


async def test_the_cookies_are_for_one_host_each(
    site: Site, page: Page, context: BrowserContext, key: object
) -> None:
    await register(site, page)
    await page.goto(site.url("photos"))
    await page.goto(site.url("wiki"))
    found = {(c["domain"], c["name"]): c for c in await context.cookies()}
    assert found.keys() == {
        ("auth.localhost", COOKIE),
        *((f"{host}.localhost", name) for host in ("photos", "wiki") for name in (COOKIE, WAY)),
    }
    assert len({cookie["value"] for (_, name), cookie in found.items() if name == COOKIE}) == 3
    for cookie in found.values():
        assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Lax"


async def test_secrets_are_in_no_request_line(site: Site, page: Page, key: object) -> None:
    await register(site, page)
    for line in site.http.requests:
        assert "0t_i_" not in line and COOKIE not in line


async def test_five_tabs_at_once(
    site: Site, page: Page, context: BrowserContext, key: object
) -> None:
    await register(site, page)
    await page.goto(site.url("auth", "/me"))
    await page.get_by_role("button", name="Sign out", exact=True).first.click()
    tabs = [await context.new_page() for _ in range(5)]
    for number, tab in enumerate(tabs):
        await tab.goto(site.url("photos", f"/tab/{number}"))
        await expect(tab.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.goto(site.url("auth"))
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await page.wait_for_url(site.url("auth", "/me"))
    for number, tab in enumerate(tabs):
        await tab.reload()
        assert tab.url == site.url("photos", f"/tab/{number}")
        await expect(tab.locator("body")).to_contain_text(f"/tab/{number} for anna")


async def test_somebody_who_may_not_enter_sees_who_they_are(
    site: Site, page: Page, key: tuple[CDPSession, str]
) -> None:
    await register(site, page)
    await page.goto(site.url("parents", "/x"))
    await expect(page.get_by_role("heading", name="You may not open this page")).to_be_visible()
    await expect(page.get_by_role("main")).to_contain_text("anna")
    await page.get_by_role("button", name="Use another account").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.url.startswith(site.url("auth", "/go?host=parents.localhost"))


async def test_a_user_who_was_not_verified_is_refused(
    site: Site, page: Page, key: tuple[CDPSession, str]
) -> None:
    await register(site, page)
    await page.goto(site.url("auth", "/.0trust/out"))
    await page.get_by_role("button", name="Sign out", exact=True).click()
    session, device = key
    await session.send(
        "WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": False}
    )
    await page.goto(site.url("auth"))
    button = page.get_by_role("button", name="Sign in with a passkey")
    await button.click()
    await expect(page.get_by_role("alert")).to_contain_text("was not used")
    await expect(button).to_be_focused()
    await session.send(
        "WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": True}
    )
    await button.click()
    await page.wait_for_url(site.url("auth", "/me"))


async def test_a_lost_passkey_is_replaced_by_invitation(
    site: Site, page: Page, key: tuple[CDPSession, str]
) -> None:
    await register(site, page)
    session, device = key
    await page.goto(site.url("auth", "/.0trust/out"))
    await page.get_by_role("button", name="Sign out", exact=True).click()
    await session.send("WebAuthn.clearCredentials", {"authenticatorId": device})
    await page.goto(site.url("auth"))
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await register(site, page)


async def test_a_cloned_passkey_is_refused(
    site: Site, page: Page, key: tuple[CDPSession, str]
) -> None:
    await register(site, page)
    session, device = key
    found = (await session.send("WebAuthn.getCredentials", {"authenticatorId": device}))[
        "credentials"
    ][0]
    for _ in range(2):
        await page.goto(site.url("auth", "/confirm"))
        await page.get_by_role("button", name="Confirm with your passkey").click()
        await page.wait_for_url(site.url("auth", "/me"))
    await session.send("WebAuthn.clearCredentials", {"authenticatorId": device})
    await session.send("WebAuthn.addCredential", {"authenticatorId": device, "credential": found})
    await page.goto(site.url("auth", "/confirm"))
    await page.get_by_role("button", name="Confirm with your passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("copied")


async def test_a_device_has_one_passkey_of_a_user(site: Site, page: Page, key: object) -> None:
    await register(site, page)
    await page.goto(site.url("auth", "/me"))
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("has a passkey for this account")


async def test_browsers_without_the_json_methods(
    site: Site, context: BrowserContext, page: Page, key: object
) -> None:
    await context.add_init_script(
        """
        delete PublicKeyCredential.parseCreationOptionsFromJSON;
        delete PublicKeyCredential.parseRequestOptionsFromJSON;
        delete PublicKeyCredential.prototype.toJSON;
        """
    )
    await register(site, page)
    await page.goto(site.url("auth", "/confirm"))
    await page.get_by_role("button", name="Confirm with your passkey").click()
    await page.wait_for_url(site.url("auth", "/me"))


async def test_browsers_without_passkeys_are_told(
    site: Site, context: BrowserContext, page: Page
) -> None:
    await context.add_init_script("delete window.PublicKeyCredential;")
    await page.goto(site.url("auth"))
    await expect(page.get_by_role("alert")).to_contain_text("no passkeys")
    await expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_disabled()


async def test_an_old_proof_is_renewed(site: Site, page: Page, key: object) -> None:
    await register(site, page)
    await page.goto(site.url("photos"))
    site.ahead = 1000
    await page.goto(site.url("photos", "/admin/x"))
    await expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    await page.get_by_role("button", name="Confirm with your passkey").click()
    await page.wait_for_url(site.url("photos", "/admin/x"))


async def test_a_device_is_paired(
    site: Site, portal_browser: Browser, page: Page, key: object
) -> None:
    await register(site, page)
    await page.goto(site.url("auth", "/me"))
    await page.get_by_role("button", name="Make a code").click()
    code = await page.locator("p#code").inner_text()
    async with cookies(portal_browser) as television:
        screen = await television.new_page()
        await screen.goto(site.url("photos", "/x"))
        await screen.get_by_role("link", name="Enter a code from another device").click()
        await screen.get_by_label("Code").fill(code.lower())
        await screen.keyboard.press("Enter")
        await screen.wait_for_url(site.url("photos", "/x"))
        await expect(screen.locator("body")).to_contain_text("/x for anna")


async def test_a_page_is_shared(
    site: Site, portal_browser: Browser, page: Page, key: object
) -> None:
    await register(site, page)
    await page.goto(site.url("auth", "/me"))
    await page.get_by_text("Share a page").click()
    await page.get_by_label("Address of the page").fill(site.url("photos", "/album/7"))
    await page.get_by_label("PIN").fill("482913")
    await page.get_by_role("button", name="Create the link").click()
    link = await page.get_by_label("Link", exact=True).input_value()
    async with cookies(portal_browser, scheme="dark") as visitor:
        tab = await visitor.new_page()
        await tab.goto(link)
        await expect(tab.get_by_text("photos.localhost/album/7")).to_be_visible()
        await expect(tab.locator("#secret")).to_be_hidden()
        await tab.get_by_label("PIN").fill("482913")
        await tab.get_by_role("button", name="Open").click()
        await tab.wait_for_url(site.url("photos", "/album/7"))
        await tab.goto(site.url("photos", "/album/8"))
        await expect(tab.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_share_link_works_without_scripts(site: Site, portal_browser: Browser) -> None:
    issued = await site.portal.store.links.create(
        "https://photos.localhost/album/7",
        lifetime=3600,
        uses=None,
        pin=None,
        methods=["GET"],
        created_by="uid 0",
        actor="uid 0",
    )
    plain = await portal_browser.new_context(java_script_enabled=False)
    tab = await plain.new_page()
    await tab.goto(site.url("photos", "/.0trust/share"))
    await tab.get_by_label("The part of the link").fill(issued.url.partition("#")[2])
    await tab.get_by_role("button", name="Open").click()
    await tab.wait_for_url(site.url("photos", "/album/7"))
    await plain.close()


async def test_a_browser_that_keeps_no_cookies_sees_one_page(
    site: Site, page: Page, key: object
) -> None:
    await register(site, page)
    site.without_cookies = "photos.localhost"
    before = len(site.http.requests)
    reply = await page.goto(site.url("photos", "/x"))
    assert reply is not None and reply.status == 403
    await expect(page.get_by_role("main")).to_contain_text("does not keep cookies")
    assert len([r for r in site.http.requests[before:] if "static" not in r]) <= 5


async def test_the_pages_are_used_with_the_keyboard(site: Site, page: Page, key: object) -> None:
    await page.goto(await site.invitation())
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Create a passkey")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url(site.url("auth", "/me?welcome=1"))
    names = []
    for _ in range(12):
        await page.keyboard.press("Tab")
        names.append(
            await page.evaluate(
                "document.activeElement.ariaLabel || document.activeElement.textContent.trim()"
            )
        )
    assert names[:2] == ["Sign out", "Sign out everywhere"]
    assert {"Add a passkey", "Make a code", "Create a token", "Share a page"} <= set(names)
