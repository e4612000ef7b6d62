"""Results of a run: a table for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.metrics import Figure, Spread
from zerotrust.errors import BenchError

LATEST: Final = "latest.json"
CHART: Final = "ratios.svg"
_PIPE_WIDTH: Final = 130
"""A pipe has no width of its own, and this table is none in the 80 columns that are taken
instead."""


def console() -> Console:
    """Return the console that all output goes to."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def show(console: Console, figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("workload")
    for heading in ("ours", "baseline", "ratio", "min to max", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    named = ""
    for figure in figures:
        if figure.workload != named:
            named = figure.workload
            table.add_row(Text(named, style="bold"))
        table.add_row(*_row(figure))
    console.print(table)


def document(
    figures: Sequence[Figure], *, settings: Mapping[str, object], machine: Mapping[str, object]
) -> Any:
    """Everything, as it is written to the JSON file."""
    return {
        "settings": dict(settings),
        "machine": dict(machine),
        "workloads": [_json(figure) for figure in figures],
    }


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file of the results.

    Raises:
        BenchError: it cannot be written.
    """
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise BenchError(
            f"{path}: cannot be written: {error.strerror}; choose another folder with --out"
        ) from error
    return path


def encode(found: Any) -> str:
    """JSON for files that are compared and committed."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def number(value: float) -> str:
    """Three digits that count, or all of a whole number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _row(figure: Figure) -> list[Text]:
    unit = "" if figure.unit == "/s" else f" {figure.unit}"
    ratio = figure.ratio
    judged = {True: Text("met", "green"), False: Text("not met", "bold red"), None: Text("")}[
        figure.is_met
    ]
    span = ratio or figure.ours
    others = "".join(
        f"\n    {name}: {number(value)}{unit}" for name, value in figure.others.items()
    )
    return [
        Text(f"  {figure.measure}{others}"),
        Text(number(figure.ours.median) + unit),
        Text(number(figure.baseline.median) + unit if figure.baseline else ""),
        Text(f"{ratio.median:.2f}" if ratio else "", "bold"),
        Text(f"{number(span.least)} to {number(span.most)}"),
        Text(str(figure.target) if figure.target else ""),
        judged,
    ]


def _json(figure: Figure) -> dict[str, object]:
    return {
        "workload": figure.workload,
        "measure": figure.measure,
        "unit": figure.unit,
        "ratio": _median(figure.ratio),
        "ours": _median(figure.ours),
        "baseline": _median(figure.baseline),
        "spread": {
            name: [_rounded(spread.least), _rounded(spread.most)]
            for name, spread in (
                ("ratio", figure.ratio),
                ("ours", figure.ours),
                ("baseline", figure.baseline),
            )
            if spread is not None
        },
        "higher_is_better": figure.higher_is_better,
        "target": str(figure.target) if figure.target else None,
        "is_met": figure.is_met,
        "others": {name: _rounded(value) for name, value in figure.others.items()},
    }


def _median(spread: Spread | None) -> float | None:
    return None if spread is None else _rounded(spread.median)


def _rounded(value: float) -> float:
    """Digits beyond the fourth are noise that would fill a diff."""
    return float(f"{value:.4g}")
