"""Tests of benchmarks.load.strangers."""

import itertools
import re
from dataclasses import replace

import pytest

from benchmarks.load.jobs import Endpoint, Job
from benchmarks.load.strangers import Stranger
from tests.support.transport import FakeTransport

pytestmark = pytest.mark.anyio

JOB = Job(kind="strangers", endpoint=Endpoint(host="gated.localhost", port=1), path="/1k")
ANSWER = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"


async def test_each_request_has_another_cookie() -> None:
    stranger = Stranger(JOB, itertools.count())
    transport = FakeTransport(stranger)
    stranger.send(3)
    cookies = re.findall(rb"Cookie: __Host-0trust=([0-9A-Za-z]+)\r\n", transport.output)
    assert len(set(cookies)) == 3
    assert {len(cookie) for cookie in cookies} == {43}


async def test_only_answers_with_the_expected_status_count() -> None:
    stranger = Stranger(replace(JOB, status=404), itertools.count())
    stranger.data_received(ANSWER + ANSWER.replace(b"401", b"404"))
    assert stranger.refused == 1


async def test_a_slow_server_gets_no_more() -> None:
    stranger = Stranger(JOB, itertools.count())
    transport = FakeTransport(stranger)
    for _ in range(10):
        stranger.send(50)
    assert transport.output.count(b"GET ") == 64
    for byte in ANSWER * 4:
        stranger.data_received(bytes((byte,)))
    assert stranger.refused == 4
    stranger.send(50)
    assert transport.output.count(b"GET ") == 68
