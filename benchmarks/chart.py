"""The ratios as a picture: one bar each with its range over the rounds, and a line where its
target is."""

from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.metrics import Figure

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


def draw(figures: Sequence[Figure]) -> str:
    """An SVG document: rates first, where more is better, then latencies, where less is."""
    parts: list[str] = []
    top = 10
    for title, higher in (
        ("ours / baseline: more is better", True),
        ("ours / baseline: less is better", False),
    ):
        rows = [
            figure
            for figure in figures
            if figure.ratio is not None and figure.higher_is_better is higher
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


def _group(title: str, figures: Sequence[Figure], top: int) -> list[str]:
    """A heading and a bar for each figure, all of one scale; the thin line is a ratio of 1."""
    scale = (_WIDTH - _LEFT - _RIGHT) / max(1.0, *(_extent(figure) for figure in figures))
    bottom = top + (len(figures) + 1) * _ROW
    one = _LEFT + scale
    parts = [
        f'<text class="t" x="10" y="{top + 15}">{escape(title)}</text>',
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{top + _ROW}" y2="{bottom}" stroke-width="0.5"/>',
    ]
    for number, figure in enumerate(figures, start=1):
        parts += _bar(figure, top + number * _ROW, scale)
    return parts


def _extent(figure: Figure) -> float:
    assert figure.ratio is not None
    return max(figure.ratio.most, figure.target.bound if figure.target else 0.0)


def _bar(figure: Figure, y: int, scale: float) -> list[str]:
    ratio = figure.ratio
    assert ratio is not None
    least, middle, most = (
        _LEFT + value * scale for value in (ratio.least, ratio.median, ratio.most)
    )
    parts = [
        (
            f'<text class="n" x="{_LEFT - 8}"'
            f' y="{y + 15}">{escape(f"{figure.workload}: {figure.measure}")}</text>'
        ),
        (
            f'<rect x="{_LEFT}" y="{y + 3}" width="{middle - _LEFT:.1f}" height="15"'
            f' fill="{_COLOURS[figure.is_met]}"/>'
        ),
        f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{y + 10.5}" y2="{y + 10.5}"/>',
        f'<text class="n" x="{_WIDTH - 8}" y="{y + 15}">{ratio.median:.2f}</text>',
    ]
    if figure.target is not None:
        at = _LEFT + figure.target.bound * scale
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y}" y2="{y + 21}" stroke-width="2"/>')
    return parts
