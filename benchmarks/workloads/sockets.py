"""WebSockets: echo of small and large messages, and handshakes."""

from benchmarks.environment import Environment
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric
from benchmarks.targets import Target
from benchmarks.workloads.comparison import latencies, latency_metrics, rate_metric, rates


async def small_echo(environment: Environment, title: str) -> list[Metric]:
    """Measure echo of 64 bytes."""
    return await _echo(environment, title, 64)


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
    def job(target: Target) -> Job | None:
        if target.socket is None:
            return None
        return Job(
            kind="echo",
            endpoint=target.socket,
            connections=64,
            seconds=environment.options.seconds,
            size=size,
        )

    closed = await rates(environment, title, job)
    return [
        rate_metric(title, "messages/s", "/s", closed),
        *latency_metrics(title, await latencies(environment, title, job, closed)),
    ]
