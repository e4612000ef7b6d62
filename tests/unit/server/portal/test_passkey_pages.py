"""Tests of signing in with a passkey."""

from time import time

import pytest
from fido2.utils import websafe_encode

from tests.support.authenticator import Authenticator
from tests.support.portal_server import AUTH, PHOTOS, Browser, PortalServer
from zerotrust.access.hand_over import Attempt, new_way
from zerotrust.server.access import identity_keys
from zerotrust.server.portal.attempt_limits import REQUESTS_A_MINUTE
from zerotrust.server.portal.browser_cookies import COOKIE

pytestmark = pytest.mark.anyio

SIGN_IN = f"https://{AUTH}/passkey/sign-in"


async def test_a_sign_in_leads_to_the_own_account(browser: Browser, anna: Authenticator) -> None:
    reply = await browser.sign_in(anna)
    assert (reply.status, reply.json) == (200, {"next": "/me"})
    assert COOKIE in browser.cookies[AUTH]
    (row, *_) = await browser.server.store.sign_ins.listed("anna")
    assert row[0].browser == browser.agent and row[0].client == browser.client


async def test_a_sign_in_continues_its_attempt(browser: Browser, anna: Authenticator) -> None:
    query = Attempt.begin(new_way(), host=PHOTOS, to="/x").to_query()
    reply = await browser.sign_in(anna, attempt=query)
    assert reply.json == {"next": f"/go?{query}"}
    reply = await browser.sign_in(anna, attempt="host=evil.example&to=//x")
    assert reply.json == {"next": "/me"}


async def test_an_answer_is_good_once(browser: Browser, anna: Authenticator) -> None:
    options = await browser.options("/passkey/sign-in/options")
    form = {"credential": anna.get(options)}
    assert (await browser.script(SIGN_IN, form)).status == 200
    again = await Browser(browser.server).script(SIGN_IN, form)
    assert again.status == 403 and "error" in again.json
    assert (await browser.script(SIGN_IN, form)).status == 403, "nor does it renew a proof"


async def test_a_challenge_is_good_for_five_minutes(
    browser: Browser, anna: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = await browser.options("/passkey/sign-in/options")
    now = time()
    monkeypatch.setattr(identity_keys, "time", lambda: now + 301)
    reply = await browser.script(SIGN_IN, {"credential": anna.get(options)})
    assert reply.status == 403 and "too old" in reply.json["error"]
    assert COOKIE not in browser.cookies.get(AUTH, {})


async def test_an_assertion_for_a_backend_is_no_challenge(
    browser: Browser, anna: Authenticator
) -> None:
    signed = browser.server.site.keys.sign_assertion({"for": "sign_in", "r": "x"})  # type: ignore[attr-defined]
    options = await browser.options("/passkey/sign-in/options")
    reply = await browser.script(
        SIGN_IN, {"credential": anna.get({**options, "challenge": websafe_encode(signed)})}
    )
    assert reply.status == 403


async def test_a_copied_passkey_is_refused(browser: Browser, anna: Authenticator) -> None:
    anna.step = 1
    assert (await browser.sign_in(anna)).status == 200
    anna.counter -= 1
    reply = await Browser(browser.server).sign_in(anna)
    assert reply.status == 403 and "copied" in reply.json["error"]
    anna.counter -= 1
    assert (await browser.sign_in(anna)).status == 403, "nor does it renew a proof"


async def test_a_disabled_user_is_told_so_and_keeps_the_passkey(
    browser: Browser, anna: Authenticator
) -> None:
    people = browser.server.store.people
    await people.disable("anna", actor="uid 0")
    reply = await browser.sign_in(anna)
    assert reply.status == 403
    assert reply.json == {"error": "The account anna is disabled; ask an administrator."}
    await people.enable("anna", actor="uid 0")
    assert (await browser.sign_in(anna)).status == 200


async def test_another_user_takes_the_place_of_the_first(
    server: PortalServer, browser: Browser, anna: Authenticator, ben: Authenticator
) -> None:
    asked = await browser.get(f"https://{PHOTOS}/x")
    await browser.continue_with_passkey(asked, anna)
    assert (await browser.sign_in(ben)).status == 200
    reply = await browser.get(f"https://{PHOTOS}/x")
    assert reply.status == 403 and "ben" in reply.page.text, "anna's pass has ended"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", ""])
@pytest.mark.parametrize("path", ["/passkey/sign-in/options", "/passkey/sign-in"])
async def test_other_pages_cannot_ask(browser: Browser, path: str, site: str) -> None:
    reply = await browser.post(f"https://{AUTH}{path}", {}, headers={"sec-fetch-site": site})
    assert reply.status == 403


async def test_strangers_are_limited(browser: Browser) -> None:
    paths = [f"{SIGN_IN}/options", SIGN_IN] * (REQUESTS_A_MINUTE // 2)
    replies = [await browser.script(path, {}) for path in [*paths, SIGN_IN]]
    assert [reply.status for reply in replies] == [200, 403] * (REQUESTS_A_MINUTE // 2) + [429]
    assert replies[-1].header("retry-after") == "1"
    other = Browser(browser.server, client="2001:db8::1")
    assert (await other.script(f"{SIGN_IN}/options", {})).status == 200


async def test_a_passkey_button_without_an_answer_is_refused(browser: Browser) -> None:
    assert (await browser.script(SIGN_IN, {})).status == 403
