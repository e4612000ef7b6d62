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


class NamedHandshakes:
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
    handshakes = NamedHandshakes()
    assert all(handshakes.begin(f"a{number}", b"a") for number in range(4))
    assert not handshakes.begin("a4", b"a"), "it has as many as anybody"
    assert handshakes.begin("b0", b"b")
    assert handshakes.begin("b1", b"b")
    assert handshakes.gone == ["a0", "a1"]
    assert not handshakes.begin("b2", b"b"), "both have two"
    assert handshakes.begin("c0", b"c")
    assert len(handshakes.gone) == 3
    assert handshakes.places.take_refused() == {b"a": 1, b"b": 1}
    assert handshakes.places.take_refused() == {}


def test_a_handshake_ends_only_once() -> None:
    handshakes = NamedHandshakes()
    for number in range(4):
        handshakes.begin(f"a{number}", b"a")
    handshakes.end("a3")
    assert handshakes.begin("a4", b"a")
    handshakes.begin("b0", b"b")
    assert handshakes.gone == ["a0"]
    handshakes.end("a0")  # its place is another's already
    assert handshakes.begin("b1", b"b")
    assert handshakes.gone == ["a0", "a1"]


def test_each_network_has_a_rate() -> None:
    handshakes = NamedHandshakes()
    begun = 0
    for number in range(BURST + 100):
        if handshakes.begin(str(number), b"a"):
            begun += 1
            handshakes.end(str(number))
    assert begun == BURST
    assert handshakes.begin("other", b"b")
    handshakes.end("other")
    begun = 0
    for number in range(300):
        if handshakes.begin(f"later {number}", b"a", now=1.0):
            begun += 1
            handshakes.end(f"later {number}")
    assert begun == RATE


@given(st.lists(st.tuples(st.sampled_from(b"abcdef"), st.booleans()), max_size=60))
def test_never_more_than_the_maximum(steps: list[tuple[int, bool]]) -> None:
    handshakes, names = NamedHandshakes(), iter(range(1000))
    for which, ends in steps:
        network = bytes([which])
        if ends and handshakes.running:
            handshakes.end(next(iter(handshakes.running)))
        else:
            before = Counter(
                n for name, (n, _) in handshakes.running.items() if name not in handshakes.gone
            )
            if not handshakes.begin(str(next(names)), network):
                assert sum(before.values()) == 4
                assert before[network] == max(before.values())
        assert sum(name not in handshakes.gone for name in handshakes.running) <= 4


# With a listener

STRANGER = "127.0.0.2"


class GreetingListener:
    """A TLS listener that greets each client after its handshake."""

    def __init__(self, authority: Authority, tasks: Tasks) -> None:
        certificate, key = map(str, authority.server())
        context = tunnel_server(certificate=certificate, key=key, authority=str(authority.root))
        self.refused: list[tuple[str, str]] = []
        self.writers: list[asyncio.StreamWriter] = []
        listener = TlsListener(
            context=context,
            factory=_Greeter,
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
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=tls, server_hostname="localhost"
            )
            try:
                return await reader.read()
            finally:
                writer.transport.abort()


class _Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast("asyncio.Transport", transport)
        connection.write(b"welcome")
        connection.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def listener(authority: Authority) -> AsyncIterator[GreetingListener]:
    tasks = Tasks()
    listener = GreetingListener(authority, tasks)
    yield listener
    for writer in listener.writers:
        writer.transport.abort()
    await listener.listening.close()
    await tasks.close()


@pytest.mark.anyio
async def test_silent_connections_keep_no_one_out(
    listener: GreetingListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "WARNING_INTERVAL", 0.05)
    silent = await listener.silent(30)
    async with asyncio.timeout(20):
        assert await silent[-1].read() == b"", (
            "the last found all places taken by others of its network"
        )
    assert await listener.greeting(listener.agent) == b"welcome"
    async with asyncio.timeout(20):
        assert await silent[0].read() == b"", "the first had to give its place"
    await eventually(lambda: len(listener.refused) >= 2, "both are told of")
    assert (
        STRANGER,
        "26 connections without a handshake: too many of its network",
    ) in listener.refused
    assert [why for peer, why in listener.refused if peer.startswith(f"{STRANGER}:")] == [
        "too many handshakes of its network"
    ]


@pytest.mark.anyio
async def test_a_failed_handshake_is_reported_with_its_reason(listener: GreetingListener) -> None:
    with contextlib.suppress(OSError):  # in TLS 1.3 a client may hear nothing but the end
        assert await listener.greeting(listener.nobody) == b""
    await eventually(lambda: listener.refused, "the refusal is told")
    assert await listener.greeting(listener.agent) == b"welcome"
    ((peer, why),) = listener.refused
    assert peer.startswith("127.0.0.1:")
    assert why == "TLS: peer did not return a certificate"


@pytest.mark.anyio
async def test_a_silent_handshake_times_out(
    listener: GreetingListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "HANDSHAKE_TIMEOUT", 0.05)
    (reader,) = await listener.silent(1)
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    assert [why for _, why in listener.refused] == ["timed out"]
