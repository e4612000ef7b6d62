"""Strict parser of message heads (RFC 9112 s2 to s6).

Two grammars must accept the fields. The first is ours: one regular expression over all lines. It is
stricter than RFC 9112, which permits a bare LF or an empty line before the start line (s2.2). The
second is llhttp's, by way of httptools: independent code that many servers behind us use. llhttp
alone is too lenient: it accepts `gzip, chunked` and any number of Host fields. In the start line it
accepts empty lines before it, runs of spaces, a fragment in the target, HTTP/0.9 and HTTP/2.0. It
accepts only methods that it knows, but RFC 9110 s9.1 has no closed list. So only our grammar parses
the start line.

The meaning of field lines is cached for the next head with the same lines (`recent`).

Choices that the RFCs leave:

* Host is required in HTTP/1.0 too, because it selects the service.
* Upgrade is ignored (s7.8 permits it) in a request with a body, because both would overlap. It is
  also ignored for `h2c`, which would carry requests past the policy.
* Connection must not name Host or the framing fields.
* A 101 must name its protocol in Upgrade, and Upgrade in Connection (s7.8); llhttp requires it.
* Content-Length is one number, once. Equal repetitions (s8.6) are refused.

Fields that backends trust from proxies (`headers.SPOOFABLE`) are kept apart, in every spelling. The
server's configuration says which of them pass (`api.pass_headers`).
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import httptools

from zerotrust.errors import HttpError
from zerotrust.http import grammar
from zerotrust.http.headers import (
    OWN_PREFIX,
    REQUEST_SPECIAL,
    RESPONSE_SPECIAL,
    SPOOFABLE,
    SPOOFABLE_PREFIXES,
    folded,
    is_ours,
    is_spoofable,
    tokens,
)
from zerotrust.http.parse_cache import recent
from zerotrust.model.base import normalise_host

MAX_REQUEST_HEAD_BYTES: Final = 64 * 1024
"""Browsers send all cookies of a site, up to 180 of 4 KiB; common servers accept 8 to 64 KiB. Each
connection of a client may hold an incomplete head."""

MAX_RESPONSE_HEAD_BYTES: Final = 128 * 1024
"""Half of what Chromium accepts. Fewer backends than clients hold incomplete heads."""

EDGE_TIME: Final = "X-0Trust-Edge-Time"
"""Field in which the edge says for how many milliseconds it has had the request. Never forwarded,
like all fields with this prefix."""
_EDGE_NAME: Final = b"\r\nX-0trust-Edge-Time: "
"""As Go spells it."""
_EDGE_LINE: Final = re.compile(_EDGE_NAME + rb"([0-9]{1,7}(?:\.[0-9]{1,20})?)(?=\r\n)")
"""At most 2.8 hours. A line with another value is parsed, and dropped, like those of clients."""

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods of requests that may be sent again after a failure (RFC 9110 s9.2.2)."""

MAX_REQUEST_FIELDS: Final = 500
"""More than clients send. Each field costs time, also in policies (Apache: 100; h11: no limit)."""

MAX_RESPONSE_FIELDS: Final = 1000
"""More than backends send. Policies do not look for fields in answers."""

_REQUEST_LINE: Final = re.compile(rb"(%b) (%b) HTTP/1\.([01])" % (grammar.TOKEN, grammar.TARGET))
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (%b))?+" % grammar.TEXT)
_LINES: Final = re.compile(grammar.LINES + rb"\r\n")
_LOOSE_LINES: Final = re.compile(grammar.LOOSE_LINES + rb"\r\n")
_VERSION: Final = re.compile(rb"[^ ]+ [^ ]+ HTTP/[0-9]\.[0-9]")
_ABSOLUTE: Final = re.compile(
    rb"(?i:https?)://(%b)((?:[/?]%b)?+|/)" % (grammar.HOST, grammar.TARGET)
)
_HOST: Final = re.compile(grammar.HOST)
_PROTOCOLS: Final = re.compile(grammar.PROTOCOLS)
_FIRST: Final = re.compile(grammar.TCHAR)
_BARE_LF: Final = re.compile(rb"(?:^|[^\r])\n")

_SINGLE: Final = frozenset((b"host", b"content-length"))
_NEVER_NOMINATED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_NOT_FIELDS: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))
_MAX_LENGTH_DIGITS: Final = 19


def _first_words(names: Iterable[bytes]) -> bytes:
    """Return an expression for the first words: `[Xx]|[Cc](?i:f)` for x-scheme, x-ssl- and
    cf-visitor."""
    words = sorted({name.partition(b"-")[0] for name in names})
    return b"|".join(b"[%b%b](?i:%b)" % (word[:1].upper(), word[:1], word[1:]) for word in words)


def _twins(names: Iterable[bytes]) -> bytes:
    """Return an expression for names of several words with another character in place of `-`."""
    split = sorted(name.split(b"-") for name in names if b"-" in name)
    return b"|".join(b"(?i:%b)" % b"[^0-9A-Za-z:]".join(words) for words in split)


# One search over all lines is cheaper than a comparison of each name. Most requests have no such
# field.
_MAY_BE_SPOOFED: Final = re.compile(
    rb"\n(?:(?:%b)[^0-9A-Za-z]|(?:%b):)"
    % (_first_words([OWN_PREFIX, *SPOOFABLE, *SPOOFABLE_PREFIXES]), _twins(REQUEST_SPECIAL))
)


class RequestFields:
    """Parsed field lines of a request. Never changed. Not a dataclass, see `RequestHead`.

    Attributes:
        lines: the lines to forward unchanged; all other attributes are for the hops.
        spoofable: lines that are forwarded only if `api.pass_headers` permits them.
        token: value of X-0Trust-Token (`access.token_fields`), which is never forwarded.
        proxy_secret: value of X-0Trust-Proxy-Secret, by which Caddy proves itself; the same.
    """

    __slots__ = (
        "chunked",
        "content_length",
        "expect_continue",
        "forwarded_for",
        "forwarded_proto",
        "host",
        "host_field",
        "keep_alive",
        "lines",
        "proxy_secret",
        "real_ip",
        "spoofable",
        "te_trailers",
        "token",
        "upgrade",
    )

    def __init__(  # noqa: PLR0913 - what a head says
        self,
        lines: bytes,
        spoofable: bytes,
        *,
        host: str,
        host_field: bytes,
        content_length: int | None,
        chunked: bool,
        keep_alive: bool,
        upgrade: bytes | None,
        expect_continue: bool,
        te_trailers: bool,
        real_ip: bytes | None,
        forwarded_for: bytes | None,
        forwarded_proto: bytes | None,
        token: bytes | None,
        proxy_secret: bytes | None,
    ) -> None:
        self.lines = lines
        self.spoofable = spoofable
        self.host = host
        self.host_field = host_field
        self.content_length = content_length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.expect_continue = expect_continue
        self.te_trailers = te_trailers
        self.real_ip = real_ip
        self.forwarded_for = forwarded_for
        self.forwarded_proto = forwarded_proto
        self.token = token
        self.proxy_secret = proxy_secret

    def with_lines(self, lines: bytes, spoofable: bytes) -> "RequestFields":
        """Return the same fields with other lines."""
        return self._copy(lines, spoofable, self.host, self.host_field)

    def with_host(self, host_field: bytes) -> "RequestFields":
        """Return the same fields with another host.

        Raises:
            HttpError: it is no valid host.
        """
        return self._copy(self.lines, self.spoofable, _host(host_field), host_field)

    def _copy(
        self, lines: bytes, spoofable: bytes, host: str, host_field: bytes
    ) -> "RequestFields":
        return RequestFields(
            lines,
            spoofable,
            host=host,
            host_field=host_field,
            content_length=self.content_length,
            chunked=self.chunked,
            keep_alive=self.keep_alive,
            upgrade=self.upgrade,
            expect_continue=self.expect_continue,
            te_trailers=self.te_trailers,
            real_ip=self.real_ip,
            forwarded_for=self.forwarded_for,
            forwarded_proto=self.forwarded_proto,
            token=self.token,
            proxy_secret=self.proxy_secret,
        )


class RequestHead:
    """Head of a request. Not a dataclass, because a compiled dataclass has an interpreted
    constructor.

    Attributes:
        edge_time: milliseconds that the edge says in `EDGE_TIME`; empty without that field, and in
            copies of the head.
    """

    __slots__ = ("edge_time", "fields", "method", "minor", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        fields: RequestFields,
        edge_time: bytes = b"",
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.edge_time = edge_time


@dataclass(frozen=True, slots=True, eq=False)
class ResponseHead:
    """Head of a response.

    Attributes:
        lines: the lines to forward unchanged; all other attributes are for the hops.
        announces_body: its fields announce a body, even if the status or the method allows none.
    """

    status: int
    reason: bytes
    minor: int
    lines: bytes
    content_length: int | None
    chunked: bool
    keep_alive: bool
    upgrade: bytes | None
    announces_body: bool


def find_head_end(
    buffer: bytes | bytearray, searched: int, limit: int = MAX_REQUEST_HEAD_BYTES
) -> int:
    """Return the index behind the empty line that ends a head; -1 if the head is incomplete.

    Args:
        searched: number of bytes that an earlier call has searched.
        limit: maximum length of the head.

    Raises:
        HttpError: the head is too long, or the bytes begin no head, such as a TLS hello.
    """
    end = buffer.find(b"\r\n\r\n", max(0, searched - 3)) + 4
    if end > limit or (end == 3 and len(buffer) >= limit):
        raise HttpError(f"the head is longer than {limit} bytes", 431)
    if end > 3:
        return end
    if buffer and not _FIRST.match(buffer):
        raise HttpError("this is not HTTP/1.1")
    if _BARE_LF.search(buffer, max(0, searched - 1)):
        raise HttpError("a line ends in LF without CR")
    return -1


def parse_request(head: bytes) -> RequestHead:
    """Return the parsed head of a request.

    Args:
        head: the head with its final empty line.

    Raises:
        HttpError: the head is invalid; `reply` is the status to answer.
    """
    edge_time = b""
    if _EDGE_NAME in head:
        head, edge_time = _without_edge_time(head)
    start, _, rest = head.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(start)
    if match is None:
        raise _start_fault(start)
    method, target, version = match.groups()
    minor = 1 if version == b"1" else 0
    # Only HTTP/1.1 is worth a cache.
    fields = _request_fields(rest) if minor else _read_request_fields(rest, minor)
    if target[0] != 0x2F:
        target, host_field = _other_form(method, target, fields.host_field)
        if host_field != fields.host_field:
            fields = fields.with_host(host_field)
    elif method == b"CONNECT":
        raise HttpError("CONNECT is not supported", 501)
    return RequestHead(method, target, minor, fields, edge_time)


def _without_edge_time(head: bytes) -> tuple[bytes, bytes]:
    """Return a head without the line of `EDGE_TIME`, and the value of that field.

    The value is another one in each request: with it, the cache of fields would be of no use.
    """
    line = _EDGE_LINE.search(head)
    if line is None:
        return head, b""
    return head[: line.start()] + head[line.end() :], line[1]


@recent
def _request_fields(rest: bytes) -> RequestFields:
    """Return the parsed field lines of an HTTP/1.1 request; `rest` ends with the empty line."""
    return _read_request_fields(rest, 1)


def _read_request_fields(rest: bytes, minor: int) -> RequestFields:
    lines, found = _sort(_canonical(rest)[:-2], REQUEST_SPECIAL, MAX_REQUEST_FIELDS)
    host_field = found.get(b"host")
    if host_field is None:
        raise HttpError("no Host field")
    length, chunked = _framing(found, minor)
    keep_alive, upgrade = minor == 1, None
    if (connection := found.get(b"connection")) is not None:
        options = frozenset(tokens(connection))
        if options & _NEVER_NOMINATED:
            raise HttpError("Connection names Host or a framing field")
        lines = _without(lines, options)
        keep_alive = _keeps_alive(options, minor)
        if b"upgrade" in options and minor and not (chunked or length):
            upgrade = _upgrade(found)
    _second_opinion(httptools.HttpRequestParser(None), b"GET / HTTP/1.%d\r\n%b" % (minor, rest))
    joined, spoofable = b"".join(lines), b""
    if _MAY_BE_SPOOFED.search(b"\n" + joined):
        joined, spoofable = _without_spoofable(lines)
    return RequestFields(
        joined,
        spoofable,
        host=_host(host_field),
        host_field=host_field,
        content_length=length,
        chunked=chunked,
        keep_alive=keep_alive,
        upgrade=upgrade,
        expect_continue=b"expect" in found
        and _expects(found[b"expect"])
        and minor == 1
        and (chunked or bool(length)),
        te_trailers=b"te" in found and b"trailers" in tokens(found[b"te"]),
        real_ip=found.get(b"x-real-ip"),
        forwarded_for=found.get(b"x-forwarded-for"),
        forwarded_proto=found.get(b"x-forwarded-proto"),
        token=found.get(b"x-0trust-token"),
        proxy_secret=found.get(b"x-0trust-proxy-secret"),
    )


def parse_response(head: bytes) -> ResponseHead:
    """Return the parsed head of a response.

    Args:
        head: the head with its final empty line.

    Raises:
        HttpError: the head is invalid; `reply` is 502.
    """
    try:
        return _parse_response(head)
    except HttpError as error:
        error.reply = 502
        raise


@recent
def _parse_response(head: bytes) -> ResponseHead:
    start, _, rest = head.partition(b"\r\n")
    match = _STATUS_LINE.fullmatch(start)
    if match is None:
        raise HttpError("invalid status line: it is not HTTP/1.1")
    version, code, reason = match.groups()
    minor, status = 1 if version == b"1" else 0, int(code)
    lines, found = _sort(_canonical(rest)[:-2], RESPONSE_SPECIAL, MAX_RESPONSE_FIELDS)
    length, chunked = _framing(found, minor)
    keep_alive, upgrade = minor == 1, None
    if (connection := found.get(b"connection")) is not None:
        options = frozenset(tokens(connection))
        lines = _without(lines, options)
        keep_alive = _keeps_alive(options, minor)
        if b"upgrade" in options:
            upgrade = _upgrade(found)
    if status == 101 and not (upgrade and minor):
        raise HttpError("status 101 without Upgrade, or without Upgrade in Connection")
    announces_body = chunked or bool(length)
    if status < 200 or status == 204:  # RFC 9110 s8.6: these have no Content-Length
        length = None
    # llhttp requires the space before the reason (s4), which old servers leave out.
    _second_opinion(
        httptools.HttpResponseParser(None),
        b"HTTP/1.%b %b %b\r\n%b" % (version, code, reason or b"", rest),
    )
    return ResponseHead(
        status,
        reason or b"",
        minor,
        b"".join(lines),
        length,
        chunked,
        keep_alive,
        upgrade,
        announces_body,
    )


def _sort(
    fields: bytes, special: Collection[bytes], limit: int
) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Return the lines to forward, and the values of special fields by lower-case name, joined."""
    lines = []
    found: dict[bytes, bytes] = {}
    rows = fields.splitlines(True)
    if len(rows) > limit:
        raise HttpError(f"more than {limit} fields", 431)
    for row in rows:
        name = row.partition(b":")[0].lower()
        if name not in special:
            lines.append(row)
        elif name not in found:
            found[name] = row[len(name) + 2 : -2]
        elif name in _SINGLE:
            raise HttpError(f"more than one {name.decode()} field")
        else:
            found[name] += b", " + row[len(name) + 2 : -2]
    return lines, found


def _framing(found: dict[bytes, bytes], minor: int) -> tuple[int | None, bool]:
    """Return Content-Length, and True if the body is chunked (RFC 9112 s6.1 and s6.2)."""
    coding = found.get(b"transfer-encoding")
    value = found.get(b"content-length")
    if coding is not None:
        if value is not None:
            raise HttpError("both Transfer-Encoding and Content-Length")
        if not minor:
            raise HttpError("Transfer-Encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise HttpError("unsupported transfer coding: use chunked", 501)
        return None, True
    if value is None:
        return None, False
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS or int(value) >= 2**63:
        raise HttpError("invalid Content-Length: use one number")
    return int(value), False


def _other_form(method: bytes, target: bytes, host_field: bytes) -> tuple[bytes, bytes]:
    """Return target and host of a request that is not in origin-form (RFC 9112 s3.2.2 and
    s3.2.4)."""
    if method == b"CONNECT":
        raise HttpError("CONNECT is not supported", 501)
    if target == b"*" and method == b"OPTIONS":
        return target, host_field
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise HttpError("invalid target: use a path or an http URL")
    _host(host_field)  # s3.2.2 ignores its value; s3.2 requires a valid one
    authority, path = match.groups()
    if not path and method == b"OPTIONS":
        return b"*", authority
    return (path if path.startswith(b"/") else b"/" + path), authority


@lru_cache(maxsize=1024)
def _host(field: bytes) -> str:
    if _HOST.fullmatch(field):
        try:
            return normalise_host(field.decode("ascii"))
        except ValueError:
            pass
    raise HttpError("invalid Host: use a host name")


def _keeps_alive(options: frozenset[bytes], minor: int) -> bool:
    """Return True if the connection persists (RFC 9112 s9.3)."""
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


def _without(lines: list[bytes], options: frozenset[bytes]) -> list[bytes]:
    """Return the lines that Connection does not name."""
    nominated = options - _NOT_FIELDS
    if not nominated:
        return lines
    return [line for line in lines if line.partition(b":")[0].lower() not in nominated]


def _without_spoofable(lines: list[bytes]) -> tuple[bytes, bytes]:
    """Return the lines that a client may send, and the lines that backends trust from proxies.

    Some backends read other characters as `-` (`folded`). A trusted proxy does not write names in
    this way, and may forward a client's field in this spelling beside its own. So these lines are
    in neither result, and neither are such spellings of connection fields.
    """
    kept, spoofable = [], []
    for line in lines:
        name = line.partition(b":")[0]
        plain = folded(name)
        if is_spoofable(plain):
            if name.lower() == plain:
                spoofable.append(line)
        elif not is_ours(plain) and plain not in REQUEST_SPECIAL:
            kept.append(line)
    return b"".join(kept), b"".join(spoofable)


def _upgrade(found: dict[bytes, bytes]) -> bytes | None:
    """Return the protocols of Upgrade; None if there are none, or one is h2c."""
    value = found.get(b"upgrade")
    if not value or b"h2c" in tokens(value):
        return None
    if not _PROTOCOLS.fullmatch(value):
        raise HttpError("invalid Upgrade: use a list of protocols")
    return value


def _expects(value: bytes) -> bool:
    """Return True if the request expects 100-continue (RFC 9110 s10.1.1)."""
    expectations = set(tokens(value))
    if expectations - {b"100-continue"}:
        raise HttpError("unsupported Expect: use 100-continue", 417)
    return bool(expectations)


def _second_opinion(
    parser: "httptools.HttpRequestParser | httptools.HttpResponseParser", head: bytes
) -> None:
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HttpError(f"llhttp: {error}") from None


def _canonical(rest: bytes) -> bytes:
    """Return field lines and the final empty line in canonical form."""
    if _LINES.fullmatch(rest):
        return rest
    if not _LOOSE_LINES.fullmatch(rest):
        raise HttpError("invalid field line: use `Name: value`")
    parts = []
    for row in rest[:-2].splitlines():
        name, _, value = row.partition(b":")
        parts.append(b"%b: %b\r\n" % (name, value.strip(b" \t")))
    parts.append(b"\r\n")
    return b"".join(parts)


def _start_fault(start: bytes) -> HttpError:
    """Return the error of an invalid request line."""
    if _VERSION.fullmatch(start) and not start.endswith((b" HTTP/1.0", b" HTTP/1.1")):
        return HttpError("unsupported HTTP version: use version 1.1 or 1.0", 505)
    return HttpError("invalid request line: use `METHOD target HTTP/1.1`")
