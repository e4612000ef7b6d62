"""Tests of zerotrust.net.handshake_limiter, also with a real listener."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bad_certificates import Credentials
from tests.support.raw_agent import client_context
from tests.support.stack import Authority
from tests.support.waiting import eventually
from zerotrust.net import handshake_limiter, listen
from zerotrust.net.handshake_limiter import BURST, RATE, GiveUp, HandshakeLimiter
from zerotrust.net.listen import TlsListener
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import tunnel_server


@pytest.fixture(autouse=True)
def four_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake_limiter, "MAX_HANDSHAKES", 4)


class Room:
    """A limiter whose handshakes have names."""

    def __init__(self) -> None:
        self.places = HandshakeLimiter()
        self.gone: list[str] = []
        self.running: dict[str, tuple[bytes, GiveUp]] = {}

    def begin(self, name: str, network: bytes, now: float = 0.0) -> bool:
        def give_up() -> None:
            self.gone.append(name)

        if not self.places.begin(network, give_up, now):
            return False
        self.running[name] = (network, give_up)
        return True

    def end(self, name: str) -> None:
        self.places.end(*self.running.pop(name))


def test_the_busiest_network_loses_its_oldest_handshake() -> None:
    room = Room()
    assert all(room.begin(f"a{number}", b"a") for number in range(4))
    assert not room.begin("a4", b"a"), "it has as many as anybody"
    assert room.begin("b0", b"b")
    assert room.begin("b1", b"b")
    assert room.gone == ["a0", "a1"]
    assert not room.begin("b2", b"b"), "both have two"
    assert room.begin("c0", b"c")
    assert len(room.gone) == 3
    assert room.places.take_refused() == {b"a": 1, b"b": 1}
    assert room.places.take_refused() == {}


def test_a_handshake_ends_only_once() -> None:
    room = Room()
    for number in range(4):
        room.begin(f"a{number}", b"a")
    room.end("a3")
    assert room.begin("a4", b"a")
    room.begin("b0", b"b")
    assert room.gone == ["a0"]
    room.end("a0")  # its place is another's already
    assert room.begin("b1", b"b")
    assert room.gone == ["a0", "a1"]


def test_each_network_has_a_rate() -> None:
    room = Room()
    begun = 0
    for number in range(BURST + 100):
        if room.begin(str(number), b"a"):
            begun += 1
            room.end(str(number))
    assert begun == BURST
    assert room.begin("other", b"b")
    room.end("other")
    begun = 0
    for number in range(300):
        if room.begin(f"later {number}", b"a", now=1.0):
            begun += 1
            room.end(f"later {number}")
    assert begun == RATE


@given(st.lists(st.tuples(st.sampled_from(b"abcdef"), st.booleans()), max_size=60))
def test_never_more_than_the_maximum(steps: list[tuple[int, bool]]) -> None:
    room, names = Room(), iter(range(1000))
    for which, ends in steps:
        network = bytes([which])
        if ends and room.running:
            room.end(next(iter(room.running)))
        else:
            before = Counter(n for name, (n, _) in room.running.items() if name not in room.gone)
            if not room.begin(str(next(names)), network):
                assert sum(before.values()) == 4
                assert before[network] == max(before.values())
        assert sum(name not in room.gone for name in room.running) <= 4


# At a door

STRANGER = "127.0.0.2"


class Door:
    """A TLS listener that greets each client after its handshake."""

    def __init__(self, authority: Authority, tasks: Tasks) -> None:
        certificate, key = map(str, authority.server())
        context = tunnel_server(certificate=certificate, key=key, authority=str(authority.root))
        self.refused: list[tuple[str, str]] = []
        self.writers: list[asyncio.StreamWriter] = []
        listener = TlsListener(
            context=context,
            factory=_Greeting,
            refused=lambda peer, why: self.refused.append((peer, why)),
            tasks=tasks,
        )
        self.listening = listener.listen("127.0.0.1:0", key="test")
        self.port: int = self.listening.sockets[0].getsockname()[1]
        chain, secret = authority.agent("home")
        self.agent = Credentials(chain=chain, key=secret, root=authority.root).client()
        self.nobody = client_context(str(authority.root))

    async def silent(self, count: int) -> list[asyncio.StreamReader]:
        """Open connections that send nothing."""
        found = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(STRANGER, 0)
            )
            self.writers.append(writer)
            found.append(reader)
        return found

    async def greeting(self, tls: ssl.SSLContext) -> bytes:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=tls, server_hostname="localhost"
            )
            try:
                return await reader.read()
            finally:
                writer.transport.abort()


class _Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast("asyncio.Transport", transport)
        connection.write(b"welcome")
        connection.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def door(authority: Authority) -> AsyncIterator[Door]:
    tasks = Tasks()
    door = Door(authority, tasks)
    yield door
    for writer in door.writers:
        writer.transport.abort()
    await door.listening.close()
    await tasks.close()


@pytest.mark.anyio
async def test_silent_connections_keep_no_one_out(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "WARNING_INTERVAL", 0.05)
    silent = await door.silent(30)
    async with asyncio.timeout(5):
        assert await silent[-1].read() == b"", (
            "the last found all places taken by others of its network"
        )
    assert await door.greeting(door.agent) == b"welcome"
    async with asyncio.timeout(5):
        assert await silent[0].read() == b"", "the first had to give its place"
    await eventually(lambda: len(door.refused) >= 2, "both are told of")
    assert (STRANGER, "26 connections without a handshake: too many of its network") in door.refused
    assert [why for peer, why in door.refused if peer.startswith(f"{STRANGER}:")] == [
        "too many handshakes of its network"
    ]


@pytest.mark.anyio
async def test_a_failed_handshake_is_reported_with_its_reason(door: Door) -> None:
    with contextlib.suppress(OSError):  # in TLS 1.3 a client may hear nothing but the end
        assert await door.greeting(door.nobody) == b""
    await eventually(lambda: door.refused, "the refusal is told")
    assert await door.greeting(door.agent) == b"welcome"
    ((peer, why),) = door.refused
    assert peer.startswith("127.0.0.1:")
    assert why == "TLS: peer did not return a certificate"


@pytest.mark.anyio
async def test_a_silent_handshake_times_out(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "HANDSHAKE_TIMEOUT", 0.05)
    (reader,) = await door.silent(1)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    assert [why for _, why in door.refused] == ["timed out"]
