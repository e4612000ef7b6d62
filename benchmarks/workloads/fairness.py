"""Fairness: latency of small messages beside downloads and beside a stalled reader."""

from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks.environment import Environment
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric, compare
from benchmarks.rounds import in_turns
from benchmarks.targets import BASELINE, OURS, Target

_BULK: Final = 1 << 30
_DOWNLOADS: Final = 4
_ECHO_BYTES: Final = 64
_ECHO_RATE: Final = 500.0
_ECHO_CONNECTIONS: Final = 16
_LIVE: Final = 49
_COME_TO_SPEED: Final = 0.5


async def beside_downloads(environment: Environment, title: str) -> list[Metric]:
    """Measure echo beside 4 downloads against echo alone, with 0Trust and without it."""
    metrics = []
    for name in (OURS, BASELINE):
        target = environment.targets[name]
        assert target.web is not None
        flood = Job(
            kind="flood",
            endpoint=target.web,
            connections=_DOWNLOADS,
            seconds=_COME_TO_SPEED,
            size=_BULK,
            path=f"/bulk/{_BULK}",
        )
        measure = "p99" if name == OURS else f"p99, {name}"
        metrics.append(
            await with_and_without(
                environment, title, measure, _echo(environment, target, _ECHO_CONNECTIONS), flood
            )
        )
    return metrics


async def beside_a_stalled_reader(environment: Environment, title: str) -> list[Metric]:
    """Measure 49 echo streams beside a stalled download against the 49 alone."""
    target = environment.targets[OURS]
    assert target.web is not None
    stall = Job(kind="stall", endpoint=target.web, size=_BULK, path=f"/bulk/{_BULK}")
    return [
        await with_and_without(environment, title, "p99", _echo(environment, target, _LIVE), stall)
    ]


async def with_and_without(
    environment: Environment, title: str, measure: str, job: Job, burden: Job
) -> Metric:
    """Return the p99 of a job with and without the load of a second generator, in turns."""
    what = f"{title}, {measure}"

    async def burdened() -> float:
        async with environment.another_generator() as generator:
            await generator.run(burden, what)
            return (await environment.run(what, job)).p99

    async def unburdened() -> float:
        return (await environment.run(what, job)).p99

    measures: dict[str, Callable[[], Awaitable[float]]] = {"without": unburdened, "with": burdened}
    found = await in_turns(environment.options.rounds, measures)
    return compare(
        title, measure, "ms", ours=found["with"], baseline=found["without"], higher_is_better=False
    )


def _echo(environment: Environment, target: Target, connections: int) -> Job:
    assert target.socket is not None
    return Job(
        kind="echo",
        endpoint=target.socket,
        connections=connections,
        seconds=environment.options.seconds,
        rate=_ECHO_RATE,
        size=_ECHO_BYTES,
    )
