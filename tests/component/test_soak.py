"""Soak test with broken links and short clients: no growth. `make soak` takes half an hour."""

import asyncio
import contextlib
import os
import random
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.component.test_chaos import APP, HTTPS, WS, scene_of
from tests.conftest import Measured
from tests.support.entrypoint import Entrypoint
from tests.support.processes import Process

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
CLIENTS = 20 if "SOAK_SECONDS" in os.environ else 8
MEMORY = 12 * 2**20
"""Bytes by which a process may grow after the warm-up: arenas of Python, one large window."""

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(SECONDS + 120),
    pytest.mark.xdist_group("soak"),
]


async def come_and_go(entrypoint: Entrypoint, stop: asyncio.Event) -> None:
    """A WebSocket for a moment, a request, a download that is given up: again and again."""
    while not stop.is_set():
        with contextlib.suppress(ConnectionClosed):
            async with entrypoint.websocket(WS, close_timeout=0.2) as socket:
                for _ in range(random.randrange(5)):
                    await socket.send("hello")
                    assert await socket.recv() == "hello"
        assert (await entrypoint.get(APP, "/bytes/1000", HTTPS)).status == 200
        async with await entrypoint.open(APP) as client:
            await client.send_head("GET", "/bytes/20000000", [HTTPS])
            assert await client.read_exactly(12) == b"HTTP/1.1 200"
        await asyncio.sleep(random.uniform(0, 0.2))


async def settled(process: Process) -> tuple[int, int]:
    """Return the minimum of memory and descriptors over some seconds, without current work."""
    memory, files = [], []
    for _ in range(20):
        memory.append(process.rss_bytes())
        files.append(process.open_files())
        await asyncio.sleep(0.1)
    return min(memory), min(files)


async def all_settled(processes: dict[str, Process]) -> dict[str, tuple[int, int]]:
    found = await asyncio.gather(*(settled(process) for process in processes.values()))
    return dict(zip(processes, found, strict=True))


async def test_nothing_grows(tmp_path: Path, measured: Measured) -> None:
    async with scene_of(tmp_path, sockets=50, uploads=1) as scenario:
        stop = asyncio.Event()
        churn = [asyncio.create_task(come_and_go(scenario.stack.api, stop)) for _ in range(CLIENTS)]
        processes = {"server": scenario.stack.server, "agent": scenario.agent.process}
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        before: dict[str, tuple[int, int]] = {}
        while loop.time() < begun_at + SECONDS:
            await asyncio.sleep(random.uniform(0.5, 2))
            scenario.network.reset()
            if not before and loop.time() > begun_at + SECONDS / 3:
                before = await all_settled(processes)
        after = await all_settled(processes)
        stop.set()
        await asyncio.gather(*churn)
        scenario.load.untouched()
        for name, (memory, files) in after.items():
            grown, more = memory - before[name][0], files - before[name][1]
            measured(
                f"{name} after {SECONDS:.0f} s: {memory / 2**20:.0f} MiB ({grown / 2**20:+.1f}),"
                f" {files} descriptors"
            )
            assert grown < MEMORY
            assert more < 30
