"""Tests of zerotrust.doctor.clock_offset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.doctor.clock_offset import date_ahead, judge_clock, zone_mistake


@pytest.mark.parametrize("ahead", [None, 0.0, 50.0, -59.9])
def test_small_differences_are_tolerated(ahead: float | None) -> None:
    assert [*judge_clock(ahead, whose="the server")] == []


@pytest.mark.parametrize(
    ("ahead", "level", "seen"),
    [
        (90.0, "warning", "90 seconds behind that of the server"),
        (-90.0, "warning", "90 seconds ahead of that of the server"),
        (600.0, "broken", "10 minutes behind that of the server"),
        (400000.0, "broken", "5 days behind that of the server"),
        (
            7205.0,
            "broken",
            "2.0 hours behind that of the server, about 2 hours: local time was set as UTC",
        ),
        (
            -19800.0,
            "broken",
            "5.5 hours ahead of that of the server, about 5.5 hours: local time was set as UTC",
        ),
    ],
)
def test_wrong_clocks(ahead: float, level: str, seen: str) -> None:
    (finding,) = judge_clock(ahead, whose="the server")
    assert (finding.level, finding.seen) == (level, seen)
    assert ("time zone" in finding.fix) == ("about" in seen)


@pytest.mark.parametrize(
    ("seconds", "zone"),
    [(3600, "1 hour"), (-1800, "0.5 hours"), (200, ""), (2700, ""), (15 * 3600, ""), (900, "")],
)
def test_offsets_of_time_zones(seconds: float, zone: str) -> None:
    assert zone_mistake(seconds) == zone


def test_date_fields() -> None:
    assert date_ahead("Thu, 01 Jan 1970 00:02:00 GMT", now=60.0) == 60.0
    for wrong in ("", "soon", "Thu, 01 Jan 9999 00:00:00 -9999", "Thu, 99 Jan 1970 00:00:00 GMT"):
        assert date_ahead(wrong, now=60.0) is None


@given(st.text())
def test_no_date_field_breaks_the_reader(field: str) -> None:
    date_ahead(field, now=0.0)


@given(st.floats(-1e12, 1e12))
def test_every_difference_has_words(ahead: float) -> None:
    assert len([*judge_clock(ahead, whose="x")]) == (abs(ahead) > 60)
