"""Tests of captures of WebSockets, through Caddy, server and agent."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.support.backends import WsEcho
from tests.support.commands import CommandResult, Commands
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.cli.admin_client import AdminClient
from zerotrust.errors import CommandError
from zerotrust.model.capture_admin import (
    CapturedMessageInfo,
    CapturedMessageList,
    CapturedMessageQuery,
    CaptureInfo,
    CaptureList,
    CaptureRequest,
    StartCaptureRequest,
)
from zerotrust.model.traffic_admin import ConnectionList, ConnectionQuery

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("capture"),
]

OPEN, CLOSED = "open.localhost", "closed.localhost"
PAYLOAD = {"inspection": "payload"}
MIB = 1024 * 1024


class Inspector:
    """An administrator at the admin socket of a stack."""

    def __init__(self, stack: Stack, ws: WsEcho) -> None:
        self.stack = stack
        self.command = Commands(stack.folder / "state" / "admin.sock")
        self.services = {
            host: service(host, ws.port, access=access)
            for host, access in ((OPEN, PAYLOAD), (CLOSED, {"inspection": "metadata"}))
        }
        self._client: AdminClient | None = None

    @property
    def client(self) -> AdminClient:
        self._client = self._client or AdminClient(self.command.socket, start="")
        return self._client

    async def newest(self, host: str) -> str:
        """Return the id of the newest connection to a host."""
        asked = ConnectionQuery(host=host)
        found = await asyncio.to_thread(self.client.get, "/v1/connections", ConnectionList, asked)
        return found.connections[0].id

    async def start(self, **asked: Any) -> CaptureInfo:
        request = StartCaptureRequest(reason="nothing is shown", **asked)
        return await asyncio.to_thread(self.client.post, "/v1/captures/start", CaptureInfo, request)

    async def stop(self, capture: CaptureInfo) -> None:
        asked = CaptureRequest(id=capture.id)
        await asyncio.to_thread(self.client.post, "/v1/captures/stop", CaptureInfo, asked)

    async def look(self, capture: CaptureInfo) -> CaptureInfo:
        found = await asyncio.to_thread(self.client.get, "/v1/captures", CaptureList)
        return next(one for one in found.captures if one.id == capture.id)

    async def messages(self, capture: CaptureInfo, count: int) -> list[CapturedMessageInfo]:
        """Wait until so many messages have passed; return those that are kept."""

        async def enough() -> bool:
            return (await self.look(capture)).messages >= count

        await eventually(enough, f"{count} messages are captured")
        asked = CapturedMessageQuery(id=capture.id, limit=1000)
        found = await asyncio.to_thread(
            self.client.get, "/v1/captures/messages", CapturedMessageList, asked
        )
        return found.messages

    async def ended(self, capture: CaptureInfo) -> dict[str, Any]:
        """Wait for the end of a capture; return its audit record."""
        found: list[dict[str, Any]] = []

        async def is_recorded() -> bool:
            done = await self.command("audit", "list", "--action", "capture.ended", "--json")
            details = [one["details"] for one in done.json()["records"]]
            found[:] = [one for one in details if one["id"] == capture.id]
            return bool(found)

        await eventually(is_recorded, "the end is recorded")
        return found[0]


@pytest.fixture(scope="module")
async def inspector(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Inspector]:
    folder = tmp_path_factory.mktemp("capture")
    async with WsEcho(folder) as ws:
        stack = Stack(folder, authority, agents={"home": []})
        made = Inspector(stack, ws)
        stack.agents["home"] = stack.make_agent("home", list(made.services.values()))
        async with stack:
            await stack.server.wait_line(f"service registered.*{CLOSED}")
            yield made


async def echo(socket: ClientConnection, *texts: str) -> None:
    for text in texts:
        await socket.send(text)
        assert await socket.recv() == text


def said(found: list[CapturedMessageInfo]) -> list[tuple[str, str]]:
    return [(one.by, "compressed" if one.compressed else one.text) for one in found]


async def test_a_connection_is_captured_without_compression(inspector: Inspector) -> None:
    async with inspector.stack.caddy.websocket(OPEN, compression=None) as socket:
        await echo(socket, "before")
        capture = await inspector.start(connection=await inspector.newest(OPEN))
        await echo(socket, "hello", "x" * 3000)
        await socket.send(b"\x00\x01")
        assert await socket.recv() == b"\x00\x01"
        found = await inspector.messages(capture, 6)
        assert said(found[:2]) == [("client", "hello"), ("backend", "hello")]
        assert (found[2].text, found[2].size, found[2].cut) == ("x" * 1024, 3000, True)
        assert (found[4].kind, found[4].hex) == ("binary", "0001")
    details = await inspector.ended(capture)
    assert (details["why"], details["messages"]) == ("the connection has ended", 8)
    await inspector.stop(capture)
    log = inspector.stack.server.text()
    assert "hello" not in log, "no message is in the log"


async def test_the_next_of_a_service_is_captured_with_compression(inspector: Inspector) -> None:
    capture = await inspector.start(host=OPEN)
    assert capture.state == "waiting"
    async with inspector.stack.caddy.websocket(OPEN, "/greet", compression="deflate") as socket:
        assert await socket.recv() == "hello"
        await echo(socket, "hello hello hello", "hello again")
        found = await inspector.messages(capture, 5)
        assert said(found)[0] == ("backend", "hello")
        assert sorted(said(found)[1:]) == [
            (by, text)
            for by in ("backend", "client")
            for text in ("hello again", "hello hello hello")
        ]
    await inspector.ended(capture)
    await inspector.stop(capture)


@pytest.mark.parametrize("takeover", [True, False])
async def test_a_late_capture_inflates_only_without_context(
    inspector: Inspector, takeover: bool
) -> None:
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=not takeover, client_no_context_takeover=not takeover
    )
    async with inspector.stack.caddy.websocket(
        OPEN, compression=None, extensions=[factory]
    ) as socket:
        await echo(socket, "hello hello")
        capture = await inspector.start(connection=await inspector.newest(OPEN))
        await echo(socket, "hello hello")
        shown = "compressed" if takeover else "hello hello"
        found = await inspector.messages(capture, 2)
        assert said(found) == [("client", shown), ("backend", shown)]
        await inspector.stop(capture)
        await echo(socket, "goes on")


async def test_a_service_that_does_not_allow_it(inspector: Inspector) -> None:
    async with inspector.stack.caddy.websocket(CLOSED) as socket:
        await echo(socket, "hello")
        connection = await inspector.newest(CLOSED)
        refused: CommandResult
        for words in (("connection", "capture", connection), ("services", "capture", CLOSED)):
            refused = await inspector.command(*words, "--reason", "curious")
            assert refused.code == 1
            assert "set access.inspection of the service to payload in the file of the agent" in (
                refused.err
            )
        listed = (await inspector.command("capture", "list", "--json")).json()["captures"]
        assert not [one for one in listed if one["host"] == CLOSED]
        await echo(socket, "goes on")


async def test_it_ends_when_its_time_is_over(inspector: Inspector) -> None:
    async with inspector.stack.caddy.websocket(OPEN) as socket:
        await echo(socket, "hello")
        capture = await inspector.start(connection=await inspector.newest(OPEN), time="1s")
        details = await inspector.ended(capture)
        assert details["why"] == "its time is over"
        await echo(socket, "goes on")


async def test_a_reload_of_the_agents_file_ends_it(inspector: Inspector) -> None:
    agent = inspector.stack.agents["home"]
    async with inspector.stack.caddy.websocket(OPEN, compression=None) as socket:
        await echo(socket, "hello")
        capture = await inspector.start(connection=await inspector.newest(OPEN))
        await echo(socket, "hello")
        await inspector.messages(capture, 2)
        less = {**inspector.services[OPEN], "access": {"inspection": "metadata"}}
        agent.set_services([less, inspector.services[CLOSED]])
        details = await inspector.ended(capture)
        assert details["why"] == "the service no longer allows it"
        await echo(socket, "goes on")
        with pytest.raises(CommandError, match="does not allow it"):
            await inspector.start(connection=await inspector.newest(OPEN))
        agent.set_services(list(inspector.services.values()))

        async def is_allowed() -> bool:
            found = (await inspector.command("services", "list", "--json")).json()["services"]
            return any((one["host"], one["inspection"]) == (OPEN, "payload") for one in found)

        await eventually(is_allowed, "the service allows it again")


async def test_much_data_takes_little_memory(inspector: Inspector) -> None:
    server, message = inspector.stack.server, bytes(range(256)) * 1024

    async def send(socket: ClientConnection, amount: int) -> None:
        for _ in range(amount // len(message)):
            await socket.send(message)
            assert await socket.recv() == message

    async with inspector.stack.caddy.websocket(OPEN, compression=None, max_size=None) as socket:
        await send(socket, 8 * MIB)
        capture = await inspector.start(connection=await inspector.newest(OPEN))
        server.reset_peak_rss()
        before = server.rss_bytes()
        await send(socket, 64 * MIB)
        found = await inspector.messages(capture, 300)
        assert server.peak_rss_bytes() - before < 6 * MIB
        assert found[-1].size == len(message)
        await inspector.stop(capture)


async def test_the_command_prints_messages_as_they_come(inspector: Inspector) -> None:
    running = asyncio.create_task(
        inspector.command("services", "capture", OPEN, "--reason", "curious", "--json")
    )

    async def waits() -> bool:
        listed = (await inspector.command("capture", "list", "--json")).json()["captures"]
        return any(one["state"] == "waiting" for one in listed)

    await eventually(waits, "the command waits for the next WebSocket")
    async with inspector.stack.caddy.websocket(OPEN) as socket:
        await echo(socket, "hello")
    done = await running
    assert done.code == 0, done
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [(one["by"], one["text"]) for one in lines[:2]] == [
        ("client", "hello"),
        ("backend", "hello"),
    ]
    assert "has ended: the connection has ended" in done.err
