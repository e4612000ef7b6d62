"""Tests of the page Now."""

import pytest

from tests.support.dashboard_server import ADMIN, DashboardServer, signed_in
from tests.support.identities import HOME, home
from tests.support.portal_server import Browser
from zerotrust.tunnel.session_stats import SessionStats

pytestmark = pytest.mark.anyio


async def test_it_shows_numbers(server: DashboardServer, anna: Browser) -> None:
    server.live.sessions.append(HOME)
    reply = await anna.get(f"{ADMIN}/")
    assert reply.status == 200, reply.text
    assert "Connected agents" in reply.text
    assert reply.page.text.count("anna") == 1


async def test_it_names_what_needs_attention(server: DashboardServer, anna: Browser) -> None:
    reply = await anna.get(f"{ADMIN}/")
    assert "Nothing: all is well." in reply.text
    for number in range(25):
        server.registry.expect(f"host-{number:02}.example.com", "home", "web")
    soon = server.store.clock() + 3600
    server.live.sessions.append(home(certificate_ends=soon))
    for _ in range(3):
        server.load_shedding.sample({"home": SessionStats()}, pending=0, lag=10.0)
    reply = await anna.get(f"{ADMIN}/?again=")
    assert "all is well" not in reply.text
    assert "over its limit of event loop lag" in reply.text
    assert "host-19.example.com" in reply.text
    assert "host-20.example.com" not in reply.text
    assert "and 5 more host names" in reply.page.links
    assert "The certificate of agent" in reply.text


async def test_only_those_who_may_look_are_led_to_it(
    server: DashboardServer, anna: Browser
) -> None:
    assert (await anna.get("https://auth.example.com/me")).page.links[
        "Open the dashboard"
    ] == f"{ADMIN}/"
    ben = await signed_in(server, "ben")
    assert "dashboard" not in (await ben.get("https://auth.example.com/me")).text
