"""Tests of benchmarks.load.strangers."""

import asyncio
import itertools
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from benchmarks.load.jobs import Endpoint, Job
from benchmarks.load.strangers import Stranger, Strangers
from tests.support.waiting import eventually

JOB = Job(kind="strangers", endpoint=Endpoint(host="gated.localhost", port=1), path="/1k")
ANSWER = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"


class Pair:
    """A stranger, and the server's end of its connection."""

    def __init__(self, job: Job = JOB) -> None:
        near, self.server = socket.socketpair()
        self.stranger = Stranger(job, near, itertools.count())
        self.received = b""

    def close(self) -> None:
        """Close both ends."""
        self.stranger.close()
        self.server.close()

    def send(self, count: int) -> int:
        """Let the stranger send; return the number of requests so far."""
        self.stranger.send(count)
        with suppress(BlockingIOError):
            self.received += self.server.recv(1 << 20, socket.MSG_DONTWAIT)
        return self.received.count(b"GET ")


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_each_request_has_another_cookie(pair: Pair) -> None:
    assert pair.send(3) == 3
    cookies = re.findall(rb"Cookie: __Host-0trust=([0-9A-Za-z]+)\r\n", pair.received)
    assert len(set(cookies)) == 3
    assert {len(cookie) for cookie in cookies} == {43}


def test_only_answers_with_the_expected_status_count() -> None:
    pair = Pair(replace(JOB, status=404))
    pair.server.sendall(ANSWER + ANSWER.replace(b"401", b"404"))
    pair.send(1)
    assert pair.stranger.refused == 1
    pair.close()


def test_a_slow_server_gets_no_more(pair: Pair) -> None:
    for _ in range(10):
        pair.send(30)
    assert pair.send(1) == 61
    for byte in ANSWER * 4:
        pair.server.sendall(bytes((byte,)))
        pair.send(4)
    assert pair.stranger.refused == 4
    assert pair.send(1) == 66


def test_a_closed_connection_is_a_failure(pair: Pair) -> None:
    pair.server.close()
    with pytest.raises(ConnectionError, match="closed"):
        pair.send(1)


@pytest.mark.anyio
async def test_they_send_until_the_server_leaves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint(host="gated.localhost", port=listener.getsockname()[1])
        strangers = Strangers(replace(JOB, endpoint=endpoint, connections=2, rate=1000.0))
        ends = [listener.accept()[0] for _ in range(2)]
    strangers.start()
    for end in ends:
        end.setblocking(False)
        await asyncio.get_running_loop().sock_recv(end, 1)
    assert strangers.failure is None
    for end in ends:
        end.close()
    await eventually(lambda: strangers.failure, "the thread ends")
