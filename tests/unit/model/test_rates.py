"""Tests of zerotrust.model.rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.model.rates import parse_byte_rate, parse_byte_size, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1000/minute", (1000, 60)),
        ("10/s", (10, 1)),
        ("5 per hour", (5, 3600)),
        (" 7 / days ", (7, 86400)),
        ("1/MIN", (1, 60)),
        ("3/seconds", (3, 1)),
    ],
)
def test_requests(text: str, rate: tuple[int, int]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "10", "/s", "0/s", "-1/s", "1.5/s", "10/fortnight", "10/", "٣/s", "1" * 10 + "/s"]
)
def test_invalid_rates(text: str) -> None:
    with pytest.raises(ValueError, match="invalid rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10MB/s", 10_000_000),
        ("512KiB/s", 524_288),
        ("100Mbit/s", 12_500_000),
        ("8MBps", 8_000_000),
        ("8 mbit/s", 1_000_000),
        ("1MIB/S", 1_048_576),
        ("1.5 GB/sec", 1_500_000_000),
        ("2048B/s", 2048),
    ],
)
def test_bytes(text: str, rate: float) -> None:
    assert parse_byte_rate(text) == rate


@pytest.mark.parametrize("text", ["", "10", "10MB", "MB/s", "-1MB/s", "1PB/s", "10 apples/s"])
def test_invalid_byte_rates(text: str) -> None:
    with pytest.raises(ValueError, match="invalid rate"):
        parse_byte_rate(text)


@pytest.mark.parametrize(
    ("text", "hint"), [("8mbps", "8Mbit/s"), ("10kib/s", "10Kibit/s"), ("2048b/s", "2048bit/s")]
)
def test_a_small_b_is_refused(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f'ambiguous rate "{text}".*: use {hint} or '):
        parse_byte_rate(text)


def test_a_rate_that_is_too_low() -> None:
    with pytest.raises(ValueError, match="at least 1KiB/s"):
        parse_byte_rate("1023B/s")


@given(st.text(max_size=20))
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    for parse in (parse_rate, parse_byte_rate):
        try:
            assert parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10MB", 10_000_000),
        ("512 KiB", 524_288),
        ("4096", 4096),
        ("1.5g", 1_500_000_000),
        (" 7b ", 7),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_byte_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1iB", "10MB/s", "10 Mbit", "٣", "1e9", "1" * 13])
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        parse_byte_size(text)
