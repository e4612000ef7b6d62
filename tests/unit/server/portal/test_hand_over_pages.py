"""Tests of the hand-over between the auth host and a service's host."""

import asyncio
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.support.authenticator import Authenticator
from tests.support.portal_server import AUTH, PHOTOS, Browser, PortalServer
from tests.unit.access.test_return_target import HOSTILE
from zerotrust.access.hand_over import Arrival, Attempt, new_way
from zerotrust.server.portal.browser_cookies import COOKIE, WAY

pytestmark = pytest.mark.anyio

PAGE = f"https://{PHOTOS}/album/7?x=y"


async def test_a_page_load_leads_through_sign_in_back_to_the_page(
    browser: Browser, anna: Authenticator
) -> None:
    asked = await browser.get(PAGE)
    assert asked.status == 200 and "Sign in" in asked.text
    assert f'<strong class="name">{PHOTOS}</strong>' in asked.text
    reply = await browser.continue_with_passkey(asked, anna)
    assert (reply.status, reply.text) == (200, f"{PHOTOS}/album/7?x=y for anna")
    again = await browser.get(PAGE)
    assert again.text == reply.text and len(again.hops) == 1


async def test_with_a_sign_in_the_second_service_needs_no_page(
    browser: Browser, anna: Authenticator
) -> None:
    await browser.continue_with_passkey(await browser.get(PAGE), anna)
    reply = await browser.get("https://wiki.example.com/")
    assert reply.text == "wiki.example.com/ for anna"
    assert [urlsplit(hop).path for hop in reply.hops] == [
        "/",
        "/go",
        "/.0trust/in",
        "/.0trust/landed",
        "/",
    ]


async def arrival_of(browser: Browser, url: str = PAGE) -> str:
    """Go to a page with a sign-in; return the address with the code, which is not opened."""
    begun = await browser.get(url, follow=False)
    handed = await browser.get(begun.header("location"), follow=False)
    assert handed.status == 303
    return handed.header("location")


async def is_refused(browser: Browser, url: str) -> bool:
    """Return True if a code gives no pass: the browser is sent back once, then sees a page."""
    before = {host: jar.get(COOKIE) for host, jar in browser.cookies.items()}
    first = await browser.get(url, follow=False)
    second = await browser.get(f"{url}&again=1", follow=False)
    after = {host: jar.get(COOKIE) for host, jar in browser.cookies.items()}
    return (
        first.status == 302
        and first.header("location").startswith(f"https://{AUTH}/go?")
        and first.header("location").endswith("&again=1")
        and second.status == 403
        and "no longer valid" in second.text
        and before == after
    )


@pytest.fixture
async def signed_in(browser: Browser, anna: Authenticator) -> Browser:
    assert (await browser.sign_in(anna)).status == 200
    return browser


async def test_a_code_is_good_once(signed_in: Browser) -> None:
    url = await arrival_of(signed_in)
    assert (await signed_in.get(url)).text.startswith(PHOTOS)
    del signed_in.cookies[PHOTOS][COOKIE]
    assert await is_refused(signed_in, url)
    again = await signed_in.get(f"{url}&again=1")
    assert again.page.links["Sign in again"] == "/album/7?x=y"


async def test_a_code_is_good_in_its_browser_only(server: PortalServer, signed_in: Browser) -> None:
    url = await arrival_of(signed_in)
    other = Browser(server)
    await other.get(PAGE)
    assert WAY in other.cookies[PHOTOS]
    assert await is_refused(other, url)
    assert (await signed_in.get(url)).status == 200, "the theft has not used it up"


async def test_a_code_is_good_for_its_host_only(signed_in: Browser) -> None:
    url = await arrival_of(signed_in)
    await signed_in.get("https://wiki.example.com/", follow=False)
    signed_in.cookies["wiki.example.com"][WAY] = signed_in.cookies[PHOTOS][WAY]
    assert await is_refused(signed_in, url.replace(PHOTOS, "wiki.example.com"))


async def test_a_changed_target_is_refused(signed_in: Browser) -> None:
    url = await arrival_of(signed_in)
    changed = url.replace("album", "other")
    assert changed != url
    assert await is_refused(signed_in, changed)
    assert (await signed_in.get(url)).status == 200


async def test_a_code_is_good_for_a_minute(server: PortalServer, signed_in: Browser) -> None:
    url = await arrival_of(signed_in)
    server.store.clock.now += 60
    assert await is_refused(signed_in, url)


async def test_the_way_is_free_where_a_good_pass_is(signed_in: Browser) -> None:
    url = await arrival_of(signed_in)
    assert (await signed_in.get(url)).status == 200
    cookie = signed_in.cookies[PHOTOS][COOKIE]
    old = await signed_in.get(url)
    assert old.text == f"{PHOTOS}/album/7?x=y for anna"
    foreign = Arrival("c" * 43, "n" * 22, "/x")
    assert (await signed_in.get(f"https://{PHOTOS}/.0trust/in?{foreign.to_query()}")).status == 200
    assert signed_in.cookies[PHOTOS][COOKIE] == cookie


async def test_nobody_is_signed_in_as_somebody_else_by_a_link(
    server: PortalServer, browser: Browser, ben: Authenticator
) -> None:
    attacker = Browser(server)
    await attacker.sign_in(ben)
    url = await arrival_of(attacker, "https://x.lab.example.com/")
    await browser.get("https://x.lab.example.com/")
    assert await is_refused(browser, url)


@pytest.mark.parametrize("query", ["code=x", "code=" + "c" * 43, "n=" + "n" * 22 + "&to=/"])
async def test_an_incomplete_arrival_is_a_page(browser: Browser, query: str) -> None:
    reply = await browser.get(f"https://{PHOTOS}/.0trust/in?{query}")
    assert reply.status == 403 and "incomplete" in reply.text


async def test_a_browser_without_cookies_sees_one_page(
    browser: Browser, server: PortalServer, anna: Authenticator
) -> None:
    await browser.sign_in(anna)
    jar = browser.cookies[AUTH]
    browser.keeps_cookies = False
    reply = await browser.get(PAGE)
    assert reply.status == 403 and "does not keep cookies" in reply.text
    assert len(reply.hops) <= 5
    assert reply.page.links["Try again"] == "/album/7?x=y"
    assert browser.cookies == {AUTH: jar}


async def test_a_browser_that_loses_the_pass_sees_one_page(signed_in: Browser) -> None:
    url = await arrival_of(signed_in)
    signed_in.keeps_cookies = False
    reply = await signed_in.get(url)
    assert reply.status == 403 and "does not keep cookies" in reply.text


async def test_ten_tabs_do_not_disturb_one_another(browser: Browser, anna: Authenticator) -> None:
    tabs = [await browser.get(f"https://{PHOTOS}/tab/{number}") for number in range(10)]
    await browser.continue_with_passkey(tabs[3], anna)
    handed = [await browser.get(tab.url, follow=False) for tab in reversed(tabs)]
    replies = await asyncio.gather(*(browser.get(one.header("location")) for one in handed))
    assert [reply.text for reply in replies] == [
        f"{PHOTOS}/tab/{number} for anna" for number in reversed(range(10))
    ]


async def test_tabs_that_began_at_once_have_different_ways(
    browser: Browser, anna: Authenticator
) -> None:
    """A browser without a way cookie gets one for each tab, and keeps the last."""
    first = await browser.get(f"https://{PHOTOS}/tab/1")
    del browser.cookies[PHOTOS][WAY]
    await browser.get(f"https://{PHOTOS}/tab/2")
    reply = await browser.continue_with_passkey(first, anna)
    assert reply.text == f"{PHOTOS}/tab/1 for anna"


async def test_no_hostile_target_leaves_the_host(signed_in: Browser) -> None:
    await signed_in.get(PAGE)
    way = new_way()
    for target in HOSTILE:
        if "\ud800" in target:
            continue  # no query can have it
        good = Attempt.begin(way, host=PHOTOS, to="/x").to_query()
        query = good.replace("to=%2Fx", urlencode({"to": target}))
        handed = await signed_in.get(f"https://{AUTH}/go?{query}", follow=False)
        parts = urlsplit(handed.header("location"))
        assert (handed.status, parts.netloc, parts.path) == (303, PHOTOS, "/.0trust/in"), target
        assert parse_qs(parts.query)["to"] == ["/"], target
        for path in ("in", "landed"):
            arrived = parts.query.replace("to=%2F", urlencode({"to": target}))
            url = f"https://{PHOTOS}/.0trust/{path}?{arrived}"
            on = await signed_in.get(url, follow=False)
            assert on.status == 303, target
            assert on.header("location") in ("/", "/.0trust/landed?to=%2F"), target


async def test_a_page_can_ask_who_is_signed_in(signed_in: Browser) -> None:
    assert (await signed_in.get(f"https://{AUTH}/.0trust/me")).json["name"] == "anna"
    url = f"https://{PHOTOS}/.0trust/me"
    stranger = await signed_in.get(url)
    assert (stranger.status, stranger.json) == (401, {"error": "login_required"})
    await signed_in.get(PAGE)
    known = await signed_in.get(url)
    assert known.status == 200 and known.header("cache-control") == "no-store"
    assert known.json["name"] == "anna" and known.json["kind"] == "user"
    sessions = signed_in.server.site.access.sessions
    assert known.json["until"] == int(signed_in.server.store.clock.now + sessions.lifetime)


async def test_a_sign_in_may_begin_at_the_arrival_page(browser: Browser) -> None:
    reply = await browser.get(f"https://{PHOTOS}/.0trust/in", follow=False)
    assert reply.status == 302
    assert reply.header("location").startswith(f"https://{AUTH}/go?host={PHOTOS}&to=%2F&n=")
    assert "__Host-0trust-way" in browser.cookies[PHOTOS]
