"""Tests of zerotrust.routing.percent_encoding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.routing.percent_encoding import OTHER_CODES, decode_overlong, decode_wide


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"%u0041%41", b"AA"),
        (b"%U0041%u004", b"%U0041%u004"),
        (b"%u00fC%u20ac", "ü€".encode()),
        (b"%ud83d", b"\xed\xa0\xbd"),
        (b"%25u0041", b"%u0041"),
    ],
)
def test_wide(text: bytes, expected: bytes) -> None:
    assert decode_wide(text) == expected


def overlong(code: int, length: int) -> bytes:
    """Return a character in so many bytes."""
    first = (0xFF00 >> length) & 0xFF | code >> 6 * (length - 1)
    return bytes([first, *(0x80 | code >> 6 * i & 0x3F for i in reversed(range(length - 1)))])


@given(st.integers(0, 0x7F), st.integers(2, 6))
def test_overlong(code: int, length: int) -> None:
    written = overlong(code, length)
    assert OTHER_CODES.fullmatch(written)
    escaped = "".join(f"%{byte:02x}" for byte in written).encode()
    assert decode_overlong(b"x" + written + escaped) == b"x" + bytes([code]) * 2


@given(st.text())
def test_utf_8_and_percent_encoding_are_no_other_codes(text: str) -> None:
    written = text.encode().replace(b"%", b"")
    assert OTHER_CODES.search(written + b"%41%") is None
    assert decode_overlong(written) == decode_wide(written) == written


@given(st.binary())
def test_any_bytes_are_decoded(text: bytes) -> None:
    if OTHER_CODES.search(text + b"%") is None:
        assert decode_overlong(text) == decode_wide(text)
