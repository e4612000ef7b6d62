"""Tests of zerotrust.agent.app: reloads, against a real server in the same process."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.authorities import issue_server_at
from tests.support.client import Client
from tests.support.imports import imported_by
from tests.support.inprocess_stack import (
    Backend,
    RunningAgent,
    RunningServer,
    StackFiles,
    dialling,
    serving,
)
from tests.support.inprocess_workers import RunningWorkers, serving_workers
from tests.support.ports import closed_port, free_port
from tests.support.waiting import eventually
from zerotrust.agent import app, back_off, connection, enrollment_client
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.cli.main import SERVER_PACKAGES
from zerotrust.errors import PkiError, SetupError
from zerotrust.model.agent import AgentConfig
from zerotrust.model.logging import Logging
from zerotrust.net import tasks
from zerotrust.net.tasks import Tasks
from zerotrust.pki.ca_directory import create_authority, issue_agent
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.identity.authorization import NothingRevoked
from zerotrust.telemetry import logs
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.session import Session

pytestmark = pytest.mark.anyio

ONE, TWO = "one.example.com", "two.example.com"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StackFiles:
    return StackFiles(tmp_path_factory.mktemp("stack"))


def test_the_agent_imports_only_what_it_needs_to_start() -> None:
    modules = imported_by("zerotrust.agent.app")
    unneeded = (SERVER_PACKAGES - {"bcrypt"}) | {"httpx2", "rich"}  # cryptography imports bcrypt
    assert not unneeded & modules
    rooms = ("zerotrust.server", "zerotrust.caddy", "zerotrust.db", "zerotrust.accounts")
    assert not {name for name in modules if name.startswith(rooms)}


class Scenario:
    """A server, an agent that publishes ONE and TWO, and a backend for each."""

    running: RunningAgent

    def __init__(
        self, files: StackFiles, server: RunningServer, first: Backend, second: Backend
    ) -> None:
        self.files = files
        self.server = server
        self.first = first
        self.second = second

    def config(self, *hosts: str, **sections: Any) -> AgentConfig:
        return self.files.agent(*(self.service(host) for host in hosts), **sections)

    def service(self, host: str, backend: Backend | None = None, **keys: Any) -> dict[str, Any]:
        backend = backend or (self.first if host == ONE else self.second)
        return {
            "hostname": host,
            "listen_on": "both",
            "http_redirect": False,
            "backend": f"127.0.0.1:{backend.port}",
            **keys,
        }

    async def change(self, config: AgentConfig, *files: str) -> list[str]:
        return await self.running.change(config, *files)

    async def body(self, host: str) -> str:
        async with await self.server.open(host) as client:
            response = await client.get("/")
            return response.body.decode() if response.status == 200 else str(response.error_code)

    async def waiting(self, host: str = ONE) -> Client:
        """A client whose request is at the backend, which waits for `go`."""
        client = await self.server.open(host)
        before = self.first.waiting
        await client.send_head("GET", "/wait")
        await eventually(lambda: self.first.waiting > before, "the request is under way")
        return client

    async def upgraded(self, host: str = ONE) -> Client:
        client = await self.server.open(host)
        assert (await client.upgrade("/")).status == 101
        assert await echoes(client)
        return client

    @property
    def registry(self) -> Registry:
        return self.server.server.agents.registry

    def sessions(self) -> list[Session]:
        return [session.link.session for session in self.registry.sessions]


async def echoes(client: Client) -> bool:
    await client.send(b"hello")
    return await client.read_exactly(5) == b"hello"


@pytest.fixture
async def scenario(files: StackFiles) -> AsyncIterator[Scenario]:
    async with (
        Backend("first").listening() as first,
        Backend("second").listening() as second,
        serving(files) as server,
    ):
        made = Scenario(files, server, first, second)
        async with dialling(made.config(ONE, TWO)) as agent:
            made.running = agent

            async def published() -> bool:
                return [await made.body(host) for host in (ONE, TWO)] == ["first", "second"]

            await eventually(published, "both services are published")
            yield made


# Services


async def test_services_are_added_changed_and_removed(scenario: Scenario) -> None:
    assert await scenario.change(scenario.config(TWO)) == []
    await eventually(lambda: is_body(scenario, ONE, "unknown_host"), "it is taken back", 2)
    await scenario.change(
        scenario.files.agent(scenario.service(ONE, scenario.second), scenario.service(TWO))
    )
    await eventually(
        lambda: is_body(scenario, ONE, "second"), "it is back, with another backend", 2
    )


async def is_body(scenario: Scenario, host: str, body: str) -> bool:
    return await scenario.body(host) == body


async def test_requests_of_a_removed_service_complete(scenario: Scenario) -> None:
    waiting, other = await scenario.waiting(), await scenario.upgraded(TWO)
    await scenario.change(scenario.config(TWO))
    await eventually(lambda: is_body(scenario, ONE, "unknown_host"), "new requests are refused", 2)
    scenario.first.go.set()
    assert (await waiting.read_response()).body == b"first"
    assert await echoes(other)
    for client in (waiting, other):
        client.abort()


@pytest.mark.slow
async def test_requests_end_after_drain_timeout(scenario: Scenario) -> None:
    waiting, socket, other = (
        await scenario.waiting(),
        await scenario.upgraded(),
        await scenario.upgraded(TWO),
    )
    begun_at = asyncio.get_running_loop().time()
    await scenario.change(scenario.config(TWO, hot_reload={"drain_timeout": "2s"}))
    assert await echoes(socket)
    assert (await waiting.read_response()).error_code == "service_gone"
    assert 2 <= asyncio.get_running_loop().time() - begun_at < 4
    await socket.wait_end()
    assert await echoes(other), "that of another service goes on"
    for client in (waiting, socket, other):
        client.abort()


@pytest.mark.slow
async def test_drain_timeout_by_its_alias(scenario: Scenario) -> None:
    socket = await scenario.upgraded()
    await scenario.change(scenario.config(TWO, hot_reload={"graceful_timeout": 0}))
    assert await socket.wait_end() < 3
    socket.abort()


@pytest.mark.slow
async def test_requests_continue_if_the_upstream_stays(scenario: Scenario) -> None:
    socket, moved = await scenario.upgraded(), await scenario.upgraded(TWO)
    changed = scenario.service(ONE, timeout="7s")
    await scenario.change(
        scenario.files.agent(
            changed, scenario.service(TWO, scenario.first), hot_reload={"drain_timeout": 0}
        ),
    )
    await moved.wait_end()
    assert await echoes(socket)
    for client in (socket, moved):
        client.abort()


# Connections


@pytest.mark.slow
async def test_a_new_certificate_keeps_running_requests(scenario: Scenario) -> None:
    waiting, socket = await scenario.waiting(), await scenario.upgraded()
    (before,) = scenario.sessions()
    scenario.files.issue()
    assert (
        await scenario.change(scenario.config(ONE, TWO), str(scenario.files.folder / "home.crt"))
        == []
    )
    old, new = scenario.sessions()
    assert old is before
    assert len(old.streams) == 2
    assert await scenario.body(ONE) == "first"
    assert len(old.streams) == 2 and not new.streams, "it went over the new one"
    scenario.first.go.set()
    assert (await waiting.read_response()).body == b"first"
    assert await echoes(socket)
    socket.abort()
    await eventually(
        lambda: scenario.sessions() == [new], "the old session ends with its last stream", 5
    )
    assert await scenario.body(ONE) == "first"
    waiting.abort()


@pytest.mark.slow
async def test_no_request_fails_while_sessions_change(scenario: Scenario) -> None:
    bodies: list[str] = []
    done = asyncio.Event()

    async def ask() -> None:
        async with await scenario.server.open(ONE) as client:
            while not done.is_set():
                bodies.append((await client.get("/")).body.decode())

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    for _ in range(10):
        await scenario.change(scenario.config(ONE, TWO), str(scenario.files.folder / "home.crt"))
    done.set()
    await asyncio.gather(*asking)
    assert set(bodies) == {"first"}
    await eventually(lambda: len(scenario.sessions()) == 1, "one session is left", 5)


def held() -> tuple[int, int]:
    """Return the number of tasks and of descriptors."""
    return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
async def test_many_changes_leak_nothing(scenario: Scenario) -> None:
    before, nowhere = held(), closed_port()
    for number in range(20):
        extra = scenario.service(f"extra-{number}.example.com", scenario.first)
        await scenario.change(
            scenario.files.agent(scenario.service(ONE), extra),
            str(scenario.files.folder / "home.crt"),
        )
        await scenario.server.change(
            scenario.files.server(api={"trusted_proxies": [f"192.0.2.{number}"]})
        )
        with pytest.raises(SetupError):
            await scenario.server.change(
                scenario.files.server(server={"listen_addr": f"127.0.0.1:{scenario.first.port}"})
            )
        with pytest.raises(SetupError):
            await scenario.change(scenario.config(TWO, server={"address": f"127.0.0.1:{nowhere}"}))
    await scenario.change(scenario.config(ONE, TWO))
    await eventually(lambda: len(scenario.sessions()) == 1, "one session is left", 5)
    await eventually(
        lambda: not scenario.running.agent.connections[0].leaving, "also at the agent", 5
    )
    await eventually(
        lambda: all(now <= then for now, then in zip(held(), before, strict=True)),
        "all is let go",
        5,
    )


async def test_a_new_server_address_takes_over(scenario: Scenario) -> None:
    port = free_port()
    socket = await scenario.upgraded()
    await scenario.server.change(scenario.files.server(server={"listen_addr": f"127.0.0.1:{port}"}))
    await scenario.change(scenario.config(ONE, TWO, server={"address": f"127.0.0.1:{port}"}))
    assert len(scenario.sessions()) == 2
    assert await scenario.body(ONE) == "first"
    assert await echoes(socket)
    socket.abort()


@pytest.mark.slow
async def test_a_session_with_a_server_that_is_no_longer_configured_ends_in_time(
    scenario: Scenario,
) -> None:
    port = free_port()
    waiting, socket = await scenario.waiting(), await scenario.upgraded(TWO)
    (old,) = scenario.sessions()
    await scenario.server.change(scenario.files.server(server={"listen_addr": f"127.0.0.1:{port}"}))
    elsewhere = {"address": f"127.0.0.1:{port}"}
    begun_at = asyncio.get_running_loop().time()
    await scenario.change(
        scenario.config(ONE, TWO, server=elsewhere, hot_reload={"drain_timeout": "4s"})
    )
    assert await echoes(socket), "it has its time"
    assert len(old.streams) == 2
    assert await socket.wait_end() < 4, "the server was asked to end WebSockets"
    await eventually(lambda: old not in scenario.sessions(), "the old session has ended", 10)
    assert 4 <= asyncio.get_running_loop().time() - begun_at < 7
    scenario.first.go.set()
    assert (await waiting.read_response()).body == b"first", (
        "the server has asked again on the new session"
    )
    for client in (waiting, socket):
        client.abort()


@pytest.mark.slow
async def test_sessions_of_earlier_reloads_end_with_their_server(scenario: Scenario) -> None:
    socket, port = await scenario.upgraded(), free_port()
    await scenario.change(scenario.config(ONE, TWO), str(scenario.files.folder / "home.crt"))
    assert len(scenario.sessions()) == 2
    await scenario.server.change(scenario.files.server(server={"listen_addr": f"127.0.0.1:{port}"}))
    elsewhere = {"address": f"127.0.0.1:{port}"}
    await scenario.change(
        scenario.config(ONE, TWO, server=elsewhere, hot_reload={"drain_timeout": 0})
    )
    await socket.wait_end()
    await eventually(lambda: len(scenario.sessions()) == 1, "one session is left", 5)
    socket.abort()


@pytest.mark.slow
async def test_the_sweep_restarts_after_an_error(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RESTART_FIRST", 0.01)
    monkeypatch.setattr(app, "SWEEP", 0.01)
    faults = [RuntimeError("one"), RuntimeError("two")]
    sweep = connection.TunnelConnection.sweep
    swept = asyncio.Event()

    def faulty(self: connection.TunnelConnection, now: float) -> None:
        if faults:
            raise faults.pop()
        sweep(self, now)
        swept.set()

    monkeypatch.setattr(connection.TunnelConnection, "sweep", faulty)
    await asyncio.wait_for(swept.wait(), 5)


async def test_a_server_that_cannot_be_reached_changes_nothing(scenario: Scenario) -> None:
    with pytest.raises(
        SetupError, match=r"server\.address: cannot connect to 127\.0\.0\.1:\d+: connection refused"
    ):
        await scenario.change(
            scenario.config(TWO, server={"address": f"127.0.0.1:{closed_port()}"})
        )
    assert await scenario.body(ONE) == "first"
    assert len(scenario.sessions()) == 1


async def test_a_server_that_refuses_changes_nothing(
    scenario: Scenario, tmp_path_factory: pytest.TempPathFactory
) -> None:
    foreign = tmp_path_factory.mktemp("foreign")
    create_authority(foreign)
    issue_agent(foreign, "home")
    own = {"cert": str(foreign / "home.crt"), "key": str(foreign / "home.key")}
    with pytest.raises(
        SetupError, match=r"server\.address: 127\.0\.0\.1:\d+ refused: .*; its log says why"
    ):
        await scenario.change(scenario.config(TWO, server=own))
    assert await scenario.body(ONE) == "first"


async def test_a_server_that_does_not_answer_changes_nothing(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PUBLISH_TIMEOUT", 0.0)
    with pytest.raises(SetupError, match="it did not answer for all services in 0 s"):
        await scenario.change(scenario.config(TWO), str(scenario.files.folder / "ca.crt"))
    assert await scenario.body(ONE) == "first"
    await eventually(lambda: len(scenario.sessions()) == 1, "what was begun is given up", 5)


async def test_a_log_that_cannot_be_opened_changes_nothing(scenario: Scenario) -> None:
    config = scenario.config(TWO, logging={"output": "/dev/null/x"})
    with pytest.raises(SetupError, match="cannot open the log file"):
        await scenario.change(config, str(scenario.files.folder / "home.crt"))
    await eventually(lambda: len(scenario.sessions()) == 1, "the new session is given up", 5)
    assert await scenario.body(ONE) == "first"


async def test_the_certificate_of_another_changes_nothing(scenario: Scenario) -> None:
    with pytest.raises(
        PkiError, match=r'is the certificate of "home", but the configuration says agent\.id "away"'
    ):
        await scenario.change(scenario.config(TWO, agent={"id": "away"}))
    assert await scenario.body(ONE) == "first"


async def test_the_log_changes(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Logging] = []
    monkeypatch.setattr(logs, "configure", calls.append)
    assert await scenario.change(scenario.config(ONE, TWO, logging={"level": "error"})) == []
    assert [one.level for one in calls] == ["error"]
    assert len(scenario.sessions()) == 1, "no new connection for that"


async def test_a_disconnected_agent_dials_a_new_address_at_once(
    files: StackFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_off, "FIRST", 1e6)
    monkeypatch.setattr(back_off, "MOST", 1e6)
    async with Backend("first").listening() as first, serving(files) as server:
        service = {"hostname": ONE, "backend": f"127.0.0.1:{first.port}", "http_redirect": False}
        async with dialling(
            files.agent(service, server={"address": f"127.0.0.1:{closed_port()}"})
        ) as agent:
            scenario = Scenario(files, server, first, first)
            scenario.running = agent
            await asyncio.sleep(0.1)
            assert not scenario.sessions()
            await scenario.change(files.agent(service))
            await eventually(lambda: len(scenario.sessions()) == 1, "it has connected", 5)


@pytest.mark.slow
async def test_a_superseded_agent_waits(scenario: Scenario) -> None:
    async with dialling(scenario.config(ONE)):
        (before,) = scenario.sessions()

        async def newer() -> bool:
            return len(found := scenario.sessions()) == 1 and found[0] is not before

        await eventually(newer, "the second process took over", 5)
        (newest,) = scenario.sessions()
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert scenario.sessions() == [newest]


class AllRevoked:
    """Revocations of all agents; counts its calls."""

    def __init__(self) -> None:
        self.asked = 0

    def refuses(self, agent: str, serial: str) -> bool:
        self.asked += 1
        return True


@pytest.mark.slow
async def test_a_rejected_agent_backs_off(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_off, "FIRST", 0.001)
    scenario.server.server.agents.authorization.revoked = everybody = AllRevoked()
    scenario.server.server.agents.sessions.revoke("home", None, "revoked")
    await eventually(lambda: everybody.asked > 2, "it comes again")
    await asyncio.sleep(1)
    assert everybody.asked < 30
    scenario.server.server.agents.authorization.revoked = NothingRevoked()
    await eventually(scenario.sessions, "it is let in again", 10)


# What is counted


async def test_a_revoked_agent_stays_rejected_after_a_restart(scenario: Scenario) -> None:
    limited = scenario.service(
        ONE, routes=[{"handle": [{"type": "rate_limit", "config": {"rate": "2/hour"}}]}]
    )
    await scenario.change(scenario.files.agent(limited))
    async with await scenario.server.open(ONE) as client:
        assert [(await client.get("/")).status for _ in range(3)] == [200, 200, 429]
        await scenario.running.agent.close()
        await eventually(lambda: not scenario.sessions(), "the agent has gone")
        async with dialling(scenario.files.agent(limited)):

            async def served() -> int:
                status = (await client.get("/")).status
                return status if status != 503 else 0

            assert await eventually(served, "it is back") == 429


# The end


async def test_draining_completes_requests_and_moves_new_ones(scenario: Scenario) -> None:
    await scenario.server.change(
        scenario.files.server(api={"hold_timeout": 0})
    )  # they are refused, and not held for 10 s
    waiting, socket = await scenario.waiting(), await scenario.upgraded(TWO)
    draining = asyncio.create_task(scenario.running.agent.drain())
    await eventually(lambda: is_body(scenario, ONE, "no_agent"), "new requests do not get there", 2)
    assert await echoes(socket), "as long as requests run"
    scenario.first.go.set()
    assert (await waiting.read_response()).body == b"first"
    await socket.wait_end()
    await asyncio.wait_for(draining, 20)
    for client in (waiting, socket):
        client.abort()


@pytest.mark.slow
async def test_draining_ends_after_drain_timeout(scenario: Scenario) -> None:
    await scenario.change(scenario.config(ONE, TWO, hot_reload={"drain_timeout": "1s"}))
    waiting = await scenario.waiting()
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    await scenario.running.agent.drain()
    assert 1 <= loop.time() - begun_at < 1 + connection.FAREWELL + 1
    await scenario.running.agent.close()
    assert (await waiting.read_response()).error_code == "agent_lost"
    waiting.abort()


async def test_draining_without_a_session_ends_at_once(scenario: Scenario) -> None:
    await asyncio.wait_for(app.Agent(scenario.config(ONE), Tasks()).drain(), 1)


async def test_no_renewal_is_requested_if_the_key_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = StackFiles(tmp_path)
    issuer = {"cert_file": str(tmp_path / "issuer.crt"), "key_file": str(tmp_path / "issuer.key")}
    before = (tmp_path / "home.crt").read_bytes()
    waiting = tmp_path / "home.key.next"
    waiting.mkdir()
    monkeypatch.setattr(app, "SWEEP", 0.01)
    async with serving(files, files.server(authority=issuer)), dialling(files.agent()) as running:
        with capture_logs() as said:

            async def heard(event: str) -> bool:
                return any(line["event"] == event and "serial" not in line for line in said)

            await eventually(lambda: is_open(running), "the agent is connected")
            assert running.agent.status().agent == "home", (
                "its certificate says so, if its file does not"
            )
            running.agent.renewal.next_at = 0.0
            await eventually(
                lambda: heard("certificate not renewed"), "the agent finds that it can't write"
            )
            waiting.rmdir()
            assert (tmp_path / "home.crt").read_bytes() == before
            running.agent.renewal.next_at = 0.0
            await eventually(lambda: heard("certificate renewed"), "it goes on, and can")
    assert not [line for line in said if "one request at a time" in line.get("reason", "")]
    assert (tmp_path / "home.crt").read_bytes() != before


async def is_open(running: RunningAgent) -> bool:
    return bool(running.agent.status().sessions)


async def test_clock_skew_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test shifts the dates of the server's certificate instead of the clock."""
    files = StackFiles(tmp_path)
    issue_server_at(
        tmp_path, "server", datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    )
    issuer = {"cert_file": str(tmp_path / "issuer.crt"), "key_file": str(tmp_path / "issuer.key")}
    monkeypatch.setattr(enrollment_client, "MIN_SKEW", datetime.timedelta(days=-1))
    with capture_logs() as said:

        async def told() -> bool:
            reasons = [line["reason"] for line in said if line["event"] == "cannot connect"]
            return any("not yet valid: this machine's clock is" in reason for reason in reasons)

        async with serving(files, files.server(authority=issuer)), dialling(files.agent()):
            await eventually(told, "the agent says what is wrong")


@pytest.mark.slow
async def test_an_agent_keeps_sessions_with_all_workers(files: StackFiles) -> None:
    backend = Backend("one")
    own = files.agent(
        {"hostname": ONE, "backend": f"127.0.0.1:{backend.port}"}, server={"connections": 2}
    )
    async with backend.listening(), serving_workers(files) as workers, dialling(own) as running:
        await eventually(lambda: workers.sessions() == [2, 2], "it has two with each", 20)
        for worker, server in enumerate(workers.servers):
            await eventually(lambda: ONE in server.agents.registry.by_host, "it is published")  # noqa: B023
            assert (await workers.get(worker, ONE)).startswith(b"HTTP/1.1 200")

        before = [server.agents.registry.sessions for server in workers.servers]
        running.agent.dial(ServerEndpoint.of(own))  # as after a renewal
        await eventually(lambda: replaced(workers, before) == [2, 2], "the old ones end", 20)
        assert (await workers.get(1, ONE)).startswith(b"HTTP/1.1 200")

        first = workers.servers[0]
        first.agents.acceptor.options = replace(first.agents.acceptor.options, workers=1)
        for session in first.agents.registry.sessions:
            session.link.close_session(Code.GOING_AWAY, "with fewer workers")
        await eventually(lambda: workers.sessions() == [2, 0], "it leaves the other one", 20)


def replaced(workers: RunningWorkers, before: list[list[AgentSession]]) -> list[int]:
    """Return for each worker how many sessions it has, if none is an older one, else 0."""
    now = [server.agents.registry.sessions for server in workers.servers]
    return [0 if set(old) & set(new) else len(new) for old, new in zip(before, now, strict=True)]


@pytest.mark.slow
async def test_a_renewal_while_a_worker_is_away(
    files: StackFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to leave the sessions of all workers with the certificate that ends earlier."""
    monkeypatch.setattr(app, "SWEEP", 0.05)
    monkeypatch.setattr(app, "REPLACE_PAUSE", 0.1)
    connect, away = ServerEndpoint.connect, {1}

    async def reaching(self: ServerEndpoint, *said: Any, worker: int = 0) -> None:
        if worker in away:
            raise ConnectionRefusedError
        await connect(self, *said, worker=worker)

    own = files.agent(server={"connections": 1})
    async with serving_workers(files) as workers, dialling(own) as running:
        await eventually(
            lambda: [one.is_established for one in running.agent.connections] == [True] * 2,
            "it has one with each",
            20,
        )
        before = [server.agents.registry.sessions for server in workers.servers]
        monkeypatch.setattr(ServerEndpoint, "connect", reaching)
        transport = before[1][0].link.transport
        assert transport is not None
        transport.abort()
        await eventually(
            lambda: not all(one.link.session.attached for one in running.agent.sessions()),
            "it has lost the link",
            20,
        )
        running.agent.dial(ServerEndpoint.of(own))  # as after a renewal
        await eventually(lambda: replaced(workers, before) == [1, 0], "the other one is new", 20)
        away.clear()
        await eventually(lambda: replaced(workers, before) == [1, 1], "so is this one", 20)


@pytest.mark.slow
async def test_a_server_that_says_another_number_of_workers_each_time(
    files: StackFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent used to dial and leave the second worker with every session of the first one."""
    monkeypatch.setattr(back_off, "FIRST", 0.001)
    monkeypatch.setattr(back_off, "MOST", 0.01)
    connect = ServerEndpoint.connect
    dialed: list[int] = []

    async def counting(self: ServerEndpoint, *said: Any, worker: int = 0) -> None:
        dialed.append(worker)
        await connect(self, *said, worker=worker)

    monkeypatch.setattr(ServerEndpoint, "connect", counting)
    own = files.agent(server={"connections": 1})
    async with serving_workers(files) as workers, dialling(own):
        await eventually(lambda: workers.sessions() == [1, 1], "it has one with each", 20)
        first = workers.servers[0]
        for number in (1, 2) * 6:
            first.agents.acceptor.options = replace(first.agents.acceptor.options, workers=number)
            (session,) = before = first.agents.registry.sessions
            session.link.close_session(Code.GOING_AWAY, "for the next number")
            await eventually(
                lambda: first.agents.registry.sessions not in ([], before),  # noqa: B023
                "the next session",
                20,
            )
            await asyncio.sleep(0.05)  # in which it would dial the other worker
    assert dialed.count(1) <= 3
