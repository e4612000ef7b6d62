"""Tests of half-open links: both ends detect a dead link, and keep a slow one."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.black_hole import swallow
from tests.support.client import Client
from tests.support.inprocess_stack import (
    Backend,
    RunningAgent,
    RunningServer,
    StackFiles,
    dialling,
    serving,
)
from tests.support.waiting import eventually
from zerotrust.net.tunnel import TunnelLink

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("half_open"),
]

APP = "app.example.com"
RESTART = b"\x88\x02" + (1012).to_bytes(2, "big")
"""A Close frame."""


class Scenario:
    """Both ends of a link, in this process."""

    def __init__(self, server: RunningServer, agent: RunningAgent, backend: Backend) -> None:
        self.server = server
        self.agent = agent
        self.backend = backend
        self.ends = [self.link_of_server, self.link_of_agent]
        self._loop = asyncio.get_running_loop()

    @property
    def link_of_server(self) -> TunnelLink:
        (session,) = self.server.server.agents.registry.sessions
        return session.link

    @property
    def link_of_agent(self) -> TunnelLink:
        current = self.agent.agent.connections[0].current
        assert current is not None
        return current.link

    def swallow(self) -> float:
        """From now on nothing arrives anywhere."""
        for link in self.ends:
            assert link.transport is not None
            swallow(link.transport.get_extra_info("socket"))
        return self._loop.time()

    async def noticed(self, link: TunnelLink, since: float) -> float:
        """Seconds until this end gives the connection up."""
        connection = link.transport
        await eventually(lambda: link.transport is not connection, "the link is given up", 20)
        return self._loop.time() - since


@contextlib.asynccontextmanager
async def scene_of(folder: Path, **settings: Any) -> AsyncIterator[Scenario]:
    files = StackFiles(folder)
    async with (
        Backend("b").listening() as backend,
        serving(files, files.server(server=settings)) as running,
    ):
        config = files.agent({"hostname": APP, "backend": f"127.0.0.1:{backend.port}"})
        async with dialling(config) as agent:

            async def published() -> bool:
                return await running.status(APP) == 200

            await eventually(published, "the service is published")
            yield Scenario(running, agent, backend)


async def upgraded(client: Client) -> None:
    """Makes it a WebSocket."""
    await client.send_head("GET", "/", [("Connection", "Upgrade"), ("Upgrade", "websocket")])
    assert (await client.read_response()).status == 101


async def test_silence_is_noticed_by_both_ends_while_idle(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scenario, await scenario.server.open(APP) as client:
        await upgraded(client)
        since = scenario.swallow()
        times = await asyncio.gather(*(scenario.noticed(link, since) for link in scenario.ends))
        assert max(times) < 15
        await client.send(b"still there")
        assert await client.read_exactly(11) == b"still there", (
            "the agent has dialled anew, the WebSocket knows nothing"
        )


async def test_silence_is_noticed_sooner_by_an_end_with_output(tmp_path: Path) -> None:
    async with (
        scene_of(tmp_path) as scenario,
        await scenario.server.open(APP) as client,
        await scenario.server.open(APP) as other,
    ):
        await upgraded(other)
        since = scenario.swallow()
        await client.send_head("GET", "/")
        assert await scenario.noticed(scenario.ends[0], since) < 5
        response = await client.read_response()
        assert response.status == 200, "it waited for the next link"
        await other.send(b"still there")
        assert await other.read_exactly(11) == b"still there"


async def test_neither_end_holds_small_frames_back(tmp_path: Path) -> None:
    """Nagle's algorithm would delay by 40 ms; it is off on the first and later connections."""
    async with scene_of(tmp_path) as scenario:
        for _ in range(2):
            for link in scenario.ends:
                assert link.transport is not None
                raw = link.transport.get_extra_info("socket")
                assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            before = [link.transport for link in scenario.ends]
            assert before[1] is not None
            before[1].abort()
            await eventually(
                lambda: all(
                    link.session.attached and link.transport not in (None, old)
                    for link, old in zip(scenario.ends, before, strict=True)  # noqa: B023
                ),
                "there is another connection",
            )


async def test_the_agent_notices_too(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as scenario, await scenario.server.open(APP) as client:
        await client.send_head("GET", "/wait")
        await eventually(lambda: scenario.backend.waiting, "the request is at the backend")
        since = scenario.swallow()
        scenario.backend.go.set()
        assert await scenario.noticed(scenario.ends[1], since) < 5
        assert (await client.read_response()).status == 200


async def test_a_session_that_is_not_kept_ends_with_its_link(tmp_path: Path) -> None:
    async with (
        scene_of(tmp_path, resume_timeout=0) as scenario,
        await scenario.server.open(APP) as client,
    ):
        await upgraded(client)
        link = scenario.link_of_agent
        assert link.transport is not None
        link.transport.abort()
        assert await client.read_exactly(4) == RESTART


class SlowProxy:
    """A proxy with `rate` bytes per second each way and a small buffer, like a slow link."""

    def __init__(self, port: int, rate: int) -> None:
        self._port = port
        self._rate = rate
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=4096)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on, to = await asyncio.open_connection("127.0.0.1", self._port, limit=4096)
        for pair in ((reader, to), (on, writer)):
            task = asyncio.create_task(self._carry(*pair))
            self._tasks.add(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(self._rate // 20):
                    await asyncio.sleep(len(data) / self._rate)
                    writer.write(data)
        finally:
            # A loop that is closed while a connection is open waits for it, for ever.
            writer.transport.abort()


async def test_a_slow_link_with_a_full_queue_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    files = StackFiles(tmp_path)
    async with (
        Backend("b").listening() as backend,
        serving(files) as running,
        SlowProxy(files.tunnel_port, 40_000).listening() as port,
    ):
        address = {"address": f"127.0.0.1:{port}"}
        config = files.agent(
            {"hostname": APP, "backend": f"127.0.0.1:{backend.port}"}, server=address
        )
        async with dialling(config) as agent:

            async def published() -> bool:
                return await running.status(APP) == 200

            await eventually(published, "the service is published", 20)
            scenario = Scenario(running, agent, backend)
            client = await running.open(APP)
            assert (await client.upgrade("/")).status == 101
            # Far more than passes in that time, in both directions: the backend echoes.
            sending = asyncio.create_task(client.send(bytes(4_000_000)))
            got = 0
            ends_at = asyncio.get_running_loop().time() + 20
            while asyncio.get_running_loop().time() < ends_at:
                got += len(await client.read_exactly(1000))
            assert got > 40_000
            assert not any(link.closed.done() for link in scenario.ends)
            sending.cancel()
            client.abort()
