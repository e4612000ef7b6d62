"""Tests of a user's own page: browsers and passkeys."""

import base64

import pytest

from tests.support.authenticator import Authenticator
from tests.support.portal_server import AUTH, Browser, PortalServer, Reply
from tests.unit.server.portal.conftest import registered
from zerotrust.server.portal.browser_cookies import COOKIE

pytestmark = pytest.mark.anyio

ME = f"https://{AUTH}/me"


@pytest.fixture
async def inside(browser: Browser, anna: Authenticator) -> Browser:
    assert (await browser.sign_in(anna)).status == 200
    return browser


async def page(browser: Browser) -> Reply:
    reply = await browser.get(ME)
    assert reply.status == 200
    return reply


def token(reply: Reply) -> str:
    return str(reply.page.forms[0]["fields"]["csrf"])


async def test_strangers_are_sent_to_the_sign_in_page(browser: Browser) -> None:
    reply = await browser.get(ME, follow=False)
    assert (reply.status, reply.header("location")) == (303, "/")


@pytest.mark.parametrize(
    "path",
    [
        "sign-ins/end",
        "passkeys",
        "passkeys/options",
        "passkeys/remove",
        "apps",
        "apps/revoke",
        "devices",
        "links",
        "links/revoke",
    ],
)
async def test_each_form_needs_a_sign_in_its_token_and_its_origin(
    server: PortalServer, browser: Browser, anna: Authenticator, path: str
) -> None:
    url = f"{ME}/{path}"
    stranger = await browser.post(url, {})
    assert stranger.status == 403 and "signed out" in stranger.page.text
    await browser.sign_in(anna)
    good = token(await page(browser))
    assert (await browser.post(url, {})).status == 403
    foreign = await browser.post(url, {"csrf": good}, headers={"sec-fetch-site": "same-site"})
    assert foreign.status == 403
    assert (await browser.get(url)).status in (404, 405)


async def test_a_browser_is_signed_out_from_another(
    server: PortalServer, inside: Browser, anna: Authenticator
) -> None:
    phone = Browser(server)
    phone.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Safari/605.1"
    await phone.sign_in(anna)
    shown = await page(inside)
    assert "Safari on iPhone" in shown.text and "this browser" in shown.text
    rows = [form for form in shown.page.forms if form["action"] == "/me/sign-ins/end"]
    assert len(rows) == 3, "with the browser of the registration"
    done = await inside.post(f"{ME}/sign-ins/end", rows[0]["fields"])
    assert done.status == 200 and "iPhone" not in done.text
    assert (await phone.get(f"https://{AUTH}/")).url == f"https://{AUTH}/"
    again = await inside.post(f"{ME}/sign-ins/end", rows[0]["fields"])
    assert again.status == 404 and "signed out already" in again.text


async def test_the_own_browser_is_signed_out(inside: Browser) -> None:
    rows = [f for f in (await page(inside)).page.forms if f["action"] == "/me/sign-ins/end"]
    done = await inside.post(f"{ME}/sign-ins/end", rows[0]["fields"])
    assert done.url == f"https://{AUTH}/"
    assert COOKIE not in inside.cookies[AUTH]


async def test_sign_ins_of_others_cannot_be_ended(
    server: PortalServer, inside: Browser, ben: Authenticator
) -> None:
    await Browser(server).sign_in(ben)
    number = (await server.store.sign_ins.listed("ben"))[0][0].number
    form = {"csrf": token(await page(inside)), "number": str(number)}
    assert (await inside.post(f"{ME}/sign-ins/end", form)).status == 404
    assert len(await server.store.sign_ins.listed("ben")) == 2


def key_text(device: Authenticator) -> str:
    return base64.urlsafe_b64encode(device.credential_id).decode()


async def add(browser: Browser, device: Authenticator) -> Reply:
    csrf = token(await page(browser))
    options = await browser.options("/me/passkeys/options", csrf=csrf)
    return await browser.script(
        f"{ME}/passkeys", {"csrf": csrf, "credential": device.create(options)}
    )


async def test_a_second_passkey_is_added_and_the_first_removed(
    server: PortalServer, inside: Browser, anna: Authenticator
) -> None:
    second = Authenticator()
    assert (await add(inside, second)).json == {"next": "/me"}
    assert (await add(inside, second)).status == 400, "it is there already"
    form = {"csrf": token(await page(inside)), "id": key_text(anna)}
    assert (await inside.post(f"{ME}/passkeys/remove", form)).status == 200
    assert (await Browser(server).sign_in(anna)).status == 403
    assert (await Browser(server).sign_in(second)).status == 200


async def test_the_only_passkey_stays(inside: Browser) -> None:
    form = next(f for f in (await page(inside)).page.forms if f["action"].endswith("remove"))
    reply = await inside.post(f"{ME}/passkeys/remove", form["fields"])
    assert reply.status == 400 and "only passkey" in reply.text


@pytest.mark.parametrize("key", ["", "x", "é", "AAAA"])
async def test_only_own_passkeys_can_be_removed(inside: Browser, key: str) -> None:
    await add(inside, Authenticator())
    form = {"csrf": token(await page(inside)), "id": key}
    assert (await inside.post(f"{ME}/passkeys/remove", form)).status == 404


async def test_passkeys_of_others_cannot_be_removed(server: PortalServer, inside: Browser) -> None:
    ben = await registered(server, "ben")
    await add(inside, Authenticator())
    form = {"csrf": token(await page(inside)), "id": key_text(ben)}
    assert (await inside.post(f"{ME}/passkeys/remove", form)).status == 404
    assert (await Browser(server).sign_in(ben)).status == 200


async def test_what_lets_others_in_needs_a_recent_proof(
    server: PortalServer, inside: Browser, anna: Authenticator
) -> None:
    server.store.clock.now += 901
    shown = await page(inside)
    assert "confirm that it is you" in shown.text
    assert {form["action"] for form in shown.page.forms} == {"/.0trust/out", "/me/sign-ins/end"}
    form = {"csrf": token(shown)}
    for path in ("passkeys/options", "passkeys", "passkeys/remove", "apps", "devices", "links"):
        refused = await inside.post(f"{ME}/{path}", form)
        assert refused.status == 403
        assert refused.page.links == {"Confirm that it is you": "/confirm"}
    asked = await inside.get(f"https://{AUTH}/confirm")
    back = await inside.continue_with_passkey(asked, anna)
    assert back.url == ME and "Add a passkey" in back.text
    assert (await add(inside, Authenticator())).status == 200


async def test_text_of_browsers_is_escaped_and_cut(
    server: PortalServer, browser: Browser, anna: Authenticator
) -> None:
    browser.agent = "<script>alert(1)</script>" + "x" * 5000
    await browser.sign_in(anna)
    shown = await page(browser)
    assert "<script>alert" not in shown.text and "&lt;script&gt;" in shown.text
    assert "x" * 201 not in shown.text
