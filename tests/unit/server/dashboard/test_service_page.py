"""Tests of the page of one host name."""

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, send
from tests.support.portal_server import Browser
from tests.unit.server.dashboard.watched_proxy import WatchedProxy
from zerotrust.model.limits import Limits
from zerotrust.server.ops.service_admin import ServiceAdmin
from zerotrust.server.proxy.load_shedding import LoadShedding

pytestmark = pytest.mark.anyio

PATH = "/services/show?host=app.example.com"


async def served(server: DashboardServer, inspection: str = "payload") -> WatchedProxy:
    proxy = WatchedProxy(server, policy={"access": {"inspection": inspection}})
    server.commands.services = ServiceAdmin(
        proxy.registry, LoadShedding(Limits()), lambda: server.parts
    )
    return proxy


async def test_its_next_websocket_is_captured(server: DashboardServer, anna: Browser) -> None:
    proxy = await served(server)
    assert (await anna.get(f"{ADMIN}/services")).page.links["app.example.com"] == PATH
    reply = await anna.get(f"{ADMIN}{PATH}")
    assert "Service app.example.com" in reply.text
    assert "Capture its next WebSocket" in reply.text
    about = {"host": "app.example.com", "reason": "nothing is shown"}
    reply = await send(anna, PATH, "/connections/capture/start", **about)
    assert reply.status == 200 and "waiting" in reply.text
    text = " ".join((await anna.get(f"{ADMIN}{PATH}")).page.text.split())
    assert "app.example.com waiting nothing is shown user anna" in text
    await proxy.open_websocket()
    text = " ".join((await anna.get(f"{ADMIN}{PATH}")).page.text.split())
    assert "running nothing is shown" in text
    assert "nothing is shown" not in (await anna.get(f"{ADMIN}/services/show?host=x")).text


async def test_a_service_that_does_not_allow_it(server: DashboardServer, anna: Browser) -> None:
    await served(server, "metadata")
    reply = await anna.get(f"{ADMIN}{PATH}")
    assert "Now it is <code>metadata</code>" in reply.text
    about = {"host": "app.example.com", "reason": "nothing is shown"}
    reply = await send(anna, PATH, "/connections/capture/start", **about)
    assert reply.status == 409
    assert "access.inspection" in reply.text
