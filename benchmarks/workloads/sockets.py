"""WebSockets: echo of small and of larger messages, and handshakes."""

from benchmarks.environment import Rig
from benchmarks.load.jobs import Job
from benchmarks.metrics import Figure
from benchmarks.targets import Way
from benchmarks.workloads.comparing import latencies, latency_figures, rate_figure, rates


async def small_echo(rig: Rig, title: str) -> list[Figure]:
    """64 B."""
    return await _echo(rig, title, 64)


async def large_echo(rig: Rig, title: str) -> list[Figure]:
    """16 KiB."""
    return await _echo(rig, title, 16 * 1024)


async def handshakes(rig: Rig, title: str) -> list[Figure]:
    """Connect, upgrade, close; 16 clients at a time."""

    def job(way: Way) -> Job | None:
        if way.socket is None:
            return None
        return Job(
            kind="handshake", endpoint=way.socket, connections=16, seconds=rig.options.seconds
        )

    return [rate_figure(title, "handshakes/s", "/s", await rates(rig, title, job))]


async def _echo(rig: Rig, title: str, size: int) -> list[Figure]:
    def job(way: Way) -> Job | None:
        if way.socket is None:
            return None
        return Job(
            kind="echo", endpoint=way.socket, connections=64, seconds=rig.options.seconds, size=size
        )

    closed = await rates(rig, title, job)
    return [
        rate_figure(title, "messages/s", "/s", closed),
        *latency_figures(title, await latencies(rig, title, job, closed)),
    ]
