"""Tests of zerotrust.http.hex_dump."""

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.http.hex_dump import hex_dump


def test_rows_show_place_bytes_and_text() -> None:
    assert hex_dump(b"hello\x00\xff<b>" + bytes(7)) == (
        "0000  68 65 6c 6c 6f 00 ff 3c 62 3e 00 00 00 00 00 00  hello..<b>......\n"
        "0010  00                                               ."
    )
    assert hex_dump(b"") == ""


@given(st.binary(max_size=100))
def test_no_byte_is_lost(data: bytes) -> None:
    shown = b"".join(bytes.fromhex(row[6:53]) for row in hex_dump(data).splitlines())
    assert shown == data
