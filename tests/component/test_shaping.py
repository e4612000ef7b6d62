"""Tests of `traffic_shaping` through the chain: limited traffic keeps its rate, other is free."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.entrypoint import Entrypoint
from tests.support.stack import Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("shaping"),
]

MB = 1_000_000
RATE = 2 * MB
DOWN, UP, EACH, SOCKETS, FREE = (
    "down.localhost",
    "up.localhost",
    "each.localhost",
    "sockets.localhost",
    "free.localhost",
)


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("shaping")
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        services = [
            service(DOWN, origin.port, traffic_shaping={"download_limit": "2MB/s"}),
            service(UP, origin.port, traffic_shaping={"upload_limit": "2MB/s"}),
            service(EACH, origin.port, traffic_shaping={"per_ip_limit": "16Mbit/s"}),
            service(
                SOCKETS,
                ws.port,
                traffic_shaping={"upload_limit": "1MB/s", "download_limit": "1MB/s"},
            ),
            service(FREE, origin.port),
        ]
        async with Stack(folder, authority, agents={"agent-1": services}) as stack:
            yield stack


async def download(entrypoint: Entrypoint, host: str, size: int) -> float:
    """Seconds that it took."""
    begun_at = time.monotonic()
    response = await entrypoint.get(host, f"/bytes/{size}")
    assert (response.status, len(response.body)) == (200, size)
    return time.monotonic() - begun_at


async def upload(entrypoint: Entrypoint, host: str, size: int) -> float:
    """Seconds that it took."""
    begun_at = time.monotonic()
    async with await entrypoint.open(host, patience=30) as client:
        response = await client.request("POST", "/upload", body=bytes(size))
    assert response.json()["length"] == size
    return time.monotonic() - begun_at


def plain(stack: Stack) -> connect:
    """A WebSocket that does not compress: what is sent is what is counted."""
    return stack.caddy.websocket(SOCKETS, compression=None)


async def test_a_download_takes_its_time(stack: Stack, measured: Measured) -> None:
    seconds = await download(stack.caddy, DOWN, 10 * MB)
    measured(f"10 MB at 2 MB/s: {seconds:.2f} s")
    assert seconds == pytest.approx(5, rel=0.1)


async def test_an_upload_takes_its_time(stack: Stack, measured: Measured) -> None:
    seconds = await upload(stack.caddy, UP, 10 * MB)
    measured(f"10 MB up at 2 MB/s: {seconds:.2f} s")
    assert seconds == pytest.approx(5, rel=0.1)


async def test_two_share_and_others_are_not_slowed(stack: Stack, measured: Measured) -> None:
    shared = [asyncio.create_task(download(stack.caddy, DOWN, 5 * MB)) for _ in range(2)]
    others = [await download(stack.caddy, FREE, 10 * MB) for _ in range(3)]
    assert not any(task.done() for task in shared)
    seconds = await asyncio.gather(*shared)
    measured(f"two of 5 MB at 2 MB/s: {seconds}; 10 MB elsewhere meanwhile: {others}")
    assert max(seconds) == pytest.approx(5, rel=0.1)
    assert min(seconds) > 4
    assert max(others) < 2


async def test_a_client_has_so_much_each_way(stack: Stack) -> None:
    seconds = await asyncio.gather(
        download(stack.caddy, EACH, 5 * MB), upload(stack.caddy, EACH, 5 * MB)
    )
    assert list(seconds) == pytest.approx([2.5, 2.5], rel=0.15)


async def test_a_websocket_goes_on_at_the_rate(stack: Stack, measured: Measured) -> None:
    async with plain(stack) as socket:
        for number in range(20):
            await socket.send(f"message {number}")
            assert await socket.recv() == f"message {number}"
        begun_at = time.monotonic()
        for number in range(30):
            message = bytes([number]) * 100_000
            await socket.send(message)
            assert await socket.recv() == message
        seconds = time.monotonic() - begun_at
        measured(f"30 echoes of 100 kB at 1 MB/s each way: {seconds:.2f} s")
        # While a message goes up, the other direction gathers what it needs for the same message to
        # come down at once.
        assert seconds == pytest.approx(3, rel=0.15)
        await socket.send("still here")
        assert await socket.recv() == "still here"


async def test_small_messages_beside_bulk(stack: Stack, measured: Measured) -> None:
    async with plain(stack) as bulk, plain(stack) as chat:
        await bulk.send(bytes(1_500_000))
        waits = []
        for number in range(10):
            begun_at = time.monotonic()
            await chat.send(f"message {number}")
            assert await chat.recv() == f"message {number}"
            waits.append(time.monotonic() - begun_at)
        measured(f"a message beside 1.5 MB at 1 MB/s: {max(waits) * 1000:.0f} ms at most")
        assert max(waits) < 0.5
        assert len(await bulk.recv()) == 1_500_000


async def test_a_reload_gives_nothing_away(stack: Stack) -> None:
    agent = stack.agents["agent-1"]
    before: list[dict[str, Any]] = list(agent.services)
    task = asyncio.create_task(download(stack.caddy, DOWN, 10 * MB))
    for number in range(5):
        # Another service changes, and the shaped one too, in what is not its limits.
        extra = {"max_request_body": f"{number + 1}MB"}
        agent.set_services(
            [{**one, **extra} if one["hostname"] in (DOWN, FREE) else one for one in before]
        )
        await asyncio.sleep(0.3)
        await download(stack.caddy, DOWN, 100_000)
    seconds = await task
    agent.set_services(before)
    assert seconds == pytest.approx(5.25, rel=0.1)
