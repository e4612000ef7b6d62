"""Odd requests of clients as data, and what becomes of each: component tests send them."""

from typing import Final, NamedTuple

HOST: Final = "app.localhost"
HOST_LINE: Final = b"Host: app.localhost\r\n"


class Case(NamedTuple):
    """A request and its results, in Markdown.

    Attributes:
        caddy: the result through Caddy alone: the statuses of the answers, and what the backend got.
        zerotrust: the same through 0Trust behind Caddy.
        reason: why they differ.
        show: the fields of the backend's request that the results have; `body` is its body.
    """

    name: str
    raw: bytes
    caddy: str
    zerotrust: str
    reason: str
    show: tuple[str, ...]


def case(
    name: str, raw: bytes, *, caddy: str, zerotrust: str = "", reason: str = "", show: str = ""
) -> Case:
    """Return a case; without `zerotrust`, 0Trust does as Caddy."""
    assert bool(zerotrust) == bool(reason), name
    return Case(name, raw, caddy, zerotrust or caddy, reason, tuple(show.split()))


def line(name: str, start: bytes, *, fields: bytes = b"", **results: str) -> Case:
    """Return the case of a request line."""
    return case(name, start + b"\r\n" + HOST_LINE + fields + b"\r\n", **results)


def get(name: str, fields: bytes, **results: str) -> Case:
    """Return the case of a GET with these lines besides Host."""
    return case(name, b"GET / HTTP/1.1\r\n" + HOST_LINE + fields + b"\r\n", **results)


def post(name: str, fields: bytes, body: bytes, *, show: str = "body", **results: str) -> Case:
    """Return the case of a POST with these lines besides Host, and with what follows the head."""
    raw = b"POST / HTTP/1.1\r\n" + HOST_LINE + fields + b"\r\n" + body
    return case(name, raw, show=show, **results)


CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
CASES: Final[list[Case]] = [
    line("`GET /é`, raw UTF-8", b"GET /\xc3\xa9 HTTP/1.1", caddy="200, `GET /%C3%A9`"),
    line("`GET /é`, raw Latin-1", b"GET /\xe9 HTTP/1.1", caddy="200, `GET /%E9`"),
    line("`GET /?é`, raw UTF-8", b"GET /?\xc3\xa9 HTTP/1.1", caddy="200, `GET /?\\xc3\\xa9`"),
    line("`GET /?é`, raw Latin-1", b"GET /?\xe9 HTTP/1.1", caddy="200, `GET /?\\xe9`"),
    line("`GET /%c3%a9`", b"GET /%c3%a9 HTTP/1.1", caddy="200, `GET /%c3%a9`"),
    line("`GET /%u00e9`", b"GET /%u00e9 HTTP/1.1", caddy="400"),
    line("`GET /a%2Fb`", b"GET /a%2Fb HTTP/1.1", caddy="200, `GET /a%2Fb`"),
    line("`GET //a//b`", b"GET //a//b HTTP/1.1", caddy="200, `GET //a//b`"),
    line("`GET /./a`", b"GET /./a HTTP/1.1", caddy="200, `GET /./a`"),
    line("`GET /a/../b`", b"GET /a/../b HTTP/1.1", caddy="200, `GET /a/../b`"),
    line("`GET /%2e%2e/a`", b"GET /%2e%2e/a HTTP/1.1", caddy="200, `GET /%2e%2e/a`"),
    line("`GET /a\\b`", b"GET /a\\b HTTP/1.1", caddy="200, `GET /a%5Cb`"),
    line("`GET /a%00b`", b"GET /a%00b HTTP/1.1", caddy="200, `GET /a%00b`"),
    line("`GET /a;x=1?b;c`", b"GET /a;x=1?b;c HTTP/1.1", caddy="200, `GET /a;x=1?b;c`"),
    line("`GET /a#b`", b"GET /a#b HTTP/1.1", caddy="200, `GET /a%23b`"),
    line("`GET /a b`", b"GET /a b HTTP/1.1", caddy="400"),
    line("a tab in the target", b"GET /a\tb HTTP/1.1", caddy="400"),
    line("a control character in the target", b"GET /a\x01b HTTP/1.1", caddy="400"),
    line("`GET /%zz`", b"GET /%zz HTTP/1.1", caddy="400"),
    line("`GET /?%zz`", b"GET /?%zz HTTP/1.1", caddy="200, `GET /?%zz`"),
    line('`GET /"<>^{}`', b'GET /"<>^{} HTTP/1.1', caddy="200, `GET /%22%3C%3E%5E%7B%7D`"),
    line('`GET /?"<>^{}`', b'GET /?"<>^{} HTTP/1.1', caddy='200, `GET /?"<>^{}`'),
    line("`GET /?`", b"GET /? HTTP/1.1", caddy="200, `GET /?`"),
    line(
        "`GET http://app.localhost/x?y`",
        b"GET http://app.localhost/x?y HTTP/1.1",
        show="Host",
        caddy="200, `GET /x?y`, `Host: app.localhost`",
    ),
    case(
        "`GET http://app.localhost/`, another Host",
        b"GET http://app.localhost/ HTTP/1.1\r\nHost: other.localhost\r\n\r\n",
        show="Host",
        caddy="200, `GET /`, `Host: app.localhost`",
    ),
    line(
        "`GET http://app.localhost?y`",
        b"GET http://app.localhost?y HTTP/1.1",
        caddy="200, `GET /?y`",
    ),
    line("`OPTIONS *`", b"OPTIONS * HTTP/1.1", caddy="200"),
    line(
        "`GET *`",
        b"GET * HTTP/1.1",
        caddy="200, `GET *`",
        zerotrust="400 bad_request",
        reason="`*` is for OPTIONS only (RFC 9112 s3.2.4)",
    ),
    line("`GET x`", b"GET x HTTP/1.1", caddy="400"),
    line(
        "a target of 12,000 bytes",
        b"GET /" + b"a" * 11_999 + b" HTTP/1.1",
        caddy="200, `GET /aaaaaaaaaaaaaaa…`",
    ),
    line("`get /`", b"get / HTTP/1.1", caddy="200, `get /`"),
    line("`FOO /`", b"FOO / HTTP/1.1", caddy="200, `FOO /`"),
    line("`F(O /`", b"F(O / HTTP/1.1", caddy="400"),
    line("`TRACE /`", b"TRACE / HTTP/1.1", caddy="200, `TRACE /`"),
    line(
        "`CONNECT app.localhost:443`",
        b"CONNECT app.localhost:443 HTTP/1.1",
        caddy="200, `CONNECT app.localhost:443`",
        zerotrust="501 bad_request",
        reason="a service is no forward proxy",
    ),
    line("`GET  /`, two spaces", b"GET  / HTTP/1.1", caddy="400"),
    line("`HEAD /`", b"HEAD / HTTP/1.1", caddy="200, `HEAD /`"),
    case(
        "`Host: APP.LocalHost`",
        b"GET / HTTP/1.1\r\nHost: APP.LocalHost\r\n\r\n",
        show="Host",
        caddy="200, `GET /`, `Host: APP.LocalHost`",
    ),
    case(
        "`Host: app.localhost:8443`",
        b"GET / HTTP/1.1\r\nHost: app.localhost:8443\r\n\r\n",
        show="Host",
        caddy="200, `GET /`, `Host: app.localhost:8443`",
    ),
    case(
        "`Host: app.localhost.`",
        b"GET / HTTP/1.1\r\nHost: app.localhost.\r\n\r\n",
        show="Host",
        caddy="200",
        zerotrust="200, `GET /`, `Host: app.localhost.`",
        reason="Caddy's route has the name without its final dot; both mean one host",
    ),
    case(
        "`Host: [::1]`",
        b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        show="Host",
        caddy="200",
        zerotrust="404 unknown_host",
        reason="Caddy answers other hosts with an empty page",
    ),
    case(
        "`Host: other.localhost`",
        b"GET / HTTP/1.1\r\nHost: other.localhost\r\n\r\n",
        show="Host",
        caddy="200",
        zerotrust="404 unknown_host",
        reason="Caddy answers other hosts with an empty page",
    ),
    case("`Host:`, empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", show="Host", caddy="400"),
    case(
        "two Host fields",
        b"GET / HTTP/1.1\r\nHost: app.localhost\r\nHost: app.localhost\r\n\r\n",
        show="Host",
        caddy="400",
    ),
    case("no Host", b"GET / HTTP/1.1\r\n\r\n", caddy="400"),
    case("`Host: a/b`", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", caddy="400"),
    line("HTTP/1.0", b"GET / HTTP/1.0", caddy="200, `GET /`"),
    case(
        "HTTP/1.0 without Host",
        b"GET / HTTP/1.0\r\n\r\n",
        caddy="200",
        zerotrust="404 unknown_host",
        reason="Caddy answers other hosts with an empty page",
    ),
    line(
        "HTTP/1.0 with `Connection: keep-alive`",
        b"GET / HTTP/1.0",
        fields=b"Connection: keep-alive\r\n",
        caddy="200, `GET /`",
    ),
    case("HTTP/0.9", b"GET /\r\n\r\n", caddy="400"),
    line("HTTP/1.2", b"GET / HTTP/1.2", caddy="200, `GET /`"),
    line("HTTP/2.0", b"GET / HTTP/2.0", caddy="505"),
    case("lines ended by LF", b"GET / HTTP/1.1\nHost: app.localhost\n\n", caddy="200, `GET /`"),
    case(
        "CRLF before the request line",
        b"\r\nGET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
        caddy="400",
    ),
    case(
        "two requests at once",
        b"GET /1 HTTP/1.1\r\nHost: app.localhost\r\n\r\nGET /2 HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
        caddy="200 200, `GET /1`, `GET /2`",
    ),
    get(
        "`X-A: 1`, `X-A: 2`",
        b"X-A: 1\r\nX-A: 2\r\n",
        show="X-A",
        caddy="200, `GET /`, `X-A: 1`, `X-A: 2`",
    ),
    get("a folded field", b"X-A: 1\r\n 2\r\n", show="X-A", caddy="200, `GET /`, `X-A: 1 2`"),
    get("`X-A : 1`", b"X-A : 1\r\n", show="X-A", caddy="400"),
    get("`X-A:`, empty", b"X-A:\r\n", show="X-A", caddy="200, `GET /`, `X-A:`"),
    get("`X-A:1`", b"X-A:1\r\n", show="X-A", caddy="200, `GET /`, `X-A: 1`"),
    get(
        "`X-A: é`, UTF-8", b"X-A: \xc3\xa9\r\n", show="X-A", caddy="200, `GET /`, `X-A: \\xc3\\xa9`"
    ),
    get("`X-A: é`, Latin-1", b"X-A: \xe9\r\n", show="X-A", caddy="200, `GET /`, `X-A: \\xe9`"),
    get("a control character in a value", b"X-A: 1\x012\r\n", show="X-A", caddy="400"),
    get("a null byte in a value", b"X-A: 1\x002\r\n", show="X-A", caddy="400"),
    get("CR in a value", b"X-A: 1\r2\r\n", show="X-A", caddy="400"),
    get("`X_A: 1`", b"X_A: 1\r\n", show="X_A", caddy="200, `GET /`, no X_A"),
    get("`X A: 1`", b"X A: 1\r\n", show="X", caddy="400"),
    get("a line without a colon", b"X-A\r\n", show="X-A", caddy="400"),
    get("a value of 16,000 bytes", b"X-A: " + b"a" * 16_000 + b"\r\n", caddy="200, `GET /`"),
    get("a value of 100,000 bytes", b"X-A: " + b"a" * 100_000 + b"\r\n", caddy="431"),
    get(
        "200 fields",
        b"".join(b"X-%d: 1\r\n" % i for i in range(200)),
        show="X-199",
        caddy="200, `GET /`, `X-199: 1`",
    ),
    get(
        "`Cookie: a`, `Cookie: b`",
        b"Cookie: a=1\r\nCookie: b=2\r\n",
        show="Cookie",
        caddy="200, `GET /`, `Cookie: a=1`, `Cookie: b=2`",
    ),
    get(
        "`Connection: X-A`",
        b"Connection: X-A\r\nX-A: 1\r\n",
        show="X-A",
        caddy="200, `GET /`, no X-A",
    ),
    get(
        "`Connection: close`",
        b"Connection: close\r\n",
        show="Connection",
        caddy="200, `GET /`, no Connection",
    ),
    get(
        "`Keep-Alive`, `Proxy-Connection`",
        b"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\n",
        show="Keep-Alive Proxy-Connection",
        caddy="200, `GET /`, no Keep-Alive, no Proxy-Connection",
    ),
    get(
        "`Proxy-Authorization: x`",
        b"Proxy-Authorization: x\r\n",
        show="Proxy-Authorization",
        caddy="200, `GET /`, no Proxy-Authorization",
    ),
    get(
        "`TE: trailers`",
        b"TE: trailers\r\nConnection: TE\r\n",
        show="TE",
        caddy="200, `GET /`, no TE",
    ),
    get(
        "`X-Forwarded-For: 9.9.9.9`",
        b"X-Forwarded-For: 9.9.9.9\r\n",
        show="X-Forwarded-For",
        caddy="200, `GET /`, `X-Forwarded-For: 127.0.0.1`",
    ),
    get(
        "`X-Forwarded-Proto: http`",
        b"X-Forwarded-Proto: http\r\n",
        show="X-Forwarded-Proto",
        caddy="200, `GET /`, `X-Forwarded-Proto: https`",
    ),
    get(
        "`X-Real-IP: 9.9.9.9`",
        b"X-Real-IP: 9.9.9.9\r\n",
        show="X-Real-IP",
        caddy="200, `GET /`, `X-Real-IP: 9.9.9.9`",
        zerotrust="200, `GET /`, `X-Real-IP: 127.0.0.1`",
        reason="a client cannot speak for a proxy",
    ),
    get(
        "`Forwarded: for=9.9.9.9`",
        b"Forwarded: for=9.9.9.9\r\n",
        show="Forwarded",
        caddy="200, `GET /`, `Forwarded: for=9.9.9.9`",
        zerotrust="200, `GET /`, no Forwarded",
        reason="a client cannot speak for a proxy",
    ),
    get(
        "`X-Forwarded-Prefix: /x`",
        b"X-Forwarded-Prefix: /x\r\n",
        show="X-Forwarded-Prefix",
        caddy="200, `GET /`, `X-Forwarded-Prefix: /x`",
        zerotrust="200, `GET /`, no X-Forwarded-Prefix",
        reason="a client cannot speak for a proxy",
    ),
    case(
        "GET with a body",
        b"GET / HTTP/1.1\r\n" + HOST_LINE + b"Content-Length: 5\r\n\r\nhello",
        show="body",
        caddy="200, `GET /`, body `hello`",
    ),
    post(
        "`Content-Length: 5`",
        b"Content-Length: 5\r\n",
        b"hello",
        caddy="200, `POST /`, body `hello`",
    ),
    post(
        "POST without a body",
        b"",
        b"",
        show="Content-Length",
        caddy="200, `POST /`, `Content-Length: 0`",
    ),
    post(
        "`Content-Length: 5` twice",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"hello",
        caddy="200, `POST /`, body `hello`",
    ),
    post(
        "`Content-Length: 5` and `6`",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"hello",
        caddy="400",
    ),
    post("`Content-Length: 5, 5`", b"Content-Length: 5, 5\r\n", b"hello", caddy="400"),
    post("`Content-Length: +5`", b"Content-Length: +5\r\n", b"hello", caddy="400"),
    post(
        "`Content-Length: 05`",
        b"Content-Length: 05\r\n",
        b"hello",
        show="Content-Length body",
        caddy="200, `POST /`, `Content-Length: 5`, body `hello`",
    ),
    post("`Content-Length:`, empty", b"Content-Length:\r\n", b"", caddy="400"),
    post(
        "chunks",
        CHUNKED,
        b"5\r\nhello\r\n0\r\n\r\n",
        show="Transfer-Encoding body",
        caddy="200, `POST /`, `Transfer-Encoding: chunked`, body `hello`",
    ),
    post(
        "chunked and `Content-Length: 5`",
        CHUNKED + b"Content-Length: 5\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        show="Transfer-Encoding Content-Length body",
        caddy="200, `POST /`, `Transfer-Encoding: chunked`, no Content-Length, body `hello`",
    ),
    post(
        "`Transfer-Encoding: CHUNKED`",
        b"Transfer-Encoding: CHUNKED\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        caddy="200, `POST /`, body `hello`",
    ),
    post("`Transfer-Encoding: identity`", b"Transfer-Encoding: identity\r\n", b"", caddy="501"),
    post(
        "`Transfer-Encoding: gzip, chunked`",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"0\r\n\r\n",
        caddy="501",
    ),
    post("`Transfer-Encoding: chunked` twice", CHUNKED * 2, b"0\r\n\r\n", caddy="501"),
    post(
        "chunks with an extension",
        CHUNKED,
        b"5;a=b\r\nhello\r\n0\r\n\r\n",
        caddy="200, `POST /`, body `hello`",
    ),
    post(
        "a chunk size with zeros in front",
        CHUNKED,
        b"0005\r\nhello\r\n0\r\n\r\n",
        caddy="200, `POST /`, body `hello`",
    ),
    post(
        "a chunk size with blanks behind",
        CHUNKED,
        b"5  \r\nhello\r\n0\r\n\r\n",
        caddy="200, `POST /`, body `hello`",
    ),
    post("chunk lines ended by LF", CHUNKED, b"5\nhello\n0\n\n", caddy="502"),
    post("a chunk size `0x5`", CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n", caddy="502"),
    post("a chunk size `x`", CHUNKED, b"x\r\nhello\r\n0\r\n\r\n", caddy="502"),
    post(
        "a trailer",
        CHUNKED + b"Trailer: X-T\r\n",
        b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        caddy="200, `POST /`, body `hello`",
    ),
    post(
        "`Expect: 100-continue`",
        b"Expect: 100-continue\r\nContent-Length: 5\r\n",
        b"hello",
        caddy="100 200, `POST /`, body `hello`",
    ),
    post("`Expect: other`", b"Expect: other\r\nContent-Length: 5\r\n", b"hello", caddy="417"),
    get(
        "`Upgrade: chat`",
        b"Connection: Upgrade\r\nUpgrade: chat\r\n",
        show="Upgrade Connection",
        caddy="200, `GET /`, `Upgrade: chat`, `Connection: Upgrade`",
    ),
    get(
        "`Upgrade: websocket` without Connection",
        b"Upgrade: websocket\r\n",
        show="Upgrade",
        caddy="200, `GET /`, no Upgrade",
    ),
    get(
        "`Upgrade: h2c`",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        show="Upgrade HTTP2-Settings",
        caddy="200, `GET /`, `Upgrade: h2c`, no HTTP2-Settings",
        zerotrust="200, `GET /`, no Upgrade, no HTTP2-Settings",
        reason="HTTP/2 inside the connection would pass by the policy",
    ),
    get(
        "`Accept-Encoding`, `Range`, `If-None-Match`",
        b'Accept-Encoding: br\r\nRange: bytes=0-1\r\nIf-None-Match: "x"\r\n',
        show="Accept-Encoding Range If-None-Match",
        caddy='200, `GET /`, `Accept-Encoding: br`, `Range: bytes=0-1`, `If-None-Match: "x"`',
    ),
    get(
        "no `User-Agent`",
        b"",
        show="User-Agent Accept-Encoding",
        caddy="200, `GET /`, no User-Agent, `Accept-Encoding: gzip`",
        zerotrust="200, `GET /`, no User-Agent, no Accept-Encoding",
        reason="Caddy adds gzip for itself; behind 0Trust it leaves the coding to the client",
    ),
]
