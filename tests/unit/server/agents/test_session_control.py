"""Tests of zerotrust.server.agents.session_control while requests run."""

import asyncio
import logging
import math
from collections.abc import Iterator

import pytest
import structlog

from tests.support.agent_sessions import join
from tests.unit.middleware.policy_runner import SECRET
from tests.unit.server.proxy_fixture import ProxyFixture
from tests.unit.server.random_schedule import Schedule
from zerotrust.db.revocations import RevocationList
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.agents import cpu_budget, registration_queue
from zerotrust.server.agents.service_registrar import MAX_REASONS_BYTES, ServiceRegistrar, shortened
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.authorization import Authorization
from zerotrust.tunnel.binary import MAX_REASON_BYTES
from zerotrust.tunnel.codes import KIND_TUNNEL
from zerotrust.tunnel.messages import Registered
from zerotrust.tunnel.session import Phase

pytestmark = pytest.mark.anyio

HOST = "app.example.com"
SCHEDULES = 3_000


class GrantedProxy(ProxyFixture):
    """A proxy with an agent "home" whose host names are granted one by one."""

    def __init__(self, *granted: str) -> None:
        super().__init__({})
        self.authorization = Authorization()
        self.registrar = ServiceRegistrar(self.registry, self.authorization, secret=SECRET)
        self.sessions = SessionControl(self.registry, self.registrar, self.authorization)
        self.agent_session.services["app"].requested = (HOST, "b.example.com")
        self.grant(*granted)

    def grant(self, *hosts: str) -> None:
        self.authorization.grants.replace("file", [("home", host) for host in hosts])
        self.sessions.reauthorize()
        self.pair.pump()

    def is_closed(self) -> bool:
        return self.pair.server.session.phase is Phase.CLOSED

    @property
    def told(self) -> tuple[list[str], list[str]]:
        """The accepted and refused names in the last message to the agent."""
        message = self.agent.messages[-1]
        assert isinstance(message, Registered)
        return message.accepted, list(message.refused)


async def test_names_come_and_go_with_their_grants() -> None:
    proxy = GrantedProxy()
    assert proxy.told == ([], [HOST, "b.example.com"])
    proxy.grant(HOST, "b.example.com")
    assert proxy.told == ([HOST, "b.example.com"], [])
    assert proxy.registry.lookup("b.example.com") is proxy.agent_session.services["app"]
    proxy.grant("b.example.com")
    assert proxy.told == (["b.example.com"], [HOST])
    with pytest.raises(KeyError):
        proxy.registry.lookup(HOST)


@pytest.mark.parametrize("wildcard", ["*.example.com", "*"])
async def test_a_request_below_a_wildcard_lives_as_long_as_its_grant(wildcard: str) -> None:
    proxy = GrantedProxy()
    proxy.agent_session.services["app"].requested = (wildcard,)
    proxy.grant(wildcard)
    assert proxy.told == ([wildcard], [])
    assert await proxy.ask("GET /") == b""
    proxy.grant(wildcard, "other.example.org")
    assert await proxy.hear() == b""
    proxy.grant("other.example.org")
    assert b"HTTP/1.1 502 " in await proxy.hear()
    assert proxy.told == ([], [wildcard])


async def test_a_refusal_names_the_command_for_a_shell() -> None:
    _, refused = Authorization().judge("home", ["*.example.com", "a.example.com"])
    command = "not granted to home; on the server: 0trust grants add home"
    assert refused == {
        "*.example.com": f"{command} '*.example.com'",
        "a.example.com": f"{command} a.example.com",
    }


async def test_what_is_the_same_is_not_said_again() -> None:
    proxy = GrantedProxy(HOST)
    said = len(proxy.agent.messages)
    proxy.grant(HOST)
    assert len(proxy.agent.messages) == said


async def test_a_name_that_is_taken_ends_its_requests() -> None:
    proxy = GrantedProxy(HOST)
    assert await proxy.ask("GET /") == b""
    proxy.grant()
    assert (await proxy.hear()).startswith(b"HTTP/1.1 502 ")
    assert not proxy.pair.server.session.streams
    assert not proxy.agent.session.streams


async def test_a_name_that_is_taken_ends_its_requests_also_where_they_are_shaped() -> None:
    proxy = GrantedProxy(HOST)
    proxy.register({"traffic_shaping": {"download_limit": "10kB/s"}})
    assert await proxy.ask("GET /") == b""
    proxy.grant()
    assert (await proxy.hear()).startswith(b"HTTP/1.1 ")
    assert not proxy.pair.server.session.streams


async def test_a_name_that_stays_keeps_its_requests() -> None:
    proxy = GrantedProxy(HOST, "b.example.com")
    await proxy.ask("GET /")
    proxy.grant(HOST)
    assert await proxy.answer(b"HTTP/1.1 204 No Content\r\n") == b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_cutting_an_agent_tells_its_websockets_why() -> None:
    proxy = GrantedProxy(HOST)
    proxy.agent_session.link.close_session = proxy.pair.server.session.close  # type: ignore[method-assign]
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: websocket")
    await proxy.answer(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n", kind=KIND_TUNNEL
    )
    assert proxy.sessions.revoke("work", None, "revoked") == (0, 0)
    assert proxy.sessions.revoke("home", "ff", "revoked") == (0, 0)
    assert proxy.sessions.revoke("home", None, "revoked") == (1, 1)
    assert await proxy.hear() == b"\x88\x02\x03\xf0"
    assert proxy.is_closed()


@pytest.mark.parametrize(
    ("revoked", "ends"),
    [
        (RevocationList(), False),
        (RevocationList(frozenset({"work"}), frozenset({("home", "c3"), ("work", "a1")})), False),
        (RevocationList(frozenset({"home"})), True),
        (RevocationList(serials=frozenset({("home", "b2")})), True),
        (RevocationList(serials=frozenset({("home", "a1")})), True),
    ],
)
async def test_who_is_refused_now_is_sent_away(revoked: RevocationList, ends: bool) -> None:
    proxy = GrantedProxy(HOST)
    proxy.agent_session.link.close_session = proxy.pair.server.session.close  # type: ignore[method-assign]
    proxy.agent_session.serial, proxy.agent_session.former_serials = "b2", {"a1"}
    proxy.authorization.revoked = revoked
    proxy.sessions.close_revoked()
    assert proxy.pair.server.session.phase is (Phase.CLOSED if ends else Phase.OPEN)


async def test_a_session_ends_with_its_certificate() -> None:
    proxy = GrantedProxy(HOST)
    proxy.agent_session.link.close_session = proxy.pair.server.session.close  # type: ignore[method-assign]
    proxy.agent_session.certificate_ends = 1000.0
    proxy.sessions.expire(999.9)
    assert not proxy.is_closed()
    proxy.sessions.expire(1000.0)
    assert proxy.is_closed()


async def test_a_session_that_goes_away_may_end_what_it_has_begun_where_there_is_a_newer_certificate() -> (
    None
):
    proxy = GrantedProxy(HOST)
    proxy.agent_session.link.close_session = proxy.pair.server.session.close  # type: ignore[method-assign]
    proxy.agent_session.certificate_ends = 1000.0
    proxy.registry.retire(proxy.agent_session)
    newer = join(proxy.registry, "home", proxy.pair.server.session)
    newer.certificate_ends = 2000.0
    proxy.sessions.expire(1000.0)
    assert not proxy.is_closed()
    proxy.registry.remove(newer)
    proxy.sessions.expire(1000.0)
    assert proxy.is_closed()


async def test_sessions_are_listed_by_agent_and_age() -> None:
    proxy = GrantedProxy(HOST)
    other, newer = (
        join(proxy.registry, agent, proxy.pair.server.session) for agent in ("away", "home")
    )
    assert proxy.sessions.connected() == [other, proxy.agent_session, newer]
    assert [proxy.sessions.is_connected(agent) for agent in ("home", "work")] == [True, False]


async def test_many_reasons_fit_into_one_message() -> None:
    reasons = {f"{number}.{'x' * 60}.example.com": "r" * 500 for number in range(256)}
    said = shortened(reasons)
    assert sum(map(len, said.values())) <= MAX_REASONS_BYTES
    assert len(shortened({"a": "r" * 500})["a"]) == MAX_REASON_BYTES
    proxy = GrantedProxy(HOST)
    proxy.registrar._add(proxy.agent_session.services["app"], reasons)
    proxy.pair.pump()
    assert not proxy.is_closed()
    assert len(proxy.told[1]) == 256


@pytest.fixture
def silent() -> Iterator[None]:
    """A third of the time would go to the log's lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.large
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("silent")
async def test_whom_a_lookup_finds_may_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, module in (("SLICE", registration_queue), ("BURST", cpu_budget)):
        monkeypatch.setattr(module, limit, math.inf)  # each step is done when it is said
    coalescer = WriteCoalescer(asyncio.get_running_loop())
    for seed in range(SCHEDULES):
        try:
            Schedule(seed, coalescer).run()
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error
