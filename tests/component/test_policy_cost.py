"""One agent's policy and one stranger's requests do not hold up the services of other agents."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Measured
from tests.support.backends import Origin
from tests.support.stack import Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("policy_cost"),
]

RATE = 23
"""Requests per second of the stranger."""
REQUESTS = 92
BOUND = 0.1
"""Median seconds for a request of another service; alone it takes about 5 ms."""


def routes(*matches: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"match": match} for match in matches]


CASES = {
    # Three routes, as an honest service has them.
    "queries.localhost": (
        routes(*({"query": {"q": f"{number}"}} for number in range(3))),
        ["/?" + "q%;" * 250, "/?q=+" + "%2561" * 1600, "/?" + "a%&" * 19_000],
    ),
    # As many patterns as one policy may have, and the longest path that is compared with them.
    "patterns.localhost": (
        routes(*({"path": f"/*{'a' * 20}b{number}*"} for number in range(270))),
        ["/" + "a" * 57_000, "/" + "a" * 4_000],
    ),
}


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("policy-cost")
    async with Origin(folder) as origin:
        hostile = [
            service(host, origin.port, routes=matches) for host, (matches, _) in CASES.items()
        ]
        agents = {"agent-1": [service("victim.localhost", origin.port)], "agent-2": hostile}
        async with Stack(folder, authority, agents=agents) as stack:
            yield stack


@pytest.mark.parametrize("host", CASES)
async def test_the_costliest_policies_leave_others_their_time(
    stack: Stack, host: str, measured: Measured
) -> None:
    """Flood at the stranger's rate, as far as Caddy lets it, and measure the victim's requests.

    A request of the victim is measured from its due time, so that a delay of the one before it
    counts.
    """
    loop = asyncio.get_running_loop()
    targets = CASES[host][1]
    took: list[float] = []
    statuses: set[int] = set()

    async def ask(target: str) -> None:
        statuses.add((await stack.caddy.get(host, target)).status)

    async with asyncio.TaskGroup() as group, await stack.caddy.open("victim.localhost") as client:
        begun_at = loop.time()
        for number in range(REQUESTS):
            due = begun_at + number / RATE
            await asyncio.sleep(due - loop.time())
            group.create_task(ask(targets[number % len(targets)]))
            assert (await client.request("GET", "/bytes/1")).status == 200
            took.append(loop.time() - due)
    measured(
        f"beside {RATE} requests a second to {host}: p50 {statistics.median(took) * 1e3:.0f} ms"
    )
    assert statistics.median(took) < BOUND
    assert statuses == {404, 414}
