"""Tests of invitations: GET uses nothing up."""

import pytest

from tests.support.authenticator import Authenticator
from tests.support.portal_server import AUTH, Browser, PortalServer
from tests.unit.server.portal.conftest import registered
from zerotrust.access.secret_format import INVITATION, new_secret
from zerotrust.server.portal.browser_cookies import COOKIE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def secret(server: PortalServer) -> str:
    invited = await server.store.people.invite("anna", email=None, groups=[], actor="uid 0")
    return invited.secret


async def test_an_invitation_registers_a_passkey_and_signs_in(
    browser: Browser, secret: str
) -> None:
    device = Authenticator(step=1)
    reply = await browser.register(secret, device)
    assert (reply.status, reply.json) == (200, {"next": "/me?welcome=1"})
    assert COOKIE in browser.cookies[AUTH]
    (row,) = await browser.server.store.people.passkeys(
        browser.server.store.state.index.find(_digest(browser)).subject.id  # type: ignore[union-attr]
    )
    assert row.label == "Firefox on Linux" and row.rp_id == AUTH and row.backed_up
    assert row.counter == 1
    page = await browser.get(f"https://{AUTH}/me?welcome=1")
    assert "Your passkey is ready" in page.text
    assert (await Browser(browser.server).sign_in(device)).status == 200


def _digest(browser: Browser) -> bytes:
    from zerotrust.access.secret_format import digest_of

    return digest_of(browser.cookies[AUTH][COOKIE].encode())


async def test_previews_and_scanners_use_nothing_up(browser: Browser, secret: str) -> None:
    for _ in range(50):
        page = await browser.get(f"https://{AUTH}/invite")
        assert page.status == 200 and secret not in page.text
    for _ in range(5):
        await browser.options("/invite/options", secret=secret)
    assert (await browser.register(secret, Authenticator())).status == 200


async def test_an_invitation_is_good_once(browser: Browser, secret: str) -> None:
    options = await browser.options("/invite/options", secret=secret)
    assert (await browser.register(secret, Authenticator())).status == 200
    late = {"secret": secret, "credential": Authenticator().create(options)}
    assert (await browser.script(f"https://{AUTH}/invite", late)).status == 403
    again = await browser.script(f"https://{AUTH}/invite/options", {"secret": secret})
    assert again.status == 403


@pytest.mark.parametrize("kind", ["", "x", "0t_i_x", "0t_l_", INVITATION])
async def test_unknown_invitations_are_refused(browser: Browser, kind: str) -> None:
    text = new_secret(kind) if kind.endswith("_") else kind
    reply = await browser.script(f"https://{AUTH}/invite/options", {"secret": text})
    assert reply.status == 403 and reply.json["error"]


async def test_the_passkey_of_another_invitation_is_refused(
    server: PortalServer, browser: Browser, secret: str
) -> None:
    ben = await server.store.people.invite("ben", email=None, groups=[], actor="uid 0")
    options = await browser.options("/invite/options", secret=ben.secret)
    form = {"secret": secret, "credential": Authenticator().create(options)}
    assert (await browser.script(f"https://{AUTH}/invite", form)).status == 403
    assert (await browser.register(secret, Authenticator())).status == 200


async def test_other_pages_cannot_register(browser: Browser, secret: str) -> None:
    for path in ("/invite", "/invite/options"):
        url = f"https://{AUTH}{path}"
        form = {"secret": secret}
        reply = await browser.post(url, form, headers={"sec-fetch-site": "cross-site"})
        assert reply.status == 403


async def test_the_invited_takes_the_place_of_who_was_signed_in(
    server: PortalServer, browser: Browser, secret: str
) -> None:
    ben = await registered(server, "ben")
    await browser.sign_in(ben)
    await browser.register(secret, Authenticator())
    assert len(await server.store.sign_ins.listed("ben")) == 1, "the one of the registration"


async def test_a_link_signs_in_once_and_shows_nothing_before(
    server: PortalServer, browser: Browser
) -> None:
    made = await server.store.people.invite(
        "anna", email=None, groups=[], actor="uid 0", signs_in=True
    )
    page = await browser.get("https://auth.example.com/link")
    assert (page.status, made.secret in page.text) == (200, False)
    reply = await browser.submit(page, "/link", secret=f" {made.secret} ")
    assert reply.url == "https://auth.example.com/me"
    assert server.store.actions()[-2:] == ["user.invited", "signed.in"]
    again = await Browser(server, client="203.0.113.9").post(
        "https://auth.example.com/link", {"secret": made.secret}
    )
    assert (again.status, "was used or replaced" in again.text) == (403, True)


async def test_no_invitation_signs_in_and_no_link_registers_a_passkey(
    server: PortalServer, browser: Browser, secret: str
) -> None:
    reply = await browser.post("https://auth.example.com/link", {"secret": secret})
    assert (reply.status, "not valid" in reply.text) == (403, True)
    made = await server.store.people.invite(
        "anna", email=None, groups=[], actor="uid 0", signs_in=True
    )
    refused = await browser.script(
        "https://auth.example.com/invite/options", {"secret": made.secret}
    )
    assert refused.status == 403
    server.store.clock.now += 601
    late = await browser.post("https://auth.example.com/link", {"secret": made.secret})
    assert (late.status, "has expired" in late.text) == (403, True)


async def test_a_link_replaces_the_sign_in_of_another_user(
    server: PortalServer, browser: Browser, ben: Authenticator
) -> None:
    await browser.sign_in(ben)
    made = await server.store.people.invite(
        "anna", email=None, groups=[], actor="uid 0", signs_in=True
    )
    reply = await browser.post("https://auth.example.com/link", {"secret": made.secret})
    assert "anna" in reply.text
    assert "signed.out" in server.store.actions()
