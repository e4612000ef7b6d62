"""Tests of stalled agents and clients: bounded memory at both ends, no effect on others."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Measured
from tests.support.metrics import read
from tests.support.ports import free_port
from tests.support.raw_agent import RawAgent, client_context
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.tunnel.codes import COUNTED, FrameType
from zerotrust.tunnel.frames import encode
from zerotrust.tunnel.handshake import CONGESTED_BYTES, SHARED_QUEUE_BYTES

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("congestion"),
]

APP, SLOW = "app.localhost", "slow.localhost"
MIB = 1024 * 1024
REQUESTS = 4000
LARGE_HEAD = 28_000
"""Bytes of a head: 107 MiB in all requests."""
CLIENTS = 300
ANSWER = 20_000_000
SMALL_BUFFER = 65536
"""Socket buffers in bytes: 300 with buffers that grow would take all memory for TCP."""


class Scenario:
    """A server, the agent of an honest tenant, and the figures of both."""

    def __init__(self, stack: Stack, server_metrics: int, agent_metrics: int) -> None:
        self.stack = stack
        self._server_metrics = server_metrics
        self._agent_metrics = agent_metrics

    async def held_by_server(self, kind: str) -> float:
        """Bytes, as the server says."""
        return (await read(self._server_metrics))["zerotrust_session_bytes", kind]

    async def held_by_agent(self, kind: str) -> float:
        """Bytes, as the agent says."""
        return (await read(self._agent_metrics))["zerotrust_session_bytes", kind]


@contextlib.asynccontextmanager
async def _bulk() -> AsyncIterator[int]:
    """A backend that answers with ANSWER bytes; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {ANSWER}\r\n\r\n".encode())
                for at in range(0, ANSWER, 65536):
                    writer.write(bytes(min(65536, ANSWER - at)))
                    await writer.drain()
        writer.close()

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    listening.bind(("127.0.0.1", 0))
    async with await asyncio.start_server(answer, sock=listening, backlog=CLIENTS):
        yield listening.getsockname()[1]


@pytest.fixture(scope="module")
async def scenario(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Scenario]:
    folder: Path = tmp_path_factory.mktemp("congestion")
    async with _bulk() as port:
        server_metrics, agent_metrics = free_port(), free_port()
        stack = Stack(
            folder / "stack",
            authority,
            with_caddy=False,
            agents={"honest": [service(APP, port)]},
            sections={"metrics": {"listen_addr": f"127.0.0.1:{server_metrics}"}},
        )
        stack.agents["honest"].set_up(metrics={"listen_addr": f"127.0.0.1:{agent_metrics}"})
        async with stack:
            yield Scenario(stack, server_metrics, agent_metrics)


class SlowReader:
    """An agent that reads 16 KiB a second, acknowledges what it has read, and answers pings."""

    def __init__(self, agent: RawAgent) -> None:
        self._agent = agent
        self._counted = 1  # the answer to its registration
        self.paths: list[bytes] = []
        self.hurry = asyncio.Event()

    async def run(self) -> None:
        """Read on for ever."""
        read_bytes = 0
        while True:
            kind, _, _, payload = await self._agent.frame()
            self._counted += kind >= COUNTED
            if kind == FrameType.OPEN:
                self.paths.append(payload.partition(b" HTTP/1.1")[0].rpartition(b" ")[2])
            read_bytes += len(payload)
            if read_bytes > 16 * 1024:
                read_bytes = 0
                await self._agent.send(
                    encode(FrameType.ACK, 0, 0, self._counted.to_bytes(8, "big"))
                )
                await self._agent.send(encode(FrameType.PONG, 0, 0, b"12345678"))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.hurry.wait(), 1)


async def test_an_agent_that_reads_slowly_fills_no_memory_of_the_server(
    scenario: Scenario, authority: Authority, measured: Measured
) -> None:
    """Clients send large heads for the agent's host and go away; nothing remains to wait for."""
    tls = client_context(str(authority.root))
    tls.load_cert_chain(*map(str, authority.agent("slow")))
    server, port = scenario.stack.server, scenario.stack.api.port
    head = f"GET / HTTP/1.1\r\nHost: {SLOW}\r\nX-Padding: {'x' * LARGE_HEAD}\r\n\r\n".encode()
    async with await RawAgent.open(scenario.stack.tunnel_port, tls) as agent:
        agent.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER
        )
        await agent.hello()
        assert (await agent.register("slow", SLOW)).accepted == [SLOW]
        await agent.say(FrameType.READY)
        reader = SlowReader(agent)
        task = asyncio.create_task(reader.run())
        before, slowest = server.rss_bytes(), 0.0

        async def ask_and_leave() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            await writer.drain()
            writer.transport.abort()

        for number in range(REQUESTS // 50):
            await asyncio.gather(*(ask_and_leave() for _ in range(50)))
            if number % 20:
                continue
            begun_at = time.monotonic()
            assert (await scenario.stack.api.get(APP, "/")).status == 200
            slowest = max(slowest, time.monotonic() - begun_at)
        refused = await scenario.stack.api.get(SLOW, "/")
        assert (refused.status, refused.error_code) == (503, "overloaded")
        assert await scenario.held_by_server("unwritten") <= CONGESTED_BYTES + MIB
        grown = server.rss_bytes() - before
        assert grown < 64 * MIB
        assert slowest < 5
        assert not task.done(), "a slow agent is no reason to end its session"
        reader.hurry.set()

        async def is_asked_again() -> bool:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(scenario.stack.api.get(SLOW, "/again"), 0.2)
            return b"/again" in reader.paths

        await eventually(is_asked_again, "the agent has read what there was, and gets new requests")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    measured(
        f"{REQUESTS} requests to an agent that reads slowly: the server grows by"
        f" {grown / MIB:.0f} MiB"
    )


def _stalled(port: int) -> socket.socket:
    """A client that asks for much and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET / HTTP/1.1\r\nHost: {APP}\r\n\r\n".encode())
    return client


def _rest(client: socket.socket) -> int:
    """Read an answer; the bytes of its body."""
    client.settimeout(20)
    data = client.recv(65536)
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    count = len(data.partition(b"\r\n\r\n")[2])
    while count < ANSWER and (more := len(client.recv(262_144))):
        count += more
    return count


async def test_clients_that_read_nothing_fill_no_memory_of_the_agent(
    scenario: Scenario, measured: Measured
) -> None:
    agent, port = scenario.stack.agents["honest"].process, scenario.stack.api.port
    before = agent.rss_bytes()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(await asyncio.to_thread(_stalled, port)) for _ in range(CLIENTS)
        ]

        async def is_full() -> bool:
            return await scenario.held_by_agent("queued") > SHARED_QUEUE_BYTES // 2

        await eventually(is_full, "the agent's queues are full", 20)
        begun_at = time.monotonic()
        async with await scenario.stack.api.open(APP, patience=60) as reader:
            answer = await reader.get("/")
        took = time.monotonic() - begun_at
        assert (answer.status, len(answer.body)) == (200, ANSWER), "who reads is served"
        assert await scenario.held_by_agent("queued") < 1.5 * SHARED_QUEUE_BYTES
        grown = agent.rss_bytes() - before
        assert grown < 72 * MIB
        for client in (clients[0], clients[CLIENTS // 2], clients[-1]):
            assert await asyncio.to_thread(_rest, client) == ANSWER, "who reads again gets the rest"
    await eventually(lambda: scene_is_empty(scenario), "nothing is held any more", 20)
    measured(
        f"{CLIENTS} clients that read nothing: the agent grows by {grown / MIB:.0f} MiB; "
        f"another client has {ANSWER // 1_000_000} MB in {took:.1f} s"
    )


async def scene_is_empty(scenario: Scenario) -> bool:
    """Neither end holds anything."""
    return not await scenario.held_by_agent("queued") and not await scenario.held_by_server(
        "received"
    )
