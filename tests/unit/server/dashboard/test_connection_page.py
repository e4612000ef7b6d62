"""Tests of the page of one connection."""

from typing import Any

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer
from tests.support.portal_server import Browser
from tests.unit.server.dashboard.watched_proxy import WatchedProxy
from tests.unit.server.observed_proxy import HELLO

pytestmark = pytest.mark.anyio


async def test_it_is_shown_while_it_is_open(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server)
    await proxy.open_websocket()
    await proxy.send(HELLO)
    path = (await anna.get(f"{ADMIN}/connections")).page.links["app.example.com/ws"]
    assert path.startswith("/connections/show?id=")
    text = " ".join((await anna.get(f"{ADMIN}{path}")).page.text.split())
    for shown in ("app.example.com/ws", "websocket", "user:anna", "home, service app", "7 B"):
        assert shown in text
    proxy.connection.ended(None)
    text = (await anna.get(f"{ADMIN}{path}")).text
    assert "The connection is not open." in text and "Capture its messages" not in text


@pytest.mark.parametrize(
    ("policy", "age", "shown"),
    [
        ({"access": {"inspection": "payload"}}, 0, "Reason"),
        ({"access": {"inspection": "payload"}}, 901, "first confirm that it is you"),
        ({"access": {"inspection": "never"}}, 0, "Now it is never."),
        (None, 0, "access.inspection: payload"),
    ],
)
async def test_its_messages_may_be_captured_if_the_service_allows_it(
    server: DashboardServer, anna: Browser, policy: dict[str, Any] | None, age: int, shown: str
) -> None:
    await anna.get(f"{ADMIN}/")
    server.store.clock.now += age
    proxy = WatchedProxy(server, policy=policy)
    await proxy.open_websocket()
    path = (await anna.get(f"{ADMIN}/connections")).page.links["app.example.com/ws"]
    reply = await anna.get(f"{ADMIN}{path}")
    assert shown in " ".join(reply.page.text.split())
    forms = [form for form in reply.page.forms if "reason" in form["fields"]]
    assert bool(forms) is (shown == "Reason")


async def test_a_download_has_no_messages(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server, policy={"access": {"inspection": "payload"}})
    await proxy.begin_download()
    (stream,) = proxy.pair.server.session.streams.values()
    context = getattr(stream.sink, "context")  # noqa: B009
    reply = await anna.get(f"{ADMIN}/connections/show?id={context.id}")
    assert "app.example.com/file" in reply.text
    assert "Capture its messages" not in reply.text
