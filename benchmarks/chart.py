"""Chart of the ratios: a bar with its range over the rounds, and a line at the target."""

from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.metrics import Metric

_WIDTH: Final = 1000
_LEFT: Final = 560
"""Left edge of the bars; the names end there."""
_RIGHT: Final = 70
_ROW: Final = 22
_COLOURS: Final = {True: "#2e8b57", False: "#c0392b", None: "#7f8c8d"}
_STYLE: Final = (
    "text{font:12px"
    " system-ui,sans-serif;fill:#222}.t{font-weight:bold}line{stroke:#222}.n{text-anchor:end}"
)


def draw(metrics: Sequence[Metric]) -> str:
    """Return an SVG document: first rates, where more is better, then latencies."""
    parts: list[str] = []
    top = 10
    for title, higher in (
        ("ours / baseline: more is better", True),
        ("ours / baseline: less is better", False),
    ):
        rows = [
            metric
            for metric in metrics
            if metric.ratio is not None and metric.higher_is_better is higher
        ]
        if rows:
            parts += _group(title, rows, top)
            top += (len(rows) + 2) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}"'
        f' height="{top}"><style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _group(title: str, metrics: Sequence[Metric], top: int) -> list[str]:
    """Return a heading and bars on one scale; the thin line marks a ratio of 1."""
    scale = (_WIDTH - _LEFT - _RIGHT) / max(1.0, *(_extent(metric) for metric in metrics))
    bottom = top + (len(metrics) + 1) * _ROW
    one = _LEFT + scale
    parts = [
        f'<text class="t" x="10" y="{top + 15}">{escape(title)}</text>',
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{top + _ROW}" y2="{bottom}" stroke-width="0.5"/>',
    ]
    for number, metric in enumerate(metrics, start=1):
        parts += _bar(metric, top + number * _ROW, scale)
    return parts


def _extent(metric: Metric) -> float:
    assert metric.ratio is not None
    return max(metric.ratio.most, metric.threshold.bound if metric.threshold else 0.0)


def _bar(metric: Metric, y: int, scale: float) -> list[str]:
    ratio = metric.ratio
    assert ratio is not None
    least, middle, most = (
        _LEFT + value * scale for value in (ratio.least, ratio.median, ratio.most)
    )
    parts = [
        (
            f'<text class="n" x="{_LEFT - 8}"'
            f' y="{y + 15}">{escape(f"{metric.workload}: {metric.measure}")}</text>'
        ),
        (
            f'<rect x="{_LEFT}" y="{y + 3}" width="{middle - _LEFT:.1f}" height="15"'
            f' fill="{_COLOURS[metric.is_met]}"/>'
        ),
        f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{y + 10.5}" y2="{y + 10.5}"/>',
        f'<text class="n" x="{_WIDTH - 8}" y="{y + 15}">{ratio.median:.2f}</text>',
    ]
    if metric.threshold is not None:
        at = _LEFT + metric.threshold.bound * scale
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y}" y2="{y + 21}" stroke-width="2"/>')
    return parts
