"""Answers of backends that deviate from HTTP/1.1 or use rare parts of it, as data.

Unit tests parse them; a component test sends them through 0Trust and through Caddy alone.
"""

from typing import Final, NamedTuple


class OddAnswer(NamedTuple):
    """An answer, and what the client gets of it.

    Attributes:
        name: description for the report and for the documentation.
        raw: the bytes on the wire; then the backend closes the connection.
        expected: the right result through 0Trust, as `tests.support.answer_reader` writes it.
        method: the method of the request.
        note: reason for a difference from Caddy alone; empty if the results are the same.
    """

    name: str
    raw: bytes
    expected: str
    method: str = "GET"
    note: str = ""


OK: Final = b"HTTP/1.1 200 OK\r\n"
FIVE: Final = b"Content-Length: 5\r\n"
HELLO: Final = FIVE + b"\r\nhello"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LAST: Final = b"0\r\n\r\n"
DONE: Final = '200 "hello"'
BAD: Final = "502"
CUT: Final = "200, broken off"


def _fields(count: int) -> bytes:
    return b"".join(b"X-Field-%d: value\r\n" % number for number in range(count))


def _field(size: int) -> bytes:
    return b"X-Long: " + b"a" * size + b"\r\n"


ANSWERS: Final = (
    # Line ends
    OddAnswer("lines end in LF, HTTP/1.1", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", DONE),
    OddAnswer("lines end in LF, HTTP/1.0", b"HTTP/1.0 200 OK\nServer: x\n\nhello", DONE),
    OddAnswer(
        "LF and CRLF mixed",
        b"HTTP/1.1 200 OK\r\nX-Odd: a\nContent-Length: 5\r\n\nhello",
        '200 "hello", X-Odd: "a"',
    ),
    OddAnswer("CR inside a value", OK + b"X-Odd: a\rb\r\n" + HELLO, BAD),
    OddAnswer("empty line before the status line", b"\r\n" + OK + HELLO, BAD),
    # The status line
    OddAnswer("no reason", b"HTTP/1.1 200 \r\n" + HELLO, DONE),
    OddAnswer("no reason, no blank", b"HTTP/1.1 200\r\n" + HELLO, DONE),
    OddAnswer("reason of 2,000 bytes", b"HTTP/1.1 200 " + b"x" * 2000 + b"\r\n" + HELLO, DONE),
    OddAnswer("reason in Latin-1", b"HTTP/1.1 200 \xe9\r\n" + HELLO, DONE),
    OddAnswer("two blanks before the status", b"HTTP/1.1  200 OK\r\n" + HELLO, DONE),
    OddAnswer("two blanks before the reason", b"HTTP/1.1 200  OK\r\n" + HELLO, DONE),
    OddAnswer(
        "tab before the reason",
        b"HTTP/1.1 200\tOK\r\n" + HELLO,
        DONE,
        note="any white space separates the parts (RFC 9112 section 4)",
    ),
    OddAnswer("HTTP/1.2", b"HTTP/1.2 200 OK\r\n" + HELLO, DONE),
    OddAnswer("HTTP/2.0", b"HTTP/2.0 200 OK\r\n" + HELLO, DONE),
    OddAnswer("http/1.1 in lower case", b"http/1.1 200 OK\r\n" + HELLO, BAD),
    OddAnswer("ICY", b"ICY 200 OK\r\n" + HELLO, BAD),
    OddAnswer("HTTP/0.9: a body without head", b"<p>hello</p>\n", BAD),
    OddAnswer("status 99", b"HTTP/1.1 99 X\r\n" + HELLO, BAD),
    OddAnswer("status 099", b"HTTP/1.1 099 X\r\n" + HELLO, BAD, note="Caddy ends the connection"),
    OddAnswer("status 600", b"HTTP/1.1 600 X\r\n" + HELLO, '600 "hello"'),
    OddAnswer("status 999", b"HTTP/1.1 999 X\r\n" + HELLO, '999 "hello"'),
    OddAnswer("status 2000", b"HTTP/1.1 2000 X\r\n" + HELLO, BAD),
    # Fields
    OddAnswer("names in lower case", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", DONE),
    OddAnswer(
        "a field twice", OK + b"X-Odd: a\r\nX-Odd: b\r\n" + HELLO, '200 "hello", X-Odd: "a" "b"'
    ),
    OddAnswer("folded field", OK + b"X-Odd: a\r\n b\r\n" + HELLO, '200 "hello", X-Odd: "a b"'),
    OddAnswer(
        "blank before the colon",
        OK + b"X-Odd : a\r\n" + HELLO,
        '200 "hello", X-Odd: "a"',
        note="the blank is removed (RFC 9112 section 5.1); Caddy drops the field",
    ),
    OddAnswer("no blank behind the colon", OK + b"X-Odd:a\r\n" + HELLO, '200 "hello", X-Odd: "a"'),
    OddAnswer("blank inside a name", OK + b"X Odd: a\r\n" + HELLO, DONE),
    OddAnswer("line without colon", OK + b"X-Odd\r\n" + HELLO, DONE, note="the line is dropped"),
    OddAnswer("empty name", OK + b": a\r\n" + HELLO, DONE, note="the line is dropped"),
    OddAnswer(
        "blanks before the first field",
        OK + b" X-Odd: a\r\n" + HELLO,
        DONE,
        note="the line is dropped (RFC 9112 section 2.2)",
    ),
    OddAnswer(
        "bytes above 0x7F in a value",
        OK + b"X-Odd: \xe9\r\n" + HELLO,
        '200 "hello", X-Odd: "\\xe9"',
    ),
    OddAnswer("NUL in a value", OK + b"X-Odd: a\0b\r\n" + HELLO, BAD),
    OddAnswer("control byte in a value", OK + b"X-Odd: a\x01b\r\n" + HELLO, BAD),
    OddAnswer("field of 60 kB", OK + _field(60_000) + HELLO, '200 "hello", X-Long: 60000 bytes'),
    OddAnswer("300 fields", OK + _fields(300) + HELLO, '200 "hello", 300 times X-Field'),
    OddAnswer(
        "head of 125 kB, 900 fields",
        OK + _field(105_000) + _fields(900) + HELLO,
        '200 "hello", 900 times X-Field, X-Long: 105000 bytes',
    ),
    OddAnswer(
        "head of 140 kB", OK + _field(140_000) + HELLO, BAD, note="a head has at most 128 KiB"
    ),
    OddAnswer(
        "1,100 fields", OK + _fields(1100) + HELLO, BAD, note="a head has at most 1,000 fields"
    ),
    # Length
    OddAnswer("Content-Length twice, same", OK + FIVE + HELLO, DONE),
    OddAnswer(
        "Content-Length: 5, 5",
        OK + b"Content-Length: 5, 5\r\n\r\nhello",
        DONE,
        note="one of them counts (RFC 9110 section 8.6)",
    ),
    OddAnswer("Content-Length twice, different", OK + b"Content-Length: 6\r\n" + HELLO, BAD),
    OddAnswer("Content-Length empty", OK + b"Content-Length:\r\n\r\nhello", BAD),
    OddAnswer("Content-Length: +5", OK + b"Content-Length: +5\r\n\r\nhello", BAD),
    OddAnswer("Content-Length: -1", OK + b"Content-Length: -1\r\n\r\nhello", BAD),
    OddAnswer(
        "blank inside Content-Length",
        OK + b"Content Length: 5\r\n\r\nhello",
        BAD,
        note="where the body ends is not clear",
    ),
    OddAnswer(
        "blank before Content-Length, which is first",
        OK + b" Content-Length: 9\r\nX-Odd: a\r\n\r\nhello",
        BAD,
    ),
    OddAnswer("Content-Length too short", OK + HELLO + b" and more", DONE),
    OddAnswer("Content-Length too long", OK + b"Content-Length: 9\r\n\r\nhello", CUT),
    OddAnswer("no length: until the connection ends", OK + b"\r\nhello", DONE),
    OddAnswer(
        "Transfer-Encoding and Content-Length",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n" + LAST,
        DONE,
    ),
    OddAnswer(
        "control byte inside Transfer-Encoding, and Content-Length",
        OK + b"Content-Length: 3\r\nTransfer-Encoding\x0b: chunked\r\n\r\n5\r\nhello\r\n" + LAST,
        BAD,
    ),
    OddAnswer(
        "Transfer-Encoding without colon, and Content-Length",
        OK + b"Content-Length: 3\r\nTransfer-Encoding chunked\r\n\r\n5\r\nhello\r\n" + LAST,
        BAD,
    ),
    OddAnswer(
        "Transfer-Encoding: identity",
        OK + b"Transfer-Encoding: identity\r\n" + HELLO,
        DONE,
        note="`identity` means none (RFC 2616 section 3.6)",
    ),
    OddAnswer(
        "Transfer-Encoding: gzip, chunked",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n" + LAST,
        BAD,
    ),
    OddAnswer(
        "Transfer-Encoding: chunked twice",
        OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n5\r\nhello\r\n" + LAST,
        BAD,
    ),
    OddAnswer(
        "Transfer-Encoding in HTTP/1.0",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" + LAST,
        BAD,
        note="where the body ends is not clear (RFC 9112 section 6.1)",
    ),
    # Chunks
    OddAnswer("chunk size padded with blanks", CHUNKED + b"0005 \r\nhello\r\n0   \r\n\r\n", DONE),
    OddAnswer(
        "chunk lines end in LF",
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n",
        DONE,
        note="accepted like LF in heads",
    ),
    OddAnswer("chunk extensions", CHUNKED + b'5;a="b c"\r\nhello\r\n0;x\r\n\r\n', DONE),
    OddAnswer(
        "trailers",
        CHUNKED + b"5\r\nhello\r\n0\r\nETag: x\r\n\r\n",
        '200 "hello", trailer Etag: "x"',
    ),
    OddAnswer("chunk size 0x5", CHUNKED + b"5\r\nhello\r\n0x5\r\nhello\r\n" + LAST, CUT),
    OddAnswer("chunk without size", CHUNKED + b"5\r\nhello\r\n\r\nhello\r\n" + LAST, CUT),
    OddAnswer(
        "blank before the chunk size", CHUNKED + b"5\r\nhello\r\n 5\r\nhello\r\n" + LAST, CUT
    ),
    OddAnswer("no CRLF behind a chunk", CHUNKED + b"5\r\nhello5\r\nhello\r\n" + LAST, CUT),
    OddAnswer("chunk longer than its size", CHUNKED + b"5\r\nhello!\r\n" + LAST, CUT),
    OddAnswer("chunk cut short", CHUNKED + b"5\r\nhello\r\n9\r\nhel", CUT),
    OddAnswer("no last chunk", CHUNKED + b"5\r\nhello\r\n", CUT),
    OddAnswer("no empty line behind the last chunk", CHUNKED + b"5\r\nhello\r\n0\r\n", CUT),
    OddAnswer("bad trailer", CHUNKED + b"5\r\nhello\r\n0\r\nno colon\r\n\r\n", CUT),
    # Statuses without body
    OddAnswer("204 with Content-Length", b"HTTP/1.1 204 No Content\r\n" + HELLO, '204 ""'),
    OddAnswer("304 with Content-Length", b"HTTP/1.1 304 Not Modified\r\n" + HELLO, '304 ""'),
    OddAnswer("205 with a body", b"HTTP/1.1 205 Reset\r\n" + HELLO, '205 "hello"'),
    OddAnswer("body to HEAD", OK + HELLO, '200 ""', "HEAD"),
    OddAnswer(
        "103, then 200",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + HELLO,
        '103, 200 "hello"',
    ),
    OddAnswer(
        "three interim answers",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + OK + HELLO,
        '103, 103, 103, 200 "hello"',
    ),
    OddAnswer(
        "100 without Expect", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + HELLO, '100, 200 "hello"'
    ),
    OddAnswer(
        "101 without an upgrade",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        BAD,
        note="the client asked for no other protocol",
    ),
    OddAnswer("nothing", b"", BAD),
    OddAnswer("half a head", OK + b"Content-Le", BAD),
)
