"""Tests of the page Requests, with requests through an ingress."""

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer
from tests.support.portal_server import Browser
from tests.unit.server.dashboard.watched_proxy import WatchedProxy
from zerotrust.model.admin import GrantRequest
from zerotrust.server.dashboard import requests_page
from zerotrust.server.dashboard.fragments import View
from zerotrust.telemetry.hour_ring import SLOT
from zerotrust.telemetry.request_record import RequestRecord

pytestmark = pytest.mark.anyio

URL = f"{ADMIN}/requests"
APP = f"{URL}?agent=home&service=app"


async def test_services_are_listed_with_their_newest_numbers(
    server: DashboardServer, anna: Browser
) -> None:
    proxy = WatchedProxy(server)
    assert "No request has come" in (await anna.get(URL)).text
    await proxy.get()
    await proxy.ask("GET /")  # refused: no service
    await proxy.open_websocket()
    proxy.now += SLOT
    await proxy.sampler.look()
    reply = await anna.get(URL)
    assert reply.page.links["app"] == "/requests?agent=home&service=app"
    assert "the server's own pages" in reply.page.links
    text = " ".join(reply.page.text.split())
    assert "app home 0.067/s 0 %" in text


async def test_the_requests_of_a_service(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server)
    await proxy.get("/first?token=secret")
    await proxy.get("/second", status=503, body=b"")
    proxy.now += SLOT
    await proxy.sampler.look()
    reply = await anna.get(APP)
    text = " ".join(reply.page.text.split())
    assert "Requests of app" in text
    assert text.index("GET app.example.com/second") < text.index("GET app.example.com/first")
    for shown in ("503", "tunnel", "body", "user:anna", "203.0.113.7"):
        assert shown in text
    assert "secret" not in reply.text
    assert reply.text.count("<svg") == 5
    assert "The last hour as a table" in text


async def test_a_service_without_requests(server: DashboardServer, anna: Browser) -> None:
    WatchedProxy(server)
    reply = await anna.get(f"{URL}?agent=<b>&service=<i>")
    assert "No request of this service is kept." in reply.text
    assert "<i>" not in reply.text


async def test_pages_of_requests(
    server: DashboardServer, anna: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_page, "ROWS", 2)
    proxy = WatchedProxy(server)
    for number in range(3):
        await proxy.get(f"/number{number}")
    reply = await anna.get(APP)
    assert "/number2" in reply.text and "/number0" not in reply.text
    reply = await anna.get(f"{ADMIN}{reply.page.links['Next 100']}")
    assert "/number0" in reply.text and "/number2" not in reply.text
    assert "Next 100" not in reply.text
    assert "/number2" in (await anna.get(f"{APP}&after=gone")).text


async def test_services_are_listed_in_pages(server: DashboardServer, anna: Browser) -> None:
    proxy = WatchedProxy(server)
    for number in range(101):
        made = RequestRecord(
            str(number), method=b"GET", host="a.example", target=b"/", time=1.0, began_at=2.0
        )
        made.agent, made.service = "home", f"app{number:03}"
        proxy.recent.observe(made)
    reply = await anna.get(URL)
    assert "app099" in reply.text and "app100" not in reply.text
    reply = await anna.get(f"{ADMIN}{reply.page.links['Next 100']}")
    assert "app100" in reply.text and "app099" not in reply.text


async def test_a_busy_service_changes_every_two_seconds(
    server: DashboardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_page, "MAX_SHOWN", 1)
    proxy, now = WatchedProxy(server), 100.0
    page = requests_page.RequestsPage(server.dashboard.parts, clock=lambda: now)
    version = page.fragments["list"].version
    view = View("/requests", (("agent", "home"), ("service", "app")))
    before = version(view)
    await proxy.get()
    assert version(view) == before
    now = 102.0
    after = version(view)
    assert after != before
    now = 104.0
    assert version(view) == after, "there was no other request"
    assert version(View("/requests", (("agent", "home"), ("service", "other")))) == ""
    services = version(View("/requests"))
    await proxy.get()
    assert version(View("/requests")) == services, "the same services"
    await proxy.ask("GET /")
    assert version(View("/requests")) != services


async def test_graphs_stand_on_the_pages_now_and_agent(
    server: DashboardServer, anna: Browser
) -> None:
    proxy = WatchedProxy(server)
    proxy.pair.server.session.keepalive.round_trip = 0.02
    await proxy.get()
    proxy.now += SLOT
    await proxy.sampler.look()
    reply = await anna.get(f"{ADMIN}/")
    assert reply.text.count("<svg") == 5
    assert "0.067/s now" in reply.text
    await server.commands.add_grant(GrantRequest(agent="home", host="app.example.com"), "uid 0")
    reply = await anna.get(f"{ADMIN}/agents/show?agent=home")
    assert "Round trip of the link" in reply.text
    assert "20 ms now" in reply.text
