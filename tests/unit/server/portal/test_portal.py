"""Tests of the portal as a whole: errors, header fields, and what each page owes its readers."""

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.authenticator import Authenticator
from tests.support.portal_server import AUTH, PHOTOS, Browser, PortalServer, Reply
from zerotrust.errors import AccessError, PkiError, StateError, UserUnknown
from zerotrust.net import asgi
from zerotrust.server.access import pairing_tries, pin_checks
from zerotrust.server.portal import oidc
from zerotrust.server.portal.security_headers import CONTENT_SECURITY_POLICY

pytestmark = pytest.mark.anyio

GO = f"/go?host={PHOTOS}&to=%2Fx&n={'n' * 22}&ch={'c' * 43}"
PAGES = [
    f"https://{AUTH}/",
    f"https://{AUTH}{GO}",
    f"https://{AUTH}/invite",
    f"https://{AUTH}/pair",
    f"https://{AUTH}/me",
    f"https://{AUTH}/confirm",
    f"https://{AUTH}/.0trust/out",
    f"https://{AUTH}/nothing",
    f"https://{AUTH}/nothing/",
    f"https://{PHOTOS}/.0trust/out",
    f"https://{PHOTOS}/.0trust/in",
    f"https://{PHOTOS}/.0trust/landed",
    f"https://{PHOTOS}/.0trust/share",
    f"https://{PHOTOS}/.0trust/pin",
    f"https://{PHOTOS}/.0trust/me",
    f"https://{PHOTOS}/.0trust/nothing",
    f"https://{PHOTOS}/.0trust/static/nothing",
]


def check_fields(reply: Reply) -> None:
    assert reply.header("content-security-policy") == CONTENT_SECURITY_POLICY
    assert reply.header("x-content-type-options") == "nosniff"
    assert reply.header("x-frame-options") == "DENY"
    assert reply.header("referrer-policy") == "same-origin"
    assert "publickey-credentials-get=(self)" in reply.header("permissions-policy")
    assert reply.header("cache-control") == "no-store"


def check_page(reply: Reply) -> None:
    """Check what readers with a keyboard, a screen reader or another language need."""
    assert reply.text.startswith('<!doctype html>\n<html lang="en">')
    tags = reply.page.tags
    names = [tag for tag, _ in tags]
    assert names.count("h1") == names.count("main") == names.count("title") == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        found for tag, found in tags if tag == "meta"
    ]
    labels = {found["for"] for tag, found in tags if tag == "label"}
    ids = [found["id"] for _, found in tags if "id" in found]
    assert len(ids) == len(set(ids))
    for tag, found in tags:
        assert "style" not in found and tag != "style", "the policy forbids inline styles"
        assert not any(name.startswith("on") for name in found), "and inline scripts"
        if tag in ("input", "select") and found.get("type") != "hidden":
            assert found["id"] in labels, found
        if tag == "script":
            assert found["src"].startswith("/.0trust/static/")
        if tag == "img":
            assert "alt" in found
        for name in ("src", "action"):
            assert found.get(name, "/").startswith("/"), "no external assets, no foreign forms"
        for name in ("aria-labelledby", "aria-describedby"):
            assert name not in found or found[name] in ids
        if tag == "button":
            assert found["type"] in ("button", "submit")


@pytest.mark.parametrize("url", PAGES)
async def test_each_page_is_whole(browser: Browser, url: str) -> None:
    reply = await browser.get(url, follow=False)
    check_fields(reply)
    if reply.header("content-type").startswith("text/html"):
        check_page(reply)


async def test_each_page_of_a_user_is_whole(
    server: PortalServer, browser: Browser, anna: Authenticator
) -> None:
    await browser.sign_in(anna)
    me = f"https://{AUTH}/me"
    shown = await browser.get(me)
    token = {"csrf": shown.page.forms[0]["fields"]["csrf"]}
    replies = [
        shown,
        await browser.get(f"https://{AUTH}/.0trust/out"),
        await browser.get(f"https://{AUTH}/confirm"),
        await browser.get(
            f"https://{AUTH}/go?{GO.partition('?')[2].replace('%2Fx', '%2Fparents%2Fx')}"
        ),
        await browser.post(f"{me}/devices", token),
        await browser.post(f"{me}/apps", {**token, "name": "phone"}),
        await browser.post(
            f"{me}/links", {**token, "url": f"https://{PHOTOS}/album", "lifetime": "1h"}
        ),
        await browser.get(me),
        await browser.post(f"https://{AUTH}/pair", {"code": "x"}),
        await browser.post(f"https://{PHOTOS}/.0trust/share", {"secret": "x"}),
    ]
    for reply in replies:
        check_fields(reply)
        check_page(reply)
    assert [reply.status for reply in replies] == [200] * 3 + [403] + [200] * 4 + [403] * 2


@pytest.mark.parametrize(
    ("path", "status"), [("/nothing", 404), ("/me/", 404), ("/.0trust/in", 404), ("/invite/x", 404)]
)
async def test_unknown_pages(browser: Browser, path: str, status: int) -> None:
    assert (await browser.get(f"https://{AUTH}{path}")).status == status


async def test_pages_of_the_auth_host_are_not_at_services(browser: Browser) -> None:
    for path in ("/.0trust/go", "/.0trust/invite", "/.0trust/../go"):
        assert (await browser.get(f"https://{PHOTOS}{path}")).status == 404


async def test_other_methods_are_refused(browser: Browser) -> None:
    reply = await browser.request("DELETE", f"https://{AUTH}/me", headers={})
    assert reply.status == 405 and reply.header("allow")
    head = await browser.request("HEAD", f"https://{AUTH}/", headers={})
    assert head.status == 200


def raising(error: Exception) -> Route:
    async def endpoint(request: Request) -> Response:
        raise error

    return Route("/.0trust/test", endpoint)


@pytest.mark.parametrize(
    ("error", "status", "shown", "hidden"),
    [
        (UserUnknown("this app is gone"), 404, "This app is gone.", ""),
        (AccessError("give it a name"), 400, "Give it a name.", ""),
        (StateError("disk at /secret is full"), 503, "Try again in a minute", "/secret"),
        (PkiError("key /secret"), 500, "Try again in a minute", "/secret"),
        (RuntimeError("bug in /secret"), 500, "Try again in a minute", "/secret"),
    ],
    ids=str,
)
async def test_each_error_is_one_clear_page(
    server: PortalServer, browser: Browser, error: Exception, status: int, shown: str, hidden: str
) -> None:
    server.portal = server.build(auth_routes=[raising(error)], service_routes=[raising(error)])
    for host in (AUTH, PHOTOS):
        reply = await browser.get(f"https://{host}/.0trust/test")
        assert reply.status == status and shown in reply.page.text
        assert "Traceback" not in reply.text and (not hidden or hidden not in reply.text)
        assert reply.page.links, "it says what to do"
        check_fields(reply)
        check_page(reply)
        script = await browser.get(
            f"https://{host}/.0trust/test", follow=False, accept="application/json"
        )
        assert script.status == status and shown in script.json["error"]
    assert browser.faults == ([error] * 4 if status == 500 else []), "the bridge logs them"


async def test_more_routes(server: PortalServer, browser: Browser) -> None:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("here")

    route = Route("/.well-known/0trust/jwks.json", endpoint)
    server.portal = server.build(auth_routes=[route], service_routes=[route])
    reply = await browser.get(f"https://{AUTH}/.well-known/0trust/jwks.json")
    assert reply.text == "here"


def test_what_waits_for_others_leaves_room_for_pages() -> None:
    waiting = oidc.MAX_AT_ONCE + pin_checks.MAX_WAITING + pairing_tries.MAX_WAITING
    assert waiting < asgi.MAX_REQUESTS
