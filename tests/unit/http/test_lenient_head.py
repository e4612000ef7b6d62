"""Tests of zerotrust.http.lenient_head."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.errors import HttpError
from zerotrust.http.body import Kind, response_framing
from zerotrust.http.deviations import Deviation
from zerotrust.http.head import (
    MAX_RESPONSE_FIELDS,
    MAX_RESPONSE_HEAD_BYTES,
    ResponseHead,
    parse_response,
)
from zerotrust.http.head_block import check_response_block, response_block, response_framing_lines
from zerotrust.http.lenient_head import read_response_head

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def read(raw: bytes, *, searched: int = 0) -> tuple[int, ResponseHead | None, dict[Deviation, str]]:
    """Return the end of the head, the head, and what was forgiven."""
    forgiven: dict[Deviation, str] = {}
    end, head = read_response_head(raw, searched, forgiven.__setitem__)
    return end, head, forgiven


def whole(raw: bytes) -> tuple[ResponseHead, list[Deviation]]:
    """Return a complete head, and its deviations."""
    end, head, forgiven = read(raw + b"body\r\n\r\n")
    assert head is not None and end == len(raw)
    return head, list(forgiven)


def meaning(head: ResponseHead) -> tuple[object, ...]:
    return (
        head.status,
        head.reason,
        head.minor,
        head.lines,
        head.content_length,
        head.chunked,
        head.keep_alive,
        head.upgrade,
        head.announces_body,
    )


@pytest.mark.parametrize(
    ("raw", "strict", "deviation"),
    [
        (b"HTTP/1.1 200 OK\nX: a\n" + FIVE + b"\n", OK + b"X: a\r\n" + FIVE, "BARE_LF"),
        (b"HTTP/1.0 200 OK\nX: a\n\n", b"HTTP/1.0 200 OK\r\nX: a\r\n", "BARE_LF"),
        (OK + b"X: a\r\n\n", OK + b"X: a\r\n", "BARE_LF"),
        (b"HTTP/1.1 200\n\n", b"HTTP/1.1 200\r\n", "BARE_LF"),
        (b"HTTP/1.1  200 OK\r\n\r\n", OK, "STATUS_LINE"),
        (b"HTTP/1.1 200\tOK\r\n\r\n", OK, "STATUS_LINE"),
        (b"HTTP/1.2 200 OK\r\n\r\n", OK, "VERSION"),
        (b"HTTP/2.0 200\r\n\r\n", b"HTTP/1.1 200\r\n", "VERSION"),
        (OK + b"X: a\r\n b\r\n\t c\r\n\r\n", OK + b"X: a b c\r\n", "FOLDED_FIELD"),
        (OK + b"X:\r\n a\r\n \r\n\r\n", OK + b"X: a\r\n", "FOLDED_FIELD"),
        (OK + b"Content-Length:\r\n 5\r\n\r\n", OK + FIVE, "FOLDED_FIELD"),
        (OK + b"X \t: a\r\n\r\n", OK + b"X: a\r\n", "BLANK_BEFORE_COLON"),
        (OK + b"Content-Length : 5\r\n\r\n", OK + FIVE, "BLANK_BEFORE_COLON"),
        (OK + b"X Y: a\r\nZ: b\r\n\r\n", OK + b"Z: b\r\n", "NO_FIELD"),
        (OK + b"nonsense\r\nZ: b\r\n\r\n", OK + b"Z: b\r\n", "NO_FIELD"),
        (OK + b": a\r\nZ: b\r\n\r\n", OK + b"Z: b\r\n", "NO_FIELD"),
        (OK + b" X: a\r\nZ: b\r\n\r\n", OK + b"Z: b\r\n", "NO_FIELD"),
        (OK + FIVE + b"X: a\r\n" + FIVE + b"\r\n", OK + b"X: a\r\n" + FIVE, "REPEATED_LENGTH"),
        (OK + b"content-length: 5 , 5,5\r\n\r\n", OK + FIVE, "REPEATED_LENGTH"),
        (OK + FIVE + CHUNKED + b"\r\n", OK + CHUNKED + b"Connection: close\r\n", "TWO_FRAMINGS"),
        (
            OK + b"Content-Length: x\r\n" + CHUNKED + b"\r\n",
            OK + CHUNKED + b"Connection: close\r\n",
            "TWO_FRAMINGS",
        ),
        (OK + b"Transfer-Encoding: Identity\r\n" + FIVE + b"\r\n", OK + FIVE, "IDENTITY"),
        (OK + b"transfer-encoding: identity\r\n\r\n", OK, "IDENTITY"),
    ],
)
def test_what_has_one_meaning_is_repaired(raw: bytes, strict: bytes, deviation: str) -> None:
    with pytest.raises(HttpError):
        read_response_head(raw, 0, None)
    head, deviations = whole(raw)
    assert meaning(head) == meaning(parse_response(strict + b"\r\n"))
    assert deviations == [Deviation[deviation]]


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n" + OK + b"\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"<html>\n\n",
        b"HTTP/1.1 99 X\r\n\r\n",
        b"HTTP/1.1 2000 X\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        OK + b"X: a\rb\r\n\r\n",
        OK + b"X: a\0b\r\n\r\n",
        OK + FIVE + b"Content-Length: 6\r\n\r\n",
        OK + FIVE + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n",
        OK + b"Content-Length: 5, 6\r\n\r\n",
        OK + b"Content-Length: 5,\r\n\r\n",
        OK + b"Content-Length:\r\n\r\n",
        OK + b"Content-Length: +5\r\n\r\n",
        OK + b"Content-Length: +5, +5\r\n\r\n",
        OK + b"Content-Length: 5\r\n 5\r\n\r\n",
        OK + b"Content Length: 5\r\n\r\n",
        OK + b" Content-Length: 5\r\nX: a\r\n\r\n",
        OK + b"Content-Length\0: 5\r\n\r\n",
        OK + b"ContentLength 5\r\n\r\n",
        OK + FIVE + b"Transfer-Encoding\x0b: chunked\r\n\r\n",
        OK + FIVE + b"transfer encoding chunked\r\n\r\n",
        OK + b"X Y: a\r\n" + FIVE + b"TRANSFER-ENCODING chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + CHUNKED + CHUNKED + b"\r\n",
        OK + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n" + CHUNKED + FIVE + b"\r\n",
        b"HTTP/1.1 101 X\nUpgrade: a\n\n",
    ],
)
def test_what_has_no_clear_meaning_is_refused(raw: bytes) -> None:
    with pytest.raises(HttpError):
        read(raw)


def test_several_deviations_are_told_once_each() -> None:
    raw = b"HTTP/1.2 200 OK\nA B: c\nX : a\nY : b\n c\nd\n\n"
    end, head, forgiven = read(raw)
    assert head is not None and end == len(raw)
    assert head.lines == b"X: a\r\nY: b c\r\n"
    assert set(forgiven) == {
        Deviation.BARE_LF,
        Deviation.VERSION,
        Deviation.FOLDED_FIELD,
        Deviation.NO_FIELD,
        Deviation.BLANK_BEFORE_COLON,
    }
    assert forgiven[Deviation.NO_FIELD] == "A B"


def test_the_name_of_a_dropped_field_is_printable_and_short() -> None:
    _, _, forgiven = read(OK + b"a\x1b \xff" + b"b" * 100 + b": secret\r\n\r\n")
    assert forgiven == {Deviation.NO_FIELD: "a? ?" + "b" * 60}


def test_a_line_without_colon_is_not_told_because_it_may_be_secret() -> None:
    assert read(OK + b"Secret\r\n\r\n")[2] == {Deviation.NO_FIELD: ""}


def test_an_upgrade_may_deviate() -> None:
    head, _ = whole(b"HTTP/1.1 101 X\nConnection : Upgrade\nUpgrade: websocket\n\n")
    assert (head.status, head.upgrade) == (101, b"websocket")


def test_an_incomplete_head_waits() -> None:
    for raw in (b"", b"H", b"HTTP/1.1 200 OK\nX: a", b"HTTP/1.1 200 OK\r\nX: a\r\n\r"):
        assert read(raw) == (-1, None, {})


def test_bytes_that_begin_no_answer_are_refused_at_once() -> None:
    for raw in (b"\x16\x03\x01", b"ht", b"\n"):
        with pytest.raises(HttpError, match=r"it is not HTTP/1\.1"):
            read(raw)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_head_has_a_maximum(end: bytes) -> None:
    start = b"HTTP/1.1 200 OK" + end + b"X: "
    fits = start + b"a" * (MAX_RESPONSE_HEAD_BYTES - len(start) - 2 * len(end)) + end * 2
    assert read(fits)[0] == MAX_RESPONSE_HEAD_BYTES
    for raw in (fits[:-1], fits.replace(b"X", b"XX")):
        with pytest.raises(HttpError, match="longer than 131072 bytes"):
            read(raw + b"a" * 2)
    assert read(fits[:-2])[1] is None


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_fields_have_a_maximum(end: bytes) -> None:
    start = b"HTTP/1.1 200 OK" + end
    line = b"A: b" + end
    head, _ = whole(start + line * MAX_RESPONSE_FIELDS + end)
    assert head.lines == b"A: b\r\n" * MAX_RESPONSE_FIELDS
    with pytest.raises(HttpError, match="more than 1000 fields"):
        read(start + line * (MAX_RESPONSE_FIELDS + 1) + end)


LINES = st.sampled_from(
    [
        b"X: a",
        b"X : a",
        b"X Y: a",
        b"nonsense",
        b" folded",
        b"\t",
        b"Content-Length: 5",
        b"Content-Length: 5, 5",
        b"content-length : 7",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Connection: close",
        b"Connection: X, Upgrade",
        b"Upgrade: websocket",
        b"X: a\rb",
        b"\r",
        b"Set-Cookie: \xe9",
    ]
)
STARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.9  404",
        b"HTTP/1.1 101 Switching",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1\t304\tX y",
        b"HTTP/1.1 103 Early",
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    ends = st.sampled_from([b"\r\n", b"\n"])
    lines = [draw(STARTS), *draw(st.lists(LINES | st.binary(max_size=8), max_size=8)), b""]
    return b"".join(line + draw(ends) for line in lines)


@given(heads(), st.binary(max_size=8))
def test_what_is_forgiven_leaves_strict_and_with_the_same_meaning(raw: bytes, rest: bytes) -> None:
    try:
        end, head, _ = read(raw + rest)
    except HttpError:
        return
    if head is None:
        return
    assert end <= len(raw) or not rest.strip(b"\r\n")
    block = response_block(head)
    assert check_response_block(block) == head.status
    kind, length = response_framing(b"GET", head)
    framing = response_framing_lines(
        kind, length, close=not head.keep_alive, upgrade=head.status == 101
    )
    again = parse_response(block + framing)
    assert (again.status, again.reason, again.lines) == (head.status, head.reason, head.lines)
    if head.status == 101:
        return
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(block + framing)
    event = client.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    assert event.status_code == head.status
    names = {name for name, _ in event.headers}
    assert (b"content-length" in names) == (kind is Kind.LENGTH)
    assert (b"transfer-encoding" in names) == (kind is Kind.CHUNKED)


@given(heads(), st.binary(max_size=8), st.lists(st.integers(0, 200), max_size=4))
def test_splitting_the_input_changes_nothing(raw: bytes, rest: bytes, places: list[int]) -> None:
    data = raw + rest

    def outcome(ends: list[int]) -> object:
        searched = 0
        for end in ends:
            try:
                found, head, _ = read(data[:end], searched=searched)
            except HttpError:
                return "refused"
            if head is not None:
                return found, meaning(head)
            searched = end
        return "incomplete"

    assert outcome([*sorted(place for place in places if place < len(data)), len(data)]) == outcome(
        [len(data)]
    )


@given(heads())
def test_a_strict_head_is_read_as_before(raw: bytes) -> None:
    try:
        end, strict = read_response_head(raw, 0, None)
    except HttpError:
        return
    found, head, forgiven = read(raw)
    assert end == found and not forgiven
    assert (head is None) == (strict is None)
    if head is not None and strict is not None:
        assert meaning(head) == meaning(strict)
