"""Tests of failover between two agents of a host; no backend gets a request twice."""

import asyncio
import contextlib
import hashlib
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Measured
from tests.support.backends import Origin, UnresponsivePort, WsEcho
from tests.support.entrypoint import Entrypoint
from tests.support.ports import closed_port
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("failover"),
]

APP, WS = "app.localhost", "ws.localhost"
HTTPS = ("X-Forwarded-Proto", "https")
RATE = 200


class Asked:
    """One request: its number, and what became of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.method = random.choice(("GET", "POST"))
        self.failure: str | None = None
        self.done = False

    async def run(self, entrypoint: Entrypoint) -> None:
        body = random.randbytes(2000) if self.method == "POST" else b""
        fields = [HTTPS, ("X-Number", str(self.number))]
        response = await entrypoint.request(APP, self.method, "/late?wait=0.5", fields, body)
        self.done = True
        if response.status != 200:
            self.failure = response.error_code or str(response.status)
        else:
            assert response.json()["sha256"] == hashlib.sha256(body).hexdigest()


@contextlib.asynccontextmanager
async def stack_of(
    folder: Path, first: dict[str, int], second: dict[str, int], **keys: str
) -> AsyncIterator[Stack]:
    """Two agents, by the ports of their backends; `keys` of each service."""
    agents = {
        name: [service(host, port, **keys) for host, port in ports.items()]
        for name, ports in (("agent-1", first), ("agent-2", second))
    }
    short = {"server": {"resume_timeout": "3s"}}
    async with Stack(
        folder / "stack", Authority(folder / "pki"), agents=agents, sections=short
    ) as stack:
        for agent in stack.agents.values():
            for host in first:
                await agent.process.wait_line(f"service registered.*{host}")
        yield stack


async def seen_by(origin: Origin) -> list[int]:
    """The numbers of the requests that a backend has seen."""
    fields = [dict(entry["fields"]) for entry in await origin.requests()]
    return [int(found["X-Number"]) for found in fields if "X-Number" in found]


async def methods_under_way(origin: Origin) -> set[str]:
    """Return the methods of the requests that a backend has, and has not answered."""
    return {entry["method"] for entry in await origin.requests() if "complete" not in entry}


@pytest.mark.parametrize("by", ["caddy", "api"])
async def test_a_backend_that_refuses_is_stood_in_for(tmp_path: Path, by: str) -> None:
    async with Origin(tmp_path) as origin, WsEcho(tmp_path) as ws:
        down = {APP: closed_port(), WS: closed_port()}
        async with stack_of(tmp_path, down, {APP: origin.port, WS: ws.port}) as stack:
            entrypoint: Entrypoint = getattr(stack, by)
            since = stack.server.position()
            async with await entrypoint.open(APP) as client:
                for size in (0, 10, 3000, 30_000) * 5:
                    body = random.randbytes(size)
                    answer = await client.request("POST", "/upload", [HTTPS], body)
                    assert answer.status == 200, answer
                    assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
                    assert (await client.get("/bytes/500", HTTPS)).status == 200
            for _ in range(10):
                async with entrypoint.websocket(
                    WS, additional_headers=[HTTPS] if by == "api" else None
                ) as socket:
                    await socket.send("hello")
                    assert await socket.recv() == "hello"
            served = (await origin.stats())["served"]
            assert (served["upload"], served["bytes"]) == (20, 20), "each of them once"
            assert stack.server.text(since).count("retrying on another agent") >= 20


async def test_a_backend_whose_machine_is_gone_is_stood_in_for(tmp_path: Path) -> None:
    async with Origin(tmp_path) as origin:
        clogged = UnresponsivePort()
        async with stack_of(
            tmp_path, {APP: clogged.port}, {APP: origin.port}, connect_timeout="0.5s"
        ) as stack:
            since = stack.server.position()
            for _ in range(8):
                body = random.randbytes(3000)
                async with await stack.api.open(APP) as client:
                    answer = await client.request("POST", "/upload", [HTTPS], body)
                assert answer.status == 200, answer
                assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
            assert (await origin.stats())["served"]["upload"] == 8, "each of them once"
            assert "retrying on another agent" in stack.server.text(since)
        clogged.close()


async def test_an_agent_that_is_killed_takes_only_what_may_not_be_repeated(
    tmp_path: Path, measured: Measured
) -> None:
    async with Origin(tmp_path, "--record") as one, Origin(tmp_path, "--record") as two:
        async with stack_of(tmp_path, {APP: one.port}, {APP: two.port}) as stack:
            agent, loop = stack.agents["agent-1"], asyncio.get_running_loop()
            asked: list[Asked] = []

            async def kill() -> set[int]:
                """Kill the agent while its backend has requests of both methods.

                Returns:
                    The requests under way when the server knows that the agent is gone: until then
                    it sends new ones to it.
                """

                async def has_both() -> bool:
                    return await methods_under_way(one) == {"GET", "POST"}

                def is_known() -> bool:
                    log = stack.server.text()
                    lost = re.findall(r"session kept for resume .*agent=agent-1 ", log)
                    return len(lost) == len(re.findall(r"agent connected .*agent=agent-1 ", log))

                await eventually(has_both, "the backend has a GET and a POST")
                agent.process.kill()
                await eventually(is_known, "the server knows that the agent is gone")
                return {request.number for request in asked if not request.done}

            async with asyncio.TaskGroup() as tasks:
                begun_at = loop.time()
                for number in range(5 * RATE):
                    await asyncio.sleep(begun_at + number / RATE - loop.time())
                    asked.append(Asked(number))
                    tasks.create_task(asked[-1].run(stack.api))
                    if number == RATE:
                        killing = tasks.create_task(kill())
            under_way = killing.result()
            first, second = await seen_by(one), await seen_by(two)
            failed = {request.number for request in asked if request.failure}
            posts = {request.number for request in asked if request.method == "POST"}
            assert {request.failure for request in asked} <= {None, "agent_lost"}
            assert failed <= under_way & posts, (
                "new ones, and those that may be repeated, have been answered"
            )
            assert failed <= set(range(5 * RATE)) - set(second)
            twice = [number for number in posts if (first + second).count(number) > 1]
            assert not twice
            again = set(first) & set(second)
            measured(
                f"an agent killed at {RATE} requests a second, {len(under_way)} under way:"
                f" {len(failed)} that may not be repeated failed, {len(again)} others had been"
                f" begun and were repeated, {len(asked)} in all"
            )
            assert failed
            assert again
