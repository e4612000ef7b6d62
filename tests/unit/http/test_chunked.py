import h11
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
    LenientChunkedReader,
)
from zerotrust.http.deviations import Deviation
from zerotrust.http.head_block import check_trailers

PLACES = st.lists(st.integers(0, 1 << 12), max_size=6)


def read(
    pieces: list[bytes], reader: ChunkedReader | None = None
) -> tuple[bytes, bytes, bytes | None]:
    """Return body, trailers and rest."""
    reader = reader or ChunkedReader()
    body, rest = b"", None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        found, rest = reader.feed(piece)
        body += found
    return body, reader.trailers, rest


def outcome(pieces: list[bytes], reader: ChunkedReader | None = None) -> object:
    try:
        return read(pieces, reader)
    except HttpError:
        return "refused"


def lenient(pieces: list[bytes]) -> tuple[object, set[Deviation]]:
    """Return the outcome of the lenient reader, and what it forgave."""
    forgiven: set[Deviation] = set()
    return outcome(pieces, LenientChunkedReader(lambda what, _: forgiven.add(what))), forgiven


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


# ---- the lenient reader

BARE_LF, PADDED = Deviation.BARE_LF, Deviation.PADDED_CHUNK_SIZE


@pytest.mark.parametrize(
    ("raw", "trailers", "forgiven"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"", set()),
        (b"5;a\r\nhello\r\n0\r\na: b\r\n\r\n", b"a: b\r\n", set()),
        (b"0005 \r\nhello\r\n0   \r\n\r\n", b"", {PADDED}),
        (b"5\t ;a \r\nhello\r\n0\r\n\r\n", b"", set()),
        (b"5\nhello\n0\n\n", b"", {BARE_LF}),
        (b"5 \nhello\r\n0\r\n\r\n", b"", {BARE_LF, PADDED}),
        (b"5\r\nhello\n0\r\n\r\n", b"", {BARE_LF}),
        (b"5\r\nhello\r\n0\r\n\n", b"", {BARE_LF}),
        (b"5\nhello\n0\na: b\nc: d\n\n", b"a: b\r\nc: d\r\n", {BARE_LF}),
        (b"5\r\nhello\r\n0\r\na: b\n\r\n", b"a: b\r\n", {BARE_LF}),
    ],
)
def test_the_lenient_reader_forgives(raw: bytes, trailers: bytes, forgiven: set[Deviation]) -> None:
    for step in (1, 2, 3, 100):
        pieces = cut(raw + b"rest", range(0, len(raw), step))
        assert lenient(pieces) == ((b"hello", trailers, b"rest"), forgiven)
    assert bool(forgiven) == (outcome([raw]) != (b"hello", trailers, b""))


@pytest.mark.parametrize(
    "raw",
    [
        b" 5\r\n",
        b"\n",
        b"0x5\r\n",
        b"5 5\r\n",
        b"5\r\r\n",
        b"5" + b" " * 257 + b"\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhello\r\r\n",
        b"5\r\nhello5\r\n",
        b"0\r\nno colon\n\n",
        b"0\r\na : b\r\n\r\n",
        b"0\r\na: b\n c\n\n",
        b"0\n" + b"a: b\n" * MAX_TRAILER_BYTES + b"\n",
    ],
)
def test_the_lenient_reader_refuses_what_has_no_clear_meaning(raw: bytes) -> None:
    for step in (1, 100, 1 << 20):
        assert lenient(cut(raw, range(0, len(raw), step)))[0] == "refused"


ODD = PIECES | st.sampled_from([b"5 ", b"5\n", b"5 \r\n", b"hello\n", b"0\n\n", b"0 \n", b"a: b\n"])


@given(st.lists(ODD | st.binary(max_size=4), max_size=12).map(b"".join), PLACES)
def test_splitting_the_input_changes_nothing_for_the_lenient_reader(
    raw: bytes, places: list[int]
) -> None:
    assert lenient(cut(raw, places)) == lenient([raw])


@given(st.lists(ODD, max_size=12).map(b"".join))
def test_the_lenient_reader_reads_a_complete_strict_body_alike(raw: bytes) -> None:
    strict = outcome([raw])
    if isinstance(strict, tuple) and strict[2] is not None:
        assert lenient([raw]) == (strict, set())


@given(st.lists(ODD, max_size=12).map(b"".join))
def test_what_the_lenient_reader_accepts_leaves_strict_and_with_the_same_meaning(
    raw: bytes,
) -> None:
    found, _ = lenient([raw])
    if not isinstance(found, tuple) or found[2] is None:
        return
    body, trailers, _ = found
    writer = ChunkedWriter()
    again = b"".join([*writer.write(body), *writer.end(trailers)])
    assert read([again]) == (body, trailers, b"")
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + again)
    events = [client.next_event() for _ in range(3 if body else 2)]
    assert b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data)) == body
    assert isinstance(events[-1], h11.EndOfMessage)
    assert len(events[-1].headers) == trailers.count(b"\r\n")
