"""Tests of zerotrust.agent.probe."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.transport import FakeTransport
from zerotrust.agent.probe import Probe
from zerotrust.errors import UpstreamUnreachable
from zerotrust.model.upstream import HealthCheck
from zerotrust.net.http_client import BackendConnection, ConnectionSink
from zerotrust.net.write_coalescer import WriteCoalescer

pytestmark = pytest.mark.anyio


class Pool:
    """A pool that opens one connection when the test says so."""

    forgive = None

    def __init__(self) -> None:
        self.open = 0
        self.connection = BackendConnection(WriteCoalescer(asyncio.get_running_loop()), self)  # type: ignore[arg-type]
        self.transport = FakeTransport(self.connection.as_protocol())

    def dial(self, owner: ConnectionSink, *, probe: bool) -> None:
        assert probe
        self.owner = owner

    def withdraw(self, owner: ConnectionSink) -> bool:
        self.withdrawn = True
        return False

    def connected(self) -> None: ...

    def discard(self, connection: BackendConnection) -> None: ...


class Asked:
    """A probe and its results."""

    def __init__(self, **check: Any) -> None:
        self.pool = Pool()
        self.results: list[str] = []
        backend: Any = SimpleNamespace(pool=self.pool)
        Probe(
            backend,
            HealthCheck.model_validate(check),
            host="app.example.com",
            report=self.results.append,
        )

    async def connected(self) -> bytes:
        self.pool.owner.connected(self.pool.connection)
        return await self.pool.transport.written()


async def test_request() -> None:
    asked = Asked(path="/health?a=b", method="HEAD", headers={"X-Key": "1", "host": "other"})
    lines = (await asked.connected()).split(b"\r\n")
    assert lines[0] == b"HEAD /health?a=b HTTP/1.1"
    assert set(lines[1:]) >= {b"X-Key: 1", b"host: other", b"Connection: close"}
    assert b"Host: app.example.com" not in lines
    assert lines[-2:] == [b"", b""]
    assert b"Host: app.example.com" in (await Asked().connected()).split(b"\r\n")


@pytest.mark.parametrize(
    ("status", "expected", "failure"),
    [
        (204, None, ""),
        (302, None, "answered 302"),
        (302, "200-399", ""),
        (503, None, "answered 503"),
        (401, [200, 401], ""),
    ],
)
async def test_status(status: int, expected: Any, failure: str) -> None:
    asked = Asked(**({} if expected is None else {"expected_status": expected}))
    await asked.connected()
    asked.pool.connection.data_received(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert asked.results == []
    asked.pool.connection.data_received(
        b"HTTP/1.1 %d X\r\nLocation: /\r\nContent-Length: 9\r\n\r\npart" % status
    )
    assert asked.results == [failure]
    assert asked.pool.transport.is_closing()


async def test_each_failure_is_reported_once() -> None:
    refused = Asked()
    refused.pool.owner.unreachable(UpstreamUnreachable("connection refused"))
    assert refused.results == ["connection refused"]
    broken = Asked()
    await broken.connected()
    broken.pool.connection.connection_lost(ConnectionResetError())
    assert broken.results == ["the backend closed the connection: connection reset"]
    garbage = Asked()
    await garbage.connected()
    garbage.pool.connection.data_received(b"SSH-2.0\r\n\r\n")
    assert len(garbage.results) == 1 and "not acceptable HTTP" in garbage.results[0]


async def test_a_check_times_out() -> None:
    silent, late = Asked(timeout="10ms"), Asked(timeout="10ms")
    await silent.connected()
    while not (silent.results and late.results):
        await asyncio.sleep(0)
    assert silent.results == late.results == ["no answer within 0.01 s"]
    assert silent.pool.transport.is_aborted
    await late.connected()
    assert late.pool.transport.is_closing()
    assert len(late.results) == 1


async def test_tcp_checks_only_connect() -> None:
    asked = Asked(type="tcp")
    assert await asked.connected() == b""
    assert asked.results == [""]
    assert asked.pool.transport.is_closing()
