"""Tests of zerotrust.server.ops.metrics: what a server with an agent says, and where."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.bad_certificates import Credentials
from tests.support.client import Client
from tests.support.inprocess_stack import Backend, RunningServer, StackFiles, dialling, serving
from tests.support.metrics import Read, read
from tests.support.ports import free_port
from tests.support.raw_agent import RawAgent
from tests.support.waiting import eventually
from zerotrust.agent.metrics import AGENT_LIMITS
from zerotrust.errors import SetupError
from zerotrust.model.server import ServerConfig
from zerotrust.net.loop import descriptor_limit
from zerotrust.server.agents.policy_quota import MEMORY_PER_POLICY
from zerotrust.server.ops.metrics import server_limits
from zerotrust.tunnel.codes import COUNTED, Code, FrameType
from zerotrust.tunnel.outbox import LOW_WATER
from zerotrust.tunnel.resume import REPLAY_BYTES

pytestmark = pytest.mark.anyio

APP = "app.example.com"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> StackFiles:
    return StackFiles(tmp_path_factory.mktemp("stack"))


@pytest.fixture
async def port() -> int:
    return free_port()


@pytest.fixture
async def running(files: StackFiles, port: int) -> AsyncIterator[RunningServer]:
    async with serving(
        files, files.server(metrics={"listen_addr": f"127.0.0.1:{port}"})
    ) as running:
        yield running


async def is_served(running: RunningServer) -> bool:
    return await running.status(APP) == 200


async def test_what_it_says(running: RunningServer, files: StackFiles, port: int) -> None:
    async with (
        Backend("b").listening() as backend,
        dialling(files.agent({"hostname": APP, "backend": f"127.0.0.1:{backend.port}"})) as agent,
    ):
        await eventually(lambda: is_served(running), "the service is published")
        before = await read(port)
        async with await running.open(APP) as client, await running.open(APP) as other:
            assert (await client.upgrade("/")).status == 101
            assert (await other.get("/")).status == 200
            assert await running.status("nobody.example.com") == 404

            async def counted() -> Read | None:
                found = await read(port)
                return found if found["zerotrust_agent_streams", "home"] == 1 else None

            found = await eventually(counted, "the WebSocket is counted")
            assert found is not None
            assert found["zerotrust_requests_total"] == before["zerotrust_requests_total"] + 3
            assert found["zerotrust_requests_refused_total", "unknown_host"] >= 1
            assert found["zerotrust_streams"] == 1
            assert found["zerotrust_sessions", "attached"] == found["zerotrust_agents"] == 1
            assert found["zerotrust_sessions", "detached"] == 0
            assert found["zerotrust_connections", "api"] == 2
            assert found["zerotrust_agent_bytes", "home"] == found["zerotrust_session_bytes_most"]
            assert found["zerotrust_overloaded", "requests"] == 0
            assert found["zerotrust_event_loop_lag_seconds"] < 5
            assert found["process_open_fds"] > 5
            link = agent.agent.sessions()[0].link
            link.close_session(Code.GOING_AWAY, "a test")
            await eventually(lambda: lost(port), "the WebSocket has failed")


async def lost(port: int) -> bool:
    found = await read(port)
    return found["zerotrust_requests_failed_total", "agent_lost"] == 1


async def test_policies_count_for_the_memory_of_their_agent_and_are_kept_for_a_while(
    running: RunningServer, files: StackFiles, port: int
) -> None:
    async def taken(by: str, other: str) -> Read | None:
        found = await read(port)
        is_there = found["zerotrust_policy_bytes", by] > MEMORY_PER_POLICY
        return found if is_there and not found["zerotrust_policy_bytes", other] else None

    service = {"hostname": APP, "backend": f"127.0.0.1:{free_port()}", "max_websockets": 7}
    async with dialling(files.agent(service)):
        found = await eventually(lambda: taken("connected", "away"), "the policy is counted")
        assert found is not None
        assert (
            found["zerotrust_agent_bytes", "home"] >= found["zerotrust_policy_bytes", "connected"]
        )
    await eventually(lambda: taken("away", "connected"), "it is kept")


async def test_the_memory_of_an_agent_bounds_its_policies(files: StackFiles, port: int) -> None:
    limits = {"memory_per_agent": "1MiB"}
    config = files.server(metrics={"listen_addr": f"127.0.0.1:{port}"}, limits=limits)
    routes = [{"match": {"headers": {"X-A": "b" * 30_000}}}]
    service = {"hostname": APP, "backend": f"127.0.0.1:{free_port()}", "routes": routes}
    with capture_logs() as lines:
        async with serving(files, config) as running, dialling(files.agent(service)):
            assert (await read(port))["zerotrust_limit", "policies_per_agent_bytes"] == 512 * 1024
            await eventually(
                lambda: any(
                    line["event"] == "host name refused"
                    and "limits.memory_per_agent" in line["reason"]
                    for line in lines
                ),
                "the agent is told",
            )
            assert (
                await running.change(files.server(metrics={"listen_addr": f"127.0.0.1:{port}"}))
                == []
            )
            assert running.server.agents.registry.policies.most == 48 * 1024 * 1024


class NeverAcknowledging:
    """An agent that receives everything and acknowledges nothing."""

    def __init__(self, agent: RawAgent) -> None:
        self._agent = agent
        self._counted = 1  # the answer to its registration

    async def take(self) -> None:
        while True:
            self._counted += (await self._agent.frame())[0] >= COUNTED

    async def acknowledge(self) -> None:
        await self._agent.say(FrameType.ACK, self._counted.to_bytes(8, "big"))


async def test_a_session_that_may_keep_no_more_shows(
    running: RunningServer, files: StackFiles, port: int
) -> None:
    folder = files.folder
    tls = Credentials(
        chain=folder / "home.crt", key=folder / "home.key", root=folder / "ca.crt"
    ).client()
    async with (
        await RawAgent.open(files.tunnel_port, tls) as agent,
        await running.open(APP) as client,
    ):
        await agent.hello(window=1 << 24)
        await agent.register("app", APP)
        deaf = NeverAcknowledging(agent)
        await client.send_head("POST", "/", [("Content-Length", str(2 * REPLAY_BYTES))])
        pieces = (bytes(65536) for _ in range(2 * REPLAY_BYTES // 65536))
        tasks = [asyncio.create_task(work) for work in (deaf.take(), client.send_pieces(pieces))]

        async def stalled() -> Read | None:
            found = await read(port)
            return found if found["zerotrust_sessions_stalled"] else None

        found = await eventually(stalled, "the session stands still", interval=0.1)
        assert found is not None
        assert found["zerotrust_session_stalls_total"] == 1
        assert REPLAY_BYTES <= found["zerotrust_session_bytes", "kept"] < REPLAY_BYTES + 1_000_000
        await eventually(lambda: paused(port), "the client is not read any further", interval=0.1)
        assert not any(task.done() for task in tasks)

        async def goes_on() -> bool:
            # Each time: what is sent then would have it stand still again.
            await deaf.acknowledge()
            return not (await read(port))["zerotrust_sessions_stalled"]

        await eventually(goes_on, "it goes on")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def paused(port: int) -> bool:
    queued = (await read(port))["zerotrust_session_bytes", "queued"]
    return LOW_WATER < queued < 1_000_000


async def test_each_limit_is_said(running: RunningServer, port: int) -> None:
    found = await read(port)
    for name, value in server_limits(running.config, descriptor_limit()).items():
        assert found["zerotrust_limit", name] == value


async def test_the_address_and_the_limits_change(
    running: RunningServer, files: StackFiles, port: int
) -> None:
    other = free_port()
    limits = {"requests": 7}
    assert (
        await running.change(
            files.server(metrics={"listen_addr": f"127.0.0.1:{other}"}, limits=limits)
        )
        == []
    )
    assert (await read(other))["zerotrust_limit", "requests"] == 7
    with pytest.raises(ConnectionRefusedError):
        await read(port)
    assert await running.change(files.server()) == []
    with pytest.raises(ConnectionRefusedError):
        await read(other)


async def test_an_address_that_is_taken_changes_nothing(
    running: RunningServer, files: StackFiles, port: int
) -> None:
    listener = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    async with listener:
        taken = listener.sockets[0].getsockname()[1]
        wanted = files.server(metrics={"listen_addr": f"127.0.0.1:{taken}"}, limits={"requests": 7})
        with pytest.raises(SetupError, match=r"metrics\.listen_addr"):
            await running.change(wanted)
    assert (await read(port))["zerotrust_limit", "requests"] != 7


async def test_health(running: RunningServer, port: int) -> None:
    async with await Client.open(port, host="localhost") as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_nothing_listens_unless_it_is_asked_for(files: StackFiles, tmp_path: Path) -> None:
    async with serving(files) as running:
        assert running.server.admin.metrics.listening is None


# docs/reliability.md

TABLE = (Path(__file__).parents[4] / "docs" / "reliability.md").read_text(encoding="utf-8")
UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "ms": 0.001, "s": 1}


def rows() -> dict[str, list[str]]:
    """Return the cells behind each name in the table of budgets."""
    _, _, section = TABLE.partition("\n## Budgets\n")
    cells = [
        line.strip("| ").split(" | ")
        for line in section.split("\n## ")[0].splitlines()
        if line.startswith("| `")
    ]
    return {name.strip("`"): rest for name, *rest in cells}


def number(text: str) -> float:
    value, _, unit = text.partition(" ")
    return float(value.replace(",", "")) * UNITS.get(unit, 1)


def test_the_documented_budgets_are_those_that_hold() -> None:
    of_server, of_agent = server_limits(ServerConfig(), 1_000_000), AGENT_LIMITS
    assert rows().keys() == of_server.keys() | of_agent.keys()
    for name, (most, ends, *_) in rows().items():
        assert ends.split() == ["S"] * (name in of_server) + ["A"] * (name in of_agent), name
        for limits in (of_server, of_agent):
            assert limits.get(name, number(most)) == pytest.approx(number(most)), name


async def test_each_documented_metric_is_there(running: RunningServer, files: StackFiles) -> None:
    async with dialling(files.agent()) as agent:
        await eventually(agent.agent.sessions, "the agent is connected")
        said = {
            end: {f"{one.name}_total" if one.type == "counter" else one.name for one in metrics}
            for end, metrics in (
                ("S", list(running.server.admin.metrics.collect())),
                ("A", list(agent.agent.metrics.collect())),
            )
        }
    listed = dict(re.findall(r"^- `(\w+)`:(.*?)(?=^- |\n\n)", TABLE, re.MULTILINE | re.DOTALL))
    for name, (_, ends, _) in rows().items():
        metrics = re.findall(r"`(zerotrust_\w+)`", listed[name])
        assert metrics, name
        for metric in metrics:
            assert any(metric in said[end] for end in ends.split()), f"{name}: {metric}"
    assert set(re.findall(r"`(zerotrust_\w+)", TABLE)) <= said["S"] | said["A"]
