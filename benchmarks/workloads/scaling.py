"""Scaling: cost against the number of connections, and of an idle server and agent."""

import asyncio
from functools import partial
from typing import Final

import psutil

from benchmarks.environment import KIB, Environment
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric, alone, compare
from benchmarks.rounds import in_turns
from benchmarks.targets import BASELINE, OURS
from benchmarks.workloads.comparison import LOAD, rates_of

_CONNECTIONS: Final = (1, 10, 100, 1000)
_IDLE_SECONDS: Final = 30.0


async def connections(environment: Environment, title: str) -> list[Metric]:
    """Measure GET over 1 to 1,000 connections: the rate, and the p99 at half our rate."""
    metrics = []
    for count in _CONNECTIONS:
        jobs = {name: _get(environment, name, count, None) for name in (BASELINE, OURS)}
        closed = await in_turns(
            environment.options.rounds,
            {name: partial(environment.run, title, job) for name, job in jobs.items()},
        )
        rate = LOAD * min(rates_of(closed[OURS]))
        jobs = {name: _get(environment, name, count, rate) for name in jobs}
        opened = await in_turns(
            environment.options.rounds,
            {name: partial(environment.run, title, job) for name, job in jobs.items()},
        )
        metrics += [
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
    return metrics


async def idle_cpu(environment: Environment, title: str) -> list[Metric]:
    """Measure the CPU time of an idle server and agent, which exchange keepalives only."""
    before = _cpu(environment)
    await asyncio.sleep(_IDLE_SECONDS)
    after = _cpu(environment)
    return [
        alone(
            title,
            f"CPU of the {part}, each minute",
            "ms",
            [(after[part] - before[part]) * 1e3 * 60 / _IDLE_SECONDS],
        )
        for part in before
    ]


def _get(environment: Environment, name: str, count: int, rate: float | None) -> Job:
    endpoint = environment.targets[name].web
    assert endpoint is not None
    return Job(
        kind="get",
        endpoint=endpoint,
        connections=count,
        seconds=environment.options.seconds,
        rate=rate,
        size=KIB,
        path="/1k",
    )


def _cpu(environment: Environment) -> dict[str, float]:
    found = {}
    for name, pid in environment.watched.items():
        times = psutil.Process(pid).cpu_times()
        found[name] = times.user + times.system
    return found
