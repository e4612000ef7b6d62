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

    async def connect(self, protocol: Callable[[], asyncio.Protocol], turn: int) -> None:
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


class Scene:
    def __init__(self) -> None:
        self.link, self.server, self.tasks = Link(), Server(), Tasks()
        self.reconnect = Reconnect(
            cast("TunnelLink", self.link), lambda: cast("ServerEndpoint", self.server), self.tasks
        )


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(reconnect, "PAUSE_LEAST", 0.0)
    monkeypatch.setattr(reconnect, "PAUSE_SOON", 0.01)
    found = Scene()
    yield found
    await found.tasks.close()


async def test_it_retries_until_connected(scene: Scene) -> None:
    scene.reconnect.begin()
    scene.reconnect.begin()
    await eventually(lambda: scene.server.attempts > 3, "attempts")
    scene.server.answer = scene.server.accept
    await eventually(lambda: scene.link.asked, "the session is asked for")
    scene.link.session.attached = True
    scene.reconnect.attached()
    await eventually(lambda: not scene.tasks.running, "nobody dials any longer")
    attempts = scene.server.attempts
    scene.link.session.attached = False
    scene.reconnect.begin()
    await eventually(lambda: scene.server.attempts > attempts, "the next time as well")


async def test_hanging_attempts_do_not_block_others(scene: Scene) -> None:
    scene.server.answer = scene.server.hang
    scene.reconnect.begin()
    await eventually(lambda: scene.server.attempts > 3, "attempts")
    scene.server.answer = scene.server.accept
    await eventually(lambda: scene.link.asked, "the session is asked for")
    scene.link.session.attached = True
    scene.reconnect.attached()
    await eventually(lambda: not scene.tasks.running, "those that hang are given up")


async def test_a_surplus_connection_is_closed(scene: Scene) -> None:
    first, second = (FakeTransport(asyncio.Protocol()) for _ in range(2))
    scene.reconnect.got(cast("asyncio.Transport", first))
    scene.reconnect.got(cast("asyncio.Transport", second))
    assert scene.link.asked == [first]
    assert second.is_aborted and not first.is_aborted
    scene.link.transport, scene.link.session.attached = None, True
    third = FakeTransport(asyncio.Protocol())
    scene.reconnect.got(cast("asyncio.Transport", third))
    assert third.is_aborted


async def test_a_silent_server_is_asked_on_another_connection(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "PATIENCE", 0.0)
    both = [FakeTransport(asyncio.Protocol()) for _ in range(2)]
    for one in both:
        scene.reconnect.got(cast("asyncio.Transport", one))
    assert scene.link.asked == both


async def test_a_closed_session_is_not_reconnected(scene: Scene) -> None:
    scene.reconnect.begin()
    await eventually(lambda: scene.server.attempts, "an attempt")
    scene.link.closed.set_result(None)
    await eventually(lambda: not scene.tasks.running, "nobody dials any longer")


async def test_reconnecting_backs_off_if_links_break_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "PAUSE_LEAST", 0.02)
    monkeypatch.setattr(reconnect, "PAUSE_SOON", 0.08)
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    scene.server.answer = scene.server.accept
    asked: list[float] = []

    def resumed(transport: Any) -> None:
        """The server takes the session back, and breaks the link at once."""
        asked.append(asyncio.get_running_loop().time())
        scene.link.transport = transport
        asyncio.get_running_loop().call_soon(lost)

    def lost() -> None:
        scene.reconnect.attached()
        scene.link.transport = None
        scene.reconnect.begin()

    scene.link.redial = resumed  # type: ignore[method-assign]
    scene.reconnect.begin()
    await eventually(lambda: len(asked) == 6, "it was asked for again")
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    for pause, least in zip(pauses, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True):
        assert pause >= least - 0.002, "the loop counts in milliseconds"
    monkeypatch.setattr(reconnect, "STEADY", 0.0)
    before = len(asked)
    scene.reconnect.begin()
    assert scene.reconnect.begins_at <= asyncio.get_running_loop().time(), (
        "the next loss is answered at once"
    )
    await eventually(lambda: len(asked) > before, "it is")
