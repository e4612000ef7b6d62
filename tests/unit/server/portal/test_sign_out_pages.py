"""Tests of signing out: by POST only, from pages of the same origin only."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.authenticator import Authenticator
from tests.support.people import Stores
from tests.support.portal_server import AUTH, PHOTOS, Browser, PortalServer, start_portal
from zerotrust.access.refusal import RefusedRequest, denial
from zerotrust.access.secret_format import digest_of
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.portal.browser_cookies import COOKIE

pytestmark = pytest.mark.anyio

OUT = f"https://{AUTH}/.0trust/out"
SERVICE_OUT = f"https://{PHOTOS}/.0trust/out"


@pytest.fixture
async def inside(browser: Browser, anna: Authenticator) -> Browser:
    """A browser with a sign-in, and a pass of one service."""
    asked = await browser.get(f"https://{PHOTOS}/x")
    assert (await browser.continue_with_passkey(asked, anna)).status == 200
    return browser


async def is_in(browser: Browser) -> bool:
    return (await browser.get(f"https://{PHOTOS}/x")).text == f"{PHOTOS}/x for anna"


async def test_get_signs_out_nobody(inside: Browser) -> None:
    for url in (OUT, SERVICE_OUT):
        page = await inside.get(url)
        assert page.status == 200 and "anna" in page.page.text
    assert await is_in(inside)


@pytest.mark.parametrize("url", [OUT, SERVICE_OUT])
async def test_the_button_ends_the_sign_in_with_its_passes(inside: Browser, url: str) -> None:
    page = await inside.get(url)
    done = await inside.submit(page, "/.0trust/out")
    assert done.status == 200 and "You are signed out" in done.text
    assert not await is_in(inside)
    assert COOKIE not in inside.cookies[AUTH if url == OUT else PHOTOS]
    again = await inside.get(url)
    assert "You are signed out" in again.text


HOSTS = [PHOTOS, "wiki.example.com", "x.lab.example.com"]


@pytest.mark.parametrize("host", [*HOSTS, AUTH])
async def test_one_sign_out_ends_the_passes_of_all_hosts(
    server: PortalServer, inside: Browser, anna: Authenticator, host: str
) -> None:
    """Also what is open then: the passes of relays have ended, and are cut."""
    phone = Browser(server)
    await phone.sign_in(anna)
    for name in HOSTS:
        for browser in (inside, phone):
            assert (await browser.get(f"https://{name}/tab")).text == f"{name}/tab for anna"
    index, now = server.store.state.index, server.store.clock()
    passes = {name: index.find(digest_of(inside.cookies[name][COOKIE].encode())) for name in HOSTS}
    await inside.submit(await inside.get(f"https://{host}/.0trust/out"), "/.0trust/out")
    for name, credential in passes.items():
        assert credential is not None and credential.end_reason(now) == "signed out"
        for tab in ("a", "b"):
            asked = await inside.get(f"https://{name}/{tab}")
            assert asked.url.startswith(f"https://{AUTH}/go?") and "Sign in" in asked.text
        assert (await phone.get(f"https://{name}/tab")).text == f"{name}/tab for anna"


async def test_all_browsers_of_the_user(
    server: PortalServer, inside: Browser, anna: Authenticator, ben: Authenticator
) -> None:
    phone, other = Browser(server), Browser(server)
    await phone.sign_in(anna)
    await other.sign_in(ben)
    await inside.submit(await inside.get(OUT), "/.0trust/out", everywhere="1")
    assert "Sign in" in (await phone.get(f"https://{AUTH}/")).text
    assert (await other.get(f"https://{AUTH}/", follow=False)).header("location") == "/me"


HOSTILE_HEADERS = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "cross-site", "origin": f"https://{AUTH}"},
    {"sec-fetch-site": "", "origin": "https://evil.example"},
    {"sec-fetch-site": "", "origin": f"https://{PHOTOS}"},
    {"sec-fetch-site": "", "origin": f"http://{AUTH}"},
    {"sec-fetch-site": "", "origin": "null"},
    {"sec-fetch-site": ""},
]


@pytest.mark.parametrize("headers", HOSTILE_HEADERS, ids=str)
async def test_other_pages_cannot_sign_out(inside: Browser, headers: dict[str, str]) -> None:
    token = (await inside.get(OUT)).page.forms[0]["fields"]["csrf"]
    reply = await inside.post(OUT, {"csrf": token}, headers=headers)
    assert reply.status == 403
    assert await is_in(inside)


async def test_an_equal_origin_is_enough_for_old_browsers(inside: Browser) -> None:
    token = (await inside.get(OUT)).page.forms[0]["fields"]["csrf"]
    headers = {"sec-fetch-site": "", "origin": f"https://{AUTH}"}
    assert (await inside.post(OUT, {"csrf": token}, headers=headers)).status == 200
    assert not await is_in(inside)


@pytest.mark.parametrize("token", ["", "x", "é", None])
async def test_the_token_of_the_session_is_needed(inside: Browser, token: str | None) -> None:
    other = (await inside.get(SERVICE_OUT)).page.forms[0]["fields"]["csrf"]
    form = {"csrf": other if token is None else token}
    assert (await inside.post(OUT, form)).status == 403
    assert await is_in(inside)


async def test_without_a_sign_in_other_pages_are_refused_too(browser: Browser) -> None:
    assert (await browser.post(OUT, {})).status == 200
    reply = await browser.post(OUT, {}, headers={"sec-fetch-site": "cross-site"})
    assert reply.status == 403


async def test_the_page_of_the_provider_is_offered(
    servers: Stores, tmp_path: Path, anyio_backend: object
) -> None:
    provider = {
        "issuer": "https://sso",
        "client_id": "a",
        "client_secret_file": "f",
        "title": "SSO",
    }
    server = await start_portal(servers, tmp_path, identity_providers={"main": provider})
    server.site = replace(server.site, logout_url=lambda name: f"https://sso/{name}/end")
    server.portal = server.build()
    browser = Browser(server)
    made = await server.store.by_provider(ProviderAccount(provider="main", subject="1"))
    browser.cookies[AUTH] = {COOKIE: made.value}
    done = await browser.submit(await browser.get(OUT), "/.0trust/out")
    assert done.page.links == {"Sign in": "/", "Sign out at SSO, too": "https://sso/main/end"}
    foreign = await browser.get(f"{OUT}?provider=evil")
    assert foreign.page.links == {"Sign in": "/"}


async def test_the_link_of_a_refusal_leads_to_the_button(inside: Browser) -> None:
    lines = b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    asked = RefusedRequest(b"GET", b"/x", PHOTOS, PHOTOS.encode(), lines, False, None)
    found = re.search(rb'href="([^"]+)">Use another account', denial(asked, name="anna").body)
    assert found is not None
    page = await inside.get(f"https://{PHOTOS}{found[1].decode()}")
    done = await inside.submit(page, "/.0trust/out")
    assert "You are signed out" in done.text


async def test_a_foreign_attempt_leads_nowhere(inside: Browser) -> None:
    page = await inside.get(OUT)
    done = await inside.submit(page, "/.0trust/out", attempt="//evil.example")
    assert done.status == 200 and done.url == OUT
