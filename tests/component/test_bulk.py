"""Tests of large bodies: constant memory, and a stalled reader disturbs no other stream.

`CHAOS=full` (make chaos) sends 2 GiB in each direction.
"""

import asyncio
import hashlib
import statistics
import time
from collections.abc import AsyncIterator

import pytest

from tests.component.test_chaos import FULL
from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.client import Client
from tests.support.pattern import pattern, pattern_bytes, pattern_digest
from tests.support.processes import Process
from tests.support.stack import Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("bulk"),
]

APP, WS = "bulk.localhost", "calm.localhost"
MIB = 1 << 20
SIZE = (2048 if FULL else 256) * MIB
ROOM = 60 * MIB


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Stack]:
    """A stack whose memory is only ours to use."""
    folder = tmp_path_factory.mktemp("bulk")
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        services = [service(APP, origin.port), service(WS, ws.port)]
        async with Stack(folder, authority, agents={"agent-1": services}) as stack:
            response = await stack.caddy.get(APP, f"/bytes/{64 * MIB}")
            assert len(response.body) == 64 * MIB
            await stack.caddy.request(APP, "POST", "/upload", body=pattern_bytes(64 * MIB))
            yield stack


@pytest.fixture(scope="module")
def expected_digest() -> str:
    return pattern_digest(SIZE)


class Memory:
    """Context manager that fails if a process has grown by more than ROOM on exit."""

    def __init__(self, stack: Stack, what: str, measured: Measured) -> None:
        self._what = what
        self._measured = measured
        self._processes: list[Process] = [
            stack.server,
            *(agent.process for agent in stack.agents.values()),
        ]
        self._before: list[int] = []
        self._begun_at = 0.0

    def __enter__(self) -> "Memory":
        for process in self._processes:
            process.reset_peak_rss()
        self._before = [process.rss_bytes() for process in self._processes]
        self._begun_at = time.monotonic()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        took = time.monotonic() - self._begun_at
        peaks = [process.peak_rss_bytes() for process in self._processes]
        report = ", ".join(
            f"{process.name} {before / MIB:.0f} → {peak / MIB:.0f} MiB"
            for process, before, peak in zip(self._processes, self._before, peaks, strict=True)
        )
        self._measured(f"{self._what}: {took:.1f} s; resident memory before and at most: {report}")
        for before, peak in zip(self._before, peaks, strict=True):
            assert peak - before < ROOM, report


@pytest.mark.timeout(240)
async def test_a_large_download(stack: Stack, expected_digest: str, measured: Measured) -> None:
    digest = hashlib.sha256()
    with Memory(stack, f"{SIZE // MIB} MiB download", measured):
        async with await stack.caddy.open(APP, patience=30) as client:
            await client.send_head("GET", f"/bytes/{SIZE}")
            response = await client.read_head()
            async for piece in client.read_pieces(response):
                digest.update(piece)
    assert digest.hexdigest() == expected_digest


@pytest.mark.timeout(240)
async def test_a_large_upload(stack: Stack, expected_digest: str, measured: Measured) -> None:
    with Memory(stack, f"{SIZE // MIB} MiB upload", measured):
        async with await stack.caddy.open(APP, patience=30) as client:
            await client.send_head("POST", "/upload", [("Content-Length", str(SIZE))])
            await client.send_pieces(pattern(SIZE))
            response = await client.read_response()
    assert response.json() == {"length": SIZE, "sha256": expected_digest, "trailers": []}


async def begin_and_stop_reading(stack: Stack) -> Client:
    client = await stack.caddy.open(APP)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send_head("GET", f"/bytes/{SIZE}")
    return client


async def converse(stack: Stack, waits: list[float]) -> None:
    """Fifty short exchanges over one WebSocket; how long each took is added to `waits`."""
    async with stack.caddy.websocket(WS) as socket:
        for number in range(50):
            begun_at = time.monotonic()
            await socket.send(f"message {number}")
            assert await socket.recv() == f"message {number}"
            waits.append(time.monotonic() - begun_at)
            await asyncio.sleep(0.05)


@pytest.mark.timeout(120)
async def test_slow_readers_beside_live_sockets(stack: Stack, measured: Measured) -> None:
    """Ten clients request a large body each and read nothing; fifty WebSockets are not affected."""
    with Memory(stack, "10 readers that do not read, 50 live WebSockets", measured):
        readers = [await begin_and_stop_reading(stack) for _ in range(10)]
        waits: list[float] = []
        await asyncio.gather(*(converse(stack, waits) for _ in range(50)))
    measured(
        f"round trip: median {statistics.median(waits) * 1000:.1f} ms, worst"
        f" {max(waits) * 1000:.1f} ms"
    )
    assert len(waits) == 2500
    assert statistics.median(waits) < 0.1
    assert max(waits) < 2
    slow = readers.pop()
    for reader in readers:
        reader.abort()
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert (await slow.read_head()).status == 200
    assert await slow.read_exactly(50 * MIB) == pattern_bytes(50 * MIB)
    slow.abort()


@pytest.mark.timeout(120)
async def test_slow_writer_beside_live_sockets(stack: Stack, measured: Measured) -> None:
    """A bulk upload at full speed does not hold up small messages of the same tunnel."""

    async def upload() -> None:
        async with await stack.caddy.open(APP, patience=30) as client:
            await client.send_head("POST", "/upload", [("Content-Length", str(SIZE))])
            await client.send_pieces(pattern(SIZE))

    uploading = asyncio.create_task(upload())
    waits: list[float] = []
    await asyncio.gather(*(converse(stack, waits) for _ in range(10)))
    uploading.cancel()
    measured(
        f"beside a bulk upload: median {statistics.median(waits) * 1000:.1f} ms, worst"
        f" {max(waits) * 1000:.1f} ms"
    )
    assert statistics.median(waits) < 0.25
