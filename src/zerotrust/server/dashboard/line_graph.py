"""Graphs as SVG, drawn by the server: numbers in, text out.

The graphs have classes and no inline style, as the pages' Content-Security-Policy asks for. Each
has a title and a description in words. The second line is dashed, so no colour is needed to read
it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

WIDTH: Final = 320
HEIGHT: Final = 110
LEFT: Final = 2
TOP: Final = 16
BOTTOM: Final = 94
"""Units of the drawing; the lines are between TOP and BOTTOM."""
_LEAST: Final = 1e-9
_MARKS: Final = (1.0, 2.0, 5.0, 10.0)
_CLASSES: Final = ("first", "second")

Show = Callable[[float], str]
"""Writes a number with its unit."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a graph.

    Attributes:
        name: empty if the graph has one line.
        values: oldest first, at the same distances; NaN where nothing was measured.
    """

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph of one measure.

    Attributes:
        key: letters for ids and addresses; each graph of a page has another.
        lines: one or two.
        show: writes a number of the graph.
        first, last: the times at both ends of the axis, in words.
        least_top: the scale ends here or above.
    """

    key: str
    title: str
    lines: Sequence[Line]
    show: Show
    first: str = "1 hour ago"
    last: str = "now"
    least_top: float = 0.0

    @property
    def summary(self) -> str:
        """Newest and highest number of each line, in words."""
        return "; ".join(map(self.words, self.lines))

    @property
    def svg(self) -> Markup:
        """The drawing."""
        top = self.top
        values = [value for line in self.lines for value in line.values if math.isfinite(value)]
        label = self.show(top) if values else "no data"
        paths = Markup("").join(
            Markup('<path class="line {}" d="{}"/>').format(name, _path(line.values, top))
            for name, line in zip(_CLASSES, self.lines, strict=False)
        )
        middle = (TOP + BOTTOM) // 2
        return Markup(
            '<svg class="graph" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{key}-t {key}-d">'
            '<title id="{key}-t">{title}</title><desc id="{key}-d">{summary}</desc>'
            '<path class="grid" d="M0 {top}H{w}M0 {middle}H{w}M0 {bottom}H{w}"/>{paths}'
            '<text x="{left}" y="{label_y}">{label}</text>'
            '<text x="{left}" y="{low_y}">{first}</text>'
            '<text class="end" x="{right}" y="{low_y}">{last}</text></svg>'
        ).format(
            w=WIDTH,
            h=HEIGHT,
            key=self.key,
            title=self.title,
            summary=self.summary,
            top=TOP,
            middle=middle,
            bottom=BOTTOM,
            paths=paths,
            left=LEFT,
            label_y=TOP - 4,
            label=label,
            low_y=HEIGHT - 4,
            first=self.first,
            right=WIDTH - LEFT,
            last=self.last,
        )

    @property
    def top(self) -> float:
        """The end of the scale."""
        values = [value for line in self.lines for value in line.values if math.isfinite(value)]
        return max(self.least_top, round_up(max(values, default=0.0)))

    def words(self, line: Line) -> str:
        """Return the newest and the highest number of a line, in words."""
        begin = f"{line.name}: " if line.name else ""
        known = [value for value in line.values if math.isfinite(value)]
        if not known:
            return f"{begin}no data"
        now = line.values[-1]
        newest = self.show(now) if math.isfinite(now) else "no data"
        return f"{begin}{newest} now, {self.show(max(known))} at most"


def round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, … at or above a number, also below 1; 1 for nothing."""
    if value < _LEAST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((mark * power for mark in _MARKS if mark * power >= value), 10.0 * power)


def averages(values: Sequence[float], count: int) -> list[float]:
    """Return the average of each `count` numbers; NaN where none of them was measured."""
    found = []
    for first in range(0, len(values), count):
        known = [value for value in values[first : first + count] if math.isfinite(value)]
        found.append(sum(known) / len(known) if known else math.nan)
    return found


def _path(values: Sequence[float], top: float) -> str:
    """Return the path of a line; it has a gap where nothing was measured."""
    step = WIDTH / max(1, len(values) - 1)
    return "".join(
        _piece([(index * step, _height(values[index], top)) for index in piece])
        for piece in _pieces(values)
    )


def _pieces(values: Sequence[float]) -> Iterator[list[int]]:
    """Yield the places of numbers that stand together."""
    piece: list[int] = []
    for index, value in enumerate(values):
        if math.isfinite(value):
            piece.append(index)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _piece(points: list[tuple[float, float]]) -> str:
    """Return a stretch of a line; one point alone is a short one, else it would be invisible."""
    if len(points) == 1:
        points = [points[0], (points[0][0] + 1, points[0][1])]
    kept = [
        point
        for before, point, after in zip(points, points[1:], points[2:], strict=False)
        if not before[1] == point[1] == after[1]
    ]
    drawn = [points[0], *kept, points[-1]]
    return "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in drawn)


def _height(value: float, top: float) -> float:
    share = min(1.0, max(0.0, value / top))
    return BOTTOM - share * (BOTTOM - TOP)


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
