"""Measuring clients: as fast as possible, or at a fixed rate."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import psutil

from benchmarks.load.jobs import Job, Outcome
from benchmarks.load.latency import percentiles
from benchmarks.load.loops import Client, ClosedLoop, OpenLoop
from benchmarks.load.pacing import Pacer

DRAIN_TIMEOUT = 10.0


async def as_fast_as_it_goes(job: Job, loop: ClosedLoop, clients: Sequence[Client]) -> Outcome:
    """Measure the highest rate, and the CPU time per operation of each watched process.

    The latencies are those of the clients' own operations: with one client, of a sequence.
    """
    begun = time.monotonic()
    for client in clients:
        loop.begin(client)
    await unless_failed(loop.failure, job.warm_up)
    cpu, since = _cpu(job), time.monotonic()
    loop.taken.clear()
    await unless_failed(loop.failure, job.seconds)
    done, now, spent = len(loop.taken), time.monotonic(), _cpu(job)
    loop.stop()
    counted = percentiles(loop.taken)
    return Outcome(
        rate=done / (now - since),
        p50=counted.p50,
        p99=counted.p99,
        worst=counted.worst,
        cpu={name: (spent[name] - cpu[name]) / max(1, done) for name in cpu},
        took=now - begun,
    )


async def at_a_rate(job: Job, loop: OpenLoop, clients: Sequence[Client], rate: float) -> Outcome:
    """Measure the latencies at a rate, of every operation that was due."""
    begun = time.monotonic()
    for client in clients:
        loop.add(client)
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
    """Sleep.

    Raises:
        BenchError: an operation failed meanwhile.
    """
    await asyncio.wait([failure], timeout=seconds)
    if failure.done():
        failure.result()


def _cpu(job: Job) -> dict[str, float]:
    """Return the CPU seconds, user and system, of each watched process."""
    found = {}
    for name, pid in job.watch.items():
        times = psutil.Process(pid).cpu_times()
        found[name] = times.user + times.system
    return found
