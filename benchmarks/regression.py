"""Has it become slower? The ratios of a run against those of an earlier one.

Ratios, because they are what two machines have in common; and only those of rates: the 99th
percentile of a short run on a machine that does other things is too uneven to judge a change by.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.metrics import Figure
from zerotrust.errors import BenchError

TOLERATED: Final = 0.10


@dataclass(frozen=True, kw_only=True)
class Fall:
    """A ratio that is lower than it was."""

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
class Earlier:
    """Results of an earlier run: the ratio of each measure of each workload."""

    quick: bool
    ratios: dict[tuple[str, str], float]

    def falls(self, figures: Sequence[Figure], tolerance: float = TOLERATED) -> list[Fall]:
        """Return the ratios of rates that fell by more than is tolerated; measures of only one run
        are passed over.

        Args:
            tolerance: share of the earlier ratio.
        """
        return [
            Fall(
                workload=figure.workload,
                measure=figure.measure,
                before=before,
                now=figure.ratio.median,
            )
            for figure in figures
            if figure.higher_is_better
            and figure.ratio is not None
            and (before := self.ratios.get((figure.workload, figure.measure))) is not None
            and figure.ratio.median < before * (1 - tolerance)
        ]

    def shares(self, figures: Sequence[Figure]) -> bool:
        """True where there is anything to compare."""
        return any((figure.workload, figure.measure) in self.ratios for figure in figures)


def load(path: Path) -> Earlier:
    """The results of an earlier run.

    Raises:
        BenchError: the file cannot be read, or is none of ours.
    """
    try:
        found: Any = json.loads(path.read_text())
        return Earlier(
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


def better_of(first: Sequence[Figure], second: Sequence[Figure]) -> list[Figure]:
    """Return the metrics of the measurement with the higher ratio.

    A fall counts only if two measurements show it.
    """
    again = {figure.measure: figure for figure in second}
    return [_better(figure, again.get(figure.measure)) for figure in first]


def _better(first: Figure, second: Figure | None) -> Figure:
    if second is None or first.ratio is None or second.ratio is None or not first.higher_is_better:
        return first
    return max(first, second, key=lambda figure: figure.ratio.median if figure.ratio else 0.0)
