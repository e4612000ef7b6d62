"""Tests of zerotrust.net.http_listener: draining and limits, over real connections."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from functools import partial

import pytest
from structlog.testing import capture_logs

from tests.support.client import Client
from tests.support.ports import free_port
from tests.support.waiting import eventually
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.http_server import QUIET, HttpServerConnection
from zerotrust.net.listen import PlainListening
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer

pytestmark = pytest.mark.anyio


class Answers:
    """Accepts each request and answers when told (net.http_server.RequestHandler, RequestSink)."""

    def __init__(self) -> None:
        self.waiting: list[HttpServerConnection] = []

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> "Answers":
        self.waiting.append(connection)
        return self

    def answer(self) -> None:
        connection = self.waiting.pop(0)
        connection.respond(b"HTTP/1.1 200 OK\r\n", 200, Kind.LENGTH, 2, announce=False)
        connection.respond_data(b"hi", end=True)

    def body(self, data: bytes, *, end: bool) -> None:
        pass

    def body_trailers(self, fields: bytes) -> None:
        pass

    def aborted(self) -> None:
        pass

    def drained(self) -> None:
        pass


class Scenario:
    listening: PlainListening

    def __init__(self) -> None:
        self.answers = Answers()
        self.port = free_port()
        self.tasks = Tasks()
        self.most = 100
        self.listener = self.made(reuse_idle=True)

    def made(self, *, reuse_idle: bool) -> HttpListener:
        coalescer = WriteCoalescer(asyncio.get_running_loop())
        return HttpListener(
            coalescer,
            self.answers,
            self.tasks,
            name="test",
            most=lambda: self.most,
            reuse_idle=reuse_idle,
        )

    async def open(self) -> Client:
        return await Client.open(self.port, host="a")

    async def ask(self, client: Client) -> None:
        before = len(self.answers.waiting)
        await client.send_head("GET", "/")
        await eventually(lambda: len(self.answers.waiting) > before, "the request is there")

    async def drain(self, seconds: float = 60) -> "asyncio.Task[None]":
        await self.listening.close()
        return asyncio.create_task(self.listener.drain(seconds))


@pytest.fixture
async def scenario() -> AsyncIterator[Scenario]:
    made = Scenario()
    made.listening = await made.listener.bind(f"127.0.0.1:{made.port}", key="x")
    yield made
    await made.listening.close()
    made.listener.close()
    await made.tasks.close()


async def test_draining_answers_running_requests_and_closes(scenario: Scenario) -> None:
    client = await scenario.open()
    await scenario.ask(client)
    draining = await scenario.drain()
    await asyncio.wait([draining], timeout=2 * QUIET)
    assert not draining.done()
    scenario.answers.answer()
    response = await client.read_response()
    assert response.get("connection") == "close"
    await client.wait_end()
    await asyncio.wait_for(draining, 20)
    client.abort()


async def test_a_request_on_a_kept_connection_is_still_served(scenario: Scenario) -> None:
    client = await scenario.open()
    await scenario.ask(client)
    scenario.answers.answer()
    assert (await client.read_response()).get("connection") != "close"
    draining = await scenario.drain()
    await scenario.ask(client)
    scenario.answers.answer()
    assert (await client.read_response()).get("connection") == "close"
    await asyncio.wait_for(draining, 20)
    client.abort()


async def test_announced_keep_alive_is_honoured(scenario: Scenario) -> None:
    client = await scenario.open()
    await scenario.ask(client)
    connection = scenario.answers.waiting[0]
    connection.respond(b"HTTP/1.1 200 OK\r\n", 200, Kind.LENGTH, 2, announce=False)
    draining = await scenario.drain()
    await asyncio.sleep(0)
    connection.respond_data(b"hi", end=True)
    assert (await client.read_response()).get("connection") != "close"
    scenario.answers.waiting.clear()
    await scenario.ask(client)
    scenario.answers.answer()
    assert (await client.read_response()).get("connection") == "close"
    await asyncio.wait_for(draining, 20)
    client.abort()


async def test_idle_connections_are_closed_when_draining(scenario: Scenario) -> None:
    clients = [await scenario.open() for _ in range(3)]
    draining = await scenario.drain()
    await asyncio.wait_for(draining, 20)
    for client in clients:
        assert await client.wait_end() < 2
        client.abort()
    await asyncio.wait_for(scenario.listener.ended(5), 2)


async def test_draining_ends_after_its_timeout(scenario: Scenario) -> None:
    client = await scenario.open()
    await scenario.ask(client)
    await asyncio.wait_for(await scenario.drain(0.1), 20)
    await asyncio.wait_for(scenario.listener.ended(0.1), 2)
    client.abort()


async def test_draining_keeps_upgraded_connections(scenario: Scenario) -> None:
    client = await scenario.open()
    await client.send_head("GET", "/", [("Connection", "Upgrade"), ("Upgrade", "x")])
    await eventually(lambda: scenario.answers.waiting, "the request is there")
    connection = scenario.answers.waiting[0]
    connection.respond(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n", 101, Kind.TUNNEL, 0, announce=False
    )
    await asyncio.wait_for(await scenario.drain(), 20)
    connection.respond_data(b"goes on", end=False)
    assert (await client.read_response()).status == 101
    assert await client.read_exactly(7) == b"goes on"
    client.abort()


async def test_queued_connections_are_served(scenario: Scenario) -> None:
    """The address closes in the same turn of the loop in which they connect."""
    late = [socket.create_connection(("127.0.0.1", scenario.port)) for _ in range(20)]
    for one in late:
        one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    draining = await scenario.drain()
    await eventually(lambda: len(scenario.answers.waiting) == 20, "all are there")
    for _ in late:
        scenario.answers.answer()
    await asyncio.wait_for(draining, 20)
    for one in late:
        assert one.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        one.close()


def accepted(scenario: Scenario, count: int, said: bytes) -> bool:
    """Wait until this number of connections is accepted and has read its bytes."""
    now = asyncio.get_running_loop().time()
    idle = [one for one in scenario.listener.accepted if not one.has_request]
    return (
        all(one.buffer == said and one.since < now for one in idle)
        and scenario.listener.connections + scenario.listener.refused == count
    )


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n"], ids=["nothing", "half a head"])
async def test_a_new_connection_replaces_the_longest_idle_one(
    scenario: Scenario, said: bytes
) -> None:
    scenario.most = 3
    busy = await scenario.open()
    await scenario.ask(busy)
    with capture_logs() as lines:
        idle = []
        for number in range(5):
            idle.append(await scenario.open())
            await idle[-1].send(said)
            await eventually(partial(accepted, scenario, 2 + number, said), "it is accepted")
        for client in idle[:3]:
            await client.wait_end()
    assert scenario.listener.connections == scenario.most
    assert scenario.listener.refused == 3
    assert [(line["event"], line["listener"], line["most"]) for line in lines] == [
        ("too many connections: the longest idle ones are closed", "test", 3)
    ]
    scenario.answers.answer()
    assert (await busy.read_response()).status == 200
    for client in (busy, *idle):
        client.abort()


async def test_new_connections_are_refused_while_all_are_busy(scenario: Scenario) -> None:
    scenario.most = 2
    busy = [await scenario.open() for _ in range(2)]
    for client in busy:
        await scenario.ask(client)
    late = await scenario.open()
    await late.wait_end()
    assert scenario.listener.refused == 1
    for client in busy:
        scenario.answers.answer()
        assert (await client.read_response()).status == 200
    another = await scenario.open()
    await scenario.ask(another)
    for client in (*busy, late, another):
        client.abort()


async def test_idle_connections_are_kept_without_reuse_idle(scenario: Scenario) -> None:
    scenario.most = 2
    listener, port = scenario.made(reuse_idle=False), free_port()
    async with listener.listen(f"127.0.0.1:{port}", key="x"):
        kept = [await Client.open(port, host="a") for _ in range(2)]
        await eventually(lambda: listener.connections == 2, "they are accepted")
        with capture_logs() as lines:
            for _ in range(3):
                refused = await Client.open(port, host="a")
                await refused.wait_end()
                refused.abort()
        assert (listener.connections, listener.refused) == (2, 3)
        assert [line["event"] for line in lines] == ["too many connections: new ones are refused"]
        await scenario.ask(kept[0])
        scenario.most = 3
        another = await Client.open(port, host="a")
        await scenario.ask(another)
    for client in (*kept, another):
        client.abort()


async def test_connections_of_one_turn_respect_the_maximum(scenario: Scenario) -> None:
    scenario.most = 5
    clients = [socket.create_connection(("127.0.0.1", scenario.port)) for _ in range(40)]
    most = 0
    while scenario.listener.refused < 35:
        await asyncio.sleep(0)
        most = max(most, scenario.listener.connections)
    assert most == 5
    for client in clients:
        client.close()
    await eventually(lambda: not scenario.listener.connections, "all have ended")


async def test_a_client_that_has_reset_its_connection_already_gets_no_request(
    scenario: Scenario,
) -> None:
    """The system has no address for it, as for a client of a unix socket, which is trusted."""
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", scenario.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    other = await scenario.open()
    await scenario.ask(other)
    await eventually(lambda: len(scenario.listener.accepted) == 1, "the others are gone")
    assert len(scenario.answers.waiting) == 1
    other.abort()
