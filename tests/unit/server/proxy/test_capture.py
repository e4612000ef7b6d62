"""Tests of zerotrust.server.proxy.capture: what is kept, and what is lost."""

import asyncio
import zlib

import pytest

from tests.unit.http.generated_frames import Frame
from tests.unit.server.captured_websocket import DEFLATE, NOW, CapturedWebSocket, deflated, turns
from zerotrust.http.websocket_meter import FrameMeter
from zerotrust.server.proxy import capture as module
from zerotrust.server.proxy.capture import KEPT_BYTES, MESSAGE_BYTES, UNREAD_BYTES

pytestmark = pytest.mark.anyio

HELLO = Frame(0x81, b"hello").data


async def test_both_directions_are_captured_without_masks() -> None:
    opened = await CapturedWebSocket.open()
    capture = await opened.start()
    await opened.say(HELLO + Frame(0x89, b"a").data)
    opened.ask(Frame(0x82, b"\x00\x01"))
    found = await opened.captured(capture, 3)
    assert [(one.number, one.from_client, one.message.payload) for one in found] == [
        (1, False, b"hello"),
        (2, False, b"a"),
        (3, True, b"\x00\x01"),
    ]
    assert {one.time for one in found} == {NOW}
    await opened.close()


async def test_a_message_that_is_under_way_is_left_out() -> None:
    opened = await CapturedWebSocket.open(Frame(0x01, b"one").data + b"\x80\x03t")
    capture = await opened.start()
    await opened.say(b"wo" + HELLO)
    (found,) = await opened.captured(capture, 1)
    assert found.message.payload == b"hello"
    await opened.close()


async def test_compressed_messages_are_inflated() -> None:
    opened = await CapturedWebSocket.open(lines=DEFLATE)
    capture = await opened.start()
    made = zlib.compressobj(wbits=-15)
    for text in (b"hello hello", b"hello hello hello"):
        await opened.say(deflated(made, text))
    found = await opened.captured(capture, 2)
    assert [one.message.payload for one in found] == [b"hello hello", b"hello hello hello"]
    await opened.close()


async def test_a_capture_that_begins_late_cannot_inflate() -> None:
    made = zlib.compressobj(wbits=-15)
    opened = await CapturedWebSocket.open(deflated(made, b"hello"), lines=DEFLATE)
    capture = await opened.start()
    await opened.say(deflated(made, b"hello") + HELLO)
    found = await opened.captured(capture, 2)
    assert [(one.message.compressed, one.message.payload) for one in found] == [
        (True, b""),
        (False, b"hello"),
    ]
    await opened.close()


async def test_the_oldest_messages_make_room() -> None:
    opened = await CapturedWebSocket.open()
    capture = await opened.start()
    most = KEPT_BYTES // (1024 + MESSAGE_BYTES)
    for _ in range(most + 10):
        await opened.say(Frame(0x82, bytes(1500)).data)
    found = await opened.captured(capture, most + 10)
    assert len(found) == most
    assert found[-1].number == most + 10
    await opened.close()


async def test_bytes_that_are_too_fast_are_lost_and_it_goes_on() -> None:
    opened = await CapturedWebSocket.open(lines=DEFLATE)
    capture = await opened.start()
    meter = opened.relay.observe(capture)
    assert meter is not None
    large = Frame(0x82, bytes(UNREAD_BYTES + 100)).data
    meter.backend.feed(HELLO)
    for at in range(0, len(large), 50_000):
        meter.backend.feed(large[at : at + 50_000])
    assert capture.lost_bytes
    await turns()
    lost = capture.lost_bytes
    meter.backend.feed(deflated(zlib.compressobj(wbits=-15), b"x") + HELLO)
    found = await opened.captured(capture, 3)
    assert [(one.message.payload, one.message.compressed) for one in found] == [
        (b"hello", False),
        (b"", True),
        (b"hello", False),
    ]
    assert capture.lost_bytes == lost
    await opened.close()


async def test_the_loop_is_not_held_by_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 0.0)
    opened = await CapturedWebSocket.open()
    capture = await opened.start()
    meter = opened.relay.observe(capture)
    assert meter is not None
    meter.backend.feed(Frame(0x81, b"").data * 10_000)
    seen = set()
    while capture.count < 10_000:
        await asyncio.sleep(0)
        seen.add(capture.count)
    assert len(seen) >= 4
    await opened.close()


async def test_one_that_ends_while_it_reads_keeps_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLICE", 0.0)
    opened = await CapturedWebSocket.open()
    capture = await opened.start()
    meter = opened.relay.observe(capture)
    assert meter is not None
    meter.backend.feed(Frame(0x81, b"").data * 10_000)
    while not capture.count:
        await asyncio.sleep(0)
    before = capture.count
    opened.captures.stop(capture.id, "uid 0")
    await opened.ended(capture)
    assert before == capture.count < 10_000
    await opened.close()


async def test_a_websocket_that_is_captured_no_more_costs_nothing() -> None:
    opened = await CapturedWebSocket.open()
    meter = opened.relay.observe(None)
    assert meter is not None
    capture = await opened.start()
    assert type(meter.client) is not FrameMeter
    opened.captures.stop(capture.id, "uid 0")
    assert type(meter.client) is type(meter.backend) is FrameMeter
    await opened.say(HELLO)
    assert capture.count == 0
    await opened.close()
