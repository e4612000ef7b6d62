"""Idle WebSockets: memory of the server and the agent for each."""

import asyncio
from collections.abc import Mapping
from typing import Final

import psutil

from benchmarks.environment import Environment
from benchmarks.lab.stack import AGENT
from benchmarks.load.jobs import Endpoint, Job
from benchmarks.metrics import Metric, alone
from benchmarks.targets import SOCKET

_COUNTS: Final = (1000, 8000)
_QUICK_COUNTS: Final = (500, 1000)
_ROUNDS: Final = 3
"""Maximum number of rounds: the values hardly vary."""
_FIRST: Final = 64
"""WebSockets opened and closed before the measurement, to create one-time objects."""
_SETTLE: Final = 0.5
_SPARE: Final = 500
_CADDY_NEEDS: Final = 2

Memory = dict[str, int]


async def idle(environment: Environment, title: str) -> list[Metric]:
    """Measure resident memory per WebSocket: for the first ones, and for more."""
    counts = [
        _allowed(environment, count)
        for count in (_QUICK_COUNTS if environment.options.quick else _COUNTS)
    ]
    rounds = 1 if environment.options.quick else min(_ROUNDS, environment.options.rounds)
    grown = [await _grow(environment, title, counts, number) for number in range(rounds)]
    metrics, before = [], 0
    for count in dict.fromkeys(counts):
        more = count - before
        metrics += [
            alone(
                title,
                f"memory of the {part}, each of"
                f" {f'{more:,} more' if before else f'the first {more:,}'}",
                "KiB",
                [(memory[count][part] - memory[before][part]) / more / 1024 for memory in grown],
            )
            for part in ("server", "agent")
        ]
        before = count
    return metrics


async def _grow(
    environment: Environment, title: str, counts: list[int], number: int
) -> dict[int, Memory]:
    """Return the memory at each count.

    Server and agent are new each time: a heap that has grown once does not grow again.
    """
    stack = await environment.new_stack(f"idle {number}")
    config = await asyncio.to_thread(
        stack.prepare_agent, AGENT, {SOCKET: environment.backends.socket}
    )
    server = await stack.start_server(environment.processes)
    agent = await stack.start_agent(environment.processes, config)
    parts = {"server": server.pid, "agent": agent.pid}
    endpoint = stack.through_caddy(SOCKET)
    try:
        await environment.wait_ready(title, endpoint, is_socket=True)
        async with environment.another_generator() as generator:
            await generator.run(_hold(endpoint, _FIRST), title)
        found = {0: await _memory(parts)}
        async with environment.another_generator() as generator:
            for count in counts:
                await generator.run(_hold(endpoint, count), f"{title}, {count:,}")
                found[count] = await _memory(parts)
    finally:
        await environment.processes.stop(agent)
        await environment.processes.stop(server)
    return found


def _hold(endpoint: Endpoint, count: int) -> Job:
    return Job(kind="hold", endpoint=endpoint, connections=count)


async def _memory(parts: Mapping[str, int]) -> Memory:
    await asyncio.sleep(_SETTLE)
    return {name: psutil.Process(pid).memory_info().rss for name, pid in parts.items()}


def _allowed(environment: Environment, count: int) -> int:
    """Return `count`, or the most that Caddy may open if that is less."""
    most = (environment.descriptors - _SPARE) // _CADDY_NEEDS
    if count <= most:
        return count
    environment.note(
        f"idle WebSockets: {most:,} and not {count:,}, because a process may open"
        f" {environment.descriptors:,} descriptors"
    )
    return most
