"""Tests of graphs: what an XML parser finds in them."""

import math
import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.server.dashboard.line_graph import (
    BOTTOM,
    TOP,
    WIDTH,
    Graph,
    Line,
    averages,
    round_up,
)

VALUES = st.lists(st.just(math.nan) | st.floats(0, 1e12), max_size=40)
NAME = "{http://www.w3.org/2000/svg}"


def graph(*lines: Line, title: str = "Requests", least_top: float = 0.0) -> Graph:
    return Graph("g", title, lines, lambda number: f"{number:g}", least_top=least_top)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


@given(VALUES, VALUES)
def test_every_line_lies_within_the_drawing(first: list[float], second: list[float]) -> None:
    root = parsed(str(graph(Line("a", first), Line("b", second)).svg))
    lines = [one for one in root.iter("path") if one.get("class") != "grid"]
    assert [one.get("class") for one in lines] == ["line first", "line second"]
    for line, values in zip(lines, (first, second), strict=True):
        found = points(line.get("d") or "")
        assert bool(found) == any(map(math.isfinite, values))
        assert all(0 <= x <= WIDTH + 1 and TOP <= y <= BOTTOM for x, y in found)


def test_a_line_has_a_gap_where_nothing_was_measured() -> None:
    svg = str(graph(Line("", [1.0, 1.0, math.nan, 2.0, math.nan])).svg)
    path = next(one for one in parsed(svg).iter("path") if one.get("class") == "line first")
    assert (path.get("d") or "").count("M") == 2
    assert points(path.get("d") or "")[-2:] == [(240, TOP), (241, TOP)]


def test_points_on_a_straight_level_are_left_out() -> None:
    svg = str(graph(Line("", [5.0] * 240)).svg)
    path = next(one for one in parsed(svg).iter("path") if one.get("class") == "line first")
    assert points(path.get("d") or "") == [(0, TOP), (WIDTH, TOP)]


def test_the_words_say_newest_and_highest() -> None:
    drawn = graph(Line("p50", [1.0, 3.0, 2.0]), Line("p99", [math.nan, 7.0, math.nan]))
    assert drawn.summary == "p50: 2 now, 3 at most; p99: no data now, 7 at most"
    assert graph(Line("", [])).summary == "no data"
    root = parsed(str(drawn.svg))
    assert root.get("role") == "img"
    texts = {one.get("id"): one.text for one in root if one.get("id")}
    assert texts == {"g-t": "Requests", "g-d": drawn.summary}
    assert root.get("aria-labelledby") == "g-t g-d"


def test_texts_are_escaped_and_nothing_has_inline_style() -> None:
    evil = '</title><script>alert(1)</script>"'
    drawn = Graph(
        "g", evil, [Line(evil, [1.0])], lambda _: evil, first=evil, last=evil, least_top=2.0
    )
    root = parsed(str(drawn.svg))
    assert not list(root.iter("script"))
    assert root.findtext("title") == evil
    assert not re.search(r"\sstyle=|\son[a-z]+=", str(drawn.svg).replace("&#34;", ""))


def test_the_scale_ends_at_a_round_number() -> None:
    assert graph(Line("", [0.0])).top == 1.0
    assert graph(Line("", [0.3])).top == 0.5
    assert graph(Line("", [0.3]), least_top=1.0).top == 1.0
    assert graph(Line("", [math.nan])).top == 1.0


@given(st.floats(1e-9, 1e15))
def test_the_next_round_number_is_at_most_five_halves_higher(value: float) -> None:
    top = round_up(value)
    assert value <= top <= 2.5 * value * (1 + 1e-9)


def test_averages_leave_out_what_was_not_measured() -> None:
    found = averages([1.0, 3.0, math.nan, 5.0, math.nan, math.nan], 2)
    assert found[:2] == [2.0, 5.0]
    assert math.isnan(found[2])
