"""Tests of all pages: each one with agents, users and tokens, for administrators and viewers."""

import asyncio
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, signed_in, start_dashboard
from tests.support.people import Stores, stores
from tests.support.portal_server import Browser, Reply
from tests.support.waiting import eventually
from zerotrust.server.dashboard.dashboard import PAGES
from zerotrust.server.dashboard.fragments import RenderedFragments

pytestmark = pytest.mark.anyio

SERVICE = "/services/show?host=photos.example.com"
PATHS = [
    "/",
    "/agents",
    "/agents/show?agent=home",
    "/services",
    SERVICE,
    "/connections",
    "/connections?host=photos.example.com",
    "/connections/show?id=abc-1",
    "/connections/capture?id=abcd",
    "/requests",
    "/requests?agent=home&service=web",
    "/people",
    "/people/show?user=ben",
    "/machines",
    "/audit",
    "/doctor",
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


@pytest.fixture(scope="module")
def filled_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with stores(f"sqlite:///{tmp_path_factory.mktemp('pages') / 'state.db'}") as made:
        yield made


@pytest.fixture(scope="module")
async def filled(
    filled_servers: Stores, tmp_path_factory: pytest.TempPathFactory, anyio_backend: object
) -> DashboardServer:
    """A dashboard with rows in each list. The tests only look at it."""
    server = await start_dashboard(filled_servers, tmp_path_factory.mktemp("folder"))
    await server.fill()
    return server


@pytest.fixture(scope="module")
async def anna(filled: DashboardServer) -> Browser:
    return await signed_in(filled, "anna")


@pytest.fixture(scope="module")
async def vera(filled: DashboardServer) -> Browser:
    return await signed_in(filled, "vera")


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
    assert reply.status == (403 if path.startswith("/connections/capture") else 200), reply.text
    found = FormParser(reply.text)
    assert found.buttons == []
    posts = {form["action"] for form in found.forms if form["method"] == "post"}
    assert posts <= {"/audit/verify", "/audit/export"}


@pytest.mark.parametrize("path", PATHS)
async def test_strangers_text_is_cut_and_escaped(
    filled: DashboardServer, anna: Browser, path: str
) -> None:
    reply = await anna.get(f"{ADMIN}{path}")
    if path in ("/agents/show?agent=home", "/machines", "/services", SERVICE):
        assert "&lt;script&gt;alert(1)" in reply.text
    assert "x" * 200 not in reply.text


async def test_a_fragment_alone(filled: DashboardServer, anna: Browser) -> None:
    await anna.get(f"{ADMIN}/")
    page = await anna.get(f"{ADMIN}/people")
    alone = await fragment(anna, "/people", "users")
    assert alone.text in page.text
    assert (await fragment(anna, "/people", "nothing")).status == 404


async def test_a_query_makes_a_fragment_only_with_what_the_page_reads(
    filled: DashboardServer, anna: Browser
) -> None:
    await anna.get(f"{ADMIN}/services?host=photos")
    # Text that is not in a query cannot be in the key of a kept fragment.
    with patch.object(RenderedFragments, "html", autospec=True, return_value="") as html:
        await anna.get(f"{ADMIN}/services?x={'y' * 999}&host=p&host=q&after={'z' * 999}")
    views = [call.args[3] for call in html.call_args_list]
    assert views and all(one.query == (("host", "p"), ("after", "z" * 200)) for one in views)


async def fragment(browser: Browser, path: str, name: str) -> Reply:
    return await browser.request(
        "GET", f"{ADMIN}{path}", headers={"sec-fetch-site": "same-origin", "x-fragment": name}
    )


async def test_the_stream_of_a_page_names_its_fragments_until_its_user_is_out(
    servers: Stores, tmp_path: Path
) -> None:
    server = await start_dashboard(servers, tmp_path)
    browser = await signed_in(server, "anna")
    await browser.get(f"{ADMIN}/")
    asked = {"sec-fetch-site": "same-origin", "accept": "text/event-stream"}
    stream = asyncio.ensure_future(browser.request("GET", f"{ADMIN}/people", headers=asked))
    await eventually(lambda: server.streams.open == 1, "the stream is open")
    await server.parts.sign_ins.end_all("anna", actor="uid 0")
    reply = await stream
    assert reply.header("content-type").startswith("text/event-stream")
    _, changed, *_, ended = reply.text.strip().split("\n\n")
    assert json.loads(changed.partition("data: ")[2]).keys() == {"users", "groups"}
    assert ended == "event: ended\ndata: -"
