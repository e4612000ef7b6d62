import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http.request_reader import cut
from zerotrust.errors import HttpError
from zerotrust.http.body import ChunkedWriter
from zerotrust.http.chunked import (
    MAX_EXTENSION_BYTES,
    MAX_EXTENSIONS_BYTES,
    MAX_TRAILER_BYTES,
    ChunkedReader,
)
from zerotrust.http.head_block import check_trailers

PLACES = st.lists(st.integers(0, 1 << 12), max_size=6)


def read(pieces: list[bytes]) -> tuple[bytes, bytes, bytes | None]:
    """Return body, trailers and rest."""
    reader = ChunkedReader()
    body, rest = b"", None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        found, rest = reader.feed(piece)
        body += found
    return body, reader.trailers, rest


def outcome(pieces: list[bytes]) -> object:
    try:
        return read(pieces)
    except HttpError:
        return "refused"


def test_chunks_are_joined() -> None:
    raw = b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello, world") + b"0\r\n\r\nrest"
    assert ChunkedReader().feed(raw) == (b"hello, world", b"rest")


def test_data_inside_a_chunk_is_not_copied() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"100\r\n") == (b"", None)
    data = bytes(0x100)
    assert reader.feed(data)[0] is data
    assert reader.feed(b"\r\n0\r\n\r\n") == (b"", b"")


def test_extensions_are_dropped() -> None:
    assert read([b'5;a=b;c="d e"\r\nhello\r\n0 \t;x\r\n\r\n']) == (b"hello", b"", b"")


def test_extensions_are_bounded() -> None:
    fits = b"1;" + b"x" * (MAX_EXTENSION_BYTES - 1) + b"\r\na\r\n"
    assert read([fits])[0] == b"a"
    assert outcome([fits.replace(b";", b";x")]) == "refused"
    assert outcome([b"1;" + b"x" * 1000]) == "refused"
    assert outcome([fits * (MAX_EXTENSIONS_BYTES // MAX_EXTENSION_BYTES)]) != "refused"
    assert outcome([fits * (MAX_EXTENSIONS_BYTES // MAX_EXTENSION_BYTES + 1)]) == "refused"


def test_the_largest_size() -> None:
    assert outcome([b"7FFFFFFFFFFFFFFF\r\n"]) == (b"", b"", None)
    assert outcome([b"8000000000000000\r\n"]) == "refused"
    assert outcome([b"0" * 17]) == "refused"


def test_trailers_are_canonical_and_filtered() -> None:
    forbidden = (
        b"content-length: 1\r\nHost: x\r\nX-0Trust-User: x\r\nX-Real-IP: x\r\nSET-COOKIE: x\r\nTE:"
        b" x\r\n"
    )
    forbidden += (
        b"X_Real_IP: x\r\nstrict-transport-security: x\r\nAccess_Control_Allow-Origin:"
        b" *\r\nX-Original-URL: /\r\n"
    )
    _, trailers, rest = read([b"0\r\n" + forbidden + b"Grpc-Status:0 \r\nx-a: \xe9\r\n\r\nrest"])
    assert trailers == b"Grpc-Status: 0\r\nx-a: \xe9\r\n"
    assert rest == b"rest"
    assert check_trailers(trailers)


def test_trailers_are_bounded() -> None:
    fits = b"a: " + b"b" * (MAX_TRAILER_BYTES - 5) + b"\r\n"
    for step in (1, 1000, 1 << 20):
        for line, expected in ((fits, fits), (b"b" + fits, None)):
            raw = b"0\r\n" + line + b"\r\n"
            result = outcome(cut(raw, range(0, len(raw), step)))
            assert result == ((b"", expected, b"") if expected else "refused")


@pytest.mark.parametrize(
    "lines", [b"a: b\nc: d", b"a : b", b" a: b", b"a: b\r\n c", b"a", b": b", b"a: \0", b"\n"]
)
def test_bad_trailers_are_refused(lines: bytes) -> None:
    assert outcome([b"0\r\n" + lines + b"\r\n\r\n"]) == "refused"


@pytest.mark.parametrize(
    "begun",
    [b"", b"5", b"5\r", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r", b"0\r\n", b"0\r\na: b\r\n"],
)
def test_an_incomplete_body_is_refused(begun: bytes) -> None:
    reader = ChunkedReader()
    assert reader.feed(begun)[1] is None
    with pytest.raises(HttpError):
        reader.eof()


PIECES = st.sampled_from(
    [b"5", b"0", b"\r\n", b"\r", b"\n", b";a", b"hello", b"a: b", b" ", b"fffffffff", b"0\r\n\r\n"]
)


@given(st.lists(PIECES | st.binary(max_size=4), max_size=12).map(b"".join), PLACES)
def test_splitting_the_input_changes_nothing(raw: bytes, places: list[int]) -> None:
    assert outcome(cut(raw, places)) == outcome([raw])


@given(
    st.lists(st.binary(max_size=300)),
    st.sampled_from([b"", b"a: b\r\n"]),
    st.binary(max_size=9),
    PLACES,
)
def test_the_reader_reverses_the_writer(
    chunks: list[bytes], trailers: bytes, rest: bytes, places: list[int]
) -> None:
    writer = ChunkedWriter()
    raw = b"".join(part for chunk in chunks for part in writer.write(chunk)) + b"".join(
        writer.end(trailers)
    )
    assert read(cut(raw + rest, places)) == (b"".join(chunks), trailers, rest)
