"""Tests of zerotrust.net.websocket_transport, without TLS."""

import asyncio
from typing import Any, cast

import pytest

from tests.support.transport import FakeTransport
from zerotrust.http.websocket_stream import NORMAL_CLOSURE, WebSocketStream
from zerotrust.net.channel import Channel
from zerotrust.net.websocket_transport import WebSocketTransport
from zerotrust.net.write_coalescer import WriteCoalescer

pytestmark = pytest.mark.anyio


class Carrier(asyncio.Protocol):
    """A connection that carries a WebSocket.

    It does not inherit from Channel, because an interpreted class cannot inherit from a compiled
    one.
    """

    def __init__(self) -> None:
        self._channel = Channel(WriteCoalescer(asyncio.get_running_loop()))
        self.websocket = WebSocketTransport(
            self._channel, client=False, peername=("192.0.2.1", "websocket")
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._channel.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.connection_lost(exc)
        self.websocket.aborted(exc)

    def pause_writing(self) -> None:
        self._channel.pause_writing()

    def resume_writing(self) -> None:
        self._channel.resume_writing()
        self.websocket.drained()


class Receiver:
    """A protocol that records its events; it takes `room` bytes at a time."""

    def __init__(self, *, buffered: bool = True, room: int = 7) -> None:
        self._buffered = buffered
        self._buffer = memoryview(bytearray(room))
        self.received = b""
        self.events: list[str] = []

    def is_buffered_protocol(self) -> bool:
        return self._buffered

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self._buffer[:nbytes]

    def data_received(self, data: bytes) -> None:
        self.received += data

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append(f"lost: {error}")


class Fixture:
    """A transport, the connection below and the protocol above."""

    def __init__(self, *, buffered: bool = True) -> None:
        self.carrier = Carrier()
        self.below = FakeTransport(self.carrier)
        self.transport = self.carrier.websocket
        self.above = Receiver(buffered=buffered)
        self._peer = WebSocketStream(client=True)
        self.transport.set_protocol(cast("Any", self.above))

    def send(self, data: bytes) -> None:
        """Send a frame from the peer."""
        self.transport.body(self._peer.header(len(data)) + data, end=False)

    async def sent(self) -> bytes:
        """Return the bytes that the peer gets."""
        return b"".join(self._peer.receive_data(await self.below.written()))

    @property
    def is_closed_for_peer(self) -> bool:
        return self._peer.ended


@pytest.mark.parametrize("buffered", [True, False])
async def test_bytes_travel_both_ways(buffered: bool) -> None:
    fixture = Fixture(buffered=buffered)
    fixture.transport.resume_reading()
    await fixture.below.written()
    for size in (1, 7, 8, 1000):
        fixture.send(b"x" * size)
    assert fixture.above.received == b"x" * 1016
    fixture.transport.writelines([b"one", b"", memoryview(b"two")])
    assert await fixture.sent() == b"onetwo"


async def test_nothing_is_delivered_while_reading_is_paused() -> None:
    fixture = Fixture()
    fixture.send(b"early")
    assert not fixture.transport.is_reading()
    assert not fixture.above.received[:]
    fixture.transport.resume_reading()
    assert fixture.transport.is_reading()
    await fixture.below.written()
    assert fixture.above.received[:] == b"early"
    fixture.transport.pause_reading()
    assert not fixture.below.is_reading()
    fixture.send(b", late")
    fixture.transport.body(b"", end=True)
    assert not fixture.above.events
    fixture.transport.resume_reading()
    await fixture.below.written()
    assert fixture.above.received == b"early, late"
    assert fixture.above.events == ["lost: None"]


async def test_a_pause_at_the_last_bytes_delays_the_end() -> None:
    fixture = Fixture(buffered=False)
    fixture.transport.resume_reading()
    await fixture.below.written()

    def pause(data: bytes) -> None:
        fixture.transport.pause_reading()

    fixture.above.data_received = pause  # type: ignore[method-assign]
    peer = WebSocketStream(client=True)
    fixture.transport.body(peer.header(4) + b"last" + peer.close(), end=False)
    await fixture.below.written()
    assert not fixture.transport.is_closing() and not fixture.above.events
    fixture.transport.resume_reading()
    await fixture.below.written()
    assert fixture.above.events == ["lost: None"]


async def test_congestion_is_passed_on() -> None:
    fixture = Fixture()
    fixture.carrier.pause_writing()
    fixture.transport.write(b"one")
    fixture.transport.write(b"two")
    assert fixture.above.events == ["pause"]
    fixture.carrier.resume_writing()
    assert fixture.above.events == ["pause", "resume"]
    fixture.transport.drained()
    assert fixture.above.events == ["pause", "resume"]
    assert await fixture.sent() == b"onetwo"


async def test_a_peer_that_does_not_read_gets_no_pongs() -> None:
    fixture = Fixture()
    ping = bytes((0x89, 0x80, 0, 0, 0, 0))
    fixture.transport.body(ping, end=False)
    assert await fixture.below.written() == bytes((0x8A, 0))
    fixture.carrier.pause_writing()
    for _ in range(100):
        fixture.transport.body(ping, end=False)
    fixture.carrier.resume_writing()
    assert await fixture.below.written() == b""


async def test_a_close_frame_ends_the_connection() -> None:
    fixture = Fixture()
    fixture.transport.resume_reading()
    await fixture.below.written()
    fixture.transport.body(WebSocketStream(client=True).close(), end=False)
    assert await fixture.below.written() == bytes((0x88, 2)) + NORMAL_CLOSURE.to_bytes(2, "big")
    assert fixture.below.is_closing() and fixture.transport.is_closing()
    assert fixture.above.events == ["lost: None"]
    fixture.transport.write(b"too late")
    fixture.transport.close()
    assert await fixture.below.written() == b""


async def test_closing_sends_a_close_frame() -> None:
    fixture = Fixture()
    fixture.transport.write(b"last")
    fixture.transport.close()
    assert await fixture.sent() == b"last"
    assert fixture.is_closed_for_peer and fixture.below.is_closing()
    fixture.send(b"ignored")
    assert not fixture.above.received


async def test_a_violation_aborts_the_connection() -> None:
    fixture = Fixture()
    fixture.transport.body(b"\x81\x00", end=False)
    assert fixture.below.is_aborted
    fixture.carrier.connection_lost(None)
    assert fixture.above.events == ["lost: the WebSocket's peer sent a text message"]
    fixture.carrier.websocket.aborted()
    assert len(fixture.above.events) == 1


async def test_aborting_needs_no_connection() -> None:
    fixture = Fixture()
    fixture.transport.abort()
    assert fixture.below.is_aborted
    fixture.carrier.connection_lost(None)
    fixture.transport.abort()
    assert fixture.above.events == ["lost: None"]
    assert fixture.transport.get_protocol() is None
    transport = fixture.transport.as_transport()
    assert transport.get_extra_info("socket", "none") == "none"
    assert (transport.get_write_buffer_size(), transport.get_write_buffer_limits()) == (0, (0, 0))
    transport.set_write_buffer_limits(1)
    assert not transport.can_write_eof()


async def test_the_address_is_the_clients() -> None:
    fixture = Fixture()
    transport = fixture.transport.as_transport()
    assert transport.get_extra_info("peername") == ("192.0.2.1", "websocket")
    assert transport.get_extra_info("socket") is fixture.below
    fixture.below.unwritten = 5
    assert transport.get_write_buffer_size() == 5
