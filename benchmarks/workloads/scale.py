"""Scale: 10,000 services, 500 agents, and reconnection of all agents after a restart."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from benchmarks.environment import KIB, Environment
from benchmarks.lab import fleet
from benchmarks.lab.processes import python
from benchmarks.lab.stack import AGENT, Stack
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric, alone, compare
from benchmarks.rounds import in_turns
from benchmarks.workloads.comparison import rates_of

_SERVICES: Final = 10_000
_AGENTS: Final = 500
_CONNECTIONS: Final = 32
_READY_TIMEOUT: Final = 180.0
_LOADS_SLOWLY: Final = 300.0
"""Seconds to load a YAML file with 10,000 services, which are not measured."""


async def services(environment: Environment, title: str) -> list[Metric]:
    """Compare GET of the last of 10,000 services with GET of a single service."""
    async with contextlib.AsyncExitStack() as running:
        jobs = {}
        for count in (1, _SERVICES):
            stack = await running.enter_async_context(_server(environment, f"services {count}"))
            hosts = {
                f"service-{number}.localhost": environment.backends.web for number in range(count)
            }
            config = await asyncio.to_thread(stack.prepare_agent, AGENT, hosts)
            agent = await stack.start_agent(environment.processes, config)
            running.push_async_callback(environment.processes.stop, agent)
            jobs[str(count)] = job = _get(environment, stack, (list(hosts)[-1],))
            await environment.wait_ready(title, job.endpoint, seconds=_LOADS_SLOWLY)
        return [await _compare(environment, title, jobs[str(_SERVICES)], jobs["1"])]


async def agents(environment: Environment, title: str) -> list[Metric]:
    """Compare GET spread over 500 agents with GET of one; then restart the server."""
    async with contextlib.AsyncExitStack() as running:
        stack = {
            count: await running.enter_async_context(_server(environment, f"agents {count}"))
            for count in (1, _AGENTS)
        }
        hosts = {}
        for count, one in stack.items():
            files = await asyncio.to_thread(fleet.prepare, one, count, environment.backends.web)
            hosts[count] = tuple(files)
            process = await environment.processes.start(
                f"fleet of {count}", python("benchmarks.lab.fleet", *files.values())
            )
            running.push_async_callback(environment.processes.stop, process)
            await environment.wait_ready(
                title,
                one.without_caddy(hosts[count][0]),
                hosts=hosts[count],
                seconds=_READY_TIMEOUT,
            )
            await environment.wait_ready(title, one.through_caddy(hosts[count][0]))
        many = stack[_AGENTS]
        rate = await _compare(
            environment,
            title,
            _get(environment, many, hosts[_AGENTS]),
            _get(environment, stack[1], hosts[1]),
        )
        storms = [
            await _storm(environment, title, many, hosts[_AGENTS])
            for _ in range(environment.options.rounds)
        ]
        return [
            rate,
            alone(title, "seconds from the server's restart until all serve", "s", storms),
        ]


@contextlib.asynccontextmanager
async def _server(environment: Environment, name: str) -> AsyncIterator[Stack]:
    stack = await environment.new_stack(name)
    await stack.start_server(environment.processes)
    try:
        yield stack
    finally:
        await environment.processes.stop(stack.server)


def _get(environment: Environment, stack: Stack, hosts: tuple[str, ...]) -> Job:
    """Return a job for 1 KiB from each host in turn; Caddy gets one certificate only."""
    return Job(
        kind="get",
        endpoint=stack.through_caddy(hosts[0]),
        connections=_CONNECTIONS,
        seconds=environment.options.seconds,
        size=KIB,
        path="/1k",
        hosts=hosts,
    )


async def _compare(environment: Environment, title: str, ours: Job, baseline: Job) -> Metric:
    jobs = {"one": baseline, "many": ours}
    found = await in_turns(
        environment.options.rounds,
        {name: partial(environment.run, title, job) for name, job in jobs.items()},
    )
    return compare(
        title, "requests/s", "/s", ours=rates_of(found["many"]), baseline=rates_of(found["one"])
    )


async def _storm(
    environment: Environment, title: str, stack: Stack, hosts: tuple[str, ...]
) -> float:
    """Restart the server; return the seconds from its start until each agent serves."""
    await environment.processes.stop(stack.server)
    begun = time.monotonic()
    await stack.start_server(environment.processes)
    await environment.wait_ready(
        title, stack.without_caddy(hosts[0]), hosts=hosts, seconds=_READY_TIMEOUT
    )
    return time.monotonic() - begun
