"""Tests of `0trust doctor` on a real chain: a healthy one, and what breaks in it."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import Origin, WsEcho
from tests.support.commands import CommandResult
from tests.support.ports import closed_port
from tests.support.processes import PRODUCT
from tests.support.stack import Agent, Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("doctor"),
]


@dataclass
class Clinic:
    """A chain with a healthy agent and one whose services are broken."""

    stack: Stack
    healthy: Agent
    broken: Agent

    async def doctor(self, *words: str | Path) -> CommandResult:
        """Run the command; its time for the whole set-up is bounded."""
        done = await asyncio.to_thread(
            subprocess.run,
            [PRODUCT, "doctor", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.stack.folder / "elsewhere",
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert "Traceback" not in done.stderr, done.stderr
        return CommandResult(done.returncode, done.stdout, done.stderr)

    @property
    def server_file(self) -> Path:
        return self.stack.folder / "server.yaml"

    async def trace(self, host: str, path: str = "/", *words: str | Path) -> CommandResult:
        url = self.stack.caddy.url(host, path)
        return await self.doctor(url, "--config", self.server_file, *words)


@pytest.fixture(scope="module")
async def clinic(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Clinic]:
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "elsewhere").mkdir()
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        healthy = [service("app.localhost", origin.port), service("ws.localhost", ws.port)]
        broken = [
            service("down.localhost", closed_port()),
            service("off.localhost", ws.port, websocket=False),
            service("stranger.example.com", origin.port),
        ]
        sections = {
            "unsafe_agents_may_claim_any_host": False,
            "grants": {
                "healthy": ["app.localhost", "ws.localhost"],
                "broken": ["down.localhost", "off.localhost"],
            },
        }
        stack = Stack(folder, authority, agents={}, sections=sections)
        for name, services in (("healthy", healthy), ("broken", broken)):
            agent = stack.make_agent(name, services)
            web = {"websocket_address": f"localhost:{stack.https_port}"}
            agent.set_up(server=agent.config["server"] | web)
            stack.agents[name] = agent
        async with stack:
            await stack.agents["broken"].process.wait_line("host name refused")
            await stack.wait_published("ws.localhost")
            yield Clinic(stack, stack.agents["healthy"], stack.agents["broken"])


async def test_a_healthy_agent_prints_one_line(clinic: Clinic) -> None:
    found = await clinic.doctor("--config", clinic.healthy.path)
    assert found.out == f"{clinic.healthy.path}: all is well with this agent and its 2 host names\n"
    assert (found.code, found.err) == (0, "")


async def test_the_agent_names_each_broken_service(clinic: Clinic) -> None:
    found = await clinic.doctor("--config", clinic.broken.path, "--json")
    assert found.code == 2
    told: dict[str, Any] = {one["check"]: one for one in json.loads(found.out)["findings"]}
    assert {*told} == {"agent.host_refused", "backend.unreachable", "backend.websocket_off"}
    assert told["agent.host_refused"]["fix"].endswith(
        "0trust grants add broken stranger.example.com"
    )
    assert told["backend.websocket_off"]["level"] == "warning"


async def test_the_server_names_the_refused_host(clinic: Clinic) -> None:
    found = await clinic.doctor("--config", clinic.server_file)
    first, last = found.out.splitlines()
    assert first == (
        "broken: stranger.example.com of agent broken is not published (not granted to broken); run"
        " on the server: 0trust grants add broken stranger.example.com"
    )
    assert last == f"{clinic.server_file}: 1 broken"
    assert found.code == 2


async def test_a_url_is_followed_to_its_backend(clinic: Clinic) -> None:
    found = await clinic.trace("ws.localhost", "/")
    lines = [line.split() for line in found.out.splitlines()]
    assert found.code == 0, found.out
    assert [line[:2] for line in lines[:-1]] == [
        [name, "ok"]
        for name in (
            *("dns", "tcp", "tls", "caddy", "server", "policy", "agent", "upstream", "upgrade"),
        )
    ]
    assert found.out.endswith("reaches its backend\n")


@pytest.mark.parametrize(
    ("host", "ends_at", "said"),
    [
        ("down.localhost", "upstream", "status 502 upstream_unreachable"),
        ("off.localhost", "upgrade", "status 403 upgrade_refused"),
        ("unknown.localhost", "tls", "internal error"),
    ],
)
async def test_a_url_that_ends_on_its_way(
    clinic: Clinic, host: str, ends_at: str, said: str
) -> None:
    found = await clinic.trace(host, "/", "--json")
    trace = json.loads(found.out)
    assert trace["ends_at"] == ends_at
    assert found.code == (1 if ends_at == "upgrade" else 2)
    (ended,) = [hop for hop in trace["hops"] if hop["outcome"] == "ended"]
    assert said in ended["seen"]
    assert ended["fix"]
