"""Tests of zerotrust.agent.member_connections and server_connections, with real servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.databases import Cluster
from tests.support.inprocess_members import EdgeFiles
from tests.support.inprocess_stack import (
    Backend,
    RunningAgent,
    RunningServer,
    StackFiles,
    dialling,
)
from tests.support.ports import closed_port
from tests.support.waiting import eventually
from zerotrust.agent import app, connection, member_connections
from zerotrust.agent.member_connections import NUMBERS
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.db import servers as server_rows
from zerotrust.model.agent import AgentConfig
from zerotrust.server.identity import membership
from zerotrust.tunnel.messages import Member, Members

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("postgresql"), pytest.mark.slow]

HOST = "one.example.com"
CLIENT = [("X-Forwarded-Proto", "https")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StackFiles:
    return StackFiles(tmp_path_factory.mktemp("stack"))


@pytest.fixture
def edge(files: StackFiles, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch) -> EdgeFiles:
    monkeypatch.setattr(connection, "STAND_BY_LOOK", 0.01)
    monkeypatch.setattr(connection, "STAND_BY_MOST", 0.01)
    monkeypatch.setattr(app, "SWEEP", 0.02)
    monkeypatch.setattr(member_connections, "CHANGE_INTERVAL", 0.0)
    monkeypatch.setattr(membership, "RENEW_EACH", 0.1)
    return EdgeFiles(files, postgresql.migrated())


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with Backend("one").listening() as made:
        yield made


def config(edge: EdgeFiles, backend: Backend, **server: Any) -> AgentConfig:
    service = {"hostname": HOST, "backend": f"127.0.0.1:{backend.port}"}
    return edge.files.agent(service, server=server)


def numbers(server: RunningServer) -> list[int]:
    """The numbers of the connections of sessions that take requests."""
    found = server.server.agents.registry.sessions
    return sorted(one.connection for one in found if not one.retired and one.services)


async def body(server: RunningServer) -> bytes:
    async with await server.open(HOST, server.port) as client:
        return (await client.get("/", *CLIENT)).body


def members(running: RunningAgent) -> list[tuple[str, bool]]:
    return [(one.address, one.connected) for one in running.agent.status().members]


def connection_tasks() -> list[str]:
    """The names of the tasks of an agent's connections."""
    return [one.get_name() for one in asyncio.all_tasks() if "to worker" in one.get_name()]


async def test_an_agent_keeps_sessions_with_all_servers(edge: EdgeFiles, backend: Backend) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(edge.serving(0))
        agent = await stack.enter_async_context(dialling(config(edge, backend, connections=2)))
        await eventually(lambda: numbers(first) == [0, 1], "it is at the first")
        assert members(agent) == []
        async with edge.serving(1) as second:
            await eventually(lambda: numbers(second) == [NUMBERS, NUMBERS + 1], "and the second")
            assert [await body(one) for one in (first, second)] == [b"one"] * 2
            assert numbers(first) == [0, 1]
            assert members(agent) == [(edge.address(1), True)]

            before = {
                *first.server.agents.registry.sessions,
                *second.server.agents.registry.sessions,
            }
            agent.agent.dial(ServerEndpoint.of(config(edge, backend, connections=2)))
            await eventually(
                lambda: (
                    not before & {*first.server.agents.registry.sessions}
                    | before & {*second.server.agents.registry.sessions}
                ),
                "all are replaced, as after a renewal",
            )
            assert (numbers(first), numbers(second)) == ([0, 1], [NUMBERS, NUMBERS + 1])

            await agent.change(config(edge, backend, connections=1))
            await eventually(lambda: numbers(second) == [NUMBERS], "it follows the file")
            await agent.change(config(edge, backend, connections=1, follow_members=False))
            await eventually(lambda: numbers(second) == [], "and leaves the other one")
            assert numbers(first) == [0]


async def test_a_member_whose_lease_ends_is_left(
    edge: EdgeFiles, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_rows, "LEASE", 2)
    async with edge.serving(0) as first, dialling(config(edge, backend)) as agent:
        async with edge.serving(1) as second:
            await eventually(lambda: numbers(second) == [NUMBERS], "it is at both")
        await eventually(lambda: members(agent) == [(edge.address(1), False)], "it has lost one")
        assert agent.agent.status().members[0].problem
        await eventually(lambda: members(agent) == [], "which is forgotten", 5)
        await eventually(lambda: len(agent.agent.connections) == 1, "with its connection")
        assert await body(first) == b"one"
        async with edge.serving(1) as second:
            await eventually(lambda: numbers(second) == [NUMBERS], "until it is back")


async def test_a_server_of_its_own_file_stays_while_it_is_away(
    edge: EdgeFiles, backend: Backend
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        home = await stack.enter_async_context(contextlib.AsyncExitStack())
        await home.enter_async_context(edge.serving(0))
        agent = await stack.enter_async_context(dialling(config(edge, backend)))
        second = await stack.enter_async_context(edge.serving(1))
        await eventually(lambda: members(agent) == [(edge.address(1), True)], "it is at both")
        await home.aclose()
        await eventually(lambda: not agent.agent.connections[0].sessions, "the first is away")
        assert await body(second) == b"one"
        assert members(agent) == [(edge.address(1), True)]
        back = await stack.enter_async_context(edge.serving(0))
        await eventually(
            lambda: numbers(back) == [0], "and back, at the connection of the file", 20
        )
        assert numbers(second) == [NUMBERS]


async def test_servers_that_both_stand_in_the_file_are_no_members(
    edge: EdgeFiles, backend: Backend
) -> None:
    both = config(edge, backend, connections=2, addresses=[edge.address(1)])
    async with edge.serving(0) as first, edge.serving(1) as second, dialling(both) as agent:
        await eventually(lambda: numbers(second) == [1], "a connection for each")
        await eventually(lambda: members(agent) == [], "both are known")
        assert (numbers(first), numbers(second)) == ([0], [1])


# ---- hostile servers


def tell(server: RunningServer, *told: tuple[str, str]) -> None:
    """Let a server say who the members are."""
    known = [Member(id=name, address=address) for name, address in told]
    for session in server.server.agents.registry.sessions:
        session.link.session.send(Members(members=known))


async def test_a_list_can_only_make_an_agent_dial_some_addresses(
    edge: EdgeFiles, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "RENEW_EACH", 60.0)
    async with edge.serving(0) as first, dialling(config(edge, backend)) as agent:
        await eventually(lambda: numbers(first) == [0], "it is at the first")
        here, foreign = edge.address(0), f"localhost:{closed_port()}"
        tell(first, *((f"{n:032x}", foreign) for n in range(60)), ("f" * 32, here))
        await eventually(lambda: len(members(agent)) == 7, "at most 8 with the first")
        with capture_logs() as logs:
            tell(first, ("f" * 32, here), ("e" * 32, f"localhost:{edge.tunnel_ports[0]}"))
            await eventually(lambda: len(members(agent)) == 2, "another list")
            await eventually(
                lambda: (
                    [one.problem for one in agent.agent.status().members]
                    == [
                        f"{where} refused: another server was expected here; its log says why"
                        for where in (here, f"localhost:{edge.tunnel_ports[0]}")
                    ]
                ),
                "it takes no other server for these",
            )
        assert numbers(first) == [0], "and its own session stays"
        assert all(log.get("reason") != "SUPERSEDED" for log in logs)
        assert await body(first) == b"one"
        tell(first)
        await eventually(lambda: members(agent) == [], "the list is empty")
        await eventually(lambda: len(connection_tasks()) == 1, "no dial is under way")


async def test_a_list_that_breaks_the_specification_ends_the_session(
    edge: EdgeFiles, backend: Backend
) -> None:
    async with edge.serving(0) as first, dialling(config(edge, backend)):
        await eventually(lambda: numbers(first) == [0], "it is at the first")
        (session,) = first.server.agents.registry.sessions
        bad = Member.model_construct(id="f" * 32, address="http://backend/")
        session.link.session.send(Members.model_construct(members=[bad]))
        await eventually(session.link.closed.done, "the agent closes it")
        await eventually(lambda: numbers(first) == [0], "and begins another one")
