"""Tests of share links and PINs of visitors without an account."""

from urllib.parse import urlsplit

import pytest

from tests.support.authenticator import Authenticator
from tests.support.portal_server import PHOTOS, Browser, PortalServer
from zerotrust.access.secret_format import LINK, new_secret

pytestmark = pytest.mark.anyio

SHARE = f"https://{PHOTOS}/.0trust/share"
PARTY = "https://party.example.com"


async def secret_of(
    server: PortalServer, *, pin: str | None = None, uses: int | None = None, path: str = "/album/7"
) -> str:
    issued = await server.store.links.create(
        f"https://{PHOTOS}{path}",
        lifetime=3600,
        uses=uses,
        pin=pin,
        methods=["GET", "HEAD"],
        created_by="uid 0",
        actor="uid 0",
    )
    return issued.url.partition("#")[2]


async def test_a_link_is_shown_and_opened(server: PortalServer, browser: Browser) -> None:
    secret = await secret_of(server, uses=1)
    for _ in range(50):
        assert (await browser.get(SHARE)).status == 200
    shown = await browser.script(f"{SHARE}/show", {"secret": secret})
    assert shown.json == {
        "host": PHOTOS,
        "path": "/album/7",
        "methods": ["GET", "HEAD"],
        "until": int(server.store.clock.now) + 3600,
        "pin": False,
    }
    page = await browser.get(SHARE)
    opened = await browser.submit(page, "/.0trust/share", secret=secret)
    assert opened.text == f"{PHOTOS}/album/7 for "
    assert (await browser.get(f"https://{PHOTOS}/album/7/1.jpg")).text.startswith(PHOTOS)
    outside = await browser.get(f"https://{PHOTOS}/album/8", follow=False)
    assert outside.status == 302
    used = await Browser(server).post(SHARE, {"secret": secret})
    assert used.status == 403


async def test_a_link_with_a_pin(server: PortalServer, browser: Browser) -> None:
    secret = await secret_of(server, pin="482913")
    shown = await browser.script(f"{SHARE}/show", {"secret": secret})
    assert shown.json["pin"] is True
    wrong = await browser.post(SHARE, {"secret": secret, "pin": "000000"})
    assert wrong.status == 403
    field = next(found for _, found in wrong.page.tags if found.get("id") == "secret")
    assert field["value"] == secret, "the visitor need not open the link again"
    assert (await browser.post(SHARE, {"secret": secret})).status == 403
    opened = await browser.post(SHARE, {"secret": secret, "pin": " 482913 "})
    assert opened.text == f"{PHOTOS}/album/7 for "


@pytest.mark.parametrize("kind", ["", "x", LINK, "0t_i_", "0t_l_<script>"])
async def test_unknown_links_are_refused(browser: Browser, kind: str) -> None:
    text = new_secret(kind) if kind.endswith("_") else kind
    assert (await browser.script(f"{SHARE}/show", {"secret": text})).status == 403
    reply = await browser.post(SHARE, {"secret": text})
    assert reply.status == 403 and "<script>" not in reply.text


async def test_a_link_is_good_for_its_host_only(server: PortalServer, browser: Browser) -> None:
    secret = await secret_of(server)
    other = "https://wiki.example.com/.0trust/share"
    assert (await browser.script(f"{other}/show", {"secret": secret})).status == 403
    assert (await browser.post(other, {"secret": secret})).status == 403


async def test_a_revoked_link_is_refused(server: PortalServer, browser: Browser) -> None:
    secret = await secret_of(server)
    await browser.post(SHARE, {"secret": secret})
    (row,) = await server.store.links.listed()
    await server.store.links.revoke(row.id, actor="uid 0")
    assert (await browser.get(f"https://{PHOTOS}/album/7", follow=False)).status == 302
    assert (await browser.post(SHARE, {"secret": secret})).status == 403


async def test_a_link_takes_nothing_from_a_user_who_may_enter(
    server: PortalServer, browser: Browser, anna: Authenticator
) -> None:
    secret = await secret_of(server, uses=1)
    await browser.continue_with_passkey(await browser.get(f"https://{PHOTOS}/"), anna)
    assert "anna" in (await browser.get(SHARE)).page.text
    opened = await browser.post(SHARE, {"secret": secret})
    assert opened.text == f"{PHOTOS}/album/7 for anna"
    assert (await server.store.links.listed())[0].uses_left == 1


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_other_pages_cannot_use_links(
    server: PortalServer, browser: Browser, site: str
) -> None:
    secret = await secret_of(server)
    headers = {"sec-fetch-site": site}
    for url, form in (
        (SHARE, {"secret": secret}),
        (f"{SHARE}/show", {"secret": secret}),
        (f"{PARTY}/.0trust/pin", {"pin": "1"}),
    ):
        assert (await browser.post(url, form, headers=headers)).status == 403


async def test_a_pin_opens_its_host(server: PortalServer, browser: Browser) -> None:
    await server.store.links.set_pin("party.example.com", "739104", actor="uid 0")
    page = await browser.get(f"{PARTY}/songs?x=y")
    assert page.url == f"{PARTY}/.0trust/pin?to=%2Fsongs%3Fx%3Dy"
    wrong = await browser.submit(page, "/.0trust/pin", pin="000000")
    assert wrong.status == 403 and wrong.page.forms[0]["fields"]["to"] == "/songs?x=y"
    assert "000000" not in wrong.text
    opened = await browser.submit(wrong, "/.0trust/pin", pin="739104")
    assert opened.text == "party.example.com/songs?x=y for "
    again = await browser.submit(page, "/.0trust/pin", pin="")
    assert again.text == opened.text, "the pass is there already"


@pytest.mark.parametrize("by_pin", [True, False])
async def test_a_visitor_signs_out(server: PortalServer, browser: Browser, *, by_pin: bool) -> None:
    await server.store.links.set_pin("party.example.com", "739104", actor="uid 0")
    url = f"{PARTY}/songs" if by_pin else f"https://{PHOTOS}/album/7"
    host = urlsplit(url).netloc
    form = {"pin": "739104"} if by_pin else {"secret": await secret_of(server)}
    path = "pin" if by_pin else "share"
    assert (await browser.post(f"https://{host}/.0trust/{path}", form)).status == 200
    copied = dict(browser.cookies[host])
    asked = await browser.get(f"https://{host}/.0trust/out")
    done = await browser.submit(asked, "/.0trust/out")
    assert "You are signed out" in done.text
    browser.cookies[host] = copied
    assert (await browser.get(url, follow=False)).status == 302, "the pass has ended, too"


async def test_a_hostile_target_of_the_pin_page_is_replaced(browser: Browser) -> None:
    page = await browser.get(f"{PARTY}/.0trust/pin?to=//evil.example")
    assert page.page.forms[0]["fields"]["to"] == "/"


async def test_guessing_is_limited(server: PortalServer, browser: Browser) -> None:
    await server.store.links.set_pin("party.example.com", "739104", actor="uid 0")
    replies = [
        await browser.post(f"{PARTY}/.0trust/pin", {"pin": f"{number:06}"}) for number in range(8)
    ]
    assert all(reply.status in (403, 429) for reply in replies)
    right = await browser.post(f"{PARTY}/.0trust/pin", {"pin": "739104"})
    assert right.status == 429, "five tries in ten minutes"
