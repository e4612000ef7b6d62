"""Tests of benchmarks.metrics."""

import pytest

from benchmarks.metrics import Spread, alone, at_least, at_most, compare, ratios


def test_the_spread_is_median_least_and_most() -> None:
    assert Spread.of([5.0, 1.0, 3.0]) == Spread(median=3.0, least=1.0, most=5.0)
    assert Spread.of([4.0, 2.0]) == Spread(median=3.0, least=2.0, most=4.0)


def test_ratios_are_of_the_same_round() -> None:
    # The machine was half as fast in the second round: that is not a difference between the two.
    metric = compare(
        "w",
        "m",
        "/s",
        ours=[50.0, 25.0, 60.0],
        baseline=[100.0, 50.0, 100.0],
        others={"x": [1.0, 3.0]},
    )
    assert metric.ratio == Spread(median=0.5, least=0.5, most=0.6)
    assert metric.ours.median == 50.0
    assert metric.others == {"x": 2.0}


def test_rounds_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_a_baseline_of_nothing_has_no_ratio() -> None:
    assert compare("w", "m", "/s", ours=[1.0], baseline=[0.0]).ratio is None


def test_a_target_is_about_the_ratio_where_there_is_one() -> None:
    metric = compare("w", "m", "/s", ours=[70.0], baseline=[100.0])
    assert metric.is_met is None
    for threshold, is_met in (
        (at_least(0.7), True),
        (at_least(0.71), False),
        (at_most(0.7), True),
        (at_most(0.69), False),
    ):
        assert threshold.is_met(metric.judged) is is_met
    assert alone("w", "m", "µs", [39.0, 41.0, 50.0]).judged == 41.0


def test_a_target_in_words() -> None:
    assert (str(at_least(0.7)), str(at_most(40))) == ("≥ 0.7", "≤ 40")
