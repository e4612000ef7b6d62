"""Requests that wait for an agent which is away for a moment."""

import asyncio
from typing import Any

import pytest

from tests.support.agent_sessions import join
from tests.support.waiting import eventually
from tests.unit.server.front import Front, lose_link, restore_link
from zerotrust.model.server import ProxyApi
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.proxy import pending_requests

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
SHUT: dict[str, Any] = {
    "global_middleware": [{"type": "ip_deny", "config": {"denied_ips": ["198.51.100.0/24"]}}]
}


def front(policy: dict[str, Any] | None = None, *, hold_timeout: float = 30.0) -> Front:
    found = Front(policy or {})
    if policy is None:
        found.register(None)
    found.ingress.reconfigure(ProxyApi(hold_timeout=hold_timeout), https_port=443)
    return found


@pytest.mark.parametrize("policy", [None, SHUT])
async def test_a_request_waits_for_the_link(policy: dict[str, Any] | None) -> None:
    front_ = front(policy)
    lose_link(front_)
    assert await front_.ask("POST /", "Content-Length: 10", body=b"first") == b""
    assert not front_.transport.is_reading(), "one read is kept, and no more"
    assert not front_.agent.payloads
    await restore_link(front_)
    front_.connection.data_received(b"later")
    await front_.hear()
    _, ear = front_.last
    assert (bytes(ear.body), ear.ended) == (b"firstlater", True)
    assert (await front_.answer(OK, kind=1, body=b"done")).endswith(b"done")


async def test_it_waits_no_longer_than_it_may() -> None:
    front_ = front(hold_timeout=0.02)
    lose_link(front_)
    assert await front_.ask("GET /") == b""
    said = b""

    async def answered() -> bool:
        nonlocal said
        said += await front_.hear()
        return bool(said)

    await eventually(answered, "the client is told", 5)
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"no_agent" in said
    assert b"Retry-After: " in said
    await restore_link(front_)
    assert not front_.agent.payloads


async def test_who_leaves_is_not_forwarded() -> None:
    front_ = front()
    lose_link(front_)
    await front_.ask("GET /")
    front_.connection.connection_lost(None)
    await restore_link(front_)
    assert not front_.agent.payloads


async def test_a_client_that_may_not_is_told_at_once() -> None:
    front_ = front(SHUT)
    lose_link(front_)
    assert b"HTTP/1.1 403 " in await front_.ask("GET /", client="198.51.100.7")


async def test_an_agent_that_was_lost_may_come_back_as_another_session() -> None:
    front_ = front()
    front_.registry.remove(front_.agent_session)
    assert await front_.ask("GET /") == b""
    session = join(front_.registry, "home", front_.pair.server.session)
    front_.registry.register(
        ServiceRegistration(session, "app", b"app", ("app.example.com",), True)
    )
    await asyncio.sleep(0)
    await front_.hear()
    assert len(front_.opened) == 1


async def test_one_that_is_away_for_long_is_not_waited_for() -> None:
    front_ = front(hold_timeout=30)
    now = 100.0
    front_.registry.clock = lambda: now
    front_.registry.remove(front_.agent_session)
    assert front_.registry.away_until("app.example.com", 30) == 30
    now += 31
    assert b" 503 " in await front_.ask("GET /")
    assert front_.registry.away_until("other.example.com", 30) == 0


async def test_so_many_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_requests, "MAX_PENDING", 2)
    front_ = front()
    lose_link(front_)
    said = []
    for _ in range(3):
        front_.connect()
        said.append(await front_.ask("GET /"))
    assert said[:2] == [b"", b""]
    assert b" 503 " in said[2]
    await restore_link(front_)
    assert len(front_.opened) == 2


async def test_nobody_waits_where_that_is_off() -> None:
    front_ = front(hold_timeout=0)
    lose_link(front_)
    assert b" 503 " in await front_.ask("GET /")
