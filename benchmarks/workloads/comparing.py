"""The plan that most workloads follow: rates in a closed loop, then latencies in an open one,
each in turns."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from benchmarks.environment import Rig
from benchmarks.load.jobs import Job, Outcome
from benchmarks.metrics import Figure, Spread, compare
from benchmarks.rounds import in_turns
from benchmarks.targets import ALONE, BASELINE, OURS, WITHOUT_CADDY, Way

LOAD: Final = 0.5
"""The rate at which latencies are taken, as a share of what the slower way can do: both carry
the same load."""

MakeJob = Callable[[Way], Job | None]
Outcomes = dict[str, list[Outcome]]


async def rates(
    rig: Rig, title: str, make: MakeJob, *, without: Sequence[str] = (WITHOUT_CADDY, ALONE)
) -> Outcomes:
    """Measure the maximum rate of each target, in turns."""
    jobs = {
        way.name: job
        for way in rig.ways.values()
        if way.name not in without and (job := make(way)) is not None
    }
    return await in_turns(
        rig.options.rounds,
        {name: partial(rig.run, f"{title}, {name}", job) for name, job in jobs.items()},
    )


async def latencies(rig: Rig, title: str, make: MakeJob, closed: Outcomes) -> Outcomes:
    """Latencies of us and the baseline at the same rate, in turns."""
    rate = LOAD * min(Spread.of(rates_of(closed[name])).median for name in (BASELINE, OURS))
    measures = {}
    for name in (BASELINE, OURS):
        job = make(rig.ways[name])
        assert job is not None
        measures[name] = partial(
            rig.run, f"{title}, {name} at a fixed rate", replace(job, rate=rate, watch={})
        )
    return await in_turns(rig.options.rounds, measures)


def rates_of(outcomes: list[Outcome]) -> list[float]:
    """Their rates."""
    return [outcome.rate for outcome in outcomes]


def rate_figure(
    title: str, measure: str, unit: str, found: Outcomes, *, scale: float = 1.0
) -> Figure:
    """The rates of us, the baseline and all others."""
    values = {
        name: [rate * scale for rate in rates_of(outcomes)] for name, outcomes in found.items()
    }
    return compare(
        title,
        measure,
        unit,
        ours=values.pop(OURS),
        baseline=values.pop(BASELINE),
        others=values,
    )


def latency_figures(title: str, found: Outcomes) -> list[Figure]:
    """p50 and p99 of us and the baseline."""
    return [
        compare(
            title,
            measure,
            "ms",
            ours=[getattr(outcome, measure) for outcome in found[OURS]],
            baseline=[getattr(outcome, measure) for outcome in found[BASELINE]],
            higher_is_better=False,
        )
        for measure in ("p50", "p99")
    ]
