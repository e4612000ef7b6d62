"""Measuring lanes: as fast as they go, or at a fixed rate."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import psutil

from benchmarks.load.jobs import Job, Outcome
from benchmarks.load.latency import percentiles
from benchmarks.load.loops import ClosedLoop, Lane, OpenLoop
from benchmarks.load.pacing import Pacer

DRAIN_TIMEOUT = 10.0


async def as_fast_as_it_goes(job: Job, loop: ClosedLoop, lanes: Sequence[Lane]) -> Outcome:
    """The highest rate, and what each watched process spends on an operation."""
    begun = time.monotonic()
    for lane in lanes:
        lane.start(0.0)
    await unless_failed(loop.failure, job.warm_up)
    cpu, count, since = _cpu(job), loop.count, time.monotonic()
    await unless_failed(loop.failure, job.seconds)
    done, now, spent = loop.count - count, time.monotonic(), _cpu(job)
    loop.stop()
    return Outcome(
        rate=done / (now - since),
        cpu={name: (spent[name] - cpu[name]) / max(1, done) for name in cpu},
        took=now - begun,
    )


async def at_a_rate(job: Job, loop: OpenLoop, lanes: Sequence[Lane], rate: float) -> Outcome:
    """Latencies at a rate, of every operation that was due."""
    begun = time.monotonic()
    for lane in lanes:
        loop.add(lane)
    pacer = Pacer(rate, loop.due)
    try:
        await unless_failed(loop.failure, job.warm_up)
        loop.measure()
        await unless_failed(loop.failure, job.seconds)
    finally:
        pacer.stop()
    if loop.is_busy:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.drained.wait(), DRAIN_TIMEOUT)
    if loop.failure.done():
        loop.failure.result()
    loop.give_up()
    counted = percentiles(loop.taken)
    return Outcome(
        rate=len(loop.taken) / job.seconds,
        p50=counted.p50,
        p99=counted.p99,
        worst=counted.worst,
        took=time.monotonic() - begun,
    )


async def unless_failed(failure: asyncio.Future[None], seconds: float) -> None:
    """Let time pass.

    Raises:
        BenchError: an operation failed meanwhile.
    """
    await asyncio.wait([failure], timeout=seconds)
    if failure.done():
        failure.result()


def _cpu(job: Job) -> dict[str, float]:
    """Seconds of CPU, user and system, that each watched process has had."""
    found = {}
    for name, pid in job.watch.items():
        times = psutil.Process(pid).cpu_times()
        found[name] = times.user + times.system
    return found
