"""Tests of zerotrust.routing.value_pattern."""

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.routing.value_pattern import ValuePattern

TEXTS = st.text("ab*", max_size=3).map(str.encode)


@given(TEXTS, st.lists(TEXTS, max_size=6).map(sorted))
def test_sorted_values_are_compared_without_looking_at_each(
    text: bytes, values: list[bytes]
) -> None:
    def fits(value: bytes) -> bool:
        return value.startswith(text[:-1]) if text.endswith(b"*") else value == text

    pattern = ValuePattern(text)
    assert pattern.fits_any(values) is any(map(fits, values))
    if values:
        assert pattern.fits_all(values) is all(map(fits, values))
