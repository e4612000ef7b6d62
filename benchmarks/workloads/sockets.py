"""WebSockets: echo of small and large messages, and handshakes."""

from functools import partial

from benchmarks.environment import Environment
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric
from benchmarks.targets import Target
from benchmarks.workloads.comparison import latencies, latency_metrics, rate_metric, rates


async def small_echo(environment: Environment, title: str) -> list[Metric]:
    """Measure echo of 64 bytes."""
    return await _echo(environment, title, 64)


async def sequential_echo(environment: Environment, title: str) -> list[Metric]:
    """Measure the latency of 64 bytes, sent by one client that waits for each echo."""
    found = await rates(environment, title, partial(_job, environment, 64, 1), without=())
    return latency_metrics(title, found)


async def large_echo(environment: Environment, title: str) -> list[Metric]:
    """Measure echo of 16 KiB."""
    return await _echo(environment, title, 16 * 1024)


async def handshakes(environment: Environment, title: str) -> list[Metric]:
    """Measure handshakes: connect, upgrade, close; 16 clients at a time."""

    def job(target: Target) -> Job | None:
        if target.socket is None:
            return None
        return Job(
            kind="handshake",
            endpoint=target.socket,
            connections=16,
            seconds=environment.options.seconds,
        )

    return [rate_metric(title, "handshakes/s", "/s", await rates(environment, title, job))]


async def _echo(environment: Environment, title: str, size: int) -> list[Metric]:
    job = partial(_job, environment, size, 64)
    closed = await rates(environment, title, job)
    return [
        rate_metric(title, "messages/s", "/s", closed),
        *latency_metrics(title, await latencies(environment, title, job, closed)),
    ]


def _job(environment: Environment, size: int, connections: int, target: Target) -> Job | None:
    if target.socket is None:
        return None
    return Job(
        kind="echo",
        endpoint=target.socket,
        connections=connections,
        seconds=environment.options.seconds,
        size=size,
    )
