import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.smuggling_cases import CASES, SECOND, Case
from tests.unit.http.request_reader import cut, read_request
from zerotrust.errors import HttpError
from zerotrust.http.head import (
    MAX_REQUEST_FIELDS,
    MAX_REQUEST_HEAD_BYTES,
    RequestFields,
    RequestHead,
    ResponseHead,
    find_head_end,
    parse_request,
    parse_response,
)
from zerotrust.http.head_block import check_request_block, request_block
from zerotrust.http.headers import REQUEST_SPECIAL, SPOOFABLE, SPOOFABLE_PREFIXES

HOST = b"Host: app.example.com\r\n"


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> RequestHead:
    return parse_request(
        start + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    )


def values_of(fields: RequestFields) -> dict[str, object]:
    named = {name: getattr(fields, name) for name in dir(fields) if not name.startswith("_")}
    return {name: value for name, value in named.items() if not callable(value)}


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return parse_response(start + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


def refusal(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> int:
    with pytest.raises(HttpError) as caught:
        request(*lines, start=start, host=host)
    return caught.value.reply


# -- smuggling
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_ambiguous_request_is_refused_or_means_one_thing(case: Case) -> None:
    for step in (1, 7, 1 << 20):
        pieces = cut(case.raw, range(0, len(case.raw), step))
        if case.expectation == "refused":
            with pytest.raises(HttpError):
                read_request(pieces)
        else:
            read = read_request(pieces)
            assert read is not None
            assert read[3] == b""


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_pipelined_request_is_left_over_whole() -> None:
    read = read_request([SECOND + SECOND])
    assert read is not None
    assert read[3] == SECOND


# -- requests
# ----------------------------------------------------------------------------------------------------------


def test_what_is_forwarded_keeps_case_order_and_bytes() -> None:
    head = request(
        b"X-b: 1", b"x-A:2 \t", b"Set-Cookie: caf\xe9", b"x-a:", start=b"PUT /%2f?a=%20&b HTTP/1.1"
    )
    assert head.fields.lines == b"".join(
        [b"X-b: 1\r\n", b"x-A: 2\r\n", b"Set-Cookie: caf\xe9\r\n", b"x-a: \r\n"]
    )
    assert (head.method, head.target, head.minor) == (b"PUT", b"/%2f?a=%20&b", 1)
    assert (head.fields.host, head.fields.host_field) == ("app.example.com", b"app.example.com")


def test_other_bytes_than_ascii_pass_in_a_target() -> None:
    for target in (b"/caf\xc3\xa9?\xe9=\xff", b"/\x80", b"/?\x85"):
        head = request(start=b"GET " + target + b" HTTP/1.1")
        assert head.target == target
        block = request_block(head, client=b"::1", proto=b"https")
        assert block.startswith(b"GET " + target + b" HTTP/1.1\r\n")
        assert check_request_block(block)
    assert request(start=b"GET http://a.example.com/\xe9 HTTP/1.1").target == b"/\xe9"


def test_hop_by_hop_fields_are_not_forwarded() -> None:
    head = request(
        b"Connection: x-secret, close",
        b"X-Secret: 1",
        b"Keep-Alive: 5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic x",
        b"TE: trailers, deflate",
        b"HTTP2-Settings: AAMA",
        b"Content-Length: 5",
        b"Accept: */*",
    )
    assert head.fields.lines == b"Accept: */*\r\n"
    assert head.fields.te_trailers
    assert not head.fields.keep_alive
    assert head.fields.content_length == 5


def test_clients_cannot_set_our_fields() -> None:
    names = (
        b"X-Forwarded-For X-FORWARDED-PROTO x-forwarded-host X-Forwarded-Port X-Forwarded-Server"
    )
    names += b" X-Forwarded-Prefix X-Real-Ip Forwarded X-0Trust-User x-0trust-error"
    head = request(*(name + b": evil" for name in names.split()), b"X-0: kept", b"X-0Tru: kept")
    assert head.fields.lines == b"".join([b"X-0: kept\r\n", b"X-0Tru: kept\r\n"])
    assert (
        head.fields.real_ip == head.fields.forwarded_for == head.fields.forwarded_proto == b"evil"
    )


def test_long_connection_fields_are_parsed() -> None:
    head = request(b"Connection: " + b"x, " * 100 + b"y, close", b"X: 1", b"Y: 1", b"Z: 1")
    assert head.fields.lines == b"Z: 1\r\n"
    assert not head.fields.keep_alive


@pytest.mark.parametrize(
    "name", sorted(SPOOFABLE | {prefix + b"x" for prefix in SPOOFABLE_PREFIXES})
)
def test_spoofable_fields_are_kept_apart(name: bytes) -> None:
    for spelled in (name.lower(), name.upper(), name.title()):
        line = spelled + b": evil"
        for lines in ([line, b"X-Kept: 1"], [b"X-Kept: 1", line]):  # first, and not
            fields = request(*lines).fields
            assert (fields.lines, fields.spoofable) == (b"X-Kept: 1\r\n", line + b"\r\n")
    if b"-" in name:
        fields = request(line.replace(b"-", b"_", 1), b"X-Kept: 1").fields
        assert (fields.lines, fields.spoofable) == (b"X-Kept: 1\r\n", b"")


@pytest.mark.parametrize(
    "name",
    sorted({b"x-forwarded-user", b"x-0trust-id", *(n for n in REQUEST_SPECIAL if b"-" in n)}),
)
def test_other_spellings_of_spoofable_fields_are_dropped(name: bytes) -> None:
    """CGI servers treat all characters other than letters and digits alike."""
    for separator in b"!#$%&'*+.^_`|~":
        fields = request(name.replace(b"-", bytes([separator])) + b": 9", b"X-Kept: 1").fields
        assert (fields.lines, fields.spoofable) == (b"X-Kept: 1\r\n", b"")
        assert (fields.content_length, fields.chunked) == (None, False)


def test_what_connection_names_is_not_kept_apart() -> None:
    fields = request(
        b"Connection: X-Client-IP, x-original-url", b"X-Client-IP: 1", b"X-Original-URL: /"
    ).fields
    assert (fields.lines, fields.spoofable) == (b"", b"")


@pytest.mark.parametrize(
    "name", [b"X-User", b"Client", b"Clients-Ip", b"Remote", b"Proxy-Status", b"X", b"Forwarder"]
)
def test_names_that_only_look_alike_pass(name: bytes) -> None:
    fields = request(name + b": 1", b"X_Kept: X-Client-IP: 1").fields
    assert (fields.lines, fields.spoofable) == (name + b": 1\r\nX_Kept: X-Client-IP: 1\r\n", b"")


@pytest.mark.parametrize(
    "name",
    [b"X_Forwarded_For", b"x-forwarded_proto", b"X_Real_IP", b"X_0Trust-User", b"X-0TRUST_A"],
)
def test_other_spellings_of_our_fields_are_dropped(name: bytes) -> None:
    """CGI and WSGI make one variable of X_Real_IP and X-Real-IP (RFC 3875 s4.1.18)."""
    head = request(name + b": 192.0.2.66", b"X_Kept: 1")
    assert head.fields.lines == b"X_Kept: 1\r\n"
    assert (head.fields.real_ip, head.fields.forwarded_for, head.fields.forwarded_proto) == (
        None,
        None,
        None,
    )


def test_repetitions_of_a_forwarding_field_cannot_hide_each_other() -> None:
    assert (
        request(b"X-Real-IP: 1.1.1.1", b"X-Real-IP: 2.2.2.2").fields.real_ip == b"1.1.1.1, 2.2.2.2"
    )


@pytest.mark.parametrize(
    ("target", "host", "forwarded"),
    [
        (b"http://A.example.com", b"A.example.com", b"/"),
        (b"HTTPS://a.example.com:8443/x?y", b"a.example.com:8443", b"/x?y"),
        (b"http://a.example.com?y", b"a.example.com", b"/?y"),
        (b"http://[::1]:80//x", b"[::1]:80", b"//x"),
    ],
)
def test_absolute_form_takes_the_place_of_host(
    target: bytes, host: bytes, forwarded: bytes
) -> None:
    head = request(start=b"GET " + target + b" HTTP/1.1")
    assert (head.fields.host_field, head.target) == (host, forwarded)


def test_options_may_ask_about_the_server() -> None:
    assert request(start=b"OPTIONS * HTTP/1.1").target == b"*"
    assert request(start=b"OPTIONS http://a.example.com HTTP/1.1").target == b"*"
    assert request(start=b"OPTIONS http://a.example.com/ HTTP/1.1").target == b"/"


@pytest.mark.parametrize(
    ("field", "host"),
    [
        (b"APP.example.com.:443", "app.example.com"),
        (b"localhost:", "localhost"),
        (b"192.0.2.1:80", "192.0.2.1"),
        (b"[2001:DB8::0:1]:443", "[2001:db8::1]"),
    ],
)
def test_host_is_compared_in_one_form(field: bytes, host: str) -> None:
    assert request(host=b"Host: " + field + b"\r\n").fields.host == host


@pytest.mark.parametrize("field", [b"-a.example", b"[::g]", b"[1]", b"a" * 64, b"a.b:123456", b"."])
def test_an_invalid_host_is_refused(field: bytes) -> None:
    assert refusal(host=b"Host: " + field + b"\r\n") == 400


@pytest.mark.parametrize(
    "method", [b"PROPFIND", b"M-SEARCH", b"VERSION-CONTROL", b"x", b"!#$%&'*+-.^_`|~9", b"PRI"]
)
def test_a_method_is_any_token(method: bytes) -> None:
    assert request(b"A: b", start=method + b" / HTTP/1.1").method == method


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        ((b"Connection: keep-alive, UPGRADE", b"Upgrade: WebSocket"), b"WebSocket"),
        ((b"Connection: Upgrade", b"Upgrade: foo/1, websocket"), b"foo/1, websocket"),
        ((b"Connection: Upgrade", b"Upgrade: foo/1", b"Upgrade: bar"), b"foo/1, bar"),
        ((b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 0"), b"websocket"),
        ((b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 1"), None),
        ((b"Connection: Upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"), None),
        ((b"Connection: Upgrade", b"Upgrade: h2c"), None),
        ((b"Connection: Upgrade", b"Upgrade: websocket, H2C"), None),
        ((b"Connection: Upgrade", b"Upgrade:"), None),
        ((b"Connection: Upgrade",), None),
        ((b"Connection: keep-alive", b"Upgrade: websocket"), None),
        ((b"Upgrade: websocket",), None),
    ],
)
def test_an_upgrade_needs_upgrade_and_connection(
    lines: tuple[bytes, ...], upgrade: bytes | None
) -> None:
    head = request(*lines)
    assert head.fields.upgrade == upgrade
    assert head.fields.lines == b""


def test_other_lines_or_another_host_change_nothing_else() -> None:
    fields = request(b"Content-Length: 3", b"A: b", b"X-Real-IP: 192.0.2.1").fields
    other = fields.with_lines(b"C: d\r\n", b"")
    assert (other.lines, other.spoofable) == (b"C: d\r\n", b"")
    lines = {"lines": fields.lines, "spoofable": fields.spoofable}
    assert values_of(other) | lines == values_of(fields)
    other = fields.with_host(b"OTHER.example.com:81")
    assert (other.host, other.host_field) == ("other.example.com", b"OTHER.example.com:81")
    host = {"host": fields.host, "host_field": fields.host_field}
    assert values_of(other) | host == values_of(fields)
    with pytest.raises(HttpError):
        fields.with_host(b"a b")


def test_http_1_0_has_no_upgrade_and_closes_unless_asked() -> None:
    old = b"GET / HTTP/1.0"
    assert request(b"Connection: Upgrade", b"Upgrade: websocket", start=old).fields.upgrade is None
    assert not request(start=old).fields.keep_alive
    assert request(b"Connection: keep-alive", start=old).fields.keep_alive
    assert not request(
        b"Expect: 100-continue", b"Content-Length: 1", start=old
    ).fields.expect_continue


def test_an_expectation_needs_a_body() -> None:
    assert request(b"Expect: 100-Continue", b"Content-Length: 1").fields.expect_continue
    assert request(b"Expect: 100-continue", b"Transfer-Encoding: chunked").fields.expect_continue
    assert not request(b"Expect: 100-continue", b"Content-Length: 0").fields.expect_continue
    assert not request(b"Expect:", b"Content-Length: 1").fields.expect_continue


@pytest.mark.parametrize(
    ("lines", "start", "status"),
    [
        ((b"Transfer-Encoding: gzip",), b"POST / HTTP/1.1", 501),
        ((b"Transfer-Encoding: chunked, chunked",), b"POST / HTTP/1.1", 501),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 1"), b"POST / HTTP/1.1", 400),
        ((b"Transfer-Encoding: chunked",), b"POST / HTTP/1.0", 400),
        ((b"Content-Length: 9223372036854775808",), b"POST / HTTP/1.1", 400),
        ((b"Expect: tea",), b"POST / HTTP/1.1", 417),
        ((), b"GET / HTTP/2.0", 505),
        ((), b"GET / HTTP/0.9", 505),
        ((), b"GET /", 400),
        ((), b"GET / HTTP/1.11", 400),
        ((), b"CONNECT a:443 HTTP/1.1", 501),
        ((), b"CONNECT / HTTP/1.1", 501),
        ((b"A",), b"GET / HTTP/1.1", 400),
        ((b"A: b",) * MAX_REQUEST_FIELDS, b"GET / HTTP/1.1", 431),
    ],
)
def test_each_refusal_has_its_status(lines: tuple[bytes, ...], start: bytes, status: int) -> None:
    assert refusal(*lines, start=start) == status


def test_the_number_of_fields_is_limited() -> None:
    assert request(*[b"A: b"] * (MAX_REQUEST_FIELDS - 1)).fields.lines == b"A: b\r\n" * (
        MAX_REQUEST_FIELDS - 1
    )


def test_llhttp_must_accept_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        def __init__(self, protocol: object) -> None: ...

        def feed_data(self, data: bytes) -> None:
            raise httptools.HttpParserError("no")

    monkeypatch.setattr(httptools, "HttpRequestParser", Refuses)
    assert refusal(b"X: a head that no other test has sent, because those are remembered") == 400


# -- responses
# ---------------------------------------------------------------------------------------------------------


def test_a_response_keeps_end_to_end_fields() -> None:
    head = response(
        b"Set-Cookie: a=1",
        b"Connection: x-hop",
        b"X-Hop: 1",
        b"set-cookie: b=2",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authenticate: Basic",
        b"Content-Length: 5",
        b"Upgrade: h2c",
        b"X-Forwarded-For: kept",
    )
    assert head.lines == b"".join(
        [b"Set-Cookie: a=1\r\n", b"set-cookie: b=2\r\n", b"X-Forwarded-For: kept\r\n"]
    )
    assert (head.status, head.reason, head.minor, head.content_length) == (200, b"OK", 1, 5)
    assert head.keep_alive
    assert head.upgrade is None


@pytest.mark.parametrize("start", [b"HTTP/1.1 999 ", b"HTTP/1.1 999"])
def test_a_response_needs_no_reason(start: bytes) -> None:
    assert (response(start=start).status, response(start=start).reason) == (999, b"")


def test_a_response_may_switch_protocols() -> None:
    head = response(
        b"Upgrade: websocket", b"Connection: Upgrade", start=b"HTTP/1.1 101 Switching Protocols"
    )
    assert head.upgrade == b"websocket"


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"Upgrade: websocket",),
        (b"Connection: Upgrade",),
        (b"Connection: close", b"Upgrade: websocket"),
        (b"Connection: Upgrade", b"Upgrade: h2c"),
    ],
)
def test_a_101_must_name_its_protocol(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(HttpError):
        response(*lines, start=b"HTTP/1.1 101 Switching Protocols")


@pytest.mark.parametrize(
    ("status", "length"), [(100, None), (103, None), (204, None), (304, 5), (200, 5)]
)
def test_a_meaningless_length_is_dropped(status: int, length: int | None) -> None:
    assert response(b"Content-Length: 5", start=b"HTTP/1.1 %d X" % status).content_length == length


@pytest.mark.parametrize(
    ("start", "lines", "stays"),
    [
        (b"HTTP/1.1 200 OK", (), True),
        (b"HTTP/1.1 200 OK", (b"Connection: Close",), False),
        (b"HTTP/1.0 200 OK", (), False),
        (b"HTTP/1.0 200 OK", (b"Connection: keep-alive",), True),
    ],
)
def test_when_a_backend_connection_stays(
    start: bytes, lines: tuple[bytes, ...], stays: bool
) -> None:
    assert response(*lines, start=start).keep_alive is stays


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\x00\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 1000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"",
    ],
)
def test_a_bad_response_is_a_bad_gateway(raw: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        parse_response(raw)
    assert caught.value.reply == 502


# -- the end of a head
# -------------------------------------------------------------------------------------------------


def test_the_end_is_found_wherever_the_head_is_cut() -> None:
    raw = b"GET / HTTP/1.1\r\n" + HOST + b"\r\nbody\r\n\r\n"
    for place in range(len(raw)):
        first = find_head_end(raw[:place], 0)
        end = len(raw) - 8
        assert first == (end if place >= end else -1)
        assert find_head_end(bytearray(raw), min(place, end - 1)) == end


@pytest.mark.parametrize(
    "buffer",
    [b"\x16\x03\x01", b"\r", b"\n", b" GET", b"\0", b"GET / HTTP/1.1\nA", b"GET / HTTP/1.1\r\n\n"],
)
def test_invalid_beginnings_are_refused_early(buffer: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        find_head_end(buffer, 0)
    assert caught.value.reply == 400


def test_a_bare_lf_at_a_read_boundary_is_found() -> None:
    assert find_head_end(b"GET / HTTP/1.1\r", 0) == -1
    assert find_head_end(b"GET / HTTP/1.1\r\n", 15) == -1
    with pytest.raises(HttpError):
        find_head_end(b"GET / HTTP/1.1\n", 14)


def test_a_head_has_a_largest_size() -> None:
    start = b"GET / HTTP/1.1\r\n" + HOST + b"A: "
    fits = start + b"b" * (MAX_REQUEST_HEAD_BYTES - len(start) - 4) + b"\r\n\r\n"
    assert find_head_end(fits, 0) == MAX_REQUEST_HEAD_BYTES
    assert find_head_end(fits[:-1], 0) == -1
    for buffer in (fits[:-4] + b"b\r\n\r\n", fits[:-4] + b"bbbb"):
        with pytest.raises(HttpError) as caught:
            find_head_end(buffer, 0)
        assert caught.value.reply == 431


# -- properties
# --------------------------------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        HOST,
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: ",
        b"Upgrade: websocket",
        b"close",
        b"5",
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b": ",
        b" ",
        b"A",
    ]
)
NOISE = st.lists(FRAGMENTS | st.binary(max_size=8), max_size=12).map(b"".join)


@given(NOISE)
def test_noise_is_parsed_or_refused(noise: bytes) -> None:
    for parse in (parse_request, parse_response):
        for raw in (
            noise,
            b"GET / HTTP/1.1\r\n" + HOST + noise + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + noise + b"\r\n\r\n",
        ):
            try:
                parse(raw)
            except HttpError as error:
                assert 400 <= error.reply <= 599


@given(st.sampled_from(CASES), st.lists(st.integers(0, 1 << 16), max_size=5))
def test_splitting_the_input_changes_nothing(case: Case, places: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> object:
        try:
            read = read_request(pieces)
        except HttpError:
            return "refused"
        return read and (
            read[0].method,
            read[0].target,
            read[0].minor,
            values_of(read[0].fields),
            *read[1:],
        )

    assert outcome(cut(case.raw, places)) == outcome([case.raw])


class Seen:
    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))


@given(
    st.lists(
        st.tuples(st.from_regex(rb"[!-9;-~]{1,9}", fullmatch=True), st.binary(max_size=9)),
        max_size=5,
    )
)
def test_llhttp_sees_the_same_fields(fields: list[tuple[bytes, bytes]]) -> None:
    raw = (
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X%b:%b\r\n" % field for field in fields) + b"\r\n"
    )
    try:
        head = parse_request(raw)
    except HttpError:
        return
    seen = Seen()
    httptools.HttpRequestParser(seen).feed_data(raw)
    assert [b"%b: %b\r\n" % field for field in seen.fields[1:]] == head.fields.lines.splitlines(
        True
    )


EDGE = b"X-0trust-Edge-Time: 0.25\r\n"
LATE = EDGE.replace(b"0.25", b"soon")


@pytest.mark.parametrize("place", range(3))
def test_the_time_at_the_edge_is_cut_out(place: int) -> None:
    lines = [HOST, b"A: b\r\n"]
    plain = parse_request(b"GET / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n")
    lines.insert(place, EDGE)
    head = parse_request(b"GET / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n")
    assert (head.edge_time, plain.edge_time) == (b"0.25", b"")
    assert head.fields is plain.fields, "the cache knows the other lines"


@pytest.mark.parametrize(
    "lines",
    [EDGE + EDGE, EDGE.lower(), EDGE.replace(b"-", b"_"), EDGE.replace(b": ", b":"), LATE],
    ids=["twice", "lower case", "underscores", "no blank", "another value"],
)
def test_other_spellings_of_the_time_at_the_edge_are_dropped(lines: bytes) -> None:
    head = parse_request(b"GET / HTTP/1.1\r\n" + HOST + lines + b"\r\n")
    assert b"edge" not in (head.fields.lines + head.fields.spoofable).lower()


@pytest.mark.parametrize(
    "lines",
    [
        EDGE + b" folded\r\n",
        EDGE + b"\n\r\n",
        EDGE + b"\x00\r\n",
        EDGE.replace(b"0.25", b"1\nTransfer-Encoding: chunked"),
        EDGE.replace(b"0.25", b"1\rX: y"),
        EDGE.replace(b"0.25", b"1\x00"),
    ],
)
def test_a_line_that_is_cut_out_hides_no_fault(lines: bytes) -> None:
    with pytest.raises(HttpError):
        parse_request(b"GET / HTTP/1.1\r\n" + HOST + lines + b"\r\n")
