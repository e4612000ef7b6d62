"""Tests of the page Connections, with WebSockets through an ingress."""

import re

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer
from tests.support.portal_server import Browser
from tests.unit.server.dashboard.watched_proxy import WatchedProxy, press
from tests.unit.server.observed_proxy import HELLO
from zerotrust.access.subject import Subject, SubjectKind
from zerotrust.db import audit
from zerotrust.http.websocket_frames import close_frame
from zerotrust.server.dashboard import connections_page
from zerotrust.server.dashboard.fragments import View
from zerotrust.server.ops.connection_admin import REASON

pytestmark = pytest.mark.anyio

URL = f"{ADMIN}/connections"
EVIL = Subject(
    kind=SubjectKind.USER, id="u_x", name="<b>x</b>" + 300 * "y", groups=frozenset(("family",))
)


async def test_it_shows_who_has_what_open(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server)
    assert "No open connection." in (await anna.get(URL)).text
    await proxy.open_websocket()
    await proxy.send(HELLO)
    reply = await anna.get(URL)
    text = " ".join(reply.page.text.split())
    for shown in ("app.example.com/ws", "websocket", "user:anna", "203.0.113.7", "home", "7 B"):
        assert shown in text
    assert "secret" not in reply.text, "no query is shown"
    assert "1 connection in all" in text


async def test_it_shows_frames_and_pings(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server)
    await proxy.open_websocket()
    await proxy.send(HELLO + b"\x89\x00")
    proxy.connection.data_received(b"\x8a\x80\x00\x00\x00\x00\x89\x80\x00\x00\x00\x00")
    await proxy.send(b"\x8a\x00")
    text = (await anna.get(URL)).text
    assert "2 frames" in text and "3 frames" in text
    for end in ("client", "backend"):
        assert re.search(rf"{end} [\d.]+ (ms|s)<", text), end


async def test_a_websocket_without_pings(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server)
    await proxy.open_websocket()
    await proxy.send(HELLO)
    text = (await anna.get(URL)).text
    assert "1 frame<" in text and "0 frames" in text
    assert not re.search(r"(client|backend) [\d.]+ (ms|s)<", text)


async def test_texts_of_strangers_are_escaped_and_cut(
    server: DashboardServer, anna: Browser
) -> None:
    proxy = WatchedProxy(server)
    await proxy.open_websocket(EVIL, path="/" + 500 * "p")
    reply = await anna.get(URL)
    assert "<b>x" not in reply.text and "&lt;b&gt;x" in reply.text
    assert "y" * 195 not in reply.text and "p" * 201 not in reply.text


async def test_it_filters(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server)
    await proxy.open_websocket()
    reply = await anna.get(f"{URL}?user=anna&host=app.example.com&agent=home")
    assert "1 connection in all" in reply.text
    assert reply.page.links["Show all"] == "/connections"
    reply = await anna.get(f"{URL}?user=ben")
    assert "No open connection fits the filter." in reply.text
    assert 'value="ben"' in reply.text


async def test_one_is_ended(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server)
    await proxy.open_websocket()
    reply = await anna.get(f"{URL}?user=anna")
    done = await press(anna, reply, "End: app.example.com, user:anna")
    assert done.url == f"{URL}?user=anna", "the filter stays"
    assert "No open connection" in done.text
    assert await proxy.hear() == close_frame(1008, REASON)
    with server.store.database.transaction() as session:
        last = list(audit.records(session, limit=1000))[-1]
    assert (last.actor, last.action) == ("user anna", "connection.ended")
    gone = await press(anna, reply, "End: app.example.com, user:anna")
    assert gone.status == 404
    assert "No open connection has the id" in gone.text


async def test_a_viewer_has_no_buttons_and_ends_nothing(
    server: DashboardServer, anna: Browser, vera: Browser
) -> None:
    proxy = WatchedProxy(server)
    await proxy.open_websocket()
    assert "app.example.com/ws" in (await vera.get(URL)).text
    reply = await anna.get(URL)
    assert not [one for one in (await vera.get(URL)).page.buttons if one.get("form") == "act"]
    (button,) = [one for one in reply.page.buttons if one.get("form") == "act"]
    for form in ({}, {"csrf": "x" * 43}):
        refused = await vera.post(f"{URL}/end", {**form, "id": button["value"]})
        assert refused.status == 403
    assert await proxy.send(HELLO) == HELLO


async def test_a_hundred_rows_and_the_next(
    server: DashboardServer, anna: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_page, "ROWS", 2)
    proxy = WatchedProxy(server)
    for _ in range(3):
        await proxy.open_websocket()
    reply = await anna.get(f"{URL}?user=anna")
    assert "3 connections in all" in reply.text
    following = reply.page.links["Next 100"]
    assert following.startswith("/connections?user=anna&before=")
    reply = await anna.get(f"{ADMIN}{following}")
    assert reply.text.count('aria-label="End: ') == 1
    assert "Next 100" not in reply.text


@pytest.mark.parametrize("query", ["before=x", "before=-1"])
async def test_a_query_that_is_not_valid(
    server: DashboardServer, anna: Browser, query: str
) -> None:
    WatchedProxy(server)
    assert (await anna.get(f"{URL}?{query}")).status == 400


async def test_the_list_changes_every_two_seconds_while_something_is_open(
    server: DashboardServer, anna: Browser
) -> None:
    proxy, now = WatchedProxy(server), 0.0
    page = connections_page.ConnectionsPage(server.dashboard.parts, clock=lambda: now)
    version = page.fragments["open"].version
    view = View("/connections")
    empty = version(view)
    now = 10.0
    assert version(view) == empty, "nothing is open"
    await proxy.open_websocket()
    first = version(view)
    assert first != empty
    now = 11.9
    assert version(view) == first
    now = 12.0
    assert version(view) != first
