"""Tests of zerotrust.net.descriptor_passing: both ends of a channel in one process."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from tests.support.ports import free_port
from tests.support.waiting import eventually
from zerotrust.errors import SetupError
from zerotrust.net import listen
from zerotrust.net.descriptor_passing import (
    HandingListening,
    ParentChannel,
    WorkerChannel,
    WorkerListener,
)
from zerotrust.net.listen import PlainListening
from zerotrust.net.loop import run
from zerotrust.net.tasks import Tasks
from zerotrust.tunnel.codes import ALPN, WORKER_ALPN

pytestmark = pytest.mark.anyio


class Greeting(asyncio.Protocol):
    """Answers with a word, and closes when the client has sent its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connection = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.connection.write(b"hello")
        self.connection.close()


class Ends:
    """A channel, and what its worker's end has noticed."""

    def __init__(self) -> None:
        self.channel = WorkerChannel()
        self.ended = False
        self.worker = ParentChannel(os.dup(self.channel.descriptor), ended=self._end)
        self.channel.started()
        self.plain = PlainListening([], Greeting, key="k")
        self.worker.start({b"a": self.plain.take})

    def _end(self) -> None:
        self.ended = True


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    yield made
    made.worker.close()
    made.channel.close()
    await made.plain.close()


async def read(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        try:
            writer.write(b"you first")
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


async def test_a_connection_is_served_at_the_other_end(ends: Ends) -> None:
    port, results = free_port(), []

    def hand(connection: socket.socket) -> None:
        with connection:
            results.append(ends.channel.hand(b"a", connection))

    listening = HandingListening.bind(f"127.0.0.1:{port}", hand, key="k")
    assert [await read(port) for _ in range(3)] == [b"hello"] * 3
    ends.worker.refuse(b"a")
    assert await read(port) == b""
    ends.worker.close()
    assert await read(port) == b""
    assert results == [True] * 4 + [False]
    await listening.close()
    with pytest.raises(SetupError, match="k: cannot listen"):
        HandingListening.bind("unix:/no/such/folder", hand, key="k")


async def test_each_end_notices_the_end_of_the_other(ends: Ends) -> None:
    ends.worker.tell(b"r1")
    ends.worker.tell(b"r2")
    assert [await ends.channel.receive(), await ends.channel.receive()] == [b"r1", b"r2"]
    ends.channel.close()
    await eventually(lambda: ends.ended, "the worker notices")
    ends.worker.tell(b"r")

    other = Ends()
    other.worker.close()
    assert await other.channel.receive() == b""
    other.channel.close()
    assert await other.channel.receive() == b""
    await other.plain.close()


def test_a_channel_that_is_closed_while_it_receives() -> None:
    received: list[bytes] = []

    async def main() -> None:
        channel = WorkerChannel()
        receiving = asyncio.ensure_future(channel.receive())
        for _ in range(3):
            await asyncio.sleep(0)  # the loop watches it
        channel.close()
        async with asyncio.timeout(10):
            received.append(await receiving)

    run(main())
    assert received == [b""]


class Front:
    """Listens for agents; `found` has the worker and the first bytes of each connection."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.port = free_port()
        self.found: list[tuple[int, bytes]] = []
        self.refused: list[str] = []
        self.listener = WorkerListener(
            self._hand, refused=lambda _, reason: self.refused.append(reason), tasks=self.tasks
        )
        self.listening = self.listener.listen(f"127.0.0.1:{self.port}", key="k")

    def _hand(self, worker: int, connection: socket.socket) -> None:
        with connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            self.found.append((worker, connection.recv(5)))

    async def close(self) -> None:
        await self.listening.close()
        await self.tasks.close()


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    made = Front()
    yield made
    await made.close()


def hello(*names: str) -> bytes:
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(names))
    output = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), output, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return output.read()


@pytest.mark.parametrize(
    ("first", "worker"),
    [
        (lambda: hello(ALPN, f"{WORKER_ALPN}3"), 3),
        (lambda: hello(ALPN), 0),
        (lambda: b"GET / HTTP/1.1", 0),
    ],
)
async def test_the_first_message_names_the_worker_and_stays(
    front: Front, first: Callable[[], bytes], worker: int
) -> None:
    message = first()
    _, writer = await asyncio.open_connection("127.0.0.1", front.port)
    for part in (message[:3], message[3:40], message[40:]):
        if front.found:
            break
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.02)
    await eventually(lambda: front.found, "it is handed over")
    assert front.found == [(worker, message[:5])]
    assert front.listener.handshakes.count == 0
    writer.close()


async def test_a_client_that_leaves_or_says_nothing_is_refused(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(hello(ALPN)[:50])
    writer.close()
    await eventually(lambda: front.refused, "it is refused")
    monkeypatch.setattr(listen, "HANDSHAKE_TIMEOUT", 0.1)
    silent, writer = await asyncio.open_connection("127.0.0.1", front.port)
    assert await silent.read() == b""
    writer.close()
    await eventually(lambda: len(front.refused) == 2, "it is refused, too")
    assert front.found == []
