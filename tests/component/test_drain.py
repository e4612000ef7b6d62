"""Tests of restarts without failed requests: of agents, and of the server behind Caddy."""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.backends import Origin, WsEcho
from tests.support.ports import free_port
from tests.support.processes import PRODUCT, ROOT, Process, wait_port
from tests.support.stack import Agent, Authority, Stack, service
from tests.support.steady_load import APP, RATE, Load, closed_with
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("drain"),
]

WS = "ws.localhost"


async def again(agent: Agent) -> None:
    """Start an agent again and wait until the server knows its services."""
    since = agent.process.position()
    agent.process.start()
    await agent.process.wait_line(f"(accepted|registered|refused).*{APP}", since=since)


@contextlib.asynccontextmanager
async def stack_of(folder: Path, *agents: str) -> AsyncIterator[Stack]:
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        services = [service(APP, origin.port), service(WS, ws.port)]
        stack = Stack(
            folder / "stack", Authority(folder / "pki"), agents=dict.fromkeys(agents, services)
        )
        async with stack:
            yield stack


async def test_a_rolling_restart_of_two_agents(tmp_path: Path) -> None:
    async with (
        stack_of(tmp_path, "agent-1", "agent-2") as stack,
        Load(stack.caddy).running() as load,
    ):
        for agent in stack.agents.values():
            await agent.process.wait_line("registered|refused")
        for agent in (*stack.agents.values(), *stack.agents.values()):
            before = load.answered
            agent.process.send_signal(signal.SIGTERM)
            assert await agent.process.wait_exit() == 0
            await again(agent)
            assert load.answered > before
        assert load.failures == []


async def test_agent_drain_ends_websockets_so_that_they_come_back(tmp_path: Path) -> None:
    async with stack_of(tmp_path, "agent-1") as stack:
        agent = stack.agents["agent-1"]
        sockets = [
            await stack.caddy.websocket(WS, path) for path in ("/", "/", "/firehose", "/firehose")
        ]
        ends = [asyncio.create_task(closed_with(one)) for one in sockets]
        command: list[str | Path] = [PRODUCT, "agent", "drain", "--config", agent.path]
        async with Process("drain", command, log=tmp_path / "drain.log") as drain:
            assert await drain.wait_exit() == 0, drain.text()
        assert not agent.process.is_alive, "it returns when the agent has ended"
        assert await agent.process.wait_exit() == 0
        assert await asyncio.gather(*ends) == [1012] * 4
        async with Process("drain again", command, log=tmp_path / "again.log") as drain:
            assert await drain.wait_exit() == 1
        assert "no agent runs with this configuration" in drain.text()


async def test_a_second_signal_ends_an_agent_at_once(tmp_path: Path) -> None:
    async with stack_of(tmp_path, "agent-1") as stack:
        process = stack.agents["agent-1"].process
        async with await stack.api.open(APP) as client:
            await client.send_head("GET", "/halves?wait=30", [("X-Forwarded-Proto", "https")])
            assert await client.read_exactly(12) == b"HTTP/1.1 200"
            process.send_signal(signal.SIGTERM)
            await process.wait_line("draining")
            process.send_signal(signal.SIGINT)
            assert await process.wait_exit(4) == 0
            await client.wait_end()


@contextlib.asynccontextmanager
async def behind_external_caddy(folder: Path) -> AsyncIterator[Stack]:
    """A server with an external Caddy that outlives it."""
    admin = free_port()
    config = folder / "caddy.json"
    config.write_text(
        json.dumps({"admin": {"listen": f"127.0.0.1:{admin}", "config": {"persist": False}}})
    )
    environment = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    command: list[str | Path] = [PRODUCT.with_name("caddy"), "run", "--config", config]
    async with (
        Origin(folder) as origin,
        WsEcho(folder) as ws,
        Process("caddy", command, log=folder / "caddy.log", env=environment) as caddy,
    ):
        await wait_port(admin, process=caddy)
        services = [service(APP, origin.port), service(WS, ws.port)]
        # No address is trusted, so that Caddy needs the secret after each restart.
        stack = Stack(
            folder / "stack",
            Authority(folder / "pki"),
            agents={"agent-1": services},
            sections={"api": {"trusted_proxies": None}},
        )
        path = stack.folder / "server.yaml"
        server = json.loads(path.read_text())
        server["caddy"] |= {
            "mode": "external",
            "admin_api": f"http://127.0.0.1:{admin}",
            "storage_dir": str(stack.caddy_root.parents[3]),
        }
        path.write_text(json.dumps(server))
        async with stack:
            yield stack


async def test_a_restart_of_the_server_behind_a_caddy_that_goes_on(tmp_path: Path) -> None:
    async with behind_external_caddy(tmp_path) as stack, Load(stack.caddy).running() as load:
        for _ in range(3):
            sockets = [await stack.caddy.websocket(WS, path) for path in ("/", "/firehose")]
            ends = [asyncio.create_task(closed_with(one)) for one in sockets]
            stack.server.send_signal(signal.SIGTERM)
            assert await stack.server.wait_exit() == 0
            assert await asyncio.gather(*ends) == [1012] * 2
            before = load.answered
            stack.server.start()
            await eventually(
                lambda: load.answered > before + RATE,  # noqa: B023
                "requests are answered again",
                20,
            )
        assert load.failures == []


async def test_what_runs_when_the_server_ends_ends_well(tmp_path: Path) -> None:
    async with behind_external_caddy(tmp_path) as stack, await stack.caddy.open(APP) as client:
        await client.send_head("GET", "/halves?wait=2")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        stack.server.send_signal(signal.SIGTERM)
        await stack.server.wait_line("draining")
        later = asyncio.create_task(stack.caddy.request(APP, "POST", "/upload", body=b"in the gap"))
        assert await client.read_exactly(10) == b"firstlater"
        assert await stack.server.wait_exit() == 0
        gap = asyncio.create_task(stack.caddy.request(APP, "POST", "/upload", body=b"in the gap"))
        stack.server.start()
        for response in await asyncio.gather(later, gap):
            assert (response.status, response.json()["length"]) == (200, 10)


async def test_a_server_with_a_caddy_of_its_own_ends_websockets_first(tmp_path: Path) -> None:
    async with stack_of(tmp_path, "agent-1") as stack:
        sockets = [await stack.caddy.websocket(WS, path) for path in ("/", "/firehose")]
        ends = [asyncio.create_task(closed_with(one)) for one in sockets]
        stack.server.send_signal(signal.SIGTERM)
        assert await stack.server.wait_exit() == 0
        assert await asyncio.gather(*ends) == [1012] * 2


async def test_a_second_signal_ends_a_server_at_once(tmp_path: Path) -> None:
    async with stack_of(tmp_path, "agent-1") as stack, await stack.api.open(APP) as client:
        await client.send_head("GET", "/halves?wait=30", [("X-Forwarded-Proto", "https")])
        assert await client.read_exactly(12) == b"HTTP/1.1 200"
        stack.server.send_signal(signal.SIGTERM)
        await stack.server.wait_line("draining")
        stack.server.send_signal(signal.SIGTERM)
        assert await stack.server.wait_exit(8) == 0
        await client.wait_end()


def test_the_page_names_tests_that_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (ROOT / "docs/reliability.md").read_text())
    assert len(named) >= 30
    for file, name in named:
        texts = [path.read_text() for path in (ROOT / "tests").rglob(file)]
        assert any(f"def {name}(" in text for text in texts), name
