"""Tests of who has ended a WebSocket, and of the limits on its client.

Each fault is injected into WebSockets over HTTP/1.1 and HTTP/2, with and without compression.
"""

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from tests.support.backends import WsEcho
from tests.support.h2_socket import H2, H2Socket
from tests.support.metrics import read
from tests.support.ports import free_port
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("websocket_ends"),
]

WS = "ws.localhost"
LIMITED = "limited.localhost"
PINGED = "pinged.localhost"
DYING = "dying.localhost"
AWAY = "away.localhost"
IDLE = "idle.localhost"
BRIEF = "brief.localhost"
LIMITS = {
    "origins": "same",
    "max_message": "64KiB",
    "messages": "50/s",
    "bytes": "1MB/s",
    "handshakes": "20/m",
    "max_per_client": 50,
}


@dataclass
class Chain:
    """A stack whose backends and agents may be killed."""

    stack: Stack
    folder: Path
    metrics: int
    dying: int
    """Port of the backend of DYING."""


@pytest.fixture(scope="module")
async def chain(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Chain]:
    folder = tmp_path_factory.mktemp("ends")
    metrics, dying = free_port(), free_port()
    async with WsEcho(folder) as ws:
        steady = [
            service(WS, ws.port),
            service(LIMITED, ws.port, websocket=LIMITS),
            service(PINGED, ws.port, websocket={"ping": "5s"}),
            service(DYING, dying),
            service(IDLE, ws.port, websocket={"idle_timeout": "1s"}),
            service(BRIEF, ws.port, websocket={"max_duration": "1s"}),
        ]
        async with Stack(
            folder,
            authority,
            agents={"steady": steady, "away": [service(AWAY, ws.port)]},
            sections={
                "metrics": {"listen_addr": f"127.0.0.1:{metrics}"},
                "server": {"resume_timeout": "1s"},
            },
        ) as stack:
            yield Chain(stack, folder, metrics, dying)


class Socket(Protocol):
    """A WebSocket over either version of HTTP."""

    async def send(self, message: str) -> None: ...

    async def recv(self) -> object: ...

    async def close(self, code: int, reason: str) -> None: ...


async def four(chain: Chain, host: str, opened: AsyncExitStack) -> list[Socket]:
    """Open four WebSockets that have echoed a message."""
    entrypoint, sockets = chain.stack.caddy, list[Socket]()
    for compression in (None, "deflate"):
        sockets.append(
            await opened.enter_async_context(
                entrypoint.websocket(host, compression=compression, close_timeout=1)
            )
        )
    for extension in ((), (("sec-websocket-extensions", "permessage-deflate"),)):
        h2 = await opened.enter_async_context(H2(entrypoint, host))
        over_h2 = await h2.connect("/", *extension)
        assert ("sec-websocket-extensions" in over_h2.fields) is bool(extension)
        sockets.append(over_h2)
    for socket in sockets:
        await socket.send("hello " * 20)
        assert await socket.recv() == "hello " * 20
    return sockets


async def all_closed(chain: Chain) -> dict[tuple[str, str], float]:
    """Return how many WebSockets were closed, by who ended them and by code."""
    found = await read(chain.metrics)
    return {
        (key[1], key[2]): value
        for key, value in found.items()
        if key[0] == "zerotrust_websocket_closed_total"
    }


async def ended_by(
    chain: Chain, host: str, fault: Callable[[list[Socket]], Awaitable[object]]
) -> dict[tuple[str, str], float]:
    """Inject a fault into four WebSockets; return how they were counted."""
    before = await all_closed(chain)
    async with AsyncExitStack() as opened:
        sockets = await four(chain, host, opened)
        await fault(sockets)

        async def differ() -> bool:
            after = await all_closed(chain)
            found.clear()
            for key, count in after.items():
                if count - before.get(key, 0):
                    found[key] = count - before.get(key, 0)
            return sum(found.values()) >= len(sockets)

        found: dict[tuple[str, str], float] = {}
        await eventually(differ, "the ends are counted")
    return found


async def test_the_client_closes(chain: Chain) -> None:
    async def close(sockets: list[Socket]) -> None:
        for socket in sockets:
            await socket.close(4001, "enough")

    since = chain.stack.server.position()
    assert await ended_by(chain, WS, close) == {("client", "4xxx"): 4}
    line = await chain.stack.server.wait_line("websocket closed", since=since)
    assert line is not None
    text = chain.stack.server.text(since)
    assert WS in text and "enough" in text


async def test_the_browser_is_gone(chain: Chain) -> None:
    async def vanish(sockets: list[Socket]) -> None:
        for socket in sockets:
            if isinstance(socket, ClientConnection):
                socket.transport.abort()
            elif isinstance(socket, H2Socket):
                socket.reset()

    assert await ended_by(chain, WS, vanish) == {("connection", "1006"): 4}


async def test_the_backend_closes(chain: Chain) -> None:
    async def order(sockets: list[Socket]) -> None:
        for socket in sockets:
            await socket.send("!close 1011 it broke")

    assert await ended_by(chain, WS, order) == {("backend", "1011"): 4}


async def test_the_backend_dies(chain: Chain) -> None:
    backend = WsEcho(chain.folder, port=chain.dying)

    async def kill(_: list[Socket]) -> None:
        backend.kill()

    async with backend:
        assert await ended_by(chain, DYING, kill) == {("backend", "1006"): 4}


async def test_the_server_applies_a_limit(chain: Chain) -> None:
    async def flood(sockets: list[Socket]) -> None:
        for socket in sockets:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(60):
                    await socket.send("x")

    assert await ended_by(chain, LIMITED, flood) == {("server", "1008"): 4}


@pytest.mark.parametrize(
    ("host", "reason"),
    [(IDLE, "idle for too long"), (BRIEF, "the maximum duration is over")],
    ids=["idle", "max duration"],
)
async def test_the_server_applies_a_timeout(chain: Chain, host: str, reason: str) -> None:
    async def wait(sockets: list[Socket]) -> None:
        client = sockets[0]
        assert isinstance(client, ClientConnection)
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1001, reason)

    assert await ended_by(chain, host, wait) == {("server", "1001"): 4}


async def test_the_agent_restarts(chain: Chain) -> None:
    agent = chain.stack.agents["away"]

    async def stop(_: list[Socket]) -> None:
        assert await agent.process.stop() == 0

    assert await ended_by(chain, AWAY, stop) == {("agent", "1012"): 4}
    agent.process.start()
    await chain.stack.wait_agent(agent)


async def test_the_tunnel_is_lost(chain: Chain) -> None:
    agent = chain.stack.agents["away"]

    async def freeze(_: list[Socket]) -> None:
        # A process that is killed closes its connection, and does not come back in time.
        agent.process.send_signal(signal.SIGKILL)

    assert await ended_by(chain, AWAY, freeze) == {("tunnel", "1012"): 4}
    await agent.process.stop()
    agent.process.start()
    await chain.stack.wait_agent(agent)


# Limits


class FrameWatch:
    """Time at which a client received its first frame of a kind."""

    def __init__(self, client: ClientConnection, opcode: Opcode) -> None:
        self.received = asyncio.Event()
        self.at = math.inf
        self._pass_on = client.protocol.recv_frame
        self._opcode = opcode
        client.protocol.recv_frame = self._note  # type: ignore[method-assign]

    def _note(self, frame: Frame) -> None:
        if frame.opcode is self._opcode and not self.received.is_set():
            self.at = time.monotonic()
            self.received.set()
        self._pass_on(frame)


@pytest.mark.parametrize(
    ("message", "count", "code"),
    [("x" * 65_537, 1, 1009), ("x", 500, 1008), ("x" * 50_000, 200, 1008)],
    ids=["size", "messages", "bytes"],
)
async def test_ten_times_a_limit_ends_within_a_second_and_a_neighbour_loses_nothing(
    chain: Chain, message: str, count: int, code: int
) -> None:
    entrypoint = chain.stack.caddy
    async with (
        entrypoint.websocket(LIMITED, compression=None) as legal,
        entrypoint.websocket(
            LIMITED, compression=None, close_timeout=1, max_queue=None
        ) as flooding,
    ):
        closed = FrameWatch(flooding, Opcode.CLOSE)

        async def flood() -> float:
            begun_at = time.monotonic()
            with contextlib.suppress(ConnectionClosed):
                for number in range(count):
                    await flooding.send(message)
                    # Ten times the rate: all within a second, which the machine may not manage.
                    await asyncio.sleep(max(0, begun_at + number / count - time.monotonic()))
            async with asyncio.timeout(10):
                await closed.received.wait()
            return closed.at - begun_at

        flooded = asyncio.create_task(flood())
        for number in range(20):
            await legal.send(str(number))
            assert await legal.recv() == str(number)
            await asyncio.sleep(0.03)
        assert await flooded < 1
        assert flooding.close_code == code
        await legal.send("still here")
        assert await legal.recv() == "still here"


async def test_pages_of_other_origins_may_not_open_one(chain: Chain) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await chain.stack.caddy.websocket(LIMITED, origin="https://evil.example")
    assert refused.value.response.status_code == 403
    port = chain.stack.caddy.port
    async with chain.stack.caddy.websocket(LIMITED, origin=f"https://{LIMITED}:{port}") as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_a_quiet_websocket_is_pinged_through_caddy(chain: Chain) -> None:
    async with AsyncExitStack() as opened:
        sockets = await four(chain, PINGED, opened)
        client = sockets[0]
        assert isinstance(client, ClientConnection)
        quiet_since = time.monotonic()
        pinged = FrameWatch(client, Opcode.PING)
        async with asyncio.timeout(15):
            await pinged.received.wait()
        assert time.monotonic() - quiet_since < 12
        for socket in sockets:
            await socket.send("still here")
            assert await socket.recv() == "still here"


async def test_handshakes_are_limited(chain: Chain) -> None:
    statuses = []
    for _ in range(25):
        try:
            async with chain.stack.api.websocket(LIMITED):
                statuses.append(101)
        except InvalidStatus as refused:
            statuses.append(refused.response.status_code)
    assert 429 in statuses
    assert set(statuses) <= {101, 429}
