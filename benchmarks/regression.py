"""Regression check: the ratios of a run against those of an earlier one.

Ratios can be compared between machines, absolute values cannot. Only ratios of rates count: the
99th percentile of a short run on a busy machine varies too much to judge a change by.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.metrics import Metric
from zerotrust.errors import BenchError

TOLERATED: Final = 0.10


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A ratio that fell."""

    workload: str
    measure: str
    before: float
    now: float

    def __str__(self) -> str:
        share = 100 * (1 - self.now / self.before)
        return (
            f"{self.workload}, {self.measure}: the ratio fell from {self.before:.2f} to"
            f" {self.now:.2f} ({share:.0f} %)"
        )


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """Results of an earlier run: the ratio of each measure of each workload."""

    quick: bool
    ratios: dict[tuple[str, str], float]

    def regressions(
        self, metrics: Sequence[Metric], tolerance: float = TOLERATED
    ) -> list[Regression]:
        """Return the rates whose ratio fell by more than the tolerance, if both runs have them.

        Args:
            tolerance: share of the earlier ratio.
        """
        return [
            Regression(
                workload=metric.workload,
                measure=metric.measure,
                before=before,
                now=metric.ratio.median,
            )
            for metric in metrics
            if metric.higher_is_better
            and metric.ratio is not None
            and (before := self.ratios.get((metric.workload, metric.measure))) is not None
            and metric.ratio.median < before * (1 - tolerance)
        ]

    def shares(self, metrics: Sequence[Metric]) -> bool:
        """Return True if both runs have a ratio in common."""
        return any((metric.workload, metric.measure) in self.ratios for metric in metrics)


def load(path: Path) -> EarlierRun:
    """Load the results of an earlier run.

    Raises:
        BenchError: the file cannot be read, or has no results.
    """
    try:
        found: Any = json.loads(path.read_text())
        return EarlierRun(
            quick=bool(found["settings"]["quick"]),
            ratios={
                (one["workload"], one["measure"]): float(one["ratio"])
                for one in found["workloads"]
                if one["ratio"] is not None
            },
        )
    except OSError as error:
        raise BenchError(
            f"{path}: cannot be read: {error.strerror}; `make bench` writes such a file"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"{path}: not the results of a run; `make bench` writes such a file"
        ) from error


def better_of(first: Sequence[Metric], second: Sequence[Metric]) -> list[Metric]:
    """Return the metrics of the measurement with the higher ratio.

    A fall counts only if two measurements show it.
    """
    again = {metric.measure: metric for metric in second}
    return [_better(metric, again.get(metric.measure)) for metric in first]


def _better(first: Metric, second: Metric | None) -> Metric:
    if second is None or first.ratio is None or second.ratio is None or not first.higher_is_better:
        return first
    return max(first, second, key=lambda metric: metric.ratio.median if metric.ratio else 0.0)
