"""Tests of benchmarks.load.events."""

import asyncio
import time
from typing import cast

import pytest

from benchmarks.load.events import EventStream
from benchmarks.load.jobs import Endpoint
from benchmarks.load.loops import Client

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class CompletionSink:
    """Keeps the reasons."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def finished(self, client: Client, due: float) -> None:
        raise AssertionError

    def failed(self, reason: str) -> None:
        self.reasons.append(reason)


class FakeTransport:
    """A transport."""

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


def stream(sink: CompletionSink) -> EventStream:
    made = EventStream(Endpoint(host="a", port=1), "/events", sink)
    made.connection_made(cast("asyncio.Transport", FakeTransport()))
    return made


@pytest.mark.parametrize("cut", range(1, 30))
def test_lateness_of_each_event(cut: int) -> None:
    sink = CompletionSink()
    events = stream(sink)
    sent = time.monotonic_ns() - 2_000_000_000
    body = b"1b\r\ndata: %d\n\n\r\n" % sent * 2
    events.data_received(HEAD)
    events.data_received(body[:cut])
    events.data_received(body[cut:])
    assert len(events.taken) == 2
    assert all(2.0 <= late < 12.0 for late in events.taken)
    assert sink.reasons == []


def test_another_answer() -> None:
    sink = CompletionSink()
    stream(sink).data_received(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    assert sink.reasons == ["HTTP/1.1 502 Bad Gateway"]


def test_a_stream_that_ends() -> None:
    sink = CompletionSink()
    stream(sink).connection_lost(None)
    assert sink.reasons == ["a stream of events ended (without a reason)"]
