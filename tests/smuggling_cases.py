"""Requests that two servers could understand differently, as data: unit tests parse them, component
tests send them.

"refused" cases must be answered with an error and nothing of them may be taken for a request.
"unambiguous" ones look odd, but can mean one thing only: exactly one request, with nothing left
over.
"""

from typing import Final, NamedTuple


class Case(NamedTuple):
    """A name for the report, the bytes on the wire, and "refused" or "unambiguous"."""

    name: str
    raw: bytes
    expectation: str


HOST: Final = b"Host: app.example.com\r\n"
POST: Final = b"POST / HTTP/1.1\r\n" + HOST
GET: Final = b"GET / HTTP/1.1\r\n" + HOST
CHUNKED: Final = POST + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY: Final = b"0\r\n\r\n"
SECOND: Final = b"GET /admin HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
ANY_BODY: Final = b"5\r\nhello\r\n" + EMPTY


def _refused(name: str, raw: bytes) -> Case:
    return Case(name, raw, "refused")


def _unambiguous(name: str, raw: bytes) -> Case:
    return Case(name, raw, "unambiguous")


def _coding(name: str, line: bytes) -> Case:
    return _refused("TE " + name, POST + line + b"\r\n\r\n" + EMPTY)


def _both_coding(name: str, line: bytes) -> Case:
    return _refused(
        "CL + TE " + name, POST + b"Content-Length: 4\r\n" + line + b"\r\n\r\n" + ANY_BODY
    )


def _length(name: str, line: bytes) -> Case:
    return _refused("CL " + name, POST + line + b"\r\n\r\nhello")


def _chunks(name: str, body: bytes) -> Case:
    return _refused("chunk " + name, CHUNKED + body)


def _field(name: str, line: bytes) -> Case:
    return _refused("field " + name, GET + line + b"\r\n\r\n")


def _start(name: str, line: bytes) -> Case:
    return _refused("start " + name, line + b"\r\n" + HOST + b"\r\n")


def _host(name: str, lines: bytes) -> Case:
    return _refused("host " + name, b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n")


CASES: Final[list[Case]] = [
    # Two framings
    _refused(
        "CL.TE", POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY + b"G"
    ),
    _refused(
        "TE.CL", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nG\r\n" + EMPTY
    ),
    _refused("CL.CL differ", POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello"),
    _refused("CL.CL same", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    _refused("CL.CL case", POST + b"Content-Length: 5\r\ncontent-length: 6\r\n\r\nhello!"),
    _refused(
        "CL 0 and TE",
        POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY + SECOND,
    ),
    _refused(
        "GET with CL and TE",
        GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + ANY_BODY,
    ),
    _both_coding("twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    _both_coding("identity", b"Transfer-Encoding: identity"),
    _both_coding("unknown", b"Transfer-Encoding: x"),
    _both_coding("empty", b"Transfer-Encoding:"),
    # Transfer-Encoding, disguised
    _coding("twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    _coding("then identity", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    _coding("identity then chunked", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
    _coding("list of two", b"Transfer-Encoding: chunked, chunked"),
    _coding("gzip, chunked", b"Transfer-Encoding: gzip, chunked"),
    _coding("chunked, gzip", b"Transfer-Encoding: chunked, gzip"),
    _coding("empty member", b"Transfer-Encoding: chunked,"),
    _coding("leading comma", b"Transfer-Encoding: ,chunked"),
    _coding("xchunked", b"Transfer-Encoding: xchunked"),
    _coding("chunkedx", b"Transfer-Encoding: chunkedx"),
    _coding("parameter", b"Transfer-Encoding: chunked;q=1"),
    _coding("quotes", b'Transfer-Encoding: "chunked"'),
    _coding("single quotes", b"Transfer-Encoding: 'chunked'"),
    _coding("space before colon", b"Transfer-Encoding : chunked"),
    _coding("tab before colon", b"Transfer-Encoding\t: chunked"),
    _coding("leading space", b" Transfer-Encoding: chunked"),
    _coding("vertical tab", b"Transfer-Encoding:\x0bchunked"),
    _coding("form feed", b"Transfer-Encoding: chunked\x0c"),
    _coding("NUL", b"Transfer-Encoding: chunked\x00"),
    _coding("no-break space", b"Transfer-Encoding: \xa0chunked"),
    _coding("folded", b"Transfer-Encoding:\r\n chunked"),
    _coding("bare LF before", b"X: y\nTransfer-Encoding: chunked"),
    _coding("bare CR before", b"X: y\rTransfer-Encoding: chunked"),
    _coding("bare CR after", b"Transfer-Encoding: chunked\r"),
    _coding("control byte in name", b"Transfer-Encoding\x01: chunked"),
    _coding("long s in name", "Tran\u017ffer-Encoding: chunked".encode()),
    _coding("Kelvin sign in value", "Transfer-Encoding: chun\u212aed".encode()),
    _refused(
        "TE in HTTP/1.0",
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + EMPTY,
    ),
    _unambiguous("TE upper case", POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + ANY_BODY),
    _unambiguous("TE tab after colon", POST + b"Transfer-Encoding:\tchunked\r\n\r\n" + ANY_BODY),
    _coding("trailing tab", b"Transfer-Encoding: chunked\t"),
    _unambiguous("TE spaces around", POST + b"Transfer-Encoding:  chunked  \r\n\r\n" + ANY_BODY),
    _unambiguous("TE with underscore", POST + b"Transfer_Encoding: chunked\r\n\r\n"),
    # Content-Length, disguised
    _length("plus", b"Content-Length: +5"),
    _length("minus", b"Content-Length: -5"),
    _length("hexadecimal", b"Content-Length: 0x5"),
    _length("exponent", b"Content-Length: 5e0"),
    _length("fraction", b"Content-Length: 5.0"),
    _length("underscore", b"Content-Length: 0_5"),
    _length("space inside", b"Content-Length: 5 5"),
    _length("list same", b"Content-Length: 5, 5"),
    _length("list differ", b"Content-Length: 5, 6"),
    _length("empty", b"Content-Length:"),
    _length("letters", b"Content-Length: five"),
    _length("quotes", b'Content-Length: "5"'),
    _length("overflow 64", b"Content-Length: 18446744073709551621"),
    _length("overflow 63", b"Content-Length: 9223372036854775808"),
    _length("many zeros", b"Content-Length: 00000000000000000005"),
    _length("space before colon", b"Content-Length : 5"),
    _length("no colon", b"Content-Length 5"),
    _length("folded", b"Content-Length:\r\n 5"),
    _length("Arabic digit", "Content-Length: \u0665".encode()),
    _length("NUL", b"Content-Length: 5\x00"),
    _unambiguous("CL spaces around", POST + b"Content-Length: \t 5 \t\r\n\r\nhello"),
    _unambiguous("CL leading zero", POST + b"Content-Length: 05\r\n\r\nhello"),
    _unambiguous("CL with underscore", POST + b"Content_Length: 5\r\n\r\n"),
    _unambiguous("GET with body", GET + b"Content-Length: 5\r\n\r\nhello"),
    _unambiguous("GET with chunks", GET + b"Transfer-Encoding: chunked\r\n\r\n" + ANY_BODY),
    _unambiguous(
        "body that is a request", POST + b"Content-Length: %d\r\n\r\n" % len(SECOND) + SECOND
    ),
    # Chunks
    _chunks("0x", b"0x5\r\nhello\r\n" + EMPTY),
    _chunks("negative", b"-5\r\nhello\r\n" + EMPTY),
    _chunks("plus", b"+5\r\nhello\r\n" + EMPTY),
    _chunks("empty size", b"\r\nhello\r\n" + EMPTY),
    _chunks("underscore", b"0_5\r\nhello\r\n" + EMPTY),
    _chunks("17 digits", b"00000000000000005\r\nhello\r\n" + EMPTY),
    _chunks("overflow 64", b"10000000000000005\r\nhello\r\n" + EMPTY),
    _chunks("overflow 63", b"8000000000000000\r\nhello\r\n" + EMPTY),
    _chunks("space before size", b" 5\r\nhello\r\n" + EMPTY),
    _chunks("space after size", b"5 \r\nhello\r\n" + EMPTY),
    _chunks("bare LF after size", b"5\nhello\r\n" + EMPTY),
    _chunks("bare CR after size", b"5\rhello\r\n" + EMPTY),
    _chunks("CR CR LF after size", b"5\r\r\nhello\r\n" + EMPTY),
    _chunks("LF in extension", b"5;a\nhello\r\n" + EMPTY),
    _chunks("CR in extension", b"5;a\rb\r\nhello\r\n" + EMPTY),
    _chunks("NUL in extension", b"5;a\x00b\r\nhello\r\n" + EMPTY),
    _chunks("quoted line break in extension", b'5;a="\r\n"\r\nhello\r\n' + EMPTY),
    _chunks("long extension", b"5;" + b"a" * 300 + b"\r\nhello\r\n" + EMPTY),
    _chunks("extension without semicolon", b"5 a\r\nhello\r\n" + EMPTY),
    _chunks("no CRLF after data", b"5\r\nhello" + EMPTY),
    _chunks("bare LF after data", b"5\r\nhello\n" + EMPTY),
    _chunks("longer than its size", b"5\r\nhello!\r\n" + EMPTY),
    _chunks("shorter than its size", b"6\r\nhello\r\n" + EMPTY),
    _chunks("comma", b"5,5\r\nhello\r\n" + EMPTY),
    _chunks("bare LF in trailers", b"0\r\nA: b\nC: d\r\n\r\n"),
    _chunks("folded trailer", b"0\r\nA: b\r\n c\r\n\r\n"),
    _chunks("trailer without colon", b"0\r\nGET /admin HTTP/1.1\r\n\r\n"),
    _chunks("bare LF ends trailers", b"0\r\n\nGET /admin HTTP/1.1\r\n\r\n"),
    _chunks("long trailers", b"0\r\nA: " + b"b" * 9000 + b"\r\n\r\n"),
    _unambiguous("chunk upper-case size", CHUNKED + b"A\r\nhellohello\r\n" + EMPTY),
    _unambiguous("chunk leading zeros", CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n"),
    _unambiguous("chunk extension", CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0 ;e\r\n\r\n'),
    _unambiguous("chunk trailers", CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"),
    _unambiguous(
        "chunk trailer Content-Length", CHUNKED + b"0\r\nContent-Length: 5\r\nHost: evil\r\n\r\n"
    ),
    _unambiguous(
        "chunk trailer Transfer-Encoding", CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    # Field lines
    _field("folded with space", b"A: b\r\n c"),
    _field("folded with tab", b"A: b\r\n\tc"),
    _field("folded first", b" A: b"),
    _field("folded empty line", b"A: b\r\n \r\nC: d"),
    _field("bare LF", b"A: b\nC: d"),
    _field("bare CR", b"A: b\rC: d"),
    _field("CR before CRLF", b"A: b\r"),
    _field("LF CR", b"A: b\n\rC: d"),
    _field("NUL in value", b"A: b\x00c"),
    _field("DEL in value", b"A: b\x7f"),
    _field("escape in value", b"A: \x1b[2J"),
    _field("NUL in name", b"A\x00: b"),
    _field("space before colon", b"A : b"),
    _field("space in name", b"A B: c"),
    _field("no colon", b"A"),
    _field("no name", b": b"),
    _field("high byte in name", b"A\xe9: b"),
    _field("parenthesis in name", b"A(b): c"),
    _field("slash in name", b"A/b: c"),
    _field("too many", b"\r\n".join(b"A: %d" % n for n in range(600))),
    _refused("field bare LF ends head", b"GET / HTTP/1.1\nHost: app.example.com\n\n"),
    _refused("field bare LF before empty line", GET[:-2] + b"\n\r\n"),
    _refused("field long head", GET + b"A: " + b"b" * 70000 + b"\r\n\r\n"),
    _unambiguous("field high bytes in value", GET + b"A: caf\xc3\xa9 \xff\r\n\r\n"),
    _unambiguous("field empty value", GET + b"A:\r\nB: \r\n\r\n"),
    _unambiguous("field odd token bytes", GET + b"!#$%&'*+-.^_`|~9aZ: b\r\n\r\n"),
    # Request line
    _start("HTTP/0.9", b"GET /"),
    _start("HTTP/0.9 with version", b"GET / HTTP/0.9"),
    _start("HTTP/1.2", b"GET / HTTP/1.2"),
    _start("HTTP/1.10", b"GET / HTTP/1.10"),
    _start("HTTP/1", b"GET / HTTP/1"),
    _start("HTTP/2.0", b"GET / HTTP/2.0"),
    _start("lower-case version", b"GET / http/1.1"),
    _start("other protocol", b"GET / RTSP/1.0"),
    _start("two spaces after method", b"GET  / HTTP/1.1"),
    _start("two spaces after target", b"GET /  HTTP/1.1"),
    _start("tab", b"GET\t/\tHTTP/1.1"),
    _start("space at the end", b"GET / HTTP/1.1 "),
    _start("space in target", b"GET /a b HTTP/1.1"),
    _start("space at the start", b" GET / HTTP/1.1"),
    _start("no target", b"GET HTTP/1.1"),
    _start("NUL in target", b"GET /\x00 HTTP/1.1"),
    _start("tab in target", b"GET /\tb HTTP/1.1"),
    _start("CR in target", b"GET /a\rb HTTP/1.1"),
    _start("LF in target", b"GET /a\nb HTTP/1.1"),
    _start("fragment", b"GET /a#b HTTP/1.1"),
    _start("target without slash", b"GET a HTTP/1.1"),
    _start("asterisk with GET", b"GET * HTTP/1.1"),
    _start("CONNECT", b"CONNECT app.example.com:443 HTTP/1.1"),
    _start("CONNECT path", b"CONNECT / HTTP/1.1"),
    _start("high byte in method", b"G\xc9T / HTTP/1.1"),
    _start("ftp URL", b"GET ftp://app.example.com/ HTTP/1.1"),
    _start("URL with user", b"GET http://user@app.example.com/ HTTP/1.1"),
    _start("URL without host", b"GET http:///path HTTP/1.1"),
    _refused("start empty line first", b"\r\n" + GET + b"\r\n"),
    _refused("start HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _refused("start TLS hello", bytes.fromhex("16030100c2010000be0303") + bytes(180)),
    _unambiguous("start OPTIONS asterisk", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
    _unambiguous("start unknown method", b"MAKE-TEA / HTTP/1.1\r\n" + HOST + b"\r\n"),
    _unambiguous("start lower-case method", b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    _unambiguous(
        "start high bytes in target", b"GET /caf\xc3\xa9?\xff HTTP/1.1\r\n" + HOST + b"\r\n"
    ),
    _unambiguous(
        "start odd target", b'GET //a/../b/%2e%2E/;x?y?z&"<>\\^`{|} HTTP/1.1\r\n' + HOST + b"\r\n"
    ),
    # Host
    _host("missing", b"A: b"),
    _host("twice", b"Host: app.example.com\r\nHost: app.example.com"),
    _host("twice differ", b"Host: app.example.com\r\nhost: evil.example.com"),
    _host("list", b"Host: app.example.com, evil.example.com"),
    _host("list without space", b"Host: app.example.com,evil.example.com"),
    _host("user", b"Host: user@app.example.com"),
    _host("space inside", b"Host: app.example.com evil.example.com"),
    _host("path", b"Host: app.example.com/admin"),
    _host("query", b"Host: app.example.com?x"),
    _host("port letters", b"Host: app.example.com:http"),
    _host("two ports", b"Host: app.example.com:80:81"),
    _host("port with user", b"Host: app.example.com:80@evil.example.com"),
    _host("empty", b"Host:"),
    _host("empty label", b"Host: app..example.com"),
    _host("percent", b"Host: app%2eexample.com"),
    _host("high byte", b"Host: app.\xc3\xa9xample.com"),
    _host("space before colon", b"Host : app.example.com"),
    _host("folded", b"Host:\r\n app.example.com"),
    _host("leading space and real", b" Host: evil.example.com\r\nHost: app.example.com"),
    _host("open bracket", b"Host: [::1"),
    _host("zone", b"Host: [fe80::1%eth0]"),
    _refused("host missing in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n"),
    _refused("host absolute-form without Host", b"GET http://app.example.com/ HTTP/1.1\r\n\r\n"),
    _unambiguous(
        "host upper case and port", b"GET / HTTP/1.1\r\nHOST: APP.Example.COM:443\r\n\r\n"
    ),
    _unambiguous("host root dot", b"GET / HTTP/1.1\r\nHost: app.example.com.\r\n\r\n"),
    _unambiguous(
        "host absolute-form differs",
        b"GET http://app.example.com/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
    ),
    # Connection
    _refused(
        "connection names Content-Length",
        POST + b"Content-Length: 5\r\nConnection: Content-Length\r\n\r\nhello",
    ),
    _refused(
        "connection names Transfer-Encoding",
        POST
        + b"Transfer-Encoding: chunked\r\nConnection: close, transfer-encoding\r\n\r\n"
        + ANY_BODY,
    ),
    _refused("connection names Host", GET + b"Connection: Host\r\n\r\n"),
    _unambiguous(
        "connection names a credential",
        GET + b"Authorization: x\r\nConnection: Authorization\r\n\r\n",
    ),
    _unambiguous(
        "connection names our field", GET + b"X-Real-IP: 9.9.9.9\r\nConnection: X-Real-IP\r\n\r\n"
    ),
    _unambiguous("connection twice", GET + b"Connection: keep-alive\r\nConnection: close\r\n\r\n"),
    _unambiguous(
        "connection in HTTP/1.0", b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n"
    ),
    # Upgrade and Expect
    _unambiguous("upgrade without Connection", GET + b"Upgrade: websocket\r\n\r\n"),
    _unambiguous("upgrade Connection alone", GET + b"Connection: Upgrade\r\n\r\n"),
    _unambiguous(
        "upgrade h2c",
        GET
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
    ),
    _unambiguous(
        "upgrade with body",
        POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
    ),
    _unambiguous(
        "upgrade with chunks",
        POST
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n"
        + ANY_BODY,
    ),
    _unambiguous(
        "upgrade in HTTP/1.0",
        b"GET / HTTP/1.0\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ),
    _refused("upgrade to nonsense", GET + b"Connection: Upgrade\r\nUpgrade: web socket\r\n\r\n"),
    _refused("expect unknown", POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello"),
    _refused("expect two", POST + b"Expect: 100-continue, x\r\nContent-Length: 5\r\n\r\nhello"),
    _unambiguous(
        "expect upper case", POST + b"Expect: 100-CONTINUE\r\nContent-Length: 5\r\n\r\nhello"
    ),
    _unambiguous("expect without body", GET + b"Expect: 100-continue\r\n\r\n"),
]
