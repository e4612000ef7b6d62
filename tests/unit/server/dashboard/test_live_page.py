"""Tests of all pages: each one with agents, users and tokens, for administrators and viewers."""

from html.parser import HTMLParser

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer
from tests.support.portal_server import Browser, Reply
from zerotrust.server.dashboard.dashboard import PAGES

pytestmark = pytest.mark.anyio

PATHS = [
    "/",
    "/agents",
    "/agents/show?agent=home",
    "/services",
    "/people",
    "/people/show?user=ben",
    "/machines",
    "/audit",
]


class FormParser(HTMLParser):
    """Forms with their fields, and buttons that send a form from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.buttons: list[dict[str, str]] = []
        self.inline: list[str] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attributes}
        self.inline += [key for key in found if key.startswith("on") or key == "style"]
        if tag == "style" or (tag == "script" and "src" not in found):
            self.inline.append(tag)
        if tag == "form":
            self.forms.append({**found, "token": ""})
            self._open = True
        elif tag == "input" and self._open and found.get("name") == "csrf":
            self.forms[-1]["token"] = found["value"]
        elif tag == "button" and "formaction" in found:
            self.buttons.append(found)

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "form"


@pytest.fixture
async def filled(server: DashboardServer) -> DashboardServer:
    await server.fill()
    return server


def test_each_page_has_a_test() -> None:
    assert {page.path for page in PAGES} == {path.partition("?")[0] for path in PATHS}


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_is_safe(filled: DashboardServer, anna: Browser, path: str) -> None:
    await anna.get(f"{ADMIN}/")
    reply = await anna.get(f"{ADMIN}{path}")
    assert reply.status == 200, reply.text
    assert "default-src 'none'; script-src 'self'" in reply.header("content-security-policy")
    assert reply.header("cache-control") == "no-store"
    found = FormParser(reply.text)
    assert found.inline == []
    for form in found.forms:
        assert form["action"].startswith("/")
        assert bool(form["token"]) == (form["method"] == "post"), form
    ids = [form["id"] for form in found.forms if "id" in form]
    assert all(button["form"] in ids for button in found.buttons)
    assert "<script>alert" not in reply.text


@pytest.mark.parametrize("path", PATHS)
async def test_a_viewer_gets_nothing_that_changes(
    filled: DashboardServer, vera: Browser, path: str
) -> None:
    await vera.get(f"{ADMIN}/")
    reply = await vera.get(f"{ADMIN}{path}")
    assert reply.status == 200, reply.text
    found = FormParser(reply.text)
    assert found.buttons == []
    posts = {form["action"] for form in found.forms if form["method"] == "post"}
    assert posts <= {"/audit/verify", "/audit/export"}


async def test_a_fragment_alone(filled: DashboardServer, anna: Browser) -> None:
    await anna.get(f"{ADMIN}/")
    page = await anna.get(f"{ADMIN}/people")
    alone = await fragment(anna, "/people", "users")
    assert alone.text in page.text
    assert (await fragment(anna, "/people", "nothing")).status == 404


async def fragment(browser: Browser, path: str, name: str) -> Reply:
    return await browser.request(
        "GET", f"{ADMIN}{path}", headers={"sec-fetch-site": "same-origin", "x-fragment": name}
    )
