"""Tests of zerotrust.agent.connection with a real server in the same process."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

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
from zerotrust.agent import back_off, connection, reconnect
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.session import ServerSession
from zerotrust.errors import SetupError
from zerotrust.model.agent import AgentConfig
from zerotrust.net import tasks
from zerotrust.server.agents.session import AgentSession
from zerotrust.tunnel.codes import CONNECTIONS, Code

pytestmark = pytest.mark.anyio

HOST = "one.example.com"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StackFiles:
    return StackFiles(tmp_path_factory.mktemp("stack"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STAND_BY_LOOK", 0.01)
    monkeypatch.setattr(connection, "STAND_BY_MOST", 0.01)


class Scenario:
    """A server and a backend, and agents that dial."""

    def __init__(self, files: StackFiles, server: RunningServer, backend: Backend) -> None:
        self.files = files
        self.server = server
        self.backend = backend

    def config(self, connections: int = 2, **server: Any) -> AgentConfig:
        service = {
            "hostname": HOST,
            "http_redirect": False,
            "backend": f"127.0.0.1:{self.backend.port}",
        }
        return self.files.agent(service, server={"connections": connections, **server})

    @property
    def sessions(self) -> list[AgentSession]:
        return sorted(
            self.server.server.agents.registry.sessions, key=lambda session: session.connection
        )

    def numbers(self) -> list[int]:
        return [session.connection for session in self.sessions]

    async def connected(self, *numbers: int) -> None:
        def found() -> bool:
            return self.numbers() == list(numbers) and all(
                HOST in str(session.services) for session in self.sessions
            )

        await eventually(found, f"connections {numbers}", 10)

    async def body(self) -> str:
        async with await self.server.open(HOST) as client:
            response = await client.get("/")
            return response.body.decode() if response.status == 200 else str(response.error_code)

    async def upgraded(self) -> Client:
        client = await self.server.open(HOST)
        assert (await client.upgrade("/")).status == 101
        assert await echoes(client)
        return client

    def streams(self) -> list[int]:
        return [len(session.link.session.streams) for session in self.sessions]


async def echoes(client: Client) -> bool:
    await client.send(b"hello")
    return await client.read_exactly(5) == b"hello"


@pytest.fixture
async def scenario(files: StackFiles) -> AsyncIterator[Scenario]:
    config = files.server(api={"hold_timeout": 0})
    async with Backend("first").listening() as backend, serving(files, config) as server:
        yield Scenario(files, server, backend)


def sockets(agent: RunningAgent) -> list[Any]:
    return [
        one.current.link.transport for one in agent.agent.connections if one.current is not None
    ]


async def test_the_second_connection_takes_over_at_once(scenario: Scenario) -> None:
    async with dialling(scenario.config()) as agent:
        await scenario.connected(0, 1)
        sockets_open = [await scenario.upgraded() for _ in range(3)]
        assert scenario.streams() == [3, 0]
        first = scenario.sessions[0]
        transport = first.link.transport
        assert transport is not None
        # The agent is kept from coming back until the request has been answered.
        line_0 = agent.agent.connections[0]
        assert line_0.current is not None
        session_0, come_back = line_0.current, line_0.current.lost
        session_0.lost = lambda session: None
        transport.abort()
        await eventually(lambda: not first.link.session.attached, "the server knows")
        assert await scenario.body() == "first", "it does not wait for the connection that broke"
        assert scenario.streams() == [3, 0], "what has begun there stays there"
        come_back(session_0)
        assert all([await echoes(client) for client in sockets_open])
        assert scenario.numbers() == [0, 1]
        for client in sockets_open:
            client.abort()


async def test_a_lost_session_leaves_the_others_alone(scenario: Scenario) -> None:
    async with dialling(scenario.config()) as agent:
        await scenario.connected(0, 1)
        scenario.sessions[0].doubtful = True
        scenario.server.server.agents.registry.rearrange(scenario.sessions[0])
        there = await scenario.upgraded()
        assert scenario.streams() == [0, 1]
        before = scenario.sessions
        one = agent.agent.connections[0].current
        assert one is not None
        one.link.close_session(Code.GOING_AWAY, "for the test")
        await eventually(
            lambda: scenario.sessions and scenario.sessions[0] not in before, "a new session", 10
        )
        await scenario.connected(0, 1)
        assert scenario.sessions[1] is before[1]
        assert await echoes(there)
        there.abort()


async def test_an_older_server_gets_one_connection(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    acceptor = scenario.server.server.agents.acceptor
    known = tuple(name for name in acceptor.options.capabilities if name != CONNECTIONS)
    monkeypatch.setattr(acceptor, "options", replace(acceptor.options, capabilities=known))
    async with dialling(scenario.config(3)) as agent:
        await scenario.connected(0)
        (session,) = scenario.sessions
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert scenario.sessions == [session]
        assert len(agent.agent.status().sessions) == 1


@pytest.mark.slow
async def test_more_and_fewer_connections_while_a_websocket_is_open(scenario: Scenario) -> None:
    async with dialling(scenario.config(1)) as agent:
        await scenario.connected(0)
        clients = [await scenario.upgraded()]

        def serves(count: int) -> bool:
            return len(served(scenario)) == count

        for count in (3, 2, 4, 1):
            await agent.change(scenario.config(count))
            await eventually(partial(serves, count), f"{count} connections", 10)
            assert await scenario.body() == "first"
            assert all([await echoes(client) for client in clients])
            clients.append(await scenario.upgraded())
        for client in clients:
            client.abort()
        await eventually(
            lambda: scenario.numbers() == [0], "what was replaced ends with its last stream", 10
        )
        await eventually(lambda: len(agent.agent.connections) == 1, "the agent has forgotten it", 5)


def served(scenario: Scenario) -> list[AgentSession]:
    return [session for session in scenario.sessions if not session.retired]


async def test_each_connection_has_an_address_of_its_own(scenario: Scenario) -> None:
    port = free_port()
    other = scenario.server.server.agents.listener.listen(f"127.0.0.1:{port}")
    config = scenario.config(3, addresses=[f"127.0.0.1:{port}"])
    try:
        async with dialling(config) as agent:
            await scenario.connected(0, 1, 2)
            ports = [int(one.server.rpartition(":")[2]) for one in agent.agent.status().sessions]
            assert ports == [scenario.files.tunnel_port, port, scenario.files.tunnel_port]
    finally:
        await other.close()


async def test_the_next_address_is_tried(scenario: Scenario) -> None:
    config = scenario.config(
        2,
        address=f"127.0.0.1:{closed_port()}",
        addresses=[f"127.0.0.1:{scenario.files.tunnel_port}"],
    )
    async with dialling(config) as agent:
        await scenario.connected(0, 1)
        link = scenario.sessions[0].link
        broken = link.transport
        assert broken is not None
        broken.abort()

        def back() -> bool:
            return link.transport not in (None, broken) and link.session.attached

        await eventually(back, "it is back over the address that answers", 10)
        assert len(agent.agent.status().sessions) == 2


async def test_a_second_process_supersedes_all_sessions(scenario: Scenario) -> None:
    async with dialling(scenario.config()):
        await scenario.connected(0, 1)
        before = scenario.sessions
        async with dialling(scenario.config()):
            await eventually(
                lambda: not set(before) & set(scenario.sessions), "the first ones have ended", 10
            )
            await scenario.connected(0, 1)
            assert len({session.instance for session in scenario.sessions}) == 1


async def test_a_reload_refused_on_one_connection_changes_none(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dialling(scenario.config()) as agent:
        await scenario.connected(0, 1)
        before = scenario.sessions
        succeed = connection.TunnelConnection.succeed

        async def not_the_second(self: connection.TunnelConnection, target: Any) -> Any:
            if self.number:
                raise SetupError("server.address: no")
            return await succeed(self, target)

        monkeypatch.setattr(connection.TunnelConnection, "succeed", not_the_second)
        with pytest.raises(SetupError, match=r"server\.address: no"):
            await agent.change(scenario.config(), str(scenario.files.folder / "home.crt"))
        await eventually(lambda: scenario.sessions == before, "what was begun is given up", 5)
        assert await scenario.body() == "first"
        monkeypatch.undo()


async def test_draining_covers_all_connections(scenario: Scenario) -> None:
    async with dialling(scenario.config()) as agent:
        await scenario.connected(0, 1)
        one = await scenario.upgraded()
        scenario.sessions[0].doubtful = True
        scenario.server.server.agents.registry.rearrange(scenario.sessions[0])
        two = await scenario.upgraded()
        assert scenario.streams() == [1, 1]
        await asyncio.wait_for(agent.agent.drain(), 5)
        for client in (one, two):
            await client.wait_end()
            client.abort()
        assert await scenario.body() == "no_agent"
        assert agent.agent.status().sessions


@pytest.mark.slow
async def test_broken_links_leave_no_reference_cycles(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS keeps tens of kilobytes for each connection until the garbage collector runs."""
    monkeypatch.setattr(reconnect, "STEADY", 0.0)
    async with dialling(scenario.config(1)):
        await scenario.connected(0)
        link = scenario.sessions[0].link
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                broken = link.transport
                assert broken is not None
                broken.abort()
                await eventually(
                    lambda: (
                        link.transport not in (None, broken)  # noqa: B023
                        and link.session.attached
                    ),
                    "it is back",
                )
            left = gc.collect()
        finally:
            gc.enable()
        assert left < 50, "a break used to leave a hundred objects"


async def test_an_error_in_a_connection_costs_one_attempt(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RESTART_FIRST", 0.01)
    connect, faults = (
        ServerEndpoint.connect,
        [OverflowError("date value out of range"), ValueError("bad"), KeyError("bad")],
    )

    async def faulty(self: ServerEndpoint, *said: Any, **more: Any) -> None:
        if faults:
            raise faults.pop()
        await connect(self, *said, **more)

    monkeypatch.setattr(ServerEndpoint, "connect", faulty)
    with capture_logs() as logs:
        async with dialling(scenario.config()):
            await scenario.connected(0, 1)
            assert await scenario.body() == "first"
    assert not faults
    errors = [entry["error"] for entry in logs if entry["log_level"] == "error"]
    assert errors == [
        "KeyError('bad')",
        "ValueError('bad')",
        "OverflowError('date value out of range')",
    ]


async def test_an_error_during_a_session_starts_another_one(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RESTART_FIRST", 0.01)
    async with dialling(scenario.config(1)) as agent:
        await scenario.connected(0)
        (before,) = scenario.sessions
        one = agent.agent.connections[0]
        assert one.current is not None
        link = one.current.link

        class Faulty:
            close_session = staticmethod(link.close_session)

            @property
            def closed(self) -> Any:
                raise RuntimeError("a fault of ours")

        one.current = cast("ServerSession", SimpleNamespace(link=Faulty()))
        one.handed_over.set_result(None)
        await eventually(
            lambda: link.closed.done() and before not in scenario.sessions,
            "its session has ended",
            5,
        )
        await scenario.connected(0)
        assert await scenario.body() == "first"


async def test_backoff_grows_if_the_server_ends_each_session_at_once(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    monkeypatch.setattr(back_off, "FIRST", 0.05)
    begun: list[float] = []
    established = ServerSession.established

    def closed_at_once(self: ServerSession, peer: Any) -> None:
        begun.append(asyncio.get_running_loop().time())
        established(self, peer)
        self.link.close_session(Code.GOING_AWAY, "for the test")

    with monkeypatch.context() as patch:
        patch.setattr(ServerSession, "established", closed_at_once)
        async with dialling(scenario.config(1)):
            await eventually(lambda: len(begun) == 5, "sessions", 10)
    pauses = [later - earlier for earlier, later in pairwise(begun)]
    for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.4), strict=True):
        assert pause >= least - 0.002, "the loop counts in milliseconds"


async def test_the_reason_why_an_agent_is_not_connected(scenario: Scenario) -> None:
    closed = f"127.0.0.1:{closed_port()}"
    async with dialling(scenario.config(1, address=closed)) as agent:
        status = agent.agent.status
        reason = f"cannot connect to {closed}: connection refused"
        await eventually(lambda: status().problem == reason, "the reason")


async def test_the_reason_of_a_process_that_another_one_has_replaced(scenario: Scenario) -> None:
    async with dialling(scenario.config(1)) as first:
        await scenario.connected(0)
        assert first.agent.status().problem == ""
        async with dialling(scenario.config(1)):
            reason = "another process uses this agent's certificate"
            await eventually(lambda: first.agent.status().problem == reason, "the reason")


async def test_the_reason_of_a_server_that_ends(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, most: most)  # it is told until the next try
    async with dialling(scenario.config(1)) as agent:
        await scenario.connected(0)
        (session,) = scenario.sessions
        session.link.close_session(Code.NOT_ALLOWED, "revoked")
        connection = agent.agent.connections[0]
        await eventually(lambda: "revoked" in connection.problem, "the reason")
