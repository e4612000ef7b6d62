"""Host names with a gate: their cost, and that of strangers at them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from benchmarks.environment import KIB, Environment
from benchmarks.lab.processes import python
from benchmarks.lab.stack import AGENT, Stack
from benchmarks.load.jobs import Endpoint, Job
from benchmarks.metrics import Metric, compare
from benchmarks.rounds import in_turns
from benchmarks.workloads.comparison import rates_of
from benchmarks.workloads.fairness import with_and_without
from zerotrust.errors import BenchError

GATED: Final = "gated.localhost"
PUBLIC: Final = "plain.localhost"
MACHINE: Final = "bench"
SECTIONS: Final = {
    "access": {
        "auth_host": "auth.localhost",
        "default": "public",
        "rules": [{"hosts": [GATED], "allow": [{"machine": MACHINE}]}],
    }
}
"""The gate lets one machine in. A pass of a user is found and judged in the same way."""
_CONNECTIONS: Final = 32
_STRANGERS: Final = 10_000.0
"""Unknown cookies a second."""
_RATE: Final = 500.0
_COME_TO_SPEED: Final = 1.0
_HTTPS: Final = ("X-Forwarded-Proto: https",)


async def with_a_token(environment: Environment, title: str) -> list[Metric]:
    """Measure the same requests to both host names of one server."""
    async with _gated_stack(environment, "gate") as stack:
        token = await _machine_token(stack)
        return [
            await _measure(environment, title, "requests/s", stack.through_caddy, token),
            await _measure(
                environment, title, "requests/s without Caddy", stack.without_caddy, token
            ),
        ]


async def beside_strangers(environment: Environment, title: str) -> list[Metric]:
    """Measure requests to the public host name beside unknown cookies at the other one."""
    async with _gated_stack(environment, "strangers") as stack:
        job = Job(
            kind="get",
            endpoint=stack.without_caddy(PUBLIC),
            connections=_CONNECTIONS,
            seconds=environment.options.seconds,
            rate=_RATE,
            size=KIB,
            path="/1k",
        )
        strangers = Job(
            kind="strangers",
            endpoint=stack.without_caddy(GATED),
            connections=_CONNECTIONS,
            seconds=_COME_TO_SPEED,
            rate=_STRANGERS,
            fields=_HTTPS,
        )
        await environment.wait_ready(title, job.endpoint)
        return [await with_and_without(environment, title, "p99", job, strangers)]


@asynccontextmanager
async def _gated_stack(environment: Environment, name: str) -> AsyncIterator[Stack]:
    stack = await environment.new_stack(name, sections=SECTIONS)
    await stack.start_server(environment.processes)
    try:
        hosts = dict.fromkeys((GATED, PUBLIC), environment.backends.web)
        config = await asyncio.to_thread(stack.prepare_agent, AGENT, hosts)
        agent = await stack.start_agent(environment.processes, config)
        try:
            yield stack
        finally:
            await environment.processes.stop(agent)
    finally:
        await environment.processes.stop(stack.server)


async def _measure(
    environment: Environment,
    title: str,
    measure: str,
    endpoint: Callable[[str], Endpoint],
    token: str,
) -> Metric:
    jobs = {
        host: Job(
            kind="get",
            endpoint=endpoint(host),
            connections=_CONNECTIONS,
            seconds=environment.options.seconds,
            size=KIB,
            path="/1k",
            fields=(f"X-0Trust-Token: {token}",),
        )
        for host in (GATED, PUBLIC)
    }
    for job in jobs.values():
        await environment.wait_ready(title, job.endpoint, fields=job.fields)
    found = await in_turns(
        environment.options.rounds,
        {host: partial(environment.run, f"{title}, {host}", job) for host, job in jobs.items()},
    )
    return compare(
        title, measure, "/s", ours=rates_of(found[GATED]), baseline=rates_of(found[PUBLIC])
    )


async def _machine_token(stack: Stack) -> str:
    """Return a new token of the machine.

    Raises:
        BenchError: the server has made none.
    """
    command = python("zerotrust", "machine", "create", MACHINE, "--socket", stack.admin_socket)
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        raise BenchError(f"no machine token: {err.decode()}")
    return out.decode().strip()
