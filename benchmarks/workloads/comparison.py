"""Common plan: rates in a closed loop, then latencies in an open loop, in turns."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from benchmarks.environment import Environment
from benchmarks.load.jobs import Job, Outcome
from benchmarks.metrics import Metric, Spread, compare
from benchmarks.rounds import in_turns
from benchmarks.targets import ALONE, BASELINE, OURS, WITHOUT_CADDY, Target

LOAD: Final = 0.5
"""Load for latencies, as a share of the slower target's rate; all targets carry the same."""

MakeJob = Callable[[Target], Job | None]
Outcomes = dict[str, list[Outcome]]


async def rates(
    environment: Environment,
    title: str,
    make: MakeJob,
    *,
    without: Sequence[str] = (WITHOUT_CADDY, ALONE),
) -> Outcomes:
    """Measure the maximum rate of each target, in turns."""
    jobs = {
        target.name: job
        for target in environment.targets.values()
        if target.name not in without and (job := make(target)) is not None
    }
    return await in_turns(
        environment.options.rounds,
        {name: partial(environment.run, f"{title}, {name}", job) for name, job in jobs.items()},
    )


async def latencies(
    environment: Environment, title: str, make: MakeJob, closed: Outcomes
) -> Outcomes:
    """Measure our latencies and the baseline's at the same rate, in turns."""
    rate = LOAD * min(Spread.of(rates_of(closed[name])).median for name in (BASELINE, OURS))
    measures = {}
    for name in (BASELINE, OURS):
        job = make(environment.targets[name])
        assert job is not None
        measures[name] = partial(
            environment.run, f"{title}, {name} at a fixed rate", replace(job, rate=rate, watch={})
        )
    return await in_turns(environment.options.rounds, measures)


def rates_of(outcomes: list[Outcome]) -> list[float]:
    """Return the rates of outcomes."""
    return [outcome.rate for outcome in outcomes]


def rate_metric(
    title: str, measure: str, unit: str, found: Outcomes, *, scale: float = 1.0
) -> Metric:
    """Return a metric of the rates: ours, the baseline's and all others."""
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


def latency_metrics(title: str, found: Outcomes) -> list[Metric]:
    """Return metrics of p50 and p99: ours, the baseline's and all others."""
    metrics = []
    for measure in ("p50", "p99"):
        values = {
            name: [getattr(outcome, measure) for outcome in outcomes]
            for name, outcomes in found.items()
        }
        metrics.append(
            compare(
                title,
                measure,
                "ms",
                ours=values.pop(OURS),
                baseline=values.pop(BASELINE),
                higher_is_better=False,
                others=values,
            )
        )
    return metrics
