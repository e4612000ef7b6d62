"""Each page of the server in each of its states: axe-core finds nothing, the CSP blocks nothing.

The states are grouped in tours. A tour yields the name of a state when its page is shown.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, ViewportSize, expect

from tests.support.browser import cookies
from tests.support.page_inspection import PageInspection
from tests.support.people import PROVIDERS, Stores, stores
from tests.support.portal_site import RULES, Site, authenticator, portal_site, register
from zerotrust.access.hand_over import Arrival, Attempt, new_way
from zerotrust.access.refusal import Refusal, RefusedRequest, denial, sign_in_refusal, unavailable
from zerotrust.access.subject import CredentialKind
from zerotrust.errors import StateError, TooManyAttempts

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("portal"),
]

NARROW, WIDE = ViewportSize(width=320, height=700), ViewportSize(width=900, height=800)


@pytest.fixture
def servers(tmp_path: Path) -> Any:
    with stores(f"sqlite:///{tmp_path / 'state.db'}") as made:
        yield made


@pytest.fixture
async def site(servers: Stores, tmp_path: Path) -> AsyncIterator[Site]:
    rules = [{**RULES[0], "allow": [{"group": "family"}, {"pin": True}]}, *RULES[1:]]
    titles = {"google": "Google", "other": "Company SSO"}
    providers = {name: {**PROVIDERS[name], "title": title} for name, title in titles.items()}
    async with portal_site(servers, tmp_path, rules=rules, identity_providers=providers) as made:
        made.portal.site = replace(made.portal.site, logout_url=lambda name: f"https://{name}/out")
        made.portal.portal = made.portal.build()
        await made.portal.store.links.set_pin("photos.localhost", "482913", actor="uid 0")
        yield made


@pytest.fixture
async def context(portal_browser: Browser) -> AsyncIterator[BrowserContext]:
    async with cookies(portal_browser) as made:
        yield made


async def signing_in(site: Site, page: Page) -> AsyncIterator[str]:
    await page.goto(site.url("photos", "/album/7"))
    yield "sign-in with providers and a PIN"
    state = site.portal.store.state
    with_providers = state.access
    state.access = with_providers.model_copy(update={"identity_providers": {}})
    await page.goto(site.url("auth"))
    yield "sign-in without providers"
    state.access = with_providers
    await page.get_by_role("button", name="Sign in with a passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("was not used")
    yield "sign-in after a problem"
    await page.goto(site.url("auth", "/invite"))
    yield "invitation"
    await page.get_by_role("button", name="Create a passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("incomplete")
    yield "invitation after a problem"
    await page.goto(site.url("auth", "/pair"))
    yield "code"
    await page.get_by_label("Code").fill("ABCD-EFGH")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("wrong")
    yield "wrong code"
    await page.goto(site.url("auth", "/.0trust/out?provider=google"))
    yield "signed out"
    await page.goto(site.url("photos", "/.0trust/out"))
    yield "signed out of a service"


async def visiting(site: Site, page: Page) -> AsyncIterator[str]:
    """Visitors without an account."""
    link = await site.portal.store.links.create(
        "https://photos.localhost/album/7",
        lifetime=3600,
        uses=None,
        pin="482913",
        methods=[],
        created_by="uid 0",
        actor="uid 0",
    )
    await page.goto(site.url("photos", "/.0trust/share"))
    yield "share link without its fragment"
    await page.goto("about:blank")
    await page.goto(site.url("photos", f"/.0trust/share#{link.url.partition('#')[2]}"))
    await expect(page.get_by_text("photos.localhost/album/7")).to_be_visible()
    yield "share link with a PIN"
    await page.get_by_label("PIN").fill("000000")
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("alert")).to_contain_text("PIN")
    yield "share link after a wrong PIN"
    await page.goto("about:blank")
    await page.goto(site.url("photos", "/.0trust/share#0t_l_x"))
    await expect(page.get_by_role("alert")).to_contain_text("incomplete")
    yield "broken share link"
    await page.goto(site.url("photos", "/.0trust/pin"))
    yield "PIN"
    await page.get_by_label("PIN").fill("000000")
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("alert")).to_contain_text("wrong PIN", ignore_case=True)
    yield "wrong PIN"
    await page.get_by_label("PIN").fill("482913")
    await page.get_by_role("button", name="Open").click()
    await page.wait_for_url(site.url("photos"))
    await page.goto(site.url("photos", "/.0trust/out"))
    yield "sign-out of a visitor"
    await page.get_by_role("button", name="Sign out").click()


async def own_account(site: Site, page: Page) -> AsyncIterator[str]:
    await register(site, page)
    yield "account with a welcome"
    await page.get_by_text("Create a token").click()
    await page.get_by_label("Name of the app or device").fill("phone")
    await page.get_by_role("button", name="Create", exact=True).click()
    await expect(page.get_by_label("Token")).to_be_visible()
    yield "token of an app"
    await page.get_by_role("link", name="Back to your account").click()
    await page.get_by_text("Share a page").click()
    await page.get_by_label("Address of the page").fill(site.url("photos", "/album/7"))
    await page.get_by_label("Number of uses").fill("3")
    await page.get_by_label("PIN").fill("482913")
    await page.get_by_role("button", name="Create the link").click()
    await expect(page.get_by_label("Link", exact=True)).to_be_visible()
    yield "new share link"
    await page.get_by_role("link", name="Back to your account").click()
    await page.get_by_role("button", name="Make a code").click()
    code = await page.locator("p#code").inner_text()
    yield "code for a device"
    async with other_browser(page) as device:
        await device.goto(site.url("auth", "/pair"))
        await device.get_by_label("Code").fill(code)
        await device.get_by_role("button", name="Sign in").click()
        await device.wait_for_url(site.url("auth", "/me"))
    await page.goto(site.url("auth", "/me"))
    yield "account with everything"
    await page.goto(site.url("auth", "/.0trust/out"))
    yield "sign-out"
    await page.goto(site.url("photos"))
    await page.goto(site.url("photos", "/.0trust/share"))
    await expect(page.get_by_text("You are signed in here as")).to_be_visible()
    yield "share link for a user"
    await page.goto(site.url("parents", "/x"))
    yield "refused"
    await page.goto(site.url("auth", "/confirm"))
    yield "confirmation for the account"
    site.ahead = 1000
    await page.goto(site.url("photos", "/admin/x"))
    yield "confirmation for a service"
    await page.goto(site.url("auth", "/me"))
    yield "account without a recent proof"
    site.ahead = 0


async def a_device(site: Site, page: Page) -> AsyncIterator[str]:
    """A device that is signed in with a code; its page leads on by itself."""
    sign_in = site.portal.store.state.index.of_kind(CredentialKind.SIGN_IN)[0]
    code, _ = await site.portal.store.sign_ins.create_pairing(sign_in)
    await page.context.clear_cookies()
    await page.goto(site.url("auth", "/pair"))
    # The answer 204 leaves a browser where it is.
    await page.route("**/me", lambda route: route.fulfill(status=204))
    await page.get_by_label("Code").fill(code)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="This device is signed in")).to_be_visible()
    yield "paired"
    await page.unroute("**/me")
    await page.goto(site.url("auth", "/me"))
    yield "account on a device"


async def links_that_lead_nowhere(site: Site, page: Page) -> AsyncIterator[str]:
    """Strangers' links, and hand-overs that fail."""
    await page.context.clear_cookies()
    for name, status, url in (
        ("no page", 404, site.url("auth", "/nothing")),
        ("an incomplete link", 400, site.url("auth", "/go")),
        ("an unknown service", 404, site.url("auth", f"/go?{attempt('other.localhost', '/')}")),
        ("an unknown provider", 404, site.url("auth", "/start/nobody")),
        ("no page of a service", 404, site.url("photos", "/.0trust/nothing")),
        ("no cookies", 403, site.url("photos", "/.0trust/landed?to=/x")),
        ("an incomplete hand-over", 403, site.url("photos", "/.0trust/in?code=x")),
    ):
        reply = await page.goto(url)
        assert reply is not None and reply.status == status, name
        yield name
    await page.goto(site.url("photos", "/x"))  # which gives a way cookie
    arrival = Arrival(new_way().decode(), "n" * 22, "/x", again=True)
    await page.goto(site.url("photos", f"/.0trust/in?{arrival.to_query()}"))
    await expect(page.get_by_role("heading", name="no longer valid")).to_be_visible()
    yield "an old hand-over"


async def failures(site: Site, page: Page) -> AsyncIterator[str]:
    """Answers to a signed-in user's requests that fail."""
    site.ahead = 0
    await register(site, page, "ben")
    reply = await page.goto(site.url("auth", f"/go?{attempt('photos.localhost', '/admin%2Fx')}"))
    assert reply is not None and reply.status == 400
    yield "an ambiguous address"
    for name, heading, path, fields in (
        ("a form twice", "That is not possible", "/me/links", "csrf=x&csrf=y"),
        ("an old form", "That did not work", "/me/links", "csrf=x"),
        ("a form for a page", "That did not work", "/confirm", ""),
    ):
        await submit(page, path, fields)
        await expect(page.get_by_role("heading", name=heading)).to_be_visible()
        yield name
    parts = site.portal.site
    for name, heading, part, error in (
        ("429", "Too many attempts", parts.limits, TooManyAttempts("try later", retry_after=9)),
        ("503", "Not available just now", parts.sign_ins, StateError("the database is locked")),
        ("500", "Something went wrong", parts.sign_ins, RuntimeError("a fault of ours")),
    ):
        method, path = ("admit", "/pair") if part is parts.limits else ("sign_out", "/.0trust/out")
        with patch.object(part, method, side_effect=error):
            await page.goto(site.url("auth", path))
            if part is parts.limits:
                await page.get_by_label("Code").fill("ABCD-EFGH")
            await page.get_by_role("main").get_by_role("button").first.click()
            await expect(page.get_by_role("heading", name=heading)).to_be_visible()
        yield name
    assert [str(problem) for problem in site.http.problems] == ["a fault of ours"]
    site.http.problems.clear()
    site.ahead = 1000
    await page.goto(site.url("auth", "/me"))
    csrf = await page.locator("input[name=csrf]").first.input_value()
    await submit(page, "/me/devices", urlencode({"csrf": csrf}))
    await expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    yield "a form that needs a recent proof"


async def refusals(site: Site, page: Page) -> AsyncIterator[str]:
    """Pages that the ingress answers itself (`access.refusal`)."""
    load, form = refused(b"GET", "document"), refused(b"POST", "document")
    frame = refused(b"GET", "iframe")
    auth_origin = site.portal.site.auth_origin
    for name, answer in (
        ("a form that is not sent", sign_in_refusal(form, auth_origin=auth_origin)),
        ("a frame", sign_in_refusal(frame, auth_origin=auth_origin)),
        ("denied", denial(load, name=None)),
        ("denied by name", denial(load, name="anna")),
        ("denied in a frame", denial(frame, name="anna")),
        ("a server that cannot check sign-ins", unavailable(load)),
    ):
        await show(page, site.url("photos", "/refused"), answer)
        yield name


TOURS = [signing_in, visiting, own_account, a_device, links_that_lead_nowhere, failures, refusals]


async def test_axe_finds_nothing_and_the_policy_blocks_nothing(
    site: Site, context: BrowserContext
) -> None:
    page = await context.new_page()
    await page.set_viewport_size(WIDE)
    await authenticator(page)
    seen = await PageInspection.begin(page, phone=NARROW, desk=WIDE)
    for tour in TOURS:
        async for name in tour(site, page):
            await seen.look(name)
    assert not seen.problems, "\n".join(seen.problems)
    await page.goto(site.url("auth", "/pair"))
    await page.evaluate(SPOIL)
    await seen.look("spoiled")
    found = "\n".join(seen.problems)
    for part in ("img-src: https://evil.example/x", "image-alt", "wider than the screen"):
        assert part in found, "this test sees what it looks for"


# ---- parts of tours


def attempt(host: str, target: str) -> str:
    """Return the query of an attempt to sign in."""
    return replace(Attempt.begin(new_way(), host=host, to="/"), to=target).to_query()


def refused(method: bytes, destination: str) -> RefusedRequest:
    """Return a request for a page, or for a frame inside another one."""
    lines = f"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: {destination}\r\n".encode()
    host = "photos.localhost"
    return RefusedRequest(method, b"/x", host, host.encode(), lines, False, None)


@asynccontextmanager
async def other_browser(page: Page) -> AsyncIterator[Page]:
    """Yield a page that has other cookies."""
    assert page.context.browser is not None
    context = await page.context.browser.new_context()
    yield await context.new_page()
    await context.close()


async def submit(page: Page, path: str, fields: str) -> None:
    """Send a form that the page does not have."""
    await page.evaluate(SUBMIT, [path, fields])


async def show(page: Page, url: str, answer: Refusal) -> None:
    """Show a refusal, with its header fields."""
    fields = dict(line.split(": ", 1) for line in answer.lines.decode().splitlines())

    async def fulfil(route: Route) -> None:
        await route.fulfill(status=answer.status, headers=fields, body=answer.body)

    await page.route(url, fulfil)
    await page.goto(url)
    await page.unroute(url)


SPOIL = """
document.querySelector("main").insertAdjacentHTML(
  "beforeend", "<img src='https://evil.example/x'><svg width='400' height='9'></svg>")
"""
SUBMIT = """
([path, fields]) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = path;
  for (const [name, value] of new URLSearchParams(fields)) {
    const input = document.createElement("input");
    Object.assign(input, { type: "hidden", name, value });
    form.append(input);
  }
  document.body.append(form);
  form.submit();
}
"""
