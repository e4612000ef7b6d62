"""Metrics: the spread over the rounds, ratios of the same round, and targets."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, minimum and maximum over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of one or more values."""
        return cls(median=statistics.median(values), least=min(values), most=max(values))


@dataclass(frozen=True)
class Threshold:
    """Bound for a ratio or, without a baseline, for our own value."""

    sense: Literal["≥", "≤"]
    bound: float

    def is_met(self, value: float) -> bool:
        """Return True if the value is within the bound."""
        return value >= self.bound if self.sense == "≥" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g}"


def at_least(bound: float) -> Threshold:
    """Return a lower bound."""
    return Threshold("≥", bound)


def at_most(bound: float) -> Threshold:
    """Return an upper bound."""
    return Threshold("≤", bound)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measure of one workload.

    Attributes:
        ratio: ours / baseline, of each round; None without a baseline.
        others: medians of the other targets that did the same work.
    """

    workload: str
    measure: str
    unit: str
    ours: Spread
    baseline: Spread | None = None
    ratio: Spread | None = None
    higher_is_better: bool = True
    others: dict[str, float] = field(default_factory=dict)
    threshold: Threshold | None = None

    @property
    def judged(self) -> float:
        """The value that the target bounds: the ratio, or our own value without a baseline."""
        return self.ratio.median if self.ratio is not None else self.ours.median

    @property
    def is_met(self) -> bool | None:
        """True if the target is met; None without a target."""
        return None if self.threshold is None else self.threshold.is_met(self.judged)


def ratios(ours: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Return ours / baseline, round by round; rounds with a baseline of 0 are left out."""
    return [mine / base for mine, base in zip(ours, baseline, strict=True) if base]


def compare(
    workload: str,
    measure: str,
    unit: str,
    *,
    ours: Sequence[float],
    baseline: Sequence[float],
    higher_is_better: bool = True,
    others: Mapping[str, Sequence[float]] | None = None,
) -> Metric:
    """Return a metric with a baseline, from the values of the same rounds."""
    found = ratios(ours, baseline)
    return Metric(
        workload=workload,
        measure=measure,
        unit=unit,
        ours=Spread.of(ours),
        baseline=Spread.of(baseline),
        ratio=Spread.of(found) if found else None,
        higher_is_better=higher_is_better,
        others={name: statistics.median(values) for name, values in (others or {}).items()},
    )


def alone(
    workload: str,
    measure: str,
    unit: str,
    values: Sequence[float],
    *,
    higher_is_better: bool = False,
) -> Metric:
    """Return a metric without a baseline."""
    return Metric(
        workload=workload,
        measure=measure,
        unit=unit,
        ours=Spread.of(values),
        higher_is_better=higher_is_better,
    )
