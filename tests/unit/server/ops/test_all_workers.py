"""Tests of zerotrust.server.ops.all_workers: two workers of one server, and an agent."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.inprocess_stack import Backend, StackFiles, dialling
from tests.support.inprocess_workers import RunningWorkers, serving_workers
from tests.support.waiting import eventually
from zerotrust.server.identity.worker_slot import ADMIN, METRICS, admin_socket

pytestmark = pytest.mark.anyio

HOST = "one.example.com"


class Scenario:
    """The workers, and connections that their parent hands over."""

    def __init__(self, workers: RunningWorkers, backend: Backend) -> None:
        self.workers = workers
        self.backend = backend

    async def ask(
        self, method: str, path: str, body: Any = None, *, listener: bytes = ADMIN
    ) -> tuple[int, bytes]:
        """Send a request to the first worker; return status and body."""
        ours, theirs = socket.socketpair()
        with theirs:
            assert self.workers.channels[0].hand(listener, theirs)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        data = b"" if body is None else json.dumps(body).encode()
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), rest

    async def get(self, path: str) -> Any:
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    async def open_socket(self, worker: int) -> asyncio.StreamReader:
        """Open an upgraded connection at the socket of a worker."""
        path = self.workers.config.worker_address(worker).removeprefix("unix:")
        reader, writer = await asyncio.open_unix_connection(path)
        self.writers.append(writer)
        writer.write(
            f"GET /{worker} HTTP/1.1\r\nHost: {HOST}\r\nX-Real-IP: 203.0.113.7\r\n"
            "X-Forwarded-Proto: https\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        return reader

    async def post(self, path: str, **body: Any) -> Any:
        status, answer = await self.ask("POST", path, body)
        assert status == 200, answer
        return json.loads(answer)

    writers: list[asyncio.StreamWriter]


@pytest.fixture
async def scenario(tmp_path: Path) -> AsyncIterator[Scenario]:
    files, backend = StackFiles(tmp_path), Backend("one")
    service = {"hostname": HOST, "backend": f"127.0.0.1:{backend.port}"}
    config = files.agent({**service, "access": {"inspection": "payload"}})
    async with backend.listening(), serving_workers(files) as workers, dialling(config):
        made = Scenario(workers, backend)
        made.writers = []
        for server in workers.servers:
            await eventually(lambda: HOST in server.agents.registry.by_host, "it is published", 20)  # noqa: B023
        yield made
        for writer in made.writers:
            writer.close()


async def test_sessions_and_connections_of_all_workers(scenario: Scenario) -> None:
    readers = [await scenario.open_socket(worker) for worker in (0, 1, 1)]
    status = await scenario.get("/v1/status")
    assert (status["agents"], status["sessions"], status["streams"]) == (1, 2, 3)
    assert (status["workers_ready"], status["workers"]) == (2, 2)
    (agent,) = (await scenario.get("/v1/agents"))["agents"]
    assert [one["streams"] for one in agent["sessions"]] == [1, 2]
    shown = await scenario.get("/v1/agents/show?agent=home")
    assert len(shown["agent"]["sessions"]) == 2

    listed = await scenario.get("/v1/connections?limit=2")
    assert listed["total"] == 3
    numbers = [one["number"] for one in listed["connections"]]
    assert numbers == sorted(numbers, reverse=True)
    rest = await scenario.get(f"/v1/connections?limit=2&before={numbers[-1]}")
    rows = listed["connections"] + rest["connections"]
    assert sorted(one["path"] for one in rows) == ["/0", "/1", "/1"]

    for one in rows:
        code, body = await scenario.ask("POST", "/v1/connections/end", {"id": one["id"]})
        assert code == 200, body
    for reader in readers:
        async with asyncio.timeout(20):
            await reader.read()
    assert (await scenario.ask("POST", "/v1/connections/end", {"id": rows[0]["id"]}))[0] == 404
    records = (await scenario.get("/v1/audit?action=connection.ended"))["records"]
    assert len(records) == 3
    assert len({record["actor"] for record in records}) == 1


async def test_a_revocation_counts_the_sessions_of_all(scenario: Scenario) -> None:
    await scenario.open_socket(1)
    code, body = await scenario.ask("POST", "/v1/agents/revoke", {"agent": "home"})
    assert code == 200, body
    done = json.loads(body)
    assert (done["sessions"], done["streams"]) == (2, 1)
    await eventually(lambda: scenario.workers.sessions() == [0, 0], "they have ended", 2)


async def test_metrics_of_all_workers_add_up(scenario: Scenario) -> None:
    await scenario.workers.get(0, HOST)
    await scenario.workers.get(1, HOST)
    code, body = await scenario.ask("GET", "/metrics", listener=METRICS)
    assert code == 200
    assert b"\nzerotrust_requests_total 2.0\n" in body
    assert (await scenario.ask("GET", "/v1/worker/metrics"))[0] == 404, "only for workers"


async def test_captures_of_all_workers(scenario: Scenario) -> None:
    await scenario.open_socket(1)
    (one,) = (await scenario.get("/v1/connections"))["connections"]
    about = {"reason": "nothing is shown", "time": "1m"}
    capture = await scenario.post("/v1/captures/start", connection=one["id"], **about)
    again = {"connection": one["id"], **about}
    code, body = await scenario.ask("POST", "/v1/captures/start", again)
    assert (code, b"captured already" in body) == (409, True), "the other worker says why"
    scenario.writers[0].write(b"\x81\x85\x00\x00\x00\x00hello")

    async def captured() -> list[str]:
        found = await scenario.get(f"/v1/captures/messages?id={capture['id']}")
        return [message["text"] for message in found["messages"]]

    async def is_captured() -> bool:
        return "hello" in await captured()

    await eventually(is_captured, "the message is captured", 20)
    (listed,) = (await scenario.get("/v1/captures"))["captures"]
    assert listed["id"] == capture["id"]
    await scenario.post("/v1/captures/stop", id=capture["id"])
    code, body = await scenario.ask("GET", f"/v1/captures/messages?id={capture['id']}")
    assert code in (200, 404) and b"hello" not in body
    actors = {
        record["actor"]
        for record in (await scenario.get("/v1/audit"))["records"]
        if record["action"].startswith("capture.")
    }
    assert len(actors) == 1, "who has asked the first worker"
    code, _ = await scenario.ask("POST", "/v1/captures/stop", {"id": "none"})
    assert code == 404


async def test_a_worker_that_does_not_answer_is_left_out(scenario: Scenario) -> None:
    admin_socket(scenario.workers.config, 1).unlink()
    status = await scenario.get("/v1/status")
    assert (status["agents"], status["sessions"]) == (1, 1)
    assert (status["workers_ready"], status["workers"]) == (1, 2)
