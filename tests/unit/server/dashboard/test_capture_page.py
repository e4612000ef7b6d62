"""Tests of the page with the messages of a capture, and of the list of captures."""

import re
from types import SimpleNamespace
from typing import cast
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, send
from tests.support.portal_server import Browser
from tests.support.waiting import eventually
from tests.unit.http.generated_frames import Frame
from tests.unit.server.dashboard.watched_proxy import WatchedProxy, press
from zerotrust.model.traffic_admin import ConnectionQuery
from zerotrust.server.dashboard import capture_page, live_page
from zerotrust.server.dashboard.fragments import View
from zerotrust.server.dashboard.visits import Visit
from zerotrust.server.proxy.capture import Capture

pytestmark = pytest.mark.anyio

ALLOWED = {"access": {"inspection": "payload"}}
EVIL = "<script>alert(1)</script>\u202e"


async def watched(server: DashboardServer) -> tuple[WatchedProxy, str]:
    """Return a proxy with a WebSocket whose service allows captures, and the id of that."""
    proxy = WatchedProxy(server, policy=ALLOWED)
    await proxy.open_websocket()
    (found,) = (await server.commands.connections.connections(ConnectionQuery(), "")).connections
    return proxy, found.id


def only(server: DashboardServer) -> Capture:
    (found,) = server.commands.captures.captures.all.values()
    return found


async def start(anna: Browser, connection: str, **fields: str) -> str:
    """Start a capture by the form of the connection's page; return the page that follows."""
    asked = {"connection": connection, "reason": "nothing is shown", "time": "1m", **fields}
    reply = await send(anna, "/connections", "/connections/capture/start", **asked)
    assert reply.status == 200, reply.text
    assert "/connections/capture?id=" in reply.url
    return reply.url


async def test_messages_are_shown_and_never_as_html(server: DashboardServer, anna: Browser) -> None:
    proxy, connection = await watched(server)
    url = await start(anna, connection)
    assert "No message yet." in (await anna.get(url)).text
    await proxy.send(
        Frame(0x81, EVIL.encode()).data
        + Frame(0x82, b"<b>\x00").data
        + Frame(0x81, b"y" * 2000).data
        + Frame(0xC1, b"\xff\xff").data
        + Frame(0x88, b"\x03\xe8bye").data
    )
    await eventually(lambda: only(server).count == 5, "all is captured")
    reply = await anna.get(url)
    assert EVIL not in reply.text and "&lt;script&gt;alert(1)" in reply.text
    assert "<b>." not in reply.text
    text = " ".join(reply.page.text.split())
    for shown in ("3c 62 3e 00", "cut at 1 KiB", "compressed", "1000 bye", "nothing is shown"):
        assert shown in text, shown
    assert "user anna" in text and "y" * 1024 in text and "y" * 1025 not in text
    rows = re.findall(r">(text|binary|close)</td>", reply.text)
    assert rows == ["close", "text", "text", "binary", "text"], "the newest come first"
    assert reply.page.links["app.example.com"] == "/services/show?host=app.example.com"


async def test_the_last_rows_are_shown(
    server: DashboardServer, anna: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_page, "ROWS", 2)
    proxy, connection = await watched(server)
    url = await start(anna, connection)
    for number in range(5):
        await proxy.send(Frame(0x81, b"message %d" % number).data)
    await eventually(lambda: only(server).count == 5, "all is captured")
    text = (await anna.get(url)).text
    assert "message 4" in text and "message 3" in text and "message 2" not in text


async def test_a_new_message_makes_a_new_version(server: DashboardServer, anna: Browser) -> None:
    proxy, connection = await watched(server)
    await start(anna, connection)
    page = capture_page.CapturePage(server.dashboard.parts)
    view = View("/connections/capture", (("id", only(server).id),), may_change=True)
    version = page.fragments["messages"].version
    before = version(view)
    assert version(view) == before
    await proxy.send(Frame(0x81, b"hello").data)
    await eventually(lambda: only(server).count == 1, "it is captured")
    assert version(view) != before
    assert version(View("/connections/capture")) is None


async def test_a_viewer_sees_that_it_runs_and_no_message(
    server: DashboardServer, anna: Browser, vera: Browser
) -> None:
    proxy, connection = await watched(server)
    url = await start(anna, connection)
    await proxy.send(Frame(0x81, b"hello vera").data)
    await eventually(lambda: only(server).count == 1, "it is captured")
    for path in ("/connections", f"/connections/show?id={connection}"):
        reply = await vera.get(f"{ADMIN}{path}")
        assert "nothing is shown" in reply.text and "user anna" in reply.text
        assert "/connections/capture" not in reply.text
    for name, value in (("x-fragment", "messages"), ("accept", "text/event-stream"), ("a", "b")):
        refused = await vera.get(url, follow=True, **{name: value})
        assert refused.status == 403
        assert "hello vera" not in refused.text
    page = await vera.get(f"{ADMIN}/audit")
    csrf = page.page.forms[-1]["fields"]["csrf"]
    about = {"csrf": csrf, "id": only(server).id, "connection": connection, "reason": "why not"}
    for action in ("start", "stop"):
        refused = await vera.post(f"{ADMIN}/connections/capture/{action}", about)
        assert refused.status == 403
    assert not only(server).over


async def test_who_starts_one_proves_again_and_who_stops_one_does_not(
    server: DashboardServer, anna: Browser
) -> None:
    proxy, connection = await watched(server)
    await start(anna, connection)
    server.store.clock.now += 901
    about = {"host": "app.example.com", "reason": "again"}
    reply = await send(anna, "/connections", "/connections/capture/start", **about)
    assert (reply.status, "One more step" in reply.text) == (403, True)
    page = await anna.get(f"{ADMIN}/connections")
    done = await press(anna, page, "Stop: app.example.com")
    assert done.status == 200
    assert only(server).stopped_by == "user anna"
    await proxy.send(Frame(0x81, b"hello").data)
    assert only(server).count == 0


async def test_who_reads_one_proves_again(server: DashboardServer, anna: Browser) -> None:
    proxy, connection = await watched(server)
    url = await start(anna, connection)
    await proxy.send(Frame(0x81, b"hello").data)
    await eventually(lambda: only(server).count == 1, "it is captured")
    assert "hello" in (await anna.get(url)).text
    server.store.clock.now += 901
    for name, value in (("a", "b"), ("x-fragment", "messages"), ("accept", "text/event-stream")):
        refused = await anna.get(url, follow=True, **{name: value})
        assert refused.status == 403
        assert "hello" not in refused.text
    refused = await anna.get(url)
    assert "One more step" in refused.text and "somebody a right" not in refused.text
    back = parse_qs(urlsplit(refused.page.links["Confirm that it is you"]).query)["to"]
    assert back == [url.removeprefix(ADMIN)]
    assert "nothing is shown" in (await anna.get(f"{ADMIN}/connections")).text


async def test_the_stream_of_its_page_ends_with_the_proof(
    server: DashboardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_page, "may_look", lambda *_, **__: True)
    page = capture_page.CapturePage(server.dashboard.parts)
    sign_in = SimpleNamespace(method="passkey", proven_at=server.store.clock.now)
    visit = cast("Visit", SimpleNamespace(user=SimpleNamespace(sign_in=sign_in)))
    assert page.may_go_on(visit, "203.0.113.9")
    server.store.clock.now += 901
    assert not page.may_go_on(visit, "203.0.113.9")


async def test_one_that_is_forgotten(server: DashboardServer, anna: Browser) -> None:
    _, connection = await watched(server)
    url = await start(anna, connection)
    server.commands.captures.captures.all.clear()
    assert "There is no such capture." in (await anna.get(url)).text


async def test_a_reason_is_required(server: DashboardServer, anna: Browser) -> None:
    _, connection = await watched(server)
    about = {"connection": connection, "reason": "  "}
    reply = await send(anna, "/connections", "/connections/capture/start", **about)
    assert reply.status == 400
    assert not server.commands.captures.captures.all
