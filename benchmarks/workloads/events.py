"""Server-sent events: lateness on many quiet streams."""

from functools import partial
from typing import Final

from benchmarks.environment import Environment
from benchmarks.load.jobs import Job
from benchmarks.metrics import Metric
from benchmarks.rounds import in_turns
from benchmarks.targets import BASELINE, OURS
from benchmarks.workloads.comparison import latency_metrics

_STREAMS: Final = 1000
_LEAST_SECONDS: Final = 2.0
"""Minimum time: each stream has one event per second, and each needs one."""


async def lateness(environment: Environment, title: str) -> list[Metric]:
    """Measure the lateness of events on 1,000 streams with one event a second each."""
    measures = {}
    for name in (BASELINE, OURS):
        endpoint = environment.targets[name].stream
        assert endpoint is not None
        job = Job(
            kind="events",
            endpoint=endpoint,
            connections=_STREAMS,
            seconds=max(_LEAST_SECONDS, environment.options.seconds),
            path="/events",
        )
        measures[name] = partial(environment.run, f"{title}, {name}", job)
    return latency_metrics(title, await in_turns(environment.options.rounds, measures))
