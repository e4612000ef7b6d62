"""Tests of zerotrust.agent.reconnect."""

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.transport import FakeTransport
from tests.support.waiting import eventually
from zerotrust.agent import reconnect
from zerotrust.agent.reconnect import Reconnect
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.net.tasks import Tasks
from zerotrust.net.tunnel import TunnelLink

pytestmark = pytest.mark.anyio


class Link:
    """The part of a TunnelLink that Reconnect uses."""

    def __init__(self) -> None:
        self.session = SimpleNamespace(attached=False)
        self.closed = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.asked: list[Any] = []

    def redial(self, transport: Any) -> None:
        self.transport = transport
        self.asked.append(transport)


class Server:
    """An endpoint whose attempts fail, hang or connect, as the test says."""

    def __init__(self) -> None:
        self.turns: list[int] = []
        self.protocols: list[asyncio.Protocol] = []
        self.answer: Callable[[], Any] = self.refuse

    async def connect(
        self, protocol: Callable[[], asyncio.Protocol], turn: int, *, worker: int = 0
    ) -> None:
        self.turns.append(turn)
        await self.answer()
        made = protocol()
        made.connection_made(cast("asyncio.Transport", FakeTransport(made)))

    def place(self, turn: int) -> str:
        return f"server {turn}"

    @property
    def attempts(self) -> int:
        return len(self.turns)

    async def refuse(self) -> None:
        raise ConnectionRefusedError

    async def accept(self) -> None:
        """At once."""

    async def hang(self) -> None:
        await asyncio.Event().wait()


class Scenario:
    def __init__(self) -> None:
        self.link, self.server, self.tasks = Link(), Server(), Tasks()
        self.reconnect = Reconnect(
            cast("TunnelLink", self.link), lambda: cast("ServerEndpoint", self.server), self.tasks
        )


@pytest.fixture
async def scenario(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(reconnect, "PAUSE_LEAST", 0.0)
    monkeypatch.setattr(reconnect, "PAUSE_SOON", 0.01)
    found = Scenario()
    yield found
    await found.tasks.close()


async def test_it_retries_until_connected(scenario: Scenario) -> None:
    scenario.reconnect.begin()
    scenario.reconnect.begin()
    await eventually(lambda: scenario.server.attempts > 3, "attempts")
    scenario.server.answer = scenario.server.accept
    await eventually(lambda: scenario.link.asked, "the session is asked for")
    scenario.link.session.attached = True
    scenario.reconnect.attached()
    await eventually(lambda: not scenario.tasks.running, "nobody dials any longer")
    attempts = scenario.server.attempts
    scenario.link.session.attached = False
    scenario.reconnect.begin()
    await eventually(lambda: scenario.server.attempts > attempts, "the next time as well")


async def test_hanging_attempts_do_not_block_others(scenario: Scenario) -> None:
    scenario.server.answer = scenario.server.hang
    scenario.reconnect.begin()
    await eventually(lambda: scenario.server.attempts > 3, "attempts")
    scenario.server.answer = scenario.server.accept
    await eventually(lambda: scenario.link.asked, "the session is asked for")
    scenario.link.session.attached = True
    scenario.reconnect.attached()
    await eventually(lambda: not scenario.tasks.running, "those that hang are given up")


async def test_a_surplus_connection_is_closed(scenario: Scenario) -> None:
    first, second = (FakeTransport(asyncio.Protocol()) for _ in range(2))
    scenario.reconnect.got(cast("asyncio.Transport", first))
    scenario.reconnect.got(cast("asyncio.Transport", second))
    assert scenario.link.asked == [first]
    assert second.is_aborted and not first.is_aborted
    scenario.link.transport, scenario.link.session.attached = None, True
    third = FakeTransport(asyncio.Protocol())
    scenario.reconnect.got(cast("asyncio.Transport", third))
    assert third.is_aborted


async def test_a_silent_server_is_asked_on_another_connection(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "PATIENCE", 0.0)
    both = [FakeTransport(asyncio.Protocol()) for _ in range(2)]
    for one in both:
        scenario.reconnect.got(cast("asyncio.Transport", one))
    assert scenario.link.asked == both


async def test_a_closed_session_is_not_reconnected(scenario: Scenario) -> None:
    scenario.reconnect.begin()
    await eventually(lambda: scenario.server.attempts, "an attempt")
    scenario.link.closed.set_result(None)
    await eventually(lambda: not scenario.tasks.running, "nobody dials any longer")


async def test_reconnecting_backs_off_if_links_break_at_once(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "PAUSE_LEAST", 0.02)
    monkeypatch.setattr(reconnect, "PAUSE_SOON", 0.08)
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    scenario.server.answer = scenario.server.accept
    asked: list[float] = []

    def resumed(transport: Any) -> None:
        """The server takes the session back, and breaks the link at once."""
        asked.append(asyncio.get_running_loop().time())
        scenario.link.transport = transport
        asyncio.get_running_loop().call_soon(lost)

    def lost() -> None:
        scenario.reconnect.attached()
        scenario.link.transport = None
        scenario.reconnect.begin()

    scenario.link.redial = resumed  # type: ignore[method-assign]
    scenario.reconnect.begin()
    await eventually(lambda: len(asked) == 6, "it was asked for again")
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    for pause, least in zip(pauses, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True):
        assert pause >= least - 0.002, "the loop counts in milliseconds"
    monkeypatch.setattr(reconnect, "STEADY", 0.0)
    before = len(asked)
    scenario.reconnect.begin()
    assert scenario.reconnect.begins_at <= asyncio.get_running_loop().time(), (
        "the next loss is answered at once"
    )
    await eventually(lambda: len(asked) > before, "it is")
