"""What travels through the tunnel in place of a head, and the framing that each end puts behind it.

A *block* is a start line and canonical field lines. It has no framing, no hop-by-hop fields and no final empty line:
those belong to a hop, and each hop writes its own. A block that passes its check can be written to a connection as
it is: it holds one start line, no line that could end the head early, and no field that says where a body ends.

The two sides do not trust each other here. An agent that is hostile must not desync the connection that Caddy shares
between clients, so the server checks each response block; the agent checks each request block.
"""

import re
from collections.abc import Collection
from typing import Final

from zerotrust.errors import LocalProtocolError
from zerotrust.http import grammar
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead, ResponseHead
from zerotrust.http.headers import folded, is_forbidden_trailer, is_usual_trailer, tokens
from zerotrust.http.parse_cache import recent

# The shape first, then a search for names that may not be there: as a lookahead in front of each line the names would
# cost half as much again.
_REQUEST_LINE: Final = re.compile(rb"(?:(?!CONNECT )%b /[\x21\x22\x24-\x7e]*+|OPTIONS \*) HTTP/1\.1" % grammar.TOKEN)
_REQUEST_LINES: Final = re.compile(rb"Host: %b(\r\n)%b" % (grammar.HOST, grammar.LINES))
_RESPONSE_BLOCK: Final = re.compile(rb"HTTP/1\.1 ([1-9][0-9][0-9]) %b\r\n%b" % (grammar.TEXT, grammar.LINES))
_REQUEST_TEMPLATE: Final = (
    b"%b %b HTTP/1.1\r\nHost: %b\r\n%b"
    b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Real-IP: %b\r\n%b%b%b"
)
_UNKNOWN: Final = b"unknown"
"""Stands for an address that is not known (RFC 7239 s6): backends take it for no address, and never for the proxy's."""
_TRAILERS: Final = re.compile(grammar.LINES)
_HOP = rb"[Cc](?i:onnection|ontent-length)|[Tt](?i:ransfer-encoding)|[Kk](?i:eep-alive)|[Pp](?i:roxy-connection)"
_NOT_IN_REQUEST: Final = re.compile(rb"\n(?:%b|[Hh](?i:ost)):" % _HOP)
_NOT_IN_RESPONSE: Final = re.compile(rb"\n(?:%b):" % _HOP)
_UPGRADE: Final = re.compile(rb"\n[Uu](?i:pgrade): ([^\r]*+)")


def request_block(head: RequestHead, *, client: bytes, proto: bytes) -> bytes:
    """The block of a request that came from the address `client` by way of `proto` (http or https).

    `client` is empty where the address is not known.
    """
    fields = head.fields
    client = client or _UNKNOWN
    return _REQUEST_TEMPLATE % (
        head.method,
        head.target,
        fields.host_field,
        fields.lines,
        client,
        proto,
        fields.host_field,
        client,
        b"Upgrade: %b\r\n" % fields.upgrade if fields.upgrade else b"",
        b"Expect: 100-continue\r\n" if fields.expect_continue else b"",
        b"TE: trailers\r\n" if fields.te_trailers else b"",
    )


def response_block(head: ResponseHead) -> bytes:
    """The block of a response."""
    upgrade = b"Upgrade: %b\r\n" % head.upgrade if head.status == 101 and head.upgrade else b""
    return b"HTTP/1.1 %d %b\r\n%b%b" % (head.status, head.reason, head.lines, upgrade)


def check_request_block(block: bytes, *, upgrade: bool = False) -> bool:
    """True where the block is one request head without framing, with one Upgrade field or, without `upgrade`, none."""
    start, _, rest = block.partition(b"\r\n")
    return _REQUEST_LINE.fullmatch(start) is not None and _count_upgrades(rest) == (1 if upgrade else 0)


@recent
def _count_upgrades(rest: bytes) -> int:
    """The number of Upgrade fields in the lines of a request; -1 where these are not acceptable."""
    match = _REQUEST_LINES.fullmatch(rest)
    if match is None or _NOT_IN_REQUEST.search(rest, match.start(1)) is not None:
        return -1
    return len(_UPGRADE.findall(rest))


@recent
def check_response_block(block: bytes) -> int:
    """The status of the block; 0 where it is not one response head without framing.

    Only 101 has an Upgrade field, and always one (RFC 9110 s7.8): in another response it would be about this hop.
    """
    match = _RESPONSE_BLOCK.fullmatch(block)
    if match is None or _NOT_IN_RESPONSE.search(block) is not None:
        return 0
    status = int(match[1])
    return status if len(_UPGRADE.findall(block)) == (1 if status == 101 else 0) else 0


def switches_as_asked(block: bytes, asked: bytes) -> bool:
    """True where a 101 names only protocols that the request asked for (RFC 9110 s7.8).

    Args:
        block: of a response that has passed `check_response_block`.
        asked: the value of the request's Upgrade field.
    """
    match = _UPGRADE.search(block)
    named = tokens(match[1]) if match is not None else []
    return bool(named) and set(named) <= set(tokens(asked))


def check_trailers(block: bytes) -> bool:
    """True where the block is canonical lines of fields that are not forbidden behind a body."""
    return _TRAILERS.fullmatch(block) is not None and not any(
        is_forbidden_trailer(folded(line.partition(b":")[0])) for line in block.splitlines()
    )


def filter_trailers(block: bytes, *, passed: Collection[bytes], edited: Collection[bytes]) -> tuple[bytes, list[bytes]]:
    """The lines of a block of trailers that go on, and the names of fields that nothing allows.

    Args:
        passed: names (`folded`) that pass besides the usual ones.
        edited: names (`folded`) that an edit of headers has deleted, set or added to: what it says of a field holds,
            so a trailer does not bring the field back, replace its value or add one.
    """
    kept: list[bytes] = []
    dropped: list[bytes] = []
    for line in block.splitlines(True):
        name = line.partition(b":")[0]
        plain = folded(name)
        if is_forbidden_trailer(plain) or not (is_usual_trailer(plain) or plain in passed):
            dropped.append(name)
        elif plain not in edited:
            kept.append(line)
    return b"".join(kept), dropped


def request_framing_lines(kind: Kind, length: int, *, upgrade: bool, te: bool) -> bytes:
    """The end of a request's head: framing, Connection and the empty line.

    Content-Length: 0 is said where the client said it: a backend may refuse a POST without it (RFC 9110 s8.6).
    """
    if kind in (Kind.CLOSE, Kind.TUNNEL):
        raise LocalProtocolError("a request does not end with its connection")
    if upgrade and te:
        return b"Connection: Upgrade, TE\r\n" + _framing_lines(kind, length)
    if upgrade:
        return b"Connection: Upgrade\r\n" + _framing_lines(kind, length)
    if te:
        return b"Connection: TE\r\n" + _framing_lines(kind, length)
    return _framing_lines(kind, length)


def response_framing_lines(kind: int, length: int, *, close: bool, upgrade: bool) -> bytes:
    """The end of a response's head: framing, Connection and the empty line.

    The length of a body that HEAD or a 304 leaves out is said with `Kind.LENGTH`, although no body follows.
    """
    if upgrade:
        return b"Connection: Upgrade\r\n" + _framing_lines(kind, length)
    if close or kind == Kind.CLOSE:
        return b"Connection: close\r\n" + _framing_lines(kind, length)
    return _framing_lines(kind, length)


def _framing_lines(kind: int, length: int) -> bytes:
    if kind == Kind.LENGTH:
        return b"Content-Length: %d\r\n\r\n" % length
    if kind == Kind.CHUNKED:
        return b"Transfer-Encoding: chunked\r\n\r\n"
    return b"\r\n"
