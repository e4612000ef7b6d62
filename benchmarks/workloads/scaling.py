"""Scaling: cost against the number of connections, and of an idle server and agent."""

import asyncio
from functools import partial
from typing import Final

import psutil

from benchmarks.environment import KIB, Rig
from benchmarks.load.jobs import Job
from benchmarks.metrics import Figure, alone, compare
from benchmarks.rounds import in_turns
from benchmarks.targets import BASELINE, OURS
from benchmarks.workloads.comparing import LOAD, rates_of

_CONNECTIONS: Final = (1, 10, 100, 1000)
_IDLE_SECONDS: Final = 30.0


async def connections(rig: Rig, title: str) -> list[Figure]:
    """1 KiB GET over 1 to 1,000 connections: what can be done, and the p99 at half of what we
    can."""
    figures = []
    for count in _CONNECTIONS:
        jobs = {name: _get(rig, name, count, None) for name in (BASELINE, OURS)}
        closed = await in_turns(
            rig.options.rounds, {name: partial(rig.run, title, job) for name, job in jobs.items()}
        )
        rate = LOAD * min(rates_of(closed[OURS]))
        jobs = {name: _get(rig, name, count, rate) for name in jobs}
        opened = await in_turns(
            rig.options.rounds, {name: partial(rig.run, title, job) for name, job in jobs.items()}
        )
        figures += [
            compare(
                title,
                f"requests/s, {count:,} connections",
                "/s",
                ours=rates_of(closed[OURS]),
                baseline=rates_of(closed[BASELINE]),
            ),
            compare(
                title,
                f"p99, {count:,} connections",
                "ms",
                ours=[outcome.p99 for outcome in opened[OURS]],
                baseline=[outcome.p99 for outcome in opened[BASELINE]],
                higher_is_better=False,
            ),
        ]
    return figures


async def idle_cpu(rig: Rig, title: str) -> list[Figure]:
    """CPU of a server and an agent that have nothing to do but to ask each other whether they
    are there."""
    before = _cpu(rig)
    await asyncio.sleep(_IDLE_SECONDS)
    after = _cpu(rig)
    return [
        alone(
            title,
            f"CPU of the {part}, each minute",
            "ms",
            [(after[part] - before[part]) * 1e3 * 60 / _IDLE_SECONDS],
        )
        for part in before
    ]


def _get(rig: Rig, name: str, count: int, rate: float | None) -> Job:
    endpoint = rig.ways[name].web
    assert endpoint is not None
    return Job(
        kind="get",
        endpoint=endpoint,
        connections=count,
        seconds=rig.options.seconds,
        rate=rate,
        size=KIB,
        path="/1k",
    )


def _cpu(rig: Rig) -> dict[str, float]:
    found = {}
    for name, pid in rig.watched.items():
        times = psutil.Process(pid).cpu_times()
        found[name] = times.user + times.system
    return found
