"""Tests of zerotrust.server.proxy.upgrade_timeouts."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.http.generated_frames import Frame
from tests.unit.server.open_websocket import relay_of, websocket
from tests.unit.server.proxy_fixture import ProxyFixture
from zerotrust.http.websocket_frames import close_frame
from zerotrust.server.agents.service_policy import WebSocketSettings
from zerotrust.server.proxy.upgrade_timeouts import TICK, UpgradeTimeouts

pytestmark = pytest.mark.anyio

TEXT = Frame(0x81, b"hello", masked=True).data


class Loop:
    """An event loop whose time the test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        assert delay == TICK
        self.due.append(call)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            due, self.due = self.due, []
            for call in due:
                call()


class Upgraded:
    """An upgraded connection."""

    def __init__(self) -> None:
        self.stream: Any = SimpleNamespace(done=False)
        self.moved = 0
        self.ends: list[str] = []

    def expire(self, error: str, reason: str) -> None:
        assert reason
        self.ends.append(error)


def watched(count: int = 1, **limits: Any) -> tuple[Loop, list[Upgraded]]:
    loop, opened = Loop(), [Upgraded() for _ in range(count)]
    timeouts = UpgradeTimeouts(cast("asyncio.AbstractEventLoop", loop))
    for one in opened:
        timeouts.watch(one, WebSocketSettings(**limits))
    return loop, opened


def test_one_that_rests_ends() -> None:
    loop, (one,) = watched(idle_timeout=5)
    for _ in range(4):
        loop.run(4)
        one.moved += 1
    assert one.ends == []
    loop.run(6.5)
    assert one.ends == ["idle_timeout"]


def test_one_that_lasts_ends_although_it_moves() -> None:
    loop, (one,) = watched(idle_timeout=5, max_duration=20)
    for _ in range(19):
        loop.run(1)
        one.moved += 1
    assert one.ends == []
    loop.run(2)
    assert one.ends == ["max_duration"]


def test_one_timer_serves_all_and_ends_with_them() -> None:
    loop, opened = watched(1000, max_duration=60)
    loop.run(30)
    assert len(loop.due) == 1
    for one in opened[:500]:
        one.stream.done = True
    loop.run(32)
    assert not loop.due
    assert [one.ends for one in opened] == [[]] * 500 + [["max_duration"]] * 500


# On a connection


async def timed(sent: bytes = b"", **options: Any) -> ProxyFixture:
    return await websocket(sent, policy={"websocket_idle_timeout": 0.01}, **options)


async def ended(proxy: ProxyFixture) -> bytes:
    """Wait for the end; return the bytes that the client gets."""
    said = b""
    async with asyncio.timeout(5):
        while proxy.pair.server.session.streams:
            await asyncio.sleep(0.01)
            said += await proxy.hear()
    return said + await proxy.hear()


async def test_an_idle_websocket_is_told_so() -> None:
    proxy = await timed(b"\x81\x02hi")
    assert await ended(proxy) == close_frame(1001, "idle for too long")
    assert proxy.ingress.websockets_closed == {("server", "1001"): 1}
    proxy.connection.ended(None)
    (record,) = proxy.records
    assert (record.ended_by, record.error, record.failed) == ("server", "idle_timeout", False)


async def test_a_frame_that_does_not_end_is_not_waited_for() -> None:
    proxy = await timed(b"\x81\x05hi")
    assert await ended(proxy) == b""
    assert proxy.transport.is_aborted
    assert proxy.ingress.websockets_closed == {("server", "1001"): 1}


async def test_another_protocol_breaks_off() -> None:
    proxy = await timed(protocol="chat")
    relay = relay_of(proxy)
    before = relay.moved
    proxy.connection.data_received(b"hello")
    assert relay.moved == before + 5
    await ended(proxy)
    assert proxy.transport.is_aborted
    (record,) = proxy.records
    assert (record.ended_by, record.error, record.failed) == ("server", "idle_timeout", False)
    relay.expire("idle_timeout", "again")


async def test_own_pings_and_their_pongs_do_not_move_a_websocket() -> None:
    proxy = await websocket(ping=0.01)
    relay = relay_of(proxy)
    async with asyncio.timeout(5):
        while not (said := await proxy.transport.written()):
            await asyncio.sleep(0.001)
    assert relay.moved == 0
    pong = Frame(0x8A, said[2:14], masked=True).data
    for piece in (pong[:5], pong[5:]):
        proxy.connection.data_received(piece)
        assert relay.moved == 0
    proxy.connection.data_received(TEXT)
    assert relay.moved == len(TEXT)


async def test_without_limits_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(UpgradeTimeouts, "watch", watch)
    proxy = await websocket(policy={"websocket_limits": {"ping": 30}})
    assert not proxy.ingress.websockets_closed
