"""Tests of two servers that share a PostgreSQL database, with one agent that knows the first.

`CHAOS=full` (make chaos) leaves them without the database for a minute; else for some seconds.
"""

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import Measured
from tests.support.admin_socket import admin_client
from tests.support.backends import Origin, WsEcho
from tests.support.client import Client
from tests.support.databases import Cluster
from tests.support.echo_socket import EchoSocket
from tests.support.metrics import read
from tests.support.ports import free_port
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("servers"),
    pytest.mark.slow,
]

APP, WS = "app.localhost", "ws.localhost"
HTTPS = ("X-Forwarded-Proto", "https")
RATE, CLIENTS = 200, 20
SOON = 2.0
"""Seconds. The goal is one; other programs may keep this machine busy."""
LEASE = 15.0
OUTAGE = 60.0 if os.environ.get("CHAOS") == "full" else 5.0
"""Seconds without the database."""


@dataclass
class Edge:
    """Two servers without Caddy: tests take its place.

    Attributes:
        metrics_ports: where each server has its metrics.
    """

    stacks: tuple[Stack, Stack]
    metrics_ports: tuple[int, int]
    cluster: Cluster

    async def admin(self, number: int, path: str) -> Any:
        """Read from the admin socket of a server."""
        async with self._commands(number) as client:
            answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def grant(self, number: int, host: str) -> str:
        """Grant a host name at a server; return the error, which is empty if there is none."""
        async with self._commands(number) as client:
            answer = await client.post("/v1/grants/add", json={"agent": "agent-1", "host": host})
        return "" if answer.status_code == 200 else str(answer.json()["error"])

    def _commands(self, number: int) -> httpx2.AsyncClient:
        return admin_client(self.stacks[number].folder / "state" / "admin.sock")

    async def members(self, number: int) -> list[str]:
        """Return the addresses that a server knows of members."""
        return [one["address"] for one in (await self.admin(number, "/v1/members"))["members"]]

    async def has_sessions(self, number: int, count: int) -> None:
        """Wait until the agent has all its sessions with a server."""

        async def has_them() -> bool:
            return bool((await self.admin(number, "/v1/status"))["sessions"] == count)

        await eventually(has_them, f"{count} sessions with server {number + 1}")

    async def published(self, number: int) -> None:
        """Wait until a server serves both host names."""
        for host in (APP, WS):
            await self.stacks[number].wait_published(host)

    async def socket(self, number: int) -> EchoSocket:
        """Open a WebSocket at a server."""
        fields = [("Origin", f"https://{WS}"), HTTPS]
        return await EchoSocket.open(self.stacks[number].api.port, WS, fields)

    async def stream(self, number: int) -> Client:
        """Begin a response that goes on for ever."""
        client = await self.stacks[number].api.open(APP)
        await client.send_head("GET", "/sse?n=9999&every=0.2", [HTTPS])
        assert (await client.read_head()).status == 200
        return client


def address(stack: Stack) -> str:
    """Return the address of a server for agents."""
    return f"127.0.0.1:{stack.tunnel_port}"


def announce(stack: Stack) -> None:
    """Let a server be a member; before it starts."""
    path = stack.folder / "server.yaml"
    config = json.loads(path.read_text())
    config["server"]["member_addr"] = address(stack)
    path.write_text(json.dumps(config))


@asynccontextmanager
async def two_servers(folder: Path, authority: Authority) -> AsyncIterator[Edge]:
    """Start the servers, and an agent whose file names the first one."""
    cluster = Cluster()
    try:
        url = cluster.migrated()
        async with Origin(folder) as origin, WsEcho(folder) as echo:
            services = [service(APP, origin.port), service(WS, echo.port)]
            made, ports = [], (free_port(), free_port())
            for number in range(2):
                own = folder / f"server-{number + 1}"
                sections = {
                    "state": {"dir": str(own / "state"), "url": url},
                    "metrics": {"listen_addr": f"127.0.0.1:{ports[number]}"},
                }
                agents = {"agent-1": services} if number == 0 else {}
                made.append(
                    Stack(own, authority, agents=agents, with_caddy=False, sections=sections)
                )
                announce(made[-1])
            async with made[0], made[1]:
                edge = Edge((made[0], made[1]), ports, cluster)
                await edge.published(1)
                yield edge
    finally:
        cluster.close()


@pytest.fixture(scope="module")
async def edge(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Edge]:
    async with two_servers(tmp_path_factory.mktemp("servers"), authority) as made:
        yield made


class Load:
    """RATE requests per second over kept connections, by clients that know both servers.

    A client whose connection breaks sends its request, which is a GET, to the other server.

    Attributes:
        slowest: longest time to an answer, in seconds, and the time at which it began.
        again: number of requests that were sent to the other server.
        failures: requests that no server has answered.
    """

    def __init__(self, edge: Edge) -> None:
        self._ports = [stack.api.port for stack in edge.stacks]
        self.answered = self.again = 0
        self.slowest = 0.0
        self.failures: list[str] = []
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        tasks = [asyncio.create_task(self._visit(number)) for number in range(CLIENTS)]
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def _visit(self, number: int) -> None:
        loop, pause = asyncio.get_running_loop(), CLIENTS / RATE
        due = loop.time() + pause * number / CLIENTS
        at, client = number % 2, None
        while not self._stop.is_set():
            await asyncio.sleep(due - loop.time())
            due = max(due + pause, loop.time())
            begun_at = loop.time()
            for attempt in range(2):
                try:
                    client = client or await Client.open(self._ports[at], host=APP)
                    answer = await client.get("/bytes/500", HTTPS)
                    assert answer.status == 200, answer
                    break
                except (AssertionError, OSError, EOFError, TimeoutError) as error:
                    if client is not None:
                        client.abort()
                    client, at = None, 1 - at
                    self.again += 1
                    if attempt:
                        self.failures.append(repr(error)[:300])
            self.answered += 1
            self.slowest = max(self.slowest, loop.time() - begun_at)
        if client is not None:
            client.abort()


async def echoes(sockets: list[EchoSocket]) -> None:
    """Let WebSockets say something and hear it."""
    for socket in sockets:
        socket.say()
    await eventually(lambda: all(one.is_complete for one in sockets), "they hear it", 10)


async def test_an_agent_that_knows_one_server_serves_through_both(edge: Edge) -> None:
    both = sorted(map(address, edge.stacks))
    for number in range(2):
        assert sorted(await edge.members(number)) == both
        assert (await read(edge.metrics_ports[number]))["zerotrust_members"] == 2
        await edge.has_sessions(number, 2)
        answer = await edge.stacks[number].api.get(APP, "/bytes/3", HTTPS)
        assert (answer.status, len(answer.body)) == (200, 3)
        socket = await edge.socket(number)
        await echoes([socket])
        socket.abort()


async def test_traffic_goes_on_without_the_database(edge: Edge, measured: Measured) -> None:
    sockets = [await edge.socket(number) for number in range(2)]
    async with Load(edge).running() as load:
        await eventually(lambda: load.answered > RATE, "the load runs", 30)
        load.slowest = 0.0
        await asyncio.to_thread(edge.cluster.stop)
        over_at = time.monotonic() + OUTAGE
        try:
            for stack in edge.stacks:
                await stack.server.wait_line("cannot renew this server's lease", timeout=30)
            assert "database" in await edge.grant(0, "late.localhost")
            while time.monotonic() < over_at:
                await echoes(sockets)
                await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(edge.cluster.start)

        async def is_changed() -> bool:
            return not await edge.grant(0, "late.localhost")

        await eventually(is_changed, "the command works again", 15)
        for number in range(2):
            assert len(await edge.members(number)) == 2
    assert (load.again, load.failures) == (0, [])
    assert load.slowest < SOON
    assert "server gone" not in "".join(stack.server.text() for stack in edge.stacks)
    await echoes(sockets)
    for socket in sockets:
        socket.abort()
    measured(
        f"two servers without their database for {OUTAGE:.0f} s: {load.answered} requests, none"
        f" failed, the slowest took {math.ceil(load.slowest * 1000)} ms"
    )


async def test_one_of_two_servers_is_killed(edge: Edge, measured: Measured) -> None:
    first, second = edge.stacks
    sockets = [[await edge.socket(number) for _ in range(10)] for number in range(2)]
    streams = [await edge.stream(number) for number in range(2)]
    async with Load(edge).running() as load:
        await eventually(lambda: load.answered > RATE, "the load runs", 30)
        assert (load.again, load.failures) == (0, [])
        load.slowest = 0.0
        first.server.kill()
        killed_at = time.monotonic()
        before = load.answered
        await eventually(lambda: load.answered > before + 2 * RATE, "it goes on", 30)
    assert load.failures == []
    assert load.slowest < SOON
    assert 0 < load.again <= CLIENTS / 2, "what was under way at the killed one, once each"
    await eventually(lambda: all(one.ended_at for one in sockets[0]), "its WebSockets end", 5)
    assert {one.code for one in sockets[0]} == {1006}
    await echoes(sockets[1])
    with suppress(OSError, EOFError):
        while await streams[0].read(65536):
            pass
    assert await streams[1].read(1)

    async def is_forgotten() -> bool:
        return await edge.members(1) == [address(second)]

    await eventually(is_forgotten, "the lease ends", LEASE + 10, 0.2)
    forgotten = time.monotonic() - killed_at
    assert (await read(edge.metrics_ports[1]))["zerotrust_members"] == 1
    await echoes(sockets[1])
    assert (await second.api.get(APP, "/bytes/1", HTTPS)).status == 200

    first.server.start()
    await first.wait_server()
    await edge.published(0)
    await echoes(sockets[1])
    for socket in sockets[1]:
        socket.abort()
    for stream in streams:
        stream.abort()
    measured(
        f"one of two servers was killed at {RATE} requests/s: {load.again} requests went to the"
        f" other one, the slowest took {math.ceil(load.slowest * 1000)} ms;"
        f" forgotten after {forgotten:.0f} s"
    )
