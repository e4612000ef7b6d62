import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http.request_reader import cut
from zerotrust.errors import HttpError, LocalProtocolError
from zerotrust.http.body import (
    MAX_LENGTH,
    NO_BODY,
    CloseReader,
    Kind,
    LengthReader,
    reader_for,
    request_framing,
    response_framing,
    response_framing_fits,
    writer_for,
)
from zerotrust.http.head import parse_request, parse_response


@pytest.mark.parametrize(
    ("lines", "framing"),
    [
        (b"", NO_BODY),
        (b"Content-Length: 0\r\n", (Kind.LENGTH, 0)),
        (b"Content-Length: 5\r\n", (Kind.LENGTH, 5)),
        (b"Transfer-Encoding: chunked\r\n", (Kind.CHUNKED, 0)),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD", b"DELETE"])
def test_the_body_of_a_request(method: bytes, lines: bytes, framing: tuple[Kind, int]) -> None:
    head = parse_request(method + b" / HTTP/1.1\r\nHost: a.example\r\n" + lines + b"\r\n")
    assert request_framing(head.fields) == framing


@pytest.mark.parametrize(
    ("method", "status", "lines", "framing"),
    [
        (b"GET", 200, b"Content-Length: 5\r\n", (Kind.LENGTH, 5)),
        (b"GET", 200, b"Content-Length: 0\r\n", (Kind.LENGTH, 0)),
        (b"GET", 200, b"Transfer-Encoding: chunked\r\n", (Kind.CHUNKED, 0)),
        (b"GET", 200, b"", (Kind.CLOSE, 0)),
        (b"GET", 404, b"", (Kind.CLOSE, 0)),
        (b"HEAD", 200, b"Content-Length: 5\r\n", NO_BODY),
        (b"HEAD", 200, b"Transfer-Encoding: chunked\r\n", NO_BODY),
        (b"HEAD", 200, b"", NO_BODY),
        (b"GET", 304, b"Content-Length: 5\r\n", NO_BODY),
        (b"GET", 204, b"Content-Length: 5\r\n", NO_BODY),
        (b"GET", 204, b"Transfer-Encoding: chunked\r\n", NO_BODY),
        (b"GET", 100, b"", NO_BODY),
        (b"GET", 103, b"Content-Length: 5\r\n", NO_BODY),
        (b"GET", 101, b"Connection: Upgrade\r\nUpgrade: websocket\r\n", (Kind.TUNNEL, 0)),
    ],
)
def test_the_body_of_a_response(
    method: bytes, status: int, lines: bytes, framing: tuple[Kind, int]
) -> None:
    head = parse_response(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, lines))
    assert response_framing(method, head) == framing


def test_the_length_that_head_and_304_promise_is_kept() -> None:
    assert (
        parse_response(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").content_length
        == 5
    )
    assert parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").content_length == 5


def test_data_of_the_body_alone_is_not_copied() -> None:
    data = bytes(1000)
    reader = LengthReader(2000)
    assert reader.feed(data)[0] is data
    found, rest = reader.feed(data)
    assert found is data
    assert rest == b""


def test_a_length_may_end_within_the_data() -> None:
    reader = LengthReader(5)
    assert reader.feed(b"hel") == (b"hel", None)
    with pytest.raises(HttpError):
        reader.eof()
    assert reader.feed(b"loGET") == (b"lo", b"GET")
    reader.eof()


def test_without_a_body_all_data_is_rest() -> None:
    for kind, length in ((Kind.NONE, 7), (Kind.LENGTH, 0)):
        assert reader_for(kind, length).feed(b"GET") == (b"", b"GET")
        assert reader_for(kind, length).feed(b"") == (b"", b"")
        reader_for(kind, length).eof()


@pytest.mark.parametrize("kind", [Kind.CLOSE, Kind.TUNNEL])
def test_a_body_until_the_end_of_the_connection(kind: Kind) -> None:
    reader = reader_for(kind, 0)
    assert isinstance(reader, CloseReader)
    assert reader.feed(b"0\r\n\r\n") == (b"0\r\n\r\n", None)
    reader.eof()
    assert reader.trailers == b""


def test_a_wrong_length_raises() -> None:
    writer = writer_for(Kind.LENGTH, 5)
    assert writer.write(b"hel") == [b"hel"]
    assert writer.write(b"") == []
    assert not writer.complete
    with pytest.raises(LocalProtocolError):
        writer.write(b"loo")
    with pytest.raises(LocalProtocolError):
        writer.end()
    assert writer.write(b"lo") == [b"lo"]
    assert writer.complete
    assert writer.end(b"a: b\r\n") == []


def test_data_without_a_body_raises() -> None:
    writer = writer_for(Kind.NONE, 5)
    assert writer.complete
    assert writer.end() == []
    with pytest.raises(LocalProtocolError):
        writer.write(b"x")


def test_empty_data_makes_no_chunk() -> None:
    writer = writer_for(Kind.CHUNKED, 0)
    assert writer.write(b"") == []
    assert writer.write(bytes(26)) == [b"1a\r\n", bytes(26), b"\r\n"]
    assert not writer.complete
    assert writer.end(b"a: b\r\n") == [b"0\r\na: b\r\n\r\n"]
    assert writer.complete


@pytest.mark.parametrize("kind", [Kind.CLOSE, Kind.TUNNEL])
def test_close_writer_passes_bytes(kind: Kind) -> None:
    writer = writer_for(kind, 0)
    assert writer.write(b"x") == [b"x"]
    assert writer.write(b"") == []
    assert not writer.complete
    assert writer.end(b"a: b\r\n") == []
    assert writer.complete


@pytest.mark.parametrize("kind", [Kind.CHUNKED, Kind.CLOSE])
def test_nothing_is_written_after_the_end(kind: Kind) -> None:
    writer = writer_for(kind, 0)
    writer.end()
    with pytest.raises(LocalProtocolError):
        writer.write(b"x")


def test_a_second_end_raises() -> None:
    writer = writer_for(Kind.CHUNKED, 0)
    writer.end()
    with pytest.raises(LocalProtocolError):
        writer.end()


@given(
    st.sampled_from([Kind.LENGTH, Kind.CHUNKED, Kind.CLOSE, Kind.TUNNEL]),
    st.lists(st.binary(max_size=40)),
    st.lists(st.integers(0, 1000), max_size=5),
)
def test_a_reader_undoes_its_writer(kind: Kind, parts: list[bytes], places: list[int]) -> None:
    length = sum(map(len, parts))
    writer, reader = writer_for(kind, length), reader_for(kind, length)
    raw = b"".join(piece for part in parts for piece in writer.write(part)) + b"".join(writer.end())
    body, rest = b"", None
    for piece in cut(raw, places) or [b""]:
        found, rest = reader.feed(piece)
        body += found
    assert body == b"".join(parts)
    assert rest == (b"" if kind in (Kind.LENGTH, Kind.CHUNKED) else None)
    assert writer.complete


@pytest.mark.parametrize(
    ("method", "status", "kind", "length", "announce", "fits"),
    [
        (b"GET", 200, Kind.LENGTH, 5, False, True),
        (b"GET", 200, Kind.LENGTH, 0, False, True),
        (b"GET", 200, Kind.LENGTH, -1, False, False),
        (b"GET", 200, Kind.LENGTH, MAX_LENGTH, False, True),
        (b"GET", 200, Kind.LENGTH, MAX_LENGTH + 1, False, False),
        (b"GET", 200, Kind.LENGTH, 5, True, False),
        (b"GET", 200, Kind.CHUNKED, 0, False, True),
        (b"GET", 200, Kind.CHUNKED, 5, False, False),
        (b"GET", 200, Kind.CHUNKED, 0, True, False),
        (b"GET", 200, Kind.NONE, 0, False, False),
        (b"GET", 200, Kind.CLOSE, 0, False, False),
        (b"GET", 200, Kind.TUNNEL, 0, False, False),
        (b"GET", 101, Kind.TUNNEL, 0, False, True),
        (b"GET", 101, Kind.TUNNEL, 5, False, False),
        (b"GET", 101, Kind.TUNNEL, 0, True, False),
        (b"GET", 101, Kind.NONE, 0, False, False),
        (b"HEAD", 200, Kind.NONE, 0, False, True),
        (b"HEAD", 200, Kind.NONE, 5, True, True),
        (b"HEAD", 200, Kind.NONE, 5, False, False),
        (b"HEAD", 200, Kind.LENGTH, 5, False, False),
        (b"HEAD", 204, Kind.NONE, 5, True, False),
        (b"GET", 304, Kind.NONE, 5, True, True),
        (b"GET", 304, Kind.LENGTH, 5, False, False),
        (b"GET", 204, Kind.NONE, 0, False, True),
        (b"GET", 204, Kind.NONE, 0, True, False),
        (b"GET", 103, Kind.NONE, 0, False, True),
        (b"GET", 103, Kind.NONE, 0, True, False),
        (b"GET", 103, Kind.CHUNKED, 0, False, False),
    ],
)
def test_a_framing_fits_only_what_the_client_expects(
    method: bytes, status: int, kind: Kind, length: int, announce: bool, fits: bool
) -> None:
    assert response_framing_fits(method, status, kind, length, announce=announce) is fits
