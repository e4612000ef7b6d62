"""Tests of zerotrust.server.proxy.captures: the beginning and the end of captures."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.waiting import eventually
from tests.unit.http.generated_frames import Frame
from tests.unit.server.captured_websocket import ALLOWED, CapturedWebSocket, turns
from tests.unit.server.open_websocket import SWITCHED
from zerotrust.errors import CaptureRefused, NotFound, StateError
from zerotrust.http.websocket_frames import close_frame
from zerotrust.server.proxy import capture as capture_module
from zerotrust.server.proxy import captures as module
from zerotrust.server.proxy.capture import Capture
from zerotrust.server.proxy.captures import (
    CLOSED,
    FAILED,
    MAX_CAPTURES,
    NOT_ALLOWED,
    SERVER_STOPPED,
    STOPPED,
    TIME_OVER,
)
from zerotrust.tunnel.codes import KIND_TUNNEL, Code

pytestmark = pytest.mark.anyio

HELLO = Frame(0x81, b"hello").data
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.005)
    monkeypatch.setattr(module, "SHOWN_SECONDS", 0.005)


async def open_another(opened: CapturedWebSocket, sent: bytes = b"") -> None:
    """Open another WebSocket; its backend sends bytes together with the 101."""
    proxy = opened.proxy
    proxy.connect()
    await proxy.ask("GET /", *UPGRADE)
    assert (await proxy.answer(SWITCHED, kind=KIND_TUNNEL, body=sent or None)).endswith(sent)


async def gone(opened: CapturedWebSocket, capture: Capture) -> None:
    await eventually(lambda: capture.id not in opened.captures.all, "the capture is forgotten")
    assert not capture.messages


# Begin


async def test_the_beginning_and_the_end_are_in_the_audit_log() -> None:
    opened = await CapturedWebSocket.open()
    capture = await opened.start()
    await opened.say(HELLO)
    await opened.captured(capture, 1)
    opened.captures.stop(capture.id, "user ben")
    await gone(opened, capture)
    about = {"id": capture.id, "host": "app.example.com", "connection": opened.relay.context.id}
    assert opened.audit.records == [
        (
            "capture.started",
            "user anna",
            {**about, "service": "app", "reason": "the app shows nothing", "seconds": 600},
        ),
        ("capture.ended", "user ben", {**about, "why": STOPPED, "messages": 1}),
    ]
    with pytest.raises(NotFound, match=capture.id):
        opened.captures.get(capture.id)
    await opened.close()


async def test_without_the_audit_log_nothing_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = await CapturedWebSocket.open()

    async def fail(*_: Any, **__: Any) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(opened.audit, "record", fail)
    with pytest.raises(StateError):
        await opened.start()
    assert not opened.captures.all
    assert not opened.proxy.tasks.running


async def test_the_next_websocket_of_a_service_is_captured_from_its_first_byte() -> None:
    opened = await CapturedWebSocket.open()
    other = await opened.next("other.example.com")
    capture = await opened.next()
    assert (capture.connection, other.connection) == ("", "")
    await open_another(opened, HELLO)
    (found,) = await opened.captured(capture, 1)
    assert found.message.payload == b"hello"
    assert capture.connection.endswith("-2")
    await open_another(opened, HELLO)
    await turns()
    assert (capture.count, other.count) == (1, 0), "one WebSocket is captured, of its service"
    await opened.close()


async def test_a_service_that_does_not_allow_it_is_waited_for() -> None:
    opened = await CapturedWebSocket.open()
    capture = await opened.next()
    opened.proxy.register({})
    await open_another(opened, HELLO)
    opened.proxy.register(ALLOWED)
    assert capture.context is None
    await open_another(opened, HELLO)
    await opened.captured(capture, 1)
    await opened.close()


async def test_a_websocket_that_has_ended_meanwhile() -> None:
    opened = await CapturedWebSocket.open()
    relay, order = opened.relay, opened.order()
    opened.proxy.connection.ended(None)
    capture = await opened.captures.start(order, relay)
    assert (await opened.ended(capture))["why"] == CLOSED
    await opened.close()


async def test_one_that_is_stopped_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = await CapturedWebSocket.open()
    record = opened.audit.record

    async def stop_first(*said: Any, **about: Any) -> None:
        await record(*said, **about)
        for capture_id in opened.captures.all:
            opened.captures.stop(capture_id, "uid 0")

    monkeypatch.setattr(opened.audit, "record", stop_first)
    capture = await opened.start()
    await opened.say(HELLO)
    assert (await opened.ended(capture))["why"] == STOPPED
    assert capture.context is None and capture.count == 0
    await opened.close()


@pytest.mark.parametrize("next_one", [False, True])
async def test_one_at_a_time(next_one: bool) -> None:
    opened = await CapturedWebSocket.open()
    start = opened.next if next_one else opened.start
    first = await start()
    with pytest.raises(CaptureRefused, match=first.id):
        await start()
    opened.captures.stop(first.id, "uid 0")
    await start()
    await opened.close()


async def test_the_number_of_captures_is_bounded() -> None:
    opened = await CapturedWebSocket.open()
    for number in range(MAX_CAPTURES):
        last = await opened.next(f"app{number}.example.com")
    with pytest.raises(CaptureRefused, match="there are 8 captures"):
        await opened.start()
    opened.captures.stop(last.id, "uid 0")
    await eventually(lambda: last.is_forgotten, "it is forgotten")
    await opened.start()
    await opened.close()


# End


@pytest.mark.parametrize("next_one", [False, True])
async def test_it_ends_when_its_time_is_over(next_one: bool) -> None:
    opened = await CapturedWebSocket.open()
    capture = await (opened.next if next_one else opened.start)(seconds=60.0)
    opened.now += 59
    await turns()
    assert not capture.over
    opened.now += 1
    assert (await opened.ended(capture))["why"] == TIME_OVER
    await gone(opened, capture)
    await opened.say(HELLO)
    await open_another(opened, HELLO)
    assert capture.count == 0
    await opened.close()


@pytest.mark.parametrize("why", [TIME_OVER, NOT_ALLOWED])
async def test_it_ends_amid_bytes_that_come_faster_than_it_reads(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_module, "SLICE", 0.0)
    opened = await CapturedWebSocket.open()
    capture = await opened.start(seconds=60.0)
    meter = opened.relay.observe(capture)
    assert meter is not None
    while not capture.count:
        meter.backend.feed(Frame(0x81, b"").data * 1_000)
        await asyncio.sleep(0)
    if why == TIME_OVER:
        opened.now += 60
    else:
        opened.proxy.register({"access": {"inspection": "metadata"}})
    async with asyncio.timeout(20):
        while not capture.over:
            meter.backend.feed(Frame(0x81, b"").data * 1_000)
            await asyncio.sleep(0)
    assert capture.over == why
    await opened.close()


async def test_a_reload_that_forbids_it_ends_it_before_another_message() -> None:
    opened = await CapturedWebSocket.open()
    capture = await opened.start()
    await opened.say(HELLO)
    await opened.captured(capture, 1)
    opened.proxy.register({"access": {"inspection": "metadata"}})
    await opened.say(HELLO)
    details = await opened.ended(capture)
    assert (details["why"], details["messages"]) == (NOT_ALLOWED, 1)
    await gone(opened, capture)
    await opened.say(HELLO)
    assert capture.count == 1
    await opened.close()


async def test_messages_stay_when_the_websocket_has_ended() -> None:
    opened = await CapturedWebSocket.open()
    capture = await opened.start()
    await opened.say(HELLO)
    opened.ask(Frame(0x88, b"\x03\xe8"))
    await opened.say(close_frame(1000))
    opened.proxy.agent.session.reset(opened.proxy.last[0], Code.NO_ERROR, "")
    await opened.proxy.hear()
    details = await opened.ended(capture)
    assert (details["why"], details["messages"]) == (CLOSED, 3)
    assert len(capture.messages) == 3
    opened.captures.stop(capture.id, "uid 0")
    await gone(opened, capture)
    assert len(opened.audit.records) == 2, "one end is recorded"
    await opened.close()


async def test_a_fault_ends_the_capture_and_not_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = await CapturedWebSocket.open()
    capture = await opened.start()

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("zerotrust.server.proxy.capture.MessageReader.feed", fail)
    with capture_logs() as said:
        await opened.say(HELLO)
        assert (await opened.ended(capture))["why"] == FAILED
    assert [one["event"] for one in said] == ["capture failed; please report this fault"]
    assert "hello" not in repr(said)
    await opened.say(HELLO)
    opened.ask(Frame(0x81, b"go on"))
    await opened.close()


async def test_the_server_stops() -> None:
    opened = await CapturedWebSocket.open()
    capture = await opened.start()
    await turns()
    await opened.close()
    assert (await opened.ended(capture))["why"] == SERVER_STOPPED
