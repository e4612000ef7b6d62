"""Tests of the page for pairing codes."""

from urllib.parse import urlsplit

import pytest

from tests.support.authenticator import Authenticator
from tests.support.portal_server import AUTH, PHOTOS, Browser, PortalServer
from zerotrust.access.hand_over import Attempt
from zerotrust.server.portal.browser_cookies import WAY
from zerotrust.server.portal.pairing_pages import pairing_url, qr_code, shown_code

pytestmark = pytest.mark.anyio

PAIR = f"https://{AUTH}/pair"


async def code_of(server: PortalServer, anna: Authenticator) -> str:
    browser = Browser(server)
    await browser.sign_in(anna)
    (row, _), *_ = await server.store.sign_ins.listed("anna")
    sign_in = next(c for c in server.store.state.index.all() if c.id == str(row.number))
    code, _ = await server.store.sign_ins.create_pairing(sign_in)
    return code


async def test_a_wrong_code_is_said_on_the_page(browser: Browser) -> None:
    reply = await browser.post(PAIR, {"code": "AAAA-AAAA"})
    assert reply.status == 403
    field = next(found for tag, found in reply.page.tags if found.get("id") == "code")
    assert field["aria-invalid"] == "true" and field["aria-describedby"] == "problem"
    alert = next(found for tag, found in reply.page.tags if found.get("id") == "problem")
    assert alert["role"] == "alert" and "hidden" not in alert


async def test_the_attempt_survives_a_wrong_code(browser: Browser) -> None:
    asked = await browser.get(f"https://{PHOTOS}/x")
    query = urlsplit(asked.url).query
    form = await browser.get(f"{PAIR}?{query}")
    reply = await browser.submit(form, "/pair", code="x")
    assert reply.page.forms[0]["fields"]["attempt"] == query


async def test_a_code_is_good_once(server: PortalServer, anna: Authenticator) -> None:
    code = await code_of(server, anna)
    device = Browser(server, client="203.0.113.9")
    done = await device.post(PAIR, {"code": code})
    assert done.status == 200 and done.page.links["Continue"] == "/me"
    again = await Browser(server, client="203.0.113.10").post(PAIR, {"code": code})
    assert again.status == 403


async def test_other_pages_cannot_pair(
    server: PortalServer, browser: Browser, anna: Authenticator
) -> None:
    """Else a page could sign a browser in as somebody else."""
    form = {"code": await code_of(server, anna)}
    assert (await browser.post(PAIR, form, headers={"sec-fetch-site": "cross-site"})).status == 403


async def test_a_service_leads_its_app_to_the_page(
    server: PortalServer, browser: Browser, anna: Authenticator
) -> None:
    page = await browser.get(f"https://{PHOTOS}/.0trust/pair?to=/x")
    attempt = Attempt.from_query(urlsplit(page.url).query)
    assert attempt is not None and (attempt.host, attempt.to) == (PHOTOS, "/x")
    assert page.url.startswith(PAIR) and WAY in browser.cookies[PHOTOS]
    done = await browser.submit(page, "/pair", code=await code_of(server, anna))
    on = await browser.get(f"https://{AUTH}{done.page.links[f'Continue to {PHOTOS}']}")
    assert on.text == f"{PHOTOS}/x for anna"


def test_codes_and_their_addresses() -> None:
    assert shown_code("ABCDEFGH") == "ABCD-EFGH"
    assert pairing_url("https://a", "ABCD-EFGH") == "https://a/pair#code=ABCD-EFGH"
    assert "style" not in qr_code("https://a/pair#code=ABCD-EFGH")
    assert "viewBox" in qr_code("https://a")
