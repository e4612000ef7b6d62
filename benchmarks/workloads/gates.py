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
from benchmarks.targets import WEB
from benchmarks.workloads.comparison import rates_of
from zerotrust.errors import BenchError

GATED: Final = "gated.localhost"
PUBLIC: Final = "plain.localhost"
UNKNOWN: Final = "unknown.localhost"
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
    """Measure requests to the public host name beside unknown cookies at the other one.

    The controls show the part of the machine, which the load generators share with the server: as
    many unknown cookies at another server of the same machine, and Caddy alone beside as many
    requests to an unknown host name.
    """
    bare = environment.bare_caddy
    async with (
        _gated_stack(environment, "strangers") as stack,
        _gated_stack(environment, "elsewhere") as another,
    ):
        at_ours = _public_get(environment, stack.without_caddy(PUBLIC))
        at_caddy = _public_get(environment, bare.without_tls(WEB))
        here = _strangers(stack.without_caddy(GATED), 401)
        elsewhere = _strangers(another.without_caddy(GATED), 401)
        at_bare = _strangers(bare.without_tls(UNKNOWN), 404)
        for job in (at_ours, at_caddy):
            await environment.wait_ready(title, job.endpoint)
        found = await in_turns(
            environment.options.rounds,
            {
                "alone": partial(_latency, environment, title, at_ours),
                "here": partial(_latency_beside, environment, title, at_ours, here),
                "elsewhere": partial(_latency_beside, environment, title, at_ours, elsewhere),
                "Caddy alone": partial(_latency, environment, title, at_caddy),
                "at Caddy": partial(_latency_beside, environment, title, at_caddy, at_bare),
            },
        )
    return [
        compare(
            title, measure, "ms", ours=found[name], baseline=found[base], higher_is_better=False
        )
        for measure, name, base in (
            ("p99", "here", "alone"),
            ("p99, against as many at another server", "here", "elsewhere"),
            ("p99, Caddy to backend beside unknown host names", "at Caddy", "Caddy alone"),
        )
    ]


def _public_get(environment: Environment, endpoint: Endpoint) -> Job:
    return Job(
        kind="get",
        endpoint=endpoint,
        connections=_CONNECTIONS,
        seconds=environment.options.seconds,
        rate=_RATE,
        size=KIB,
        path="/1k",
    )


def _strangers(endpoint: Endpoint, status: int) -> Job:
    return Job(
        kind="strangers",
        endpoint=endpoint,
        connections=_CONNECTIONS,
        seconds=_COME_TO_SPEED,
        rate=_STRANGERS,
        fields=_HTTPS,
        status=status,
    )


async def _latency(environment: Environment, title: str, job: Job) -> float:
    return (await environment.run(title, job)).p99


async def _latency_beside(environment: Environment, title: str, job: Job, burden: Job) -> float:
    async with environment.another_generator() as generator:
        begun = await generator.run(burden, title)
        if begun.rate < 0.95 * _STRANGERS:
            environment.note(f"{title}: only {begun.rate:,.0f} strangers a second")
        return await _latency(environment, title, job)


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
