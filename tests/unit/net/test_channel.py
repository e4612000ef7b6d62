"""Tests of zerotrust.net.channel."""

import asyncio
import errno
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiofastnet
import pytest

from tests.support.transport import FakeTransport
from zerotrust.errors import ForwardError
from zerotrust.http.body import Kind
from zerotrust.http.head import ResponseHead
from zerotrust.model.upstream import UpstreamEndpoint
from zerotrust.net.channel import Channel, Chunk
from zerotrust.net.http_client import (
    BackendConnection,
    BackendPool,
    ConnectOptions,
    DescriptorBudget,
)
from zerotrust.net.http_server import HttpServerConnection
from zerotrust.net.tasks import Tasks
from zerotrust.net.tunnel import TunnelLink
from zerotrust.net.uvloop_fix import WatchingLoop
from zerotrust.net.write_coalescer import READ_BYTES, WriteCoalescer


def methods(kind: type) -> list[str]:
    return [
        name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
    ]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(TunnelLink, name) for name in methods(asyncio.Protocol)]
    + [
        (kind, name)
        for kind in (BackendConnection, HttpServerConnection)
        for name in sorted({*methods(asyncio.Protocol), *methods(asyncio.BufferedProtocol)})
    ],
)
def test_each_connection_has_all_methods_of_a_protocol(kind: type[Channel], name: str) -> None:
    assert callable(getattr(kind, name))


async def _half_close_of_one_that_is_gone() -> tuple[bool, bool]:
    class Gone(FakeTransport):
        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    channel = Channel(WriteCoalescer(asyncio.get_running_loop()))
    transport = Gone(channel.as_protocol())
    channel.send(b"the last")
    channel.send_eof()
    return transport.is_aborted, channel.congested


def test_half_close_of_a_lost_connection_raises_nothing() -> None:
    assert asyncio.run(_half_close_of_one_that_is_gone()) == (True, False)


def unconnected() -> Channel:
    return Channel(WriteCoalescer(asyncio.get_running_loop()))


async def _written_after(method: Callable[[Channel], None]) -> bytes:
    channel = unconnected()
    channel.send(b"x")
    method(channel)
    transport = FakeTransport(channel.as_protocol())
    output = await transport.written()
    assert not transport.has_eof and not transport.resets
    return output


@pytest.mark.parametrize(
    ("method", "output"),
    [
        (Channel.send_eof, b"x"),
        (Channel.reset_on_close, b"x"),
        (Channel.close, b""),
        (Channel.abort, b""),
    ],
)
def test_a_channel_that_is_not_connected_yet(
    method: Callable[[Channel], None], output: bytes
) -> None:
    assert asyncio.run(_written_after(method)) == output


async def _after_the_end() -> bytes:
    channel = unconnected()
    transport = FakeTransport(channel.as_protocol())
    channel.send(b"last")
    channel.close()
    channel.send(b"late")
    channel.send_eof()
    channel.close()
    return await transport.written()


def test_nothing_is_written_after_close() -> None:
    assert asyncio.run(_after_the_end()) == b"last"


async def _half_close_over_tls() -> FakeTransport:
    channel = unconnected()
    transport = FakeTransport(channel.as_protocol(), tls=True)
    channel.send(b"last")
    channel.send_eof()
    assert await transport.written() == b"last"
    return transport


def test_half_close_over_tls_closes() -> None:
    transport = asyncio.run(_half_close_over_tls())
    assert transport.is_closing() and not transport.is_aborted


class Recorder(FakeTransport):
    """A transport that records each piece."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.pieces: list[bytes] = []
        super().__init__(protocol)

    def write(self, data: Any) -> None:
        self.pieces.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.pieces += map(bytes, list_of_data)


class Sink:
    """A ResponseSink that counts its events, and pauses reading after each piece of the body."""

    def __init__(self, connection: BackendConnection) -> None:
        self.connection = connection
        self.drains = 0
        self.sizes: list[int] = []
        connection.begin(self, b"GET")

    def response_interim(self, head: ResponseHead) -> None: ...

    def response(self, head: ResponseHead, framing: tuple[Kind, int]) -> None: ...

    def body(self, data: bytes, *, end: bool) -> None:
        self.sizes.append(len(data))
        self.connection.pause_reading()

    def body_trailers(self, fields: bytes) -> None: ...

    def failed(self, error: ForwardError, *, untouched: bool, unsent: list[Chunk]) -> None: ...

    def drained(self) -> None:
        self.drains += 1


@dataclass(eq=False)
class Owner:
    """A ConnectionSink."""

    connected: Callable[[BackendConnection], None]
    unreachable: Callable[[ForwardError], None]


def backend(port: int = 1) -> BackendPool:
    coalescer = WriteCoalescer(asyncio.get_running_loop())
    budget = DescriptorBudget.of_process()
    return BackendPool(
        ConnectOptions(UpstreamEndpoint("127.0.0.1", port, False)),
        coalescer=coalescer,
        tasks=Tasks(),
        budget=budget,
    )


def connected() -> tuple[BackendConnection, Recorder, Sink]:
    connection = BackendConnection(WriteCoalescer(asyncio.get_running_loop()), backend())
    return connection, Recorder(connection.as_protocol()), Sink(connection)


async def _congested_again() -> int:
    class Full(FakeTransport):
        """A transport that a write congests."""

        def writelines(self, list_of_data: Iterable[Any]) -> None:
            connection.pause_writing()

        def write(self, data: Any) -> None:
            connection.pause_writing()

    connection = BackendConnection(WriteCoalescer(asyncio.get_running_loop()), backend())
    Full(connection.as_protocol())
    sink = Sink(connection)
    connection.pause_writing()
    connection.send(b"x")
    connection.resume_writing()
    assert (connection.congested, sink.drains) == (True, 0)
    connection.resume_writing()
    assert not connection.congested
    return sink.drains


def test_drained_only_if_the_transport_takes_all_bytes() -> None:
    assert asyncio.run(_congested_again()) == 1


def weight(pieces: Iterable[bytes | memoryview]) -> int:
    return sum(sys.getsizeof(piece) for piece in pieces)


async def _chunks_of_a_byte() -> None:
    channel, transport, sink = connected()
    for _ in range(1000):
        for piece in (b"1\r\n", b"x", b"\r\n"):
            channel.send(piece)
    await asyncio.sleep(0.001)
    assert b"".join(transport.pieces) == b"1\r\nx\r\n" * 1000
    assert weight(transport.pieces) < 1.2 * 6000
    transport.pieces.clear()
    channel.pause_writing()
    for _ in range(1000):
        for piece in (b"1\r\n", b"y", b"\r\n"):
            channel.send(piece)
        await asyncio.sleep(0)
    assert not transport.pieces, "what comes in other turns of the loop is joined, too"
    assert weight(channel._out) < 1.2 * 6000
    assert sink.drains == 0
    channel.resume_writing()
    assert b"".join(transport.pieces) == b"1\r\ny\r\n" * 1000 and sink.drains == 1


def test_small_pieces_are_joined() -> None:
    asyncio.run(_chunks_of_a_byte())


async def _last_words(how: str) -> bytes:
    channel, transport, _ = connected()
    channel.pause_writing()
    channel.send(b"the last")
    await asyncio.sleep(0)
    getattr(channel, how)()
    return b"".join(transport.pieces)


@pytest.mark.parametrize("how", ["close", "send_eof"])
def test_buffered_bytes_are_written_before_the_end(how: str) -> None:
    assert asyncio.run(_last_words(how)) == b"the last"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000))
    await reader.read()
    writer.close()


async def _reads() -> list[int]:
    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        dialled: asyncio.Future[BackendConnection] = loop.create_future()
        backend(server.sockets[0].getsockname()[1]).dial(
            Owner(dialled.set_result, dialled.set_exception)
        )
        connection = await dialled
        sink = Sink(connection)
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        while sum(sink.sizes) < 1_000_000:
            before = len(sink.sizes)
            await asyncio.sleep(0.001)
            assert len(sink.sizes) <= before + 1, "who pauses after a read gets no other"
            connection.resume_reading()
        connection.abort()
    return sink.sizes


def test_reads_have_at_most_read_bytes() -> None:
    with asyncio.Runner(loop_factory=aiofastnet.loop_factory(WatchingLoop)) as runner:
        sizes = runner.run(_reads())
    assert READ_BYTES // 2 < max(sizes) <= READ_BYTES and sum(sizes) == 1_000_000
