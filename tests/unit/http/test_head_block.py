import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.smuggling_cases import CASES
from tests.unit.http.request_reader import read_request
from zerotrust.errors import HttpError, LocalProtocolError
from zerotrust.http.body import Kind
from zerotrust.http.head import parse_request, parse_response
from zerotrust.http.head_block import (
    check_request_block,
    check_response_block,
    check_trailers,
    filter_trailers,
    request_block,
    request_framing_lines,
    response_block,
    response_framing_lines,
    switches_as_asked,
)

REQUEST = b"GET /x?y HTTP/1.1\r\nHost: a.example\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\n"
FRAMING_FIELDS = [
    b"Connection: close",
    b"CONTENT-LENGTH: 5",
    b"transfer-Encoding: chunked",
    b"keep-alive: 5",
]
FRAMING_FIELDS += [b"Proxy-Connection: close", b"Content-Length: "]
INJECTIONS = [
    b"A: b\r\n\r\nGET /admin HTTP/1.1\r\n",
    b"A: b\nC: d\r\n",
    b"A: b\rC: d\r\n",
    b"A: b\r\n c\r\n",
]
INJECTIONS += [
    b"A: b\0\r\n",
    b"A : b\r\n",
    b"A:b\r\n",
    b"A: b \r\n",
    b"A: \tb\r\n",
    b" A: b\r\n",
    b"A\r\n",
    b": b\r\n",
]
INJECTIONS += [
    b"\r\n",
    b"A: b\r",
    b"A: b\n",
    b"\xe9: b\r\n",
    b"A: b\x7f\r\n",
    b"Content-Length : 5\r\n",
]
INJECTIONS += [line + b"\r\n" for line in FRAMING_FIELDS]


def test_a_request_in_its_canonical_form() -> None:
    head = parse_request(
        b"POST http://A.example:80/x HTTP/1.1\r\nHost: b.example\r\nUser-Agent: "
        b" x\r\nX-Forwarded-For: 6.6.6.6\r\nTE: trailers\r\nExpect: 100-continue\r\nContent-Length:"
        b" 5\r\nConnection: close\r\n\r\n"
    )
    block = request_block(head, client=b"203.0.113.9", proto=b"https")
    assert (
        block == b"POST /x HTTP/1.1\r\nHost: A.example:80\r\nUser-Agent: x\r\nX-Forwarded-For:"
        b" 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host:"
        b" A.example:80\r\nX-Real-IP: 203.0.113.9\r\nExpect: 100-continue\r\nTE: trailers\r\n"
    )
    assert check_request_block(block, upgrade=bool(head.fields.upgrade))


def test_an_upgrade_travels_in_the_block() -> None:
    raw = (
        b"HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key:"
        b" x\r\n\r\n"
    )
    block = request_block(parse_request(b"GET /ws " + raw), client=b"::1", proto=b"http")
    assert block.endswith(b"X-Real-IP: ::1\r\nUpgrade: websocket\r\n")
    assert check_request_block(block, upgrade=True)
    assert not check_request_block(block)


def test_a_response_in_its_canonical_form() -> None:
    raw = (
        b"HTTP/1.0 404\r\nSet-Cookie: a\r\nConnection: close\r\nContent-Length:"
        b" 5\r\nset-cookie:b\r\nUpgrade: x\r\n\r\n"
    )
    block = response_block(parse_response(raw))
    assert block == b"HTTP/1.1 404 \r\nSet-Cookie: a\r\nset-cookie: b\r\n"
    assert check_response_block(block) == 404


def test_a_switch_of_protocols_travels_in_the_block() -> None:
    raw = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    block = response_block(parse_response(raw))
    assert block == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    assert check_response_block(block) == 101


@pytest.mark.parametrize("injection", [*INJECTIONS, b"Host: b.example\r\n", b"HOST: b.example\r\n"])
@pytest.mark.parametrize("before", [b"", b"B: c\r\n"])
@pytest.mark.parametrize("behind", [b"", b"B: c\r\n"])
def test_no_request_block_can_be_more_than_a_head(
    injection: bytes, before: bytes, behind: bytes
) -> None:
    assert check_request_block(REQUEST + before + behind)
    assert not check_request_block(REQUEST + before + injection + behind)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("before", [b"", b"B: c\r\n"])
@pytest.mark.parametrize("behind", [b"", b"B: c\r\n"])
def test_no_response_block_can_be_more_than_a_head(
    injection: bytes, before: bytes, behind: bytes
) -> None:
    assert check_response_block(RESPONSE + before + behind) == 200
    assert check_response_block(RESPONSE + before + injection + behind) == 0


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n",
        b"GET / HTTP/1.1\r\nHost: \r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n",
        b"GET /a\r\nX: HTTP/1.1\r\nHost: a\r\n",
        b"GET *a HTTP/1.1\r\nHost: a\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n",
        b"CONNECT / HTTP/1.1\r\nHost: a\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n",
        b"OPTIONS *a HTTP/1.1\r\nHost: a\r\n",
        b"G T / HTTP/1.1\r\nHost: a\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b",
    ],
)
def test_a_request_block_begins_with_a_request(block: bytes) -> None:
    assert not check_request_block(block)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"HTTP/1.1 200\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 099 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 200 O\nK\r\n",
        b"HTTP/1.1 200 O\rK\r\n",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nUpgrade: websocket\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nupgrade: b\r\n",
    ],
)
def test_a_response_block_begins_with_a_status(block: bytes) -> None:
    assert check_response_block(block) == 0


def test_requests_may_carry_what_their_hops_negotiate() -> None:
    negotiated = b"TE: trailers\r\nExpect: 100-continue\r\n"
    assert check_request_block(REQUEST + b"Upgrade: websocket\r\n" + negotiated, upgrade=True)
    assert check_request_block(REQUEST + negotiated)
    assert not check_request_block(REQUEST + negotiated, upgrade=True)
    assert not check_request_block(
        REQUEST + b"Upgrade: websocket\r\nuPGRADE: h2c\r\n", upgrade=True
    )
    assert check_request_block(
        b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nContent-Lengthy: 1\r\nHostess: x\r\n"
    )


@pytest.mark.parametrize(
    ("named", "asked", "fits"),
    [
        (b"websocket", b"websocket", True),
        (b"WebSocket", b"websocket", True),
        (b"b/2", b"a/1, B/2", True),
        (b"a, b", b"b, a", True),
        (b"b/1", b"a/1, b/2", False),
        (b"h2c", b"websocket", False),
        (b"websocket, h2c", b"websocket", False),
        (b"", b"websocket", False),
    ],
)
def test_a_101_names_a_requested_protocol(named: bytes, asked: bytes, fits: bool) -> None:
    block = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\nupGrade: %b\r\n" % named
    assert check_response_block(block) == 101
    assert switches_as_asked(block, asked) is fits


@pytest.mark.parametrize("block", [b"", b"a: b\r\n", b"a: \r\nGrpc-Status: 0\r\n"])
def test_good_trailers(block: bytes) -> None:
    assert check_trailers(block)


@pytest.mark.parametrize(
    "block",
    [
        b"\r\n",
        b"a: b",
        b"a: b\r\n\r\n",
        b"a:b\r\n",
        b"a: b\nc: d\r\n",
        b"Content-Length: 5\r\n",
        b"a: b\r\nHOST: x\r\n",
        b"x-0trust-user: x\r\n",
        b"X_Real_IP: 192.0.2.66\r\n",
        b"transfer-encoding: chunked\r\n",
        b"a: b\r\nStrict-Transport-Security: max-age=0\r\n",
        b"content_security-policy: x\r\n",
        b"Access-Control-Allow-Origin: *\r\n",
        b"X-Original-URL: /\r\n",
        b"x_http_method_override: DELETE\r\n",
        b"X-Forwarded-User: root\r\n",
    ],
)
def test_bad_trailers(block: bytes) -> None:
    assert not check_trailers(block)


def test_forwarded_trailers() -> None:
    block = (
        b"Grpc-Status: 0\r\nx_sum: 1\r\nX-Other: 2\r\nDIGEST: 3\r\ndigest: 4\r\nSet-Cookie:"
        b" 5\r\nETag: 6\r\n"
    )
    assert filter_trailers(
        block, passed={b"x-sum", b"set-cookie"}, edited={b"digest", b"x-other"}
    ) == (
        b"Grpc-Status: 0\r\nx_sum: 1\r\nETag: 6\r\n",
        [b"X-Other", b"Set-Cookie"],
    )
    assert filter_trailers(b"", passed=(), edited=()) == (b"", [])


@pytest.mark.parametrize(
    ("kind", "length", "upgrade", "te", "lines"),
    [
        (Kind.NONE, 0, False, False, b"\r\n"),
        (Kind.LENGTH, 0, False, False, b"Content-Length: 0\r\n\r\n"),
        (Kind.LENGTH, 5, False, True, b"Connection: TE\r\nContent-Length: 5\r\n\r\n"),
        (Kind.CHUNKED, 0, False, False, b"Transfer-Encoding: chunked\r\n\r\n"),
        (Kind.NONE, 0, True, False, b"Connection: Upgrade\r\n\r\n"),
        (Kind.NONE, 0, True, True, b"Connection: Upgrade, TE\r\n\r\n"),
    ],
)
def test_the_end_of_a_request_head(
    kind: Kind, length: int, upgrade: bool, te: bool, lines: bytes
) -> None:
    assert request_framing_lines(kind, length, upgrade=upgrade, te=te) == lines


@pytest.mark.parametrize("kind", [Kind.CLOSE, Kind.TUNNEL])
def test_a_request_does_not_end_with_its_connection(kind: Kind) -> None:
    with pytest.raises(LocalProtocolError):
        request_framing_lines(kind, 0, upgrade=False, te=False)


@pytest.mark.parametrize(
    ("kind", "length", "close", "upgrade", "lines"),
    [
        (Kind.NONE, 0, False, False, b"\r\n"),
        (Kind.LENGTH, 5, False, False, b"Content-Length: 5\r\n\r\n"),
        (Kind.LENGTH, 5, True, False, b"Connection: close\r\nContent-Length: 5\r\n\r\n"),
        (Kind.CHUNKED, 0, False, False, b"Transfer-Encoding: chunked\r\n\r\n"),
        (Kind.CLOSE, 0, False, False, b"Connection: close\r\n\r\n"),
        (Kind.TUNNEL, 0, False, True, b"Connection: Upgrade\r\n\r\n"),
        (Kind.TUNNEL, 0, True, True, b"Connection: Upgrade\r\n\r\n"),
    ],
)
def test_the_end_of_a_response_head(
    kind: Kind, length: int, close: bool, upgrade: bool, lines: bytes
) -> None:
    assert response_framing_lines(kind, length, close=close, upgrade=upgrade) == lines


# -- properties
# --------------------------------------------------------------------------------------------------------

NAMES = st.from_regex(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True) | st.sampled_from(
    [
        b"Connection",
        b"TE",
        b"Upgrade",
        b"Expect",
        b"X-0Trust-A",
        b"Keep-Alive",
        b"X-Real-IP",
        b"Trailer",
    ]
)
VALUES = st.binary(max_size=12) | st.sampled_from(
    [b"upgrade, TE", b"websocket", b"trailers", b"100-continue"]
)
HEADS = st.lists(st.tuples(NAMES, st.sampled_from([b":", b": ", b":\t "]), VALUES), max_size=6).map(
    lambda fields: (
        b"".join(name + colon + value + b"\r\n" for name, colon, value in fields) + b"\r\n"
    )
)


@given(
    HEADS,
    st.sampled_from([b"GET", b"OPTIONS", b"TEA"]),
    st.sampled_from([b"/", b"*", b"http://b?c", b"/\xe9"]),
)
def test_blocks_of_parsed_requests_pass_the_check(
    fields: bytes, method: bytes, target: bytes
) -> None:
    try:
        head = parse_request(method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n" + fields)
    except HttpError:
        return
    block = request_block(head, client=b"::1", proto=b"https")
    assert check_request_block(block, upgrade=bool(head.fields.upgrade))
    again = parse_request(
        block
        + request_framing_lines(
            Kind.NONE, 0, upgrade=bool(head.fields.upgrade), te=head.fields.te_trailers
        )
    )
    assert (again.method, again.target, again.fields.lines) == (
        head.method,
        head.target,
        head.fields.lines,
    )
    assert (again.fields.upgrade, again.fields.te_trailers) == (
        head.fields.upgrade,
        head.fields.te_trailers,
    )


@given(HEADS, st.sampled_from([b"200 OK", b"204", b"304 \xe9", b"101 Switching Protocols"]))
def test_blocks_of_parsed_responses_pass_the_check(fields: bytes, status: bytes) -> None:
    try:
        head = parse_response(b"HTTP/1.1 " + status + b"\r\n" + fields)
    except HttpError:
        return
    block = response_block(head)
    assert check_response_block(block) == head.status
    again = parse_response(
        block + response_framing_lines(Kind.NONE, 0, close=False, upgrade=head.status == 101)
    )
    assert (again.status, again.reason, again.lines) == (head.status, head.reason, head.lines)


@given(st.binary(max_size=40), st.sampled_from([b"", REQUEST, RESPONSE, REQUEST + b"A: b"]))
def test_a_block_that_passes_is_one_head(noise: bytes, start: bytes) -> None:
    block = start + noise
    if check_request_block(block) or check_request_block(block, upgrade=True):
        assert parse_request(block + b"\r\n").fields.content_length is None
    if check_response_block(block):
        assert parse_response(block + b"\r\n").content_length is None


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.expectation == "unambiguous"], ids=lambda c: c.name
)
def test_odd_but_valid_input_becomes_canonical(case: object) -> None:
    read = read_request([case.raw])  # type: ignore[attr-defined]
    assert read is not None
    assert check_request_block(request_block(read[0], client=b"::1", proto=b"https"))
