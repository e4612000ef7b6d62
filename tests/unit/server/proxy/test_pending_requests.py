"""Requests that wait for an agent which is away for a moment."""

import asyncio
from typing import Any

import pytest

from tests.support.agent_sessions import join
from tests.support.waiting import eventually
from tests.unit.server.proxy_fixture import ProxyFixture, lose_link, restore_link
from zerotrust.model.server import ProxyApi
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.proxy import pending_requests

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
SHUT: dict[str, Any] = {
    "global_middleware": [{"type": "ip_deny", "config": {"denied_ips": ["198.51.100.0/24"]}}]
}


def make_proxy(policy: dict[str, Any] | None = None, *, hold_timeout: float = 30.0) -> ProxyFixture:
    found = ProxyFixture(policy or {})
    if policy is None:
        found.register(None)
    found.ingress.reconfigure(ProxyApi(hold_timeout=hold_timeout), https_port=443)
    return found


@pytest.mark.parametrize("policy", [None, SHUT])
async def test_a_request_waits_for_the_link(policy: dict[str, Any] | None) -> None:
    proxy = make_proxy(policy)
    lose_link(proxy)
    assert await proxy.ask("POST /", "Content-Length: 10", body=b"first") == b""
    assert not proxy.transport.is_reading(), "one read is kept, and no more"
    assert not proxy.agent.payloads
    await restore_link(proxy)
    proxy.connection.data_received(b"later")
    await proxy.hear()
    _, sink = proxy.last
    assert (bytes(sink.body), sink.ended) == (b"firstlater", True)
    assert (await proxy.answer(OK, kind=1, body=b"done")).endswith(b"done")


async def test_it_waits_no_longer_than_it_may() -> None:
    proxy = make_proxy(hold_timeout=0.02)
    lose_link(proxy)
    assert await proxy.ask("GET /") == b""
    said = b""

    async def answered() -> bool:
        nonlocal said
        said += await proxy.hear()
        return bool(said)

    await eventually(answered, "the client is told", 5)
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"no_agent" in said
    assert b"Retry-After: " in said
    await restore_link(proxy)
    assert not proxy.agent.payloads


async def test_who_leaves_is_not_forwarded() -> None:
    proxy = make_proxy()
    lose_link(proxy)
    await proxy.ask("GET /")
    proxy.connection.connection_lost(None)
    await restore_link(proxy)
    assert not proxy.agent.payloads


async def test_a_client_that_may_not_is_told_at_once() -> None:
    proxy = make_proxy(SHUT)
    lose_link(proxy)
    assert b"HTTP/1.1 403 " in await proxy.ask("GET /", client="198.51.100.7")


async def test_an_agent_that_was_lost_may_come_back_as_another_session() -> None:
    proxy = make_proxy()
    proxy.registry.remove(proxy.agent_session)
    assert await proxy.ask("GET /") == b""
    session = join(proxy.registry, "home", proxy.pair.server.session)
    proxy.registry.register(ServiceRegistration(session, "app", b"app", ("app.example.com",), True))
    await asyncio.sleep(0)
    await proxy.hear()
    assert len(proxy.opened) == 1


async def test_one_that_is_away_for_long_is_not_waited_for() -> None:
    proxy = make_proxy(hold_timeout=30)
    now = 100.0
    proxy.registry.clock = lambda: now
    proxy.registry.remove(proxy.agent_session)
    assert proxy.registry.away_until("app.example.com", 30) == 30
    now += 31
    assert b" 503 " in await proxy.ask("GET /")
    assert proxy.registry.away_until("other.example.com", 30) == 0


async def test_so_many_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_requests, "MAX_PENDING", 2)
    proxy = make_proxy()
    lose_link(proxy)
    said = []
    for _ in range(3):
        proxy.connect()
        said.append(await proxy.ask("GET /"))
    assert said[:2] == [b"", b""]
    assert b" 503 " in said[2]
    await restore_link(proxy)
    assert len(proxy.opened) == 2


async def test_nobody_waits_where_that_is_off() -> None:
    proxy = make_proxy(hold_timeout=0)
    lose_link(proxy)
    assert b" 503 " in await proxy.ask("GET /")


async def test_a_request_below_a_wildcard_waits_for_its_agent() -> None:
    proxy = make_proxy()
    session = proxy.agent_session
    service = session.services["app"].with_hosts(("*.example.com",))
    proxy.registry.register(service)
    proxy.registry.remove(session)
    assert await proxy.ask("GET /") == b""
    assert proxy.ingress.pending == 1
    proxy.registry.add(session)
    proxy.registry.register(service)
    for _ in range(2):  # it resumes in the loop's next turn
        await proxy.hear()
    assert proxy.ingress.pending == 0
    assert (await proxy.answer(OK, kind=1, body=b"done")).endswith(b"done")
