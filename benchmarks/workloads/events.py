"""Server-sent events: many quiet streams, and how late their events come."""

from functools import partial
from typing import Final

from benchmarks.environment import Rig
from benchmarks.load.jobs import Job
from benchmarks.metrics import Figure
from benchmarks.rounds import in_turns
from benchmarks.targets import BASELINE, OURS
from benchmarks.workloads.comparing import latency_figures

_STREAMS: Final = 1000
_LEAST_SECONDS: Final = 2.0
"""Each stream has one event a second, so less would leave some without."""


async def lateness(rig: Rig, title: str) -> list[Figure]:
    """From the time that an event carries to its arrival, over 1,000 streams at one event a
    second."""
    measures = {}
    for name in (BASELINE, OURS):
        endpoint = rig.ways[name].stream
        assert endpoint is not None
        job = Job(
            kind="events",
            endpoint=endpoint,
            connections=_STREAMS,
            seconds=max(_LEAST_SECONDS, rig.options.seconds),
            path="/events",
        )
        measures[name] = partial(rig.run, f"{title}, {name}", job)
    return latency_figures(title, await in_turns(rig.options.rounds, measures))
