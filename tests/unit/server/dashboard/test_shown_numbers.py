"""Tests of numbers in words."""

import math

import pytest

from zerotrust.server.dashboard import shown_numbers as shown


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (shown.count(1234), "1,234"),
        (shown.rate(0), "0/s"),
        (shown.rate(0.0123), "0.012/s"),
        (shown.rate(0.26), "0.3/s"),
        (shown.rate(12.6), "13/s"),
        (shown.share(0.005), "0.5 %"),
        (shown.share(1), "100 %"),
        (shown.size(0), "0 B"),
        (shown.size(999), "999 B"),
        (shown.size(999.6), "1.0 kB"),
        (shown.size(12_345_678), "12 MB"),
        (shown.size(1e19), "10,000 PB"),
        (shown.byte_rate(1500), "1.5 kB/s"),
        (shown.duration(0.0123), "12 ms"),
        (shown.duration(0.9999), "1.0 s"),
        (shown.duration(42), "42 s"),
        (shown.duration(59.99), "1 min"),
        (shown.duration(3600 * 3 + 125), "3 h 2 min"),
        (shown.duration(3 * 86400), "3 days"),
        (shown.counted(1), "1 connection"),
        (shown.counted(1200), "1,200 connections"),
    ],
)
def test_a_number_has_few_digits_and_a_unit(words: str, wanted: str) -> None:
    assert words == wanted


def test_a_number_that_was_not_measured() -> None:
    for show in (
        shown.count,
        shown.rate,
        shown.share,
        shown.size,
        shown.byte_rate,
        shown.duration,
    ):
        assert show(math.nan) == "no data"


def test_a_time_has_seconds() -> None:
    wanted = '<time datetime="2027-01-15T08:00:05Z" data-seconds>08:00:05 UTC</time>'
    assert str(shown.clock(1_800_000_005.6)) == wanted
