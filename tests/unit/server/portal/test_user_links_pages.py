"""Tests of apps, devices and share links that a user makes."""

import re

import pytest

from tests.support.authenticator import Authenticator
from tests.support.portal_server import AUTH, PHOTOS, Browser, PortalServer, Reply
from zerotrust.access.secret_format import APP, LINK, digest_of, is_secret

pytestmark = pytest.mark.anyio

ME = f"https://{AUTH}/me"


@pytest.fixture
async def inside(browser: Browser, anna: Authenticator) -> Browser:
    assert (await browser.sign_in(anna)).status == 200
    return browser


async def send(browser: Browser, path: str, **fields: str) -> Reply:
    shown = await browser.get(ME)
    token = shown.page.forms[0]["fields"]["csrf"]
    return await browser.post(f"{ME}/{path}", {"csrf": token, **fields})


def value_of(reply: Reply, id: str) -> str:
    return next(found["value"] for tag, found in reply.page.tags if found.get("id") == id)


async def test_an_app_gets_a_token_that_is_shown_once(
    server: PortalServer, inside: Browser
) -> None:
    reply = await send(
        inside, "apps", name="phone of anna", hosts="photos.example.com, WIKI.example.com"
    )
    assert reply.status == 200 and reply.header("cache-control") == "no-store"
    secret = value_of(reply, "secret")
    assert is_secret(secret, APP)
    credential = server.store.state.index.find(digest_of(secret.encode()))
    assert credential is not None and credential.subject.name == "phone of anna"
    assert credential.hosts == ("photos.example.com", "wiki.example.com")
    assert credential.subject.owner is not None and credential.subject.owner.name == "anna"
    shown = await inside.get(ME)
    assert "phone of anna" in shown.text and secret not in shown.text
    assert (await send(inside, "apps/revoke", name="phone of anna")).status == 200
    assert credential.ended
    assert (await send(inside, "apps/revoke", name="phone of anna")).status == 404


async def test_a_name_that_is_taken_is_explained_to_the_user(
    inside: Browser,
) -> None:
    assert (await send(inside, "apps", name="phone")).status == 200
    again = await send(inside, "apps", name="phone")
    assert again.status == 409
    assert "choose another name" in again.page.text and "0trust" not in again.page.text


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "a\x00"])
async def test_apps_have_names(inside: Browser, name: str) -> None:
    assert (await send(inside, "apps", name=name)).status == 400


@pytest.mark.parametrize("hosts", ["a..b", "/x", "https://photos.example.com"])
async def test_apps_are_for_host_names(inside: Browser, hosts: str) -> None:
    assert (await send(inside, "apps", name="x", hosts=hosts)).status == 400


async def test_apps_of_others_cannot_be_revoked(
    server: PortalServer, inside: Browser, ben: Authenticator
) -> None:
    other = Browser(server)
    await other.sign_in(ben)
    assert (await send(other, "apps", name="ben's")).status == 200
    assert (await send(inside, "apps/revoke", name="ben's")).status == 404
    assert len(await server.store.tokens.listed("app")) == 1


async def test_a_code_lets_a_device_in(server: PortalServer, inside: Browser) -> None:
    reply = await send(inside, "devices")
    assert reply.status == 200
    found = re.search(r'id="code">([A-Z0-9-]+)<', reply.text)
    assert found and "<svg" in reply.text and "style=" not in reply.text
    device = Browser(server)
    asked = await device.get(f"https://{PHOTOS}/x")
    form = await device.get(f"https://{AUTH}{asked.page.links['Enter a code from another device']}")
    done = await device.submit(form, "/pair", code=found[1].lower())
    assert done.status == 200
    on = await device.get(f"https://{AUTH}{done.page.links[f'Continue to {PHOTOS}']}")
    assert on.text == f"{PHOTOS}/x for anna"


async def test_a_paired_device_lets_nobody_in(server: PortalServer, inside: Browser) -> None:
    reply = await send(inside, "devices")
    code = re.search(r'id="code">([A-Z0-9-]+)<', reply.text)
    assert code
    device = Browser(server)
    await device.post(f"https://{AUTH}/pair", {"code": code[1]})
    shown = await device.get(ME)
    assert "paired with a code" in shown.text and "Make a code" not in shown.text
    assert (await send(device, "devices")).status == 403
    assert (await send(device, "apps", name="x")).status == 403


async def link(browser: Browser, url: str, **fields: str) -> Reply:
    return await send(browser, "links", **{"url": url, "lifetime": "1d", **fields})


async def test_a_link_is_made_shown_once_and_revoked(server: PortalServer, inside: Browser) -> None:
    reply = await link(inside, f"https://{PHOTOS}/album/7?sort=date#x")
    assert reply.status == 200
    url = value_of(reply, "link")
    start, _, secret = url.partition("#")
    assert start == f"https://{PHOTOS}/.0trust/share" and is_secret(secret, LINK)
    (row,) = await server.store.links.listed()
    assert (row.path, row.methods, row.pin_hash) == ("/album/7", ["GET", "HEAD"], None)
    assert row.expires_at == int(server.store.clock.now) + 86400
    shown = await inside.get(ME)
    assert f"{PHOTOS}/album/7" in shown.text and secret not in shown.text
    assert (await send(inside, "links/revoke", id=row.id)).status == 200
    assert await server.store.links.listed() == []
    assert (await send(inside, "links/revoke", id=row.id)).status == 404


async def test_links_of_others_cannot_be_revoked(
    server: PortalServer, inside: Browser, ben: Authenticator
) -> None:
    await link(inside, f"https://{PHOTOS}/album/7")
    (row,) = await server.store.links.listed()
    other = Browser(server)
    await other.sign_in(ben)
    assert (await send(other, "links/revoke", id=row.id)).status == 404


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("", 400),
        ("photos.example.com/x", 400),
        ("http://photos.example.com/x", 400),
        ("https://evil.example/x", 400),
        ("https://photos.example.com/\u00e9", 400),
        ("https://photos.example.com//evil.example", 400),
        ("https://[::1", 400),
        ("https://photos.example.com/a%2f..%2fparents", 400),
        ("https://wiki.example.com/x", 403),
        ("https://photos.example.com/parents/x", 403),
        ("https://x.lab.example.com/", 403),
    ],
)
async def test_only_own_pages_of_rules_with_links_can_be_shared(
    server: PortalServer, inside: Browser, url: str, status: int
) -> None:
    assert (await link(inside, url)).status == status
    assert await server.store.links.listed() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"lifetime": "0"},
        {"lifetime": ""},
        {"lifetime": "59m"},
        {"lifetime": "721h"},
        {"lifetime": "x"},
        {"lifetime": "9" * 50_000},
        {"lifetime": "9" * 50 + "d"},
        {"lifetime": "-1h"},
        {"lifetime": "²h"},
        {"uses": "0"},
        {"uses": "x"},
        {"uses": "9" * 500},
        {"pin": "1"},
    ],
    ids=lambda fields: str(fields)[:20],
)
async def test_links_have_limits(
    server: PortalServer, inside: Browser, fields: dict[str, str]
) -> None:
    assert (await link(inside, f"https://{PHOTOS}/album/7", **fields)).status == 400
    assert await server.store.links.listed() == []
