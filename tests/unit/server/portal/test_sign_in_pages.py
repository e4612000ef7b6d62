"""Tests of the pages at which people sign in, and of the gate that is asked there."""

from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.authenticator import Authenticator
from tests.support.people import Stores
from tests.support.portal_server import AUTH, PHOTOS, Browser, PortalServer, start_portal
from zerotrust.access.hand_over import Attempt, new_way
from zerotrust.server.access.people import ProviderAccount
from zerotrust.server.portal.browser_cookies import COOKIE

pytestmark = pytest.mark.anyio


def go(host: str = PHOTOS, to: str = "/x") -> str:
    return f"https://{AUTH}/go?{Attempt.begin(new_way(), host=host, to=to).to_query()}"


async def test_the_start_page_offers_a_passkey(browser: Browser) -> None:
    reply = await browser.get(f"https://{AUTH}/")
    assert reply.status == 200
    assert {"data-passkey": "sign-in"}.items() <= reply.page.buttons[0].items()
    assert reply.page.links["Enter a code from another device"] == "/pair"
    assert reply.page.links.keys() == {"Enter a code from another device"}


async def test_with_a_sign_in_the_start_page_is_the_own_account(
    browser: Browser, anna: Authenticator
) -> None:
    await browser.sign_in(anna)
    reply = await browser.get(f"https://{AUTH}/", follow=False)
    assert (reply.status, reply.header("location")) == (303, "/me")


@pytest.mark.parametrize("query", ["", "host=x", "host=photos.example.com&to=/&n=n&ch=c"])
async def test_an_incomplete_attempt_is_a_page(browser: Browser, query: str) -> None:
    reply = await browser.get(f"https://{AUTH}/go?{query}")
    assert reply.status == 400 and "incomplete" in reply.text


@pytest.mark.parametrize("host", ["evil.example", AUTH, "unknown.example.com"])
async def test_browsers_are_sent_to_own_hosts_only(
    browser: Browser, anna: Authenticator, host: str
) -> None:
    """The rule `default: signed_in` has a gate for each name of the world."""
    await browser.sign_in(anna)
    reply = await browser.get(go(host), follow=False)
    assert reply.status == 404 and not reply.page.links


async def test_a_published_host_without_a_rule_is_an_own_host(
    server: PortalServer, browser: Browser, anna: Authenticator
) -> None:
    server.published.add("new.example.com")
    await browser.sign_in(anna)
    reply = await browser.get("https://new.example.com/x")
    assert reply.text == "new.example.com/x for anna"


async def test_whoever_may_not_enter_gets_a_page_at_the_auth_host(
    browser: Browser, ben: Authenticator, anna: Authenticator
) -> None:
    await browser.sign_in(ben)
    refused = await browser.get(f"https://{PHOTOS}/x")
    assert refused.status == 403 and len(refused.hops) == 2
    assert urlsplit(refused.url).netloc == AUTH
    assert "ben" in refused.page.text and PHOTOS in refused.page.text
    sign_in_page = await browser.submit(refused, "/.0trust/out")
    assert sign_in_page.status == 200 and urlsplit(sign_in_page.url).path == "/go"
    assert COOKIE not in browser.cookies[AUTH]
    reply = await browser.continue_with_passkey(sign_in_page, anna)
    assert reply.text == f"{PHOTOS}/x for anna"


async def test_a_path_that_others_may_open_is_refused_at_the_auth_host(
    browser: Browser, anna: Authenticator
) -> None:
    await browser.sign_in(anna)
    assert (await browser.get(go(to="/parents/x"))).status == 403
    assert (await browser.get(go(to="/x"), follow=False)).status == 303


async def test_an_ambiguous_path_is_a_page(browser: Browser, anna: Authenticator) -> None:
    await browser.sign_in(anna)
    reply = await browser.get(go(to="/a%2f..%2fparents/x"), follow=False)
    assert reply.status == 400 and "ambiguous" in reply.text


async def test_no_code_is_made_for_a_refusal_or_a_stranger(
    server: PortalServer, browser: Browser, ben: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.store.sign_ins, "hand_over", None)
    assert (await browser.get(go())).status == 200
    await browser.sign_in(ben)
    assert (await browser.get(go())).status == 403


async def test_an_old_proof_is_renewed_with_the_passkey(
    server: PortalServer, browser: Browser, anna: Authenticator
) -> None:
    admin = f"https://{PHOTOS}/admin/x"
    await browser.continue_with_passkey(await browser.get(f"https://{PHOTOS}/"), anna)
    assert (await browser.get(admin)).text == f"{PHOTOS}/admin/x for anna"
    server.store.clock.now += 1000
    asked = await browser.get(admin)
    assert asked.status == 200 and "Confirm" in asked.page.text and "anna" in asked.page.text
    cookie = browser.cookies[AUTH][COOKIE]
    reply = await browser.continue_with_passkey(asked, anna)
    assert reply.text == f"{PHOTOS}/admin/x for anna"
    assert browser.cookies[AUTH][COOKIE] == cookie, "it is the same sign-in"
    assert len(await server.store.sign_ins.listed("anna")) == 2, "of the invitation and this one"


async def test_an_old_pass_does_not_hide_a_newer_proof(
    server: PortalServer, browser: Browser, anna: Authenticator
) -> None:
    """Another sign-in, whose pass replaces the one with the older proof: no endless redirects."""
    admin = f"https://{PHOTOS}/admin/x"
    await browser.continue_with_passkey(await browser.get(admin), anna)
    server.store.clock.now += 1000
    del browser.cookies[AUTH][COOKIE]
    reply = await browser.continue_with_passkey(await browser.get(admin), anna)
    assert reply.text == f"{PHOTOS}/admin/x for anna"


async def test_a_pin_is_offered_where_it_opens(browser: Browser) -> None:
    mixed = await browser.get("https://mixed.example.com/x?y")
    assert mixed.page.links["Enter a PIN"] == "https://mixed.example.com/.0trust/pin?to=%2Fx%3Fy"
    only = await browser.get("https://party.example.com/x")
    assert only.url == "https://party.example.com/.0trust/pin?to=%2Fx"


PROVIDERS = {
    "main": {"issuer": "https://sso.example.com", "client_id": "a", "client_secret_file": "f"},
    "other": {
        "issuer": "https://other.example.com",
        "client_id": "a",
        "client_secret_file": "f",
        "title": "Other & Sons",
    },
}


@pytest.fixture
async def company(servers: Stores, tmp_path: object, anyio_backend: object) -> Browser:
    server = await start_portal(
        servers,
        tmp_path,  # type: ignore[arg-type]
        identity_providers=PROVIDERS,
        rules=[{"hosts": [PHOTOS], "allow": "signed_in", "max_age": "15m"}],
    )
    return Browser(server)


async def test_people_read_the_title_of_a_provider(company: Browser) -> None:
    title = company.server.site.provider_title
    assert [title(name) for name in ("other", "main", "removed", "")] == [
        "Other & Sons",
        "main",
        "removed",
        "",
    ]


async def test_providers_are_links_with_the_attempt(company: Browser) -> None:
    asked = await company.get(f"https://{PHOTOS}/x?y=z")
    query = urlsplit(asked.url).query
    assert asked.page.links["Sign in with main"] == f"/start/main?{query}"
    assert asked.page.links["Sign in with Other & Sons"] == f"/start/other?{query}"
    home = await company.get(f"https://{AUTH}/")
    assert home.page.links["Sign in with main"] == "/start/main"


async def test_an_old_proof_of_a_provider_is_renewed_there(company: Browser) -> None:
    store = company.server.store
    account = ProviderAccount(provider="main", subject="1", proven_at=store.clock.now)
    made = await store.by_provider(account)
    company.cookies[AUTH] = {COOKIE: made.value}
    assert (await company.get(f"https://{PHOTOS}/x")).text.startswith(PHOTOS)
    store.clock.now += 1000
    asked = await company.get(f"https://{PHOTOS}/x")
    query = urlsplit(asked.url).query
    assert asked.page.links == {"Confirm with main": f"/start/main?{query}&fresh=1"}
    own = await company.get(f"https://{AUTH}/confirm")
    assert own.page.links == {"Confirm with main": "/start/main?fresh=1"}


async def test_a_confirmation_needs_a_sign_in(browser: Browser) -> None:
    reply = await browser.get(f"https://{AUTH}/confirm", follow=False)
    assert (reply.status, reply.header("location")) == (303, "/")


async def test_text_of_the_address_is_escaped(browser: Browser) -> None:
    query = urlencode({"host": "<script>", "to": '/"><script>', "n": "n" * 22, "ch": "c" * 43})
    assert "<script>" not in (await browser.get(f"https://{AUTH}/go?{query}")).text
    page = await browser.get(go(to='/"><script>alert(1)</script>'))
    assert page.status == 200 and "<script>alert" not in page.text


async def test_a_user_sees_and_adds_accounts_at_providers(company: Browser) -> None:
    store = company.server.store
    account = ProviderAccount(provider="main", subject="1", proven_at=store.clock.now)
    made = await store.by_provider(account)
    company.cookies[AUTH] = {COOKIE: made.value}
    page = await company.get(f"https://{AUTH}/me")
    assert "main\nyours" in page.page.text.replace(" ", "")
    assert page.page.links["Add your account of Other & Sons"] == "/start/other?join=1"
    store.clock.now += 1000
    page = await company.get(f"https://{AUTH}/me")
    assert page.page.links.keys() == {"confirm that it is you"}
