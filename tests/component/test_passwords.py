"""Tests of logins during password guessing: each login gets its turn."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Measured
from tests.support.backends import Origin
from tests.support.client import Response
from tests.support.metrics import read
from tests.support.ports import free_port
from tests.support.stack import Authority, Service, Stack, service
from tests.support.waiting import eventually
from zerotrust.server.proxy.verification_pool import MAX_WAITING_OF_NETWORK, THREADS

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("passwords"),
]

ATTACKED, ELSEWHERE = "attacked.localhost", "elsewhere.localhost"
COSTLY = (
    "$argon2id$v=19$m=65536,t=2,p=4$5aQRt3UQhCyQRPcHclH2kA"
    "$GgOUNBcK74hr+XBQ0upC0sQf+Nx2iIVx4zJs38RBffY"
)
"""Of "secret", about 0.1 s of CPU: a fifth of what is accepted, also where the machine is busy."""
CHEAP = "$2b$05$T4S9sQuINvtzdcwjYwCeFenA6snKYYY/9bWfHdO4AkuDBw.sbttXC"
"""Of "secret"."""
GUESSER, OTHER = "203.0.113.66", "198.51.100.7"
GUESSES = MAX_WAITING_OF_NETWORK + THREADS
"""Guesses of one client: the maximum that one network may have in progress."""


def locked(host: str, port: int, hashed: str) -> Service:
    users = dict.fromkeys(("ann", "ben", "cat"), hashed)
    return service(
        host, port, security={"auth": {"type": "basic_auth", "config": {"users": users}}}
    )


@dataclass
class Guesses:
    """Running requests with wrong passwords."""

    tasks: list[asyncio.Task[Response]] = field(default_factory=list)

    @property
    def verified(self) -> int:
        """Number of guesses whose hash was computed."""
        return sum(task.done() and task.result().status == 401 for task in self.tasks)


class Scenario:
    def __init__(self, stack: Stack, metrics_port: int) -> None:
        self.stack = stack
        self.metrics_port = metrics_port

    async def login(self, host: str, user: str, password: str, client: str) -> Response:
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        async with await self.stack.api.open(host, patience=40) as connection:
            return await connection.request(
                "GET",
                "/bytes/1",
                [("Authorization", f"Basic {credentials}"), ("X-Real-IP", client)],
            )

    async def requests(self) -> float:
        return (await read(self.metrics_port))["zerotrust_requests_total"]

    @contextlib.asynccontextmanager
    async def guesses(self, count: int = GUESSES) -> AsyncIterator[Guesses]:
        """Send wrong passwords of one client until all are at the server; disconnect at the end."""
        before, found = await self.requests(), Guesses()
        for number in range(count):
            guess = self.login(ATTACKED, "ann", f"guess-{number}", GUESSER)
            found.tasks.append(asyncio.create_task(guess))

        async def taken() -> bool:
            return await self.requests() >= before + count

        try:
            await eventually(taken, "the server has all guesses")
            yield found
        finally:
            for task in found.tasks:
                task.cancel()
            await asyncio.gather(*found.tasks, return_exceptions=True)


@pytest.fixture(scope="module")
async def scenario(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Scenario]:
    folder: Path = tmp_path_factory.mktemp("passwords")
    port = free_port()
    async with Origin(folder) as origin:
        stack = Stack(
            folder / "stack",
            authority,
            with_caddy=False,
            agents={
                "attacked": [locked(ATTACKED, origin.port, COSTLY)],
                "elsewhere": [locked(ELSEWHERE, origin.port, CHEAP)],
            },
            sections={"metrics": {"listen_addr": f"127.0.0.1:{port}"}},
        )
        async with stack:
            yield Scenario(stack, port)


async def test_a_login_at_another_agents_service(scenario: Scenario, measured: Measured) -> None:
    """A login waits for a thread and at most one guess, not for all earlier guesses."""
    async with scenario.guesses() as guesses:
        before, begun_at = guesses.verified, time.monotonic()
        assert (await scenario.login(ELSEWHERE, "ann", "secret", OTHER)).status == 200
        seconds, waited_for = time.monotonic() - begun_at, guesses.verified - before
    measured(
        f"a login elsewhere during {GUESSES} guesses: {seconds:.2f} s, {waited_for} guesses were"
        " verified before"
    )
    assert waited_for <= 2 * THREADS


async def test_a_login_at_the_same_service_from_another_network(
    scenario: Scenario, measured: Measured
) -> None:
    async with scenario.guesses(GUESSES + 4) as guesses:
        before, begun_at = guesses.verified, time.monotonic()
        assert (await scenario.login(ATTACKED, "ben", "secret", OTHER)).status == 200
        seconds, waited_for = time.monotonic() - begun_at, guesses.verified - before
        answers = await asyncio.gather(*guesses.tasks)
    assert {answer.status for answer in answers} == {401, 503}
    assert all(answer.get("retry-after") == "1" for answer in answers if answer.status == 503)
    assert guesses.verified >= GUESSES
    measured(
        f"a login at the same service: {seconds:.2f} s, {waited_for} guesses were verified before"
    )
    assert waited_for <= 3 * THREADS


async def test_a_login_that_was_right_a_moment_ago(scenario: Scenario) -> None:
    """It does not wait, even from the network of the guesses."""
    assert (await scenario.login(ATTACKED, "cat", "secret", OTHER)).status == 200
    async with scenario.guesses(GUESSES + 4) as guesses:
        before = guesses.verified
        for client in (OTHER, GUESSER):
            assert (await scenario.login(ATTACKED, "cat", "secret", client)).status == 200
        assert guesses.verified - before <= THREADS
