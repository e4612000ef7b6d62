"""Idle WebSockets: what each costs the server and the agent in memory."""

import asyncio
from collections.abc import Mapping
from typing import Final

import psutil

from benchmarks.environment import Rig
from benchmarks.lab.stack import AGENT
from benchmarks.load.jobs import Endpoint, Job
from benchmarks.metrics import Figure, alone
from benchmarks.targets import SOCKET

_COUNTS: Final = (1000, 8000)
_QUICK_COUNTS: Final = (500, 1000)
_ROUNDS: Final = 3
"""At most: the same objects are made each time, so there is little to spread."""
_FIRST: Final = 64
"""Opened and closed before anything is counted: whatever is made once is made by then."""
_SETTLE: Final = 0.5
_SPARE: Final = 500
_CADDY_NEEDS: Final = 2

Memory = dict[str, int]


async def idle(rig: Rig, title: str) -> list[Figure]:
    """Growth of the resident memory by WebSocket: of the first ones, which may find room that is
    there, and of more."""
    counts = [_allowed(rig, count) for count in (_QUICK_COUNTS if rig.options.quick else _COUNTS)]
    rounds = 1 if rig.options.quick else min(_ROUNDS, rig.options.rounds)
    grown = [await _grow(rig, title, counts, number) for number in range(rounds)]
    figures, before = [], 0
    for count in dict.fromkeys(counts):
        more = count - before
        figures += [
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
    return figures


async def _grow(rig: Rig, title: str, counts: list[int], number: int) -> dict[int, Memory]:
    """Memory at each count.

    Server and agent are new each time: a heap that has grown once does not grow again.
    """
    stack = await rig.new_stack(f"idle {number}")
    config = await asyncio.to_thread(stack.prepare_agent, AGENT, {SOCKET: rig.backends.socket})
    server = await stack.start_server(rig.processes)
    agent = await stack.start_agent(rig.processes, config)
    parts = {"server": server.pid, "agent": agent.pid}
    endpoint = stack.through_caddy(SOCKET)
    try:
        await rig.wait_ready(title, endpoint, is_socket=True)
        async with rig.another_generator() as generator:
            await generator.run(_hold(endpoint, _FIRST), title)
        found = {0: await _memory(parts)}
        async with rig.another_generator() as generator:
            for count in counts:
                await generator.run(_hold(endpoint, count), f"{title}, {count:,}")
                found[count] = await _memory(parts)
    finally:
        await rig.processes.stop(agent)
        await rig.processes.stop(server)
    return found


def _hold(endpoint: Endpoint, count: int) -> Job:
    return Job(kind="hold", endpoint=endpoint, connections=count)


async def _memory(parts: Mapping[str, int]) -> Memory:
    await asyncio.sleep(_SETTLE)
    return {name: psutil.Process(pid).memory_info().rss for name, pid in parts.items()}


def _allowed(rig: Rig, count: int) -> int:
    """Return `count`, or the most that Caddy may open if that is less."""
    most = (rig.descriptors - _SPARE) // _CADDY_NEEDS
    if count <= most:
        return count
    rig.note(
        f"idle WebSockets: {most:,} and not {count:,}, because a process may open"
        f" {rig.descriptors:,} descriptors"
    )
    return most
