"""Tests of a server with several workers, behind a real Caddy."""

import asyncio
import datetime
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.asyncio.client import ClientConnection

from benchmarks.lab.administrator import administrator_cookie
from tests.support import cpu_quota, metrics
from tests.support.ports import free_port
from tests.support.stack import Agent
from tests.support.steady_load import APP, RATE, Load, closed_with
from tests.support.waiting import eventually
from tests.support.workers_stack import WS, WorkersStack, workers_stack

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("workers"),
]

PROMISED = 1.0
"""Seconds until what one worker has decided holds at all. It is measured where it takes effect, by
the times in the server's logs: the clients of a test are late on a busy machine."""
FAILOVER = 2.0
"""Seconds for a few requests of which some meet a worker that was killed."""


CI = "ci.localhost"
ACCESS = {
    "auth_host": "auth.localhost",
    "admin_host": "admin.localhost",
    "admins": [{"group": "admins"}],
    "rules": [
        {"hosts": [APP, WS], "allow": "anyone"},
        {"hosts": [CI], "allow": [{"machine": "ci"}]},
    ],
}


class Running(NamedTuple):
    """The server of all tests.

    Attributes:
        cookie: the header field of an administrator of its dashboard.
        requests: its access log, to which each worker appends its number.
    """

    stack: WorkersStack
    cookie: str
    metrics_port: int
    requests: Path


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("workers")
    cookie = await administrator_cookie(folder / "s" / "state", ACCESS)
    port, log = free_port(), folder / "requests.log"
    sections = {
        "access": ACCESS,
        "access_log": {"output": str(log)},
        "metrics": {"listen_addr": f"127.0.0.1:{port}"},
    }
    async with workers_stack(folder, sections=sections, machines=[CI]) as stack:
        yield Running(stack, cookie, port, log)


@pytest.fixture
def stack(running: Running) -> WorkersStack:
    return running.stack


@asynccontextmanager
async def open_sockets(
    stack: WorkersStack, count: int = 4
) -> AsyncIterator[dict[str, ClientConnection]]:
    """Open WebSockets, each with a path of its own."""
    opened = {
        f"/{number}": await stack.caddy.websocket(WS, f"/{number}") for number in range(count)
    }
    try:
        yield dict(opened)
    finally:
        for socket in opened.values():
            await socket.close()


async def echoes(socket: ClientConnection) -> bool:
    await socket.send("here")
    async with asyncio.timeout(20):
        return await socket.recv() == "here"


async def test_one_socket_lists_counts_and_ends_what_all_workers_serve(running: Running) -> None:
    stack, port = running.stack, running.metrics_port
    async with open_sockets(stack) as sockets:
        assert all([await echoes(socket) for socket in sockets.values()])
        found = [await stack.sockets_of(worker) for worker in range(2)]
        assert found[0] | found[1] == set(sockets)
        assert [len(one) for one in found] == [2, 2]

        status = await stack.admin("GET", "/v1/status")
        assert (status["agents"], status["sessions"], status["streams"]) == (1, 4, 4)
        (agent,) = (await stack.admin("GET", "/v1/agents"))["agents"]
        assert len(agent["sessions"]) == 4

        async def counted() -> bool:
            return (await metrics.read(port))["zerotrust_streams"] == 4

        await eventually(counted, "the metrics count those of both workers")
        read = await metrics.read(port)
        assert read["zerotrust_agents"] == 1
        assert read["zerotrust_sessions", "attached"] == 4
        assert read["zerotrust_limit", "requests"] == 32768

        for path in (min(found[0]), min(found[1])):
            listed = await stack.admin("GET", "/v1/connections")
            (one,) = [row["id"] for row in listed["connections"] if row["path"] == path]
            await stack.admin("POST", "/v1/connections/end", json={"id": one})
            assert await closed_with(sockets.pop(path)) == 1008
        assert all([await echoes(socket) for socket in sockets.values()])


async def test_a_token_is_good_and_revoked_at_all_workers(
    running: Running, measured: Callable[[str], None]
) -> None:
    stack, log = running.stack, running.requests

    def times(worker: int, status: int) -> list[float]:
        """Return when the requests arrived that a worker has answered so."""
        text = log.with_name(f"{log.name}.worker-{worker}").read_text()
        lines = map(json.loads, text.rpartition("\n")[0].splitlines())
        return [
            datetime.datetime.fromisoformat(line["time"]).timestamp()
            for line in lines
            if line["status"] == status and line["host"] == CI
        ]

    made = await stack.admin("POST", "/v1/machines/create", json={"name": "ci"})

    async def statuses() -> set[int]:
        field = ("Authorization", f"Bearer {made['secret']}")
        return {(await stack.caddy.get(CI, "/bytes/1", field)).status for _ in range(4)}

    assert await statuses() == {200}
    await stack.admin("POST", "/v1/machines/revoke", json={"name": "ci"})
    revoked_at = time.time()
    await eventually(lambda: all_refused(statuses), "all refuse it", 10, interval=0.0)
    await eventually(lambda: times(0, 401) and times(1, 401), "the log has it", 20)
    late = max(*times(0, 200), *times(1, 200)) - revoked_at
    measured(f"the last good request came {late:.2f} s after the token was revoked")
    assert late < PROMISED


async def test_a_dashboard_shows_all_workers(running: Running) -> None:
    stack, cookie = running.stack, running.cookie
    async with open_sockets(stack) as sockets:

        async def page(path: str) -> str:
            fields = (("Cookie", cookie.removeprefix("Cookie: ")),)
            answer = await stack.caddy.get("admin.localhost", path, *fields)
            assert answer.status == 200, answer
            return answer.body.decode()

        for number in range(4):
            assert (await stack.caddy.get(APP, f"/bytes/{number + 1}")).status == 200
        shown = await page(f"/requests?agent=agent-1&service={APP}")
        assert all(f"{APP}/bytes/{number + 1}<" in shown for number in range(4))
        assert f"/requests?agent=agent-1&amp;service={APP}" in await page("/requests")
        for row in (await stack.admin("GET", "/v1/connections"))["connections"]:
            assert row["path"] in sockets
            assert f"{WS}{row['path']}<" in await page(f"/connections/show?id={row['id']}")

        async def says(*, missing: bool) -> bool:
            return ("A worker does not answer" in await page("/")) is missing

        socket = stack.folder / "state" / "worker-1.sock"
        socket.rename(hidden := socket.with_suffix(".hidden"))
        await eventually(lambda: says(missing=True), "a page says that a worker is missing", 20)
        hidden.rename(socket)
        await eventually(lambda: says(missing=False), "no page says that a worker is missing", 20)


async def all_refused(statuses: Callable[[], Awaitable[set[int]]]) -> bool:
    return await statuses() == {401}


async def test_agents_reach_all_workers_through_caddy(stack: WorkersStack) -> None:
    agent = stack.agents["agent-1"]
    direct = agent.config["server"]
    async with restarted(stack, agent):
        agent.set_up(
            server={
                **direct,
                "address": f"localhost:{stack.tunnel_port}",
                "transport": "websocket",
                "websocket_address": f"localhost:{stack.https_port}",
            }
        )
    async with open_sockets(stack) as sockets:
        assert [len(await stack.sockets_of(worker)) for worker in range(2)] == [2, 2]
        assert all([await echoes(socket) for socket in sockets.values()])
    async with restarted(stack, agent):
        agent.set_up(server=direct)


@asynccontextmanager
async def restarted(stack: WorkersStack, agent: Agent) -> AsyncIterator[None]:
    """Stop an agent during the block, and start it after."""
    await agent.process.stop()
    yield
    agent.process.start()
    await stack.wait_published(APP, process=agent.process)


async def test_a_killed_worker_costs_its_own_streams_only(stack: WorkersStack) -> None:
    config = stack.folder / "server.yaml"
    async with open_sockets(stack) as sockets:
        lost, pid = await stack.sockets_of(1), stack.pid(1)
        # It starts again with the settings that its parent has accepted.
        accepted, since = config.read_text(), len(stack.server.text())
        config.write_text("server: {workers: ")
        try:
            stack.kill(1)
            # Until then the kernel takes connections for it, and resets them.
            await stack.server.wait_line("worker ended unexpectedly", timeout=30, since=since)
            killed_at = time.monotonic()
            for _ in range(4):  # some of them at the socket of the killed one
                assert (await stack.plain.get(APP, "/")).status == 301
            assert time.monotonic() - killed_at < FAILOVER
            for path, socket in sockets.items():
                if path in lost:
                    assert await closed_with(socket) == 1006
                else:
                    assert await echoes(socket)
            await stack.wait_another(1, pid)
            await stack.wait_published(APP)
        finally:
            config.write_text(accepted)
        assert all([await echoes(one) for path, one in sockets.items() if path not in lost])


async def test_a_rolling_restart_fails_no_request(stack: WorkersStack) -> None:
    async with open_sockets(stack) as sockets:
        pids = [stack.pid(worker) for worker in range(2)]
        async with Load(stack.caddy).running() as load:
            await eventually(lambda: load.answered > RATE, "the load runs", 60)
            before = load.answered
            stack.server.send_signal(signal.SIGUSR2)
            await stack.server.wait_line("workers restarted", timeout=120)
            assert load.answered > before
        assert load.failures == []
        assert not set(pids) & {stack.pid(worker) for worker in range(2)}
        assert [await closed_with(socket) for socket in sockets.values()] == [1012] * 4


def logged_at(stack: WorkersStack, event: str, since: int) -> list[float]:
    """Return the times at which the server has logged an event."""
    found = re.findall(rf"^(\S+Z) .*\b{event}\b", stack.server.text(since), re.MULTILINE)
    return [datetime.datetime.fromisoformat(time).timestamp() for time in found]


async def test_a_revocation_and_a_reload_reach_all_workers(
    stack: WorkersStack, measured: Callable[[str], None]
) -> None:
    """This test is the last of the shared server: it has no agent then."""
    await stack.wait_published(APP)  # by all four sessions: an agent takes its time for the second
    since = len(stack.server.text())
    async with open_sockets(stack) as sockets:
        config = json.loads((stack.folder / "server.yaml").read_text())
        config["limits"] = {"requests": 1000}
        (stack.folder / "server.yaml").write_text(json.dumps(config))
        stack.server.send_signal(signal.SIGHUP)
        await stack.server.wait_line(
            "(configuration reloaded(.*\n)*.*){3}", timeout=30, since=since
        )

        done = await stack.admin("POST", "/v1/agents/revoke", json={"agent": "agent-1"})
        assert (done["sessions"], done["streams"]) == (4, 4)
        ends = await asyncio.gather(*(closed_with(socket) for socket in sockets.values()))
        assert len(ends) == 4
        (revoked_at,) = logged_at(stack, "agent revoked", since)
        # Those of the worker that did not carry the command out; one of them may have no stream.
        await eventually(lambda: len(logged_at(stack, "session ended", since)) == 2, "all ended")
        ended_at = logged_at(stack, "session ended", since)
        measured(f"sessions ended {max(ended_at) - revoked_at:.2f} s after the revocation")
        assert max(ended_at) - revoked_at < PROMISED


SCALING = {"short": (1, 2), "full": (1, 2, 4)}
"""Numbers of workers that are measured. Nothing else may run then: `make test` measures the short
form beside no other test, `make scaling` the full one."""
SHARE = 0.025
"""Share of a processor for each worker: little, so that the rest of the chain keeps up with four
on a machine of two."""


TURNS = 5
"""Turns of a second for each server."""


@dataclass
class LimitedServer:
    """A server each of whose workers has a share of a processor, and what it has done so far."""

    stack: WorkersStack
    pids: list[int]
    requests: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of the workers' CPU time."""

    async def run(self) -> None:
        """Send requests for a second."""
        loop = asyncio.get_running_loop()
        before, began = self._cpu(), loop.time()
        clients = (visit(self.stack, began + 1) for _ in range(16 * len(self.pids)))
        self.requests += sum(await asyncio.gather(*clients))
        self.seconds += loop.time() - began
        self.cpu += self._cpu() - before

    def _cpu(self) -> float:
        return sum(map(cpu_quota.cpu_seconds, self.pids))

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def cost(self) -> float:
        """Milliseconds of the workers' CPU time for each request."""
        return self.cpu / self.requests * 1000


async def visit(stack: WorkersStack, ends_at: float) -> int:
    """Send requests one after the other until a time; return how many were answered."""
    loop, count = asyncio.get_running_loop(), 0
    async with await stack.caddy.open(APP, patience=30) as client:
        while loop.time() < ends_at:
            client.writer.write(f"GET /bytes/1 HTTP/1.1\r\nHost: {APP}\r\n\r\n".encode())
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await client.reader.readexactly(1)
            count += 1
    return count


@asynccontextmanager
async def limited_server(folder: Path, workers: int) -> AsyncIterator[LimitedServer]:
    """Run a server that has served for a second."""
    folder.mkdir()
    async with workers_stack(folder, workers=workers) as stack:
        pids = [stack.pid(worker) for worker in range(workers)]
        with cpu_quota.quota(SHARE, *pids):
            await LimitedServer(stack, pids).run()  # the first connections cost more
            yield LimitedServer(stack, pids)


@pytest.mark.skipif("SCALING" not in os.environ, reason="measured alone: make scaling")
async def test_throughput_grows_with_the_workers(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    """The servers are measured in turns, because the speed of a machine changes."""
    if reason := cpu_quota.unavailable():
        pytest.skip(reason)
    async with AsyncExitStack() as stack:
        servers = {
            workers: await stack.enter_async_context(
                limited_server(tmp_path / str(workers), workers)
            )
            for workers in SCALING[os.environ["SCALING"]]
        }
        for _ in range(TURNS):
            for server in servers.values():
                await server.run()
    measured(
        "; ".join(
            f"{workers} workers: {server.rate:.0f} requests/s, {server.cost:.3f} ms CPU each"
            for workers, server in servers.items()
        )
    )
    # The goals are 1.9, 3.6 and 1.1; docs/performance.md says why they are missed.
    assert servers[2].rate >= 1.4 * servers[1].rate
    if 4 in servers:
        assert servers[4].rate >= 2.8 * servers[1].rate
        assert servers[4].cost <= 1.4 * servers[1].cost
