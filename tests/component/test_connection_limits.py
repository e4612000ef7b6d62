"""Tests of idle connections at each address: they use no descriptors and time of others."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.admin_socket import admin_client
from tests.support.backends import Origin
from tests.support.metrics import Read, read
from tests.support.ports import free_port
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.net.metrics_endpoint import MAX_CONNECTIONS

pytestmark = [pytest.mark.component, pytest.mark.anyio, pytest.mark.timeout(90)]

APP, LATE = "app.localhost", "late.localhost"
DESCRIPTORS = 300
API_CONNECTIONS = DESCRIPTORS // 2
CLIENTS = 400


@dataclass
class Scenario:
    """A server that may open few descriptors, and its agent."""

    stack: Stack
    metrics_port: int
    origin: Origin

    async def metrics(self) -> Read:
        return await read(self.metrics_port)

    async def when_refused(self, listener: str, count: int) -> Read:
        """Wait until `count` connections have been closed; return the metrics.

        The server accepts a few in each turn of its loop.
        """

        async def refused() -> Read | None:
            found = await self.metrics()
            return (
                found if found["zerotrust_connections_refused_total", listener] >= count else None
            )

        found = await eventually(refused, f"{count} connections are refused")
        assert found is not None
        return found

    async def serves(self, host: str = APP) -> bool:
        try:
            return (await self.stack.api.get(host, "/bytes/1")).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    async def agents(self) -> int:
        async with admin_client(self.stack.folder / "state" / "admin.sock") as client:
            return int((await client.get("/v1/status")).json()["agents"])

    def limit_descriptors(self, count: int) -> None:
        hard = resource.prlimit(self.stack.server.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.stack.server.pid, resource.RLIMIT_NOFILE, (count, hard))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.stack.server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
async def scenario(tmp_path: Path, authority: Authority) -> AsyncIterator[Scenario]:
    port = free_port()
    async with Origin(tmp_path) as origin:
        stack = Stack(
            tmp_path / "s",
            authority,
            agents={"home": [service(APP, origin.port)]},
            with_caddy=False,
            sections={"metrics": {"listen_addr": f"127.0.0.1:{port}"}},
        )
        async with stack:
            made = Scenario(stack, port, origin)
            made.limit_descriptors(DESCRIPTORS)
            yield made
        assert "Traceback" not in stack.server.text()


@contextlib.contextmanager
def open_many(port: int, count: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open `count` connections that send `said` and nothing more."""
    clients = []
    try:
        for _ in range(count):
            clients.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            with contextlib.suppress(ConnectionError):
                clients[-1].sendall(said)
        yield clients
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\nX-Pad: " + bytes(1000)], ids=["nothing", "half a head"]
)
async def test_a_crowd_at_the_metrics_takes_nothing_from_others(
    scenario: Scenario, said: bytes
) -> None:
    with open_many(scenario.metrics_port, CLIENTS, said):
        found = await scenario.when_refused("metrics", CLIENTS - MAX_CONNECTIONS)
        assert found["zerotrust_connections", "metrics"] <= MAX_CONNECTIONS
        assert await scenario.serves()
        assert await scenario.agents() == 1
    assert scenario.stack.server.text().count("too many connections") == 1


async def test_a_crowd_at_the_proxy_api_leaves_descriptors_for_agents_and_commands(
    scenario: Scenario,
) -> None:
    stack, server = scenario.stack, scenario.stack.server
    with open_many(stack.api.port, CLIENTS):
        found = await scenario.when_refused("api", CLIENTS - API_CONNECTIONS)
        assert (
            found["zerotrust_connections", "api"]
            == found["zerotrust_limit", "api_connections"]
            == API_CONNECTIONS
        )
        late = stack.make_agent("late", [service(LATE, scenario.origin.port)])
        async with late.process:
            await late.process.wait_line("connected")
            assert await scenario.agents() == 2
            assert "too many open files" not in server.text()
            assert server.text().count("too many connections: new ones are refused") == 1
    await eventually(scenario.serves, "its own way in is free again")


async def test_without_descriptors_the_server_neither_spins_nor_stays_away(
    scenario: Scenario,
) -> None:
    server = scenario.stack.server
    scenario.limit_descriptors(server.open_files())
    late = [asyncio.create_task(scenario.stack.api.get(APP, "/bytes/1")) for _ in range(5)]
    metrics = asyncio.create_task(scenario.metrics())
    await server.wait_line("cannot accept connections; they wait.*too many open files")
    began, used = server.position(), scenario.cpu_seconds()
    await asyncio.sleep(2)  # the time in which it would spin
    assert scenario.cpu_seconds() - used < 0.6
    assert server.position() - began < 2000
    scenario.limit_descriptors(DESCRIPTORS)
    assert {response.status for response in await asyncio.gather(*late)} == {200}
    await metrics
