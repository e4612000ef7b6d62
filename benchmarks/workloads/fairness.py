"""Fairness: latency of small messages beside downloads and beside a stalled reader."""

from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks.environment import Rig
from benchmarks.load.jobs import Job
from benchmarks.metrics import Figure, compare
from benchmarks.rounds import in_turns
from benchmarks.targets import BASELINE, OURS, Way

_BULK: Final = 1 << 30
_DOWNLOADS: Final = 4
_ECHO_BYTES: Final = 64
_ECHO_RATE: Final = 500.0
_ECHO_CONNECTIONS: Final = 16
_LIVE: Final = 49
_COME_TO_SPEED: Final = 0.5


async def beside_downloads(rig: Rig, title: str) -> list[Figure]:
    """Echo with 4 downloads in the same tunnel against echo without; and the same without
    0Trust, to compare with."""
    figures = []
    for name in (OURS, BASELINE):
        way = rig.ways[name]
        assert way.web is not None
        flood = Job(
            kind="flood",
            endpoint=way.web,
            connections=_DOWNLOADS,
            seconds=_COME_TO_SPEED,
            size=_BULK,
            path=f"/bulk/{_BULK}",
        )
        measure = "p99" if name == OURS else f"p99, {name}"
        figures.append(
            await _with_and_without(rig, title, measure, _echo(rig, way, _ECHO_CONNECTIONS), flood)
        )
    return figures


async def beside_a_stalled_reader(rig: Rig, title: str) -> list[Figure]:
    """49 echo streams with a download beside them whose client reads no more, against the 49
    without it."""
    way = rig.ways[OURS]
    assert way.web is not None
    stall = Job(kind="stall", endpoint=way.web, size=_BULK, path=f"/bulk/{_BULK}")
    return [await _with_and_without(rig, title, "p99", _echo(rig, way, _LIVE), stall)]


async def _with_and_without(rig: Rig, title: str, measure: str, echo: Job, burden: Job) -> Figure:
    """The p99 of an echo while a second generator holds a burden, against the p99 without; in
    turns."""
    what = f"{title}, {measure}"

    async def burdened() -> float:
        async with rig.another_generator() as generator:
            await generator.run(burden, what)
            return (await rig.run(what, echo)).p99

    async def unburdened() -> float:
        return (await rig.run(what, echo)).p99

    measures: dict[str, Callable[[], Awaitable[float]]] = {"without": unburdened, "with": burdened}
    found = await in_turns(rig.options.rounds, measures)
    return compare(
        title, measure, "ms", ours=found["with"], baseline=found["without"], higher_is_better=False
    )


def _echo(rig: Rig, way: Way, connections: int) -> Job:
    assert way.socket is not None
    return Job(
        kind="echo",
        endpoint=way.socket,
        connections=connections,
        seconds=rig.options.seconds,
        rate=_ECHO_RATE,
        size=_ECHO_BYTES,
    )
