"""Much of one thing: services of an agent, agents of a server, and all agents back after the
server was restarted."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from benchmarks.environment import KIB, Rig
from benchmarks.lab import fleet
from benchmarks.lab.processes import python
from benchmarks.lab.stack import AGENT, Stack
from benchmarks.load.jobs import Job
from benchmarks.metrics import Figure, alone, compare
from benchmarks.rounds import in_turns
from benchmarks.workloads.comparing import rates_of

_SERVICES: Final = 10_000
_AGENTS: Final = 500
_CONNECTIONS: Final = 32
_READY_TIMEOUT: Final = 180.0
_LOADS_SLOWLY: Final = 300.0
"""YAML with ten thousand services takes its reader a while; that is not what is measured here."""


async def services(rig: Rig, title: str) -> list[Figure]:
    """GET of the last of 10,000 services against GET of an only service; both through Caddy,
    server and agent."""
    async with contextlib.AsyncExitStack() as running:
        jobs = {}
        for count in (1, _SERVICES):
            stack = await running.enter_async_context(_server(rig, f"services {count}"))
            hosts = {f"service-{number}.localhost": rig.backends.web for number in range(count)}
            config = await asyncio.to_thread(stack.prepare_agent, AGENT, hosts)
            agent = await stack.start_agent(rig.processes, config)
            running.push_async_callback(rig.processes.stop, agent)
            jobs[str(count)] = job = _get(rig, stack, (list(hosts)[-1],))
            await rig.wait_ready(title, job.endpoint, seconds=_LOADS_SLOWLY)
        return [await _compare(rig, title, jobs[str(_SERVICES)], jobs["1"])]


async def agents(rig: Rig, title: str) -> list[Figure]:
    """GET spread over 500 agents against GET of one; then all of them are cut off at once."""
    async with contextlib.AsyncExitStack() as running:
        stack = {
            count: await running.enter_async_context(_server(rig, f"agents {count}"))
            for count in (1, _AGENTS)
        }
        hosts = {}
        for count, one in stack.items():
            files = await asyncio.to_thread(fleet.prepare, one, count, rig.backends.web)
            hosts[count] = tuple(files)
            process = await rig.processes.start(
                f"fleet of {count}", python("benchmarks.lab.fleet", *files.values())
            )
            running.push_async_callback(rig.processes.stop, process)
            await rig.wait_ready(
                title,
                one.without_caddy(hosts[count][0]),
                hosts=hosts[count],
                seconds=_READY_TIMEOUT,
            )
            await rig.wait_ready(title, one.through_caddy(hosts[count][0]))
        many = stack[_AGENTS]
        rate = await _compare(
            rig, title, _get(rig, many, hosts[_AGENTS]), _get(rig, stack[1], hosts[1])
        )
        storms = [await _storm(rig, title, many, hosts[_AGENTS]) for _ in range(rig.options.rounds)]
        return [
            rate,
            alone(title, "seconds from the server's restart until all serve", "s", storms),
        ]


@contextlib.asynccontextmanager
async def _server(rig: Rig, name: str) -> AsyncIterator[Stack]:
    stack = await rig.new_stack(name)
    await stack.start_server(rig.processes)
    try:
        yield stack
    finally:
        await rig.processes.stop(stack.server)


def _get(rig: Rig, stack: Stack, hosts: tuple[str, ...]) -> Job:
    """1 KiB, the hosts in turn; Caddy is asked for one certificate only, whatever the Host field
    says."""
    return Job(
        kind="get",
        endpoint=stack.through_caddy(hosts[0]),
        connections=_CONNECTIONS,
        seconds=rig.options.seconds,
        size=KIB,
        path="/1k",
        hosts=hosts,
    )


async def _compare(rig: Rig, title: str, ours: Job, baseline: Job) -> Figure:
    jobs = {"one": baseline, "many": ours}
    found = await in_turns(
        rig.options.rounds, {name: partial(rig.run, title, job) for name, job in jobs.items()}
    )
    return compare(
        title, "requests/s", "/s", ours=rates_of(found["many"]), baseline=rates_of(found["one"])
    )


async def _storm(rig: Rig, title: str, stack: Stack, hosts: tuple[str, ...]) -> float:
    """Restart the server: from its new start, which ends with Caddy's, until a request to each
    agent is answered."""
    await rig.processes.stop(stack.server)
    begun = time.monotonic()
    await stack.start_server(rig.processes)
    await rig.wait_ready(title, stack.without_caddy(hosts[0]), hosts=hosts, seconds=_READY_TIMEOUT)
    return time.monotonic() - begun
