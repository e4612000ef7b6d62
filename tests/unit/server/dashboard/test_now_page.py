"""Tests of the page Now."""

from types import SimpleNamespace

import pytest

from tests.support.agent_sessions import join
from tests.support.dashboard_server import ADMIN, HOSTILE, DashboardServer, signed_in
from tests.support.identities import HOME, home
from tests.support.portal_server import Browser
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.tunnel.messages import ServiceHealth, UpstreamFault
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


async def test_it_names_services_with_unhealthy_upstreams(
    server: DashboardServer, anna: Browser
) -> None:
    session = join(server.registry, "home", SimpleNamespace(attached=True, can_open=True))
    for number in range(25):
        name = f"s{number:02}"
        claim = ServiceRegistration(session, name, name.encode(), (f"{name}.example.com",), True)
        server.registry.register(claim)
        faults = [UpstreamFault(address=HOSTILE, reason="timed out")]
        session.health[name] = ServiceHealth(id=name, healthy=1, upstreams=3, unhealthy=faults)
    session.health["s01"] = ServiceHealth(id="s01", healthy=0, upstreams=1)
    session.health["s02"] = ServiceHealth(id="s02", healthy=2, upstreams=2)
    reply = await anna.get(f"{ADMIN}/")
    assert "all is well" not in reply.text
    assert "<script>" not in reply.text
    said = [" ".join(one.split()) for one in reply.page.text.splitlines()]
    text = " ".join(said)
    assert (
        'Service s00 of agent home: 1 of 3 healthy; "><script>alert(1)</script>: timed out' in text
    )
    assert "and 1 more" in text
    assert "Service s01 of agent home: none healthy" in text
    assert "s02" not in text
    assert "and 4 more services with unhealthy upstreams" in text
    assert reply.page.links["s00"] == "/services?host=s00.example.com"
    services = (await anna.get(f"{ADMIN}/services?host=s02")).text
    assert "all 2 healthy" in services
    assert "none healthy" in (await anna.get(f"{ADMIN}/services?host=s01")).text


async def test_it_lists_the_servers_of_the_database(server: DashboardServer, anna: Browser) -> None:
    assert "Servers" not in (await anna.get(f"{ADMIN}/")).page.text
    await server.membership.look()
    alone = " ".join((await anna.get(f"{ADMIN}/")).page.text.split())
    assert "11111111 (this one) server-1.example.com:8443" in alone
    assert "of this server only" not in alone
    await server.add_server("2" * 32, HOSTILE)
    both = await anna.get(f"{ADMIN}/")
    assert f"22222222 {HOSTILE} 0.9" in " ".join(both.page.text.split())
    assert "<script>" not in both.text
    assert "requests and captures of this server only" in both.page.text


async def test_only_those_who_may_look_are_led_to_it(
    server: DashboardServer, anna: Browser
) -> None:
    assert (await anna.get("https://auth.example.com/me")).page.links[
        "Open the dashboard"
    ] == f"{ADMIN}/"
    ben = await signed_in(server, "ben")
    assert "dashboard" not in (await ben.get("https://auth.example.com/me")).text
