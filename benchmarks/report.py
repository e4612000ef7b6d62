"""Results of a run: a table for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.metrics import Metric, Spread
from zerotrust.errors import BenchError

LATEST: Final = "latest.json"
CHART: Final = "ratios.svg"
_PIPE_WIDTH: Final = 130
"""Width of the table in a pipe, which has none of its own; 80 columns are too few."""


def console() -> Console:
    """Return the console that all output goes to."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def show(console: Console, metrics: Sequence[Metric]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("workload")
    for heading in ("ours", "baseline", "ratio", "min to max", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    named = ""
    for metric in metrics:
        if metric.workload != named:
            named = metric.workload
            table.add_row(Text(named, style="bold"))
        table.add_row(*_row(metric))
    console.print(table)


def document(
    metrics: Sequence[Metric], *, settings: Mapping[str, object], machine: Mapping[str, object]
) -> Any:
    """Return the content of the JSON file."""
    return {
        "settings": dict(settings),
        "machine": dict(machine),
        "workloads": [_json(metric) for metric in metrics],
    }


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file of the results.

    Raises:
        BenchError: the file cannot be written.
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
    """Encode JSON for files that are compared and committed."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def number(value: float) -> str:
    """Format three significant digits, or all digits of a large number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _row(metric: Metric) -> list[Text]:
    unit = "" if metric.unit == "/s" else f" {metric.unit}"
    ratio = metric.ratio
    judged = {True: Text("met", "green"), False: Text("not met", "bold red"), None: Text("")}[
        metric.is_met
    ]
    span = ratio or metric.ours
    others = "".join(
        f"\n    {name}: {number(value)}{unit}" for name, value in metric.others.items()
    )
    return [
        Text(f"  {metric.measure}{others}"),
        Text(number(metric.ours.median) + unit),
        Text(number(metric.baseline.median) + unit if metric.baseline else ""),
        Text(f"{ratio.median:.2f}" if ratio else "", "bold"),
        Text(f"{number(span.least)} to {number(span.most)}"),
        Text(str(metric.threshold) if metric.threshold else ""),
        judged,
    ]


def _json(metric: Metric) -> dict[str, object]:
    return {
        "workload": metric.workload,
        "measure": metric.measure,
        "unit": metric.unit,
        "ratio": _median(metric.ratio),
        "ours": _median(metric.ours),
        "baseline": _median(metric.baseline),
        "spread": {
            name: [_rounded(spread.least), _rounded(spread.most)]
            for name, spread in (
                ("ratio", metric.ratio),
                ("ours", metric.ours),
                ("baseline", metric.baseline),
            )
            if spread is not None
        },
        "higher_is_better": metric.higher_is_better,
        "target": str(metric.threshold) if metric.threshold else None,
        "is_met": metric.is_met,
        "others": {name: _rounded(value) for name, value in metric.others.items()},
    }


def _median(spread: Spread | None) -> float | None:
    return None if spread is None else _rounded(spread.median)


def _rounded(value: float) -> float:
    """Round to four digits: further ones are noise in a diff."""
    return float(f"{value:.4g}")
