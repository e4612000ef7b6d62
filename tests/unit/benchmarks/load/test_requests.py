"""Tests of benchmarks.load.requests."""

import asyncio
from typing import cast

import pytest

from benchmarks.load.jobs import Endpoint, Job
from benchmarks.load.loops import Client
from benchmarks.load.requests import KeepAliveClient, Requests

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
JOB = Job(kind="get", endpoint=Endpoint(host="web.localhost", port=1), path="/1k", size=4)


class CompletionSink:
    """Counts."""

    def __init__(self) -> None:
        self.dues: list[float] = []
        self.reasons: list[str] = []

    def finished(self, client: Client, due: float) -> None:
        self.dues.append(due)

    def failed(self, reason: str) -> None:
        self.reasons.append(reason)


class FakeTransport:
    """A transport."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        pass


@pytest.fixture
def sink() -> CompletionSink:
    return CompletionSink()


@pytest.fixture
def client(sink: CompletionSink) -> KeepAliveClient:
    client = KeepAliveClient(sink, Requests(JOB), 4)
    client.connection_made(cast("asyncio.Transport", FakeTransport()))
    client.start(7.0)
    return client


def test_no_two_targets_are_the_same() -> None:
    requests = Requests(JOB)
    lines = [requests.next().partition(b"\r\n")[0] for _ in range(3)]
    assert lines == [b"GET /1k?n=0 HTTP/1.1", b"GET /1k?n=1 HTTP/1.1", b"GET /1k?n=2 HTTP/1.1"]


def test_hosts_in_turn() -> None:
    requests = Requests(Job(kind="get", endpoint=JOB.endpoint, hosts=("a", "b")), close=True)
    asked = [requests.next() for _ in range(3)]
    assert [request.split(b"\r\n")[1] for request in asked] == [b"Host: a", b"Host: b", b"Host: a"]
    assert all(b"\r\nConnection: close\r\n" in request for request in asked)


@pytest.mark.parametrize("cut", range(1, len(HEAD) + 4))
def test_an_answer_in_any_two_pieces(
    client: KeepAliveClient, sink: CompletionSink, cut: int
) -> None:
    answer = HEAD + b"body"
    client.data_received(answer[:cut])
    assert sink.dues == []
    client.data_received(answer[cut:])
    assert (sink.dues, sink.reasons) == ([7.0], [])


def test_an_answer_of_another_status(client: KeepAliveClient, sink: CompletionSink) -> None:
    client.data_received(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbody")
    assert (sink.dues, sink.reasons) == ([], ["HTTP/1.1 503 Service Unavailable"])


def test_too_long_an_answer(client: KeepAliveClient, sink: CompletionSink) -> None:
    client.data_received(HEAD + b"body and more")
    assert (sink.dues, sink.reasons) == ([], ["an answer with more than its 4 bytes"])


def test_a_connection_that_is_lost(client: KeepAliveClient, sink: CompletionSink) -> None:
    client.connection_lost(None)
    assert sink.reasons == ["a connection that should be kept was closed (without a reason)"]


def test_a_connection_that_we_close(client: KeepAliveClient, sink: CompletionSink) -> None:
    client.close()
    client.connection_lost(None)
    assert sink.reasons == []
