"""Tests of zerotrust.net.metrics_endpoint."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.ports import free_port
from zerotrust.errors import SetupError
from zerotrust.net.metrics_endpoint import MetricsEndpoint
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.telemetry.metrics import gauge

pytestmark = pytest.mark.anyio


@pytest.fixture
async def endpoint() -> AsyncIterator[MetricsEndpoint]:
    tasks = Tasks()
    found = MetricsEndpoint(
        lambda: [gauge("streams", "Now.", 5)],
        lambda: "overloaded",
        coalescer=WriteCoalescer(asyncio.get_running_loop()),
        tasks=tasks,
    )
    yield found
    await found.close()
    await tasks.close()


async def ask(port: int, target: str) -> tuple[int, str | None, bytes]:
    async with await Client.open(port, host="localhost") as client:
        response = await client.get(target)
        assert response.get("connection") == "close"
        await client.wait_end()
        return response.status, response.get("content-type"), response.body


async def test_metrics_and_health_over_http(endpoint: MetricsEndpoint) -> None:
    port = free_port()
    await endpoint.listen(f"127.0.0.1:{port}")
    status, media_type, body = await ask(port, "/metrics")
    assert (status, media_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"\nzerotrust_streams 5.0\n" in body
    assert await ask(port, "/healthz") == (200, "application/json", b'{"status":"overloaded"}')
    assert (await ask(port, "/"))[0] == 404


async def test_the_address_changes_and_stops(endpoint: MetricsEndpoint, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    await endpoint.listen(f"127.0.0.1:{first}")
    await endpoint.listen(f"127.0.0.1:{second}")
    assert (await ask(second, "/healthz"))[0] == 200
    for port in (first, second):
        await endpoint.listen(f"unix:{tmp_path / 'metrics.sock'}")
        with pytest.raises(ConnectionRefusedError):
            await Client.open(port, host="localhost")
    await endpoint.listen(None)
    assert not (tmp_path / "metrics.sock").exists()
    assert endpoint.listener.connections == 0


async def test_an_address_that_is_taken_changes_nothing(endpoint: MetricsEndpoint) -> None:
    port = free_port()
    await endpoint.listen(f"127.0.0.1:{port}")
    other = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    async with other:
        taken = other.sockets[0].getsockname()[1]
        with pytest.raises(SetupError, match=r"metrics\.listen_addr: cannot listen on"):
            await endpoint.listen(f"127.0.0.1:{taken}")
    assert (await ask(port, "/healthz"))[0] == 200
