"""Tests of zerotrust.server.agents.websocket_endpoint, with an agent behind a web server."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.inprocess_stack import (
    Backend,
    RunningAgent,
    RunningServer,
    StackFiles,
    dialling,
    serving,
)
from tests.support.ports import closed_port, free_port
from tests.support.waiting import eventually
from zerotrust.agent import direct_return
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.http import websocket_handshake
from zerotrust.tunnel.session import Phase

pytestmark = pytest.mark.anyio

HOST = "app.example.com"


class WebServer:
    """A web server that ends TLS with a certificate of its own and passes on everything."""

    def __init__(self, files: StackFiles) -> None:
        self.port = free_port()
        self._to = files.api_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files.folder / "home.crt", files.folder / "home.key")
        self._tasks: set[asyncio.Task[None]] = set()
        self.writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["WebServer"]:
        server = await asyncio.start_server(
            self._accepted, "127.0.0.1", self.port, ssl=self._context
        )
        try:
            yield self
        finally:
            server.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Abort all connections."""
        for writer in list(self.writers):
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self._to)
        self.writers |= {writer, onward}
        for source, sink in ((reader, onward), (there, writer)):
            task = asyncio.ensure_future(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(5000):
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
        self.writers.discard(sink)


class Fixture:
    """A server, its web server and a backend."""

    def __init__(self, server: RunningServer, web_server: WebServer, backend: Backend) -> None:
        self.server = server
        self.web_server = web_server
        self._backend = backend

    @contextlib.asynccontextmanager
    async def agent(self, **keys: Any) -> AsyncIterator[RunningAgent]:
        """Run an agent that reaches the web server only, until its service is published."""
        service = {
            "hostname": HOST,
            "listen_on": "both",
            "http_redirect": False,
            "backend": f"127.0.0.1:{self._backend.port}",
        }
        way = {
            "address": f"127.0.0.1:{closed_port()}",
            "websocket_address": f"localhost:{self.web_server.port}",
            "transport": "auto",
        }
        config = self.server.files.agent(service, server=way | keys)
        async with dialling(config) as agent:

            async def published() -> bool:
                return await self.server.status(HOST) == 200

            await eventually(published, "the service is published")
            yield agent

    async def upgraded(self) -> Client:
        client = await self.server.open(HOST)
        assert (await client.upgrade("/")).status == 101
        return client


async def echoes(client: Client, data: bytes) -> bool:
    await client.send(data)
    return await client.read_exactly(len(data)) == data


def transport_of(agent: RunningAgent) -> str:
    (session,) = agent.agent.status().sessions
    return session.transport


@pytest.fixture
async def fixture(tmp_path: Path) -> AsyncIterator[Fixture]:
    files = StackFiles(tmp_path)
    web_server = WebServer(files)
    async with (
        Backend("app").listening() as backend,
        serving(files) as server,
        web_server.listening(),
    ):
        yield Fixture(server, web_server, backend)


@pytest.mark.parametrize("transport", ["auto", "websocket"])
async def test_a_tunnel_survives_its_web_server(fixture: Fixture, transport: str) -> None:
    async with fixture.agent(transport=transport) as agent, await fixture.upgraded() as client:
        assert transport_of(agent) == "websocket"
        assert await echoes(client, b"x" * 900_000)
        fixture.web_server.cut()
        assert await echoes(client, b"y" * 100_000)
        (session,) = fixture.server.server.agents.registry.sessions
        assert session.link.peer_name == "127.0.0.1:websocket"
        # The proxy API has handed the connection over: only the client's are left.
        assert session.link.session.phase is Phase.OPEN


@pytest.mark.slow
async def test_a_session_returns_to_a_direct_connection(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_return, "FIRST", 0.0)
    relay: asyncio.Server | None = None
    port = free_port()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", fixture.server.files.tunnel_port)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(5000):
                    sink.write(data)
            sink.transport.abort()

        await asyncio.gather(carry(reader, onward), carry(there, writer))

    async with (
        fixture.agent(address=f"127.0.0.1:{port}") as agent,
        await fixture.upgraded() as client,
    ):
        assert transport_of(agent) == "websocket"
        assert await echoes(client, b"before")
        relay = await asyncio.start_server(accepted, "127.0.0.1", port)
        await eventually(lambda: transport_of(agent) == "direct", "the session has moved", 10)
        assert await echoes(client, b"after" * 10_000)
        await eventually(lambda: not fixture.web_server.writers, "the WebSocket is closed")
    relay.close()


async def test_the_path_is_reserved_at_the_servers_names(fixture: Fixture) -> None:
    server = fixture.server
    path = websocket_handshake.TUNNEL_PATH.decode()

    async def status(host: str) -> int:
        async with await server.open(host) as client:
            return (await client.get(path)).status

    assert [await status("localhost"), await status("other.example.com")] == [426, 404]
    files = server.files
    await server.change(files.server(server={"websocket_hosts": ["Other.example.com"]}))
    assert [await status("localhost"), await status("other.example.com")] == [404, 426]
    await server.change(files.server(server={"websocket_hosts": []}))
    assert [await status("localhost"), await status("other.example.com")] == [404, 404]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda text: text.replace("Version: 13", "Version: 8"), 426),
        (lambda text: text.replace("Key: ", "Key: x"), 400),
        (lambda text: text.replace("\r\n\r\n", "\r\nX-Real-IP: nobody\r\n\r\n"), 400),
    ],
)
async def test_other_requests_are_refused(
    fixture: Fixture, change: Callable[[str], str], status: int
) -> None:
    text = websocket_handshake.request(b"localhost", bytes(16)).decode()
    async with await fixture.server.open("localhost") as client:
        await client.send(change(text).encode())
        assert (await client.read_head()).status == status


@pytest.mark.parametrize("frame", [b"\x81\x00", b"\x88\x80" + bytes(4)])
async def test_a_websocket_that_ends_right_behind_its_handshake(
    fixture: Fixture, frame: bytes
) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    handshakes = fixture.server.server.agents.listener.handshakes
    async with await fixture.server.open("localhost") as client:
        await client.send(websocket_handshake.request(b"localhost", bytes(16)) + frame)
        assert (await client.read_to_end()).startswith(b"HTTP/1.1 101 ")
        await eventually(lambda: handshakes.count == 0, "the handshake has ended", 5)
    assert not reported


async def test_a_web_server_without_a_tunnel_is_named(fixture: Fixture) -> None:
    files = fixture.server.files
    await fixture.server.change(files.server(server={"websocket_hosts": []}))
    config = files.agent(
        server={
            "address": f"127.0.0.1:{closed_port()}",
            "websocket_address": f"localhost:{fixture.web_server.port}",
            "transport": "auto",
        }
    )
    with pytest.raises(ConnectionError) as refused:
        await ServerEndpoint.of(config).connect(asyncio.Protocol, 0)
    assert str(refused.value) == (
        "connection refused; by WebSocket: the web server answers with status 404"
    )
