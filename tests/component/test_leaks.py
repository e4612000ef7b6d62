"""Tests of memory leaks by requests and connections: server and agent in this process, traced.

A leak of 100 bytes per request is found in seconds. `test_soak.py` watches whole processes, and
finds only large leaks.
"""

import asyncio
import gc
import logging
import math
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import structlog

from tests.conftest import Measured
from tests.support.inprocess_stack import Backend, RunningServer, StackFiles, dialling, serving
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("soak"),
]

APP = "app.example.com"
HTTPS = ("X-Forwarded-Proto", "https")
UPGRADE = (HTTPS, ("Connection", "Upgrade"), ("Upgrade", "echo"))
WINDOW = 250
"""Uses between two measurements."""
WINDOWS = 4
"""Measured after a first one, in which caches and buffers fill."""
MOST_WINDOWS = 10
"""Measured while the growth is not small: the free list of uvloop's handles alone takes 34 kB."""
MOST = 40.0
"""Bytes that may stay allocated for each use."""

Use = Callable[["Stack"], Awaitable[None]]


@dataclass
class Stack:
    """A server with one agent, and the backend of its service."""

    server: RunningServer
    backend: Backend


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave debug events out, as the product does by default: their timestamps take memory."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    files, backend = StackFiles(tmp_path), Backend("app")
    config = files.agent(
        {"hostname": APP, "backend": f"127.0.0.1:{backend.port}", "protocol": "http"}
    )
    async with backend.listening(), serving(files) as server, dialling(config):

        async def is_published() -> bool:
            async with await server.open(APP) as client:
                return (await client.get("/", HTTPS)).status == 200

        await eventually(is_published, "the service is published")
        yield Stack(server, backend)


async def requests(stack: Stack) -> None:
    """Send requests on one connection."""
    async with await stack.server.open(APP) as client:
        for _ in range(WINDOW):
            assert (await client.get("/", HTTPS)).status == 200


async def connections(stack: Stack) -> None:
    """Send each request on a connection of its own."""
    for _ in range(WINDOW):
        async with await stack.server.open(APP) as client:
            assert (await client.get("/", HTTPS)).status == 200


async def upgrades(stack: Stack) -> None:
    """Upgrade, exchange bytes, and break off."""
    for _ in range(WINDOW):
        async with await stack.server.open(APP) as client:
            await client.send_head("GET", "/", UPGRADE)
            assert (await client.read_head()).status == 101
            await client.send(b"hello")
            assert await client.read_exactly(5) == b"hello"


async def given_up(stack: Stack) -> None:
    """Break off when the backend has the request."""
    backend = stack.backend
    backend.go.clear()

    def more_wait_than(before: int) -> bool:
        return backend.waiting > before

    for _ in range(WINDOW):
        before = backend.waiting
        async with await stack.server.open(APP) as client:
            await client.send_head("GET", "/wait", [HTTPS])
            await eventually(partial(more_wait_than, before), "the backend has it", interval=0)
    backend.go.set()


async def growth(use: Use, stack: Stack) -> float:
    """Return the second smallest growth of a window, in bytes per use: a leak shows in each window.

    Under load, caches fill more slowly: it measures on until the growth of two windows is small.
    """
    least, before = [math.inf, math.inf], 0
    tracemalloc.start()
    try:
        for window in range(1 + MOST_WINDOWS):
            await use(stack)
            after = await settled()
            if window:
                least = sorted([*least, (after - before) / WINDOW])[:2]
            if window >= WINDOWS and least[1] < MOST:
                break
            before = after
    finally:
        tracemalloc.stop()
    return least[1]


async def settled() -> int:
    """Return the allocated bytes once they stop falling: connections may still be ending."""
    least, steady = sys.maxsize, 0
    while steady < 4:
        await asyncio.sleep(0.1)
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        steady = 0 if size < least - 1000 else steady + 1
        least = min(least, size)
    return least


@pytest.mark.parametrize("use", [requests, connections, upgrades, given_up])
async def test_nothing_stays_allocated(stack: Stack, use: Use, measured: Measured) -> None:
    found = await growth(use, stack)
    measured(f"{use.__name__}: {found:+.1f} bytes each stay allocated")
    assert found < MOST


async def test_a_leak_of_100_bytes_a_request_is_found(stack: Stack) -> None:
    kept: list[bytes] = []

    async def leaking(stack: Stack) -> None:
        await requests(stack)
        kept.extend(bytes(100 - sys.getsizeof(b"")) for _ in range(WINDOW))

    assert await growth(leaking, stack) > MOST
