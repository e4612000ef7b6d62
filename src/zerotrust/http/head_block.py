"""Head blocks: the hop-neutral heads that travel through the tunnel, and their checks.

A *block* is a start line and canonical field lines. It has no framing, no hop-by-hop fields and no
final empty line, because each hop writes its own. A block that passes its check can be written to a
connection as it is: it has one start line, no line that could end the head early, and no framing
field.

Server and agent do not trust each other's blocks. A hostile agent must not desynchronise the
connection that Caddy shares between clients, so the server checks each response block. The agent
checks each request block.
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

# A check first matches the shape, then searches for forbidden names. A lookahead before each line
# takes 50 % longer.
_REQUEST_LINE: Final = re.compile(
    rb"(?:(?!CONNECT )%b /(?:%b)?+|OPTIONS \*) HTTP/1\.1" % (grammar.TOKEN, grammar.TARGET)
)
_REQUEST_LINES: Final = re.compile(rb"Host: %b(\r\n)%b" % (grammar.HOST, grammar.LINES))
_RESPONSE_BLOCK: Final = re.compile(
    rb"HTTP/1\.1 ([1-9][0-9][0-9]) %b\r\n%b" % (grammar.TEXT, grammar.LINES)
)
_REQUEST_TEMPLATE: Final = (
    b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%bX-Forwarded-For: %b\r\nX-Forwarded-Proto:"
    b" %b\r\nX-Forwarded-Host: %b\r\nX-Real-IP: %b\r\n%b%b%b"
)
_UNKNOWN: Final = b"unknown"
"""Stands for an unknown client address (RFC 7239 s6), so that backends do not use the proxy's
address instead."""
_TRAILERS: Final = re.compile(grammar.LINES)
_HOP = (
    rb"[Cc](?i:onnection|ontent-length)|[Tt](?i:ransfer-encoding)"
    rb"|[Kk](?i:eep-alive)|[Pp](?i:roxy-connection)"
)
_NOT_IN_REQUEST: Final = re.compile(rb"\n(?:%b|[Hh](?i:ost)):" % _HOP)
_NOT_IN_RESPONSE: Final = re.compile(rb"\n(?:%b):" % _HOP)
_UPGRADE: Final = re.compile(rb"\n[Uu](?i:pgrade): ([^\r]*+)")


def request_block(head: RequestHead, *, client: bytes, proto: bytes, added: bytes = b"") -> bytes:
    """Return the block of a request.

    Args:
        client: the client's address; empty if unknown.
        proto: the client's scheme: http or https.
        added: more header lines in canonical form.
    """
    fields = head.fields
    client = client or _UNKNOWN
    return _REQUEST_TEMPLATE % (
        head.method,
        head.target,
        fields.host_field,
        fields.lines,
        added,
        client,
        proto,
        fields.host_field,
        client,
        b"Upgrade: %b\r\n" % fields.upgrade if fields.upgrade else b"",
        b"Expect: 100-continue\r\n" if fields.expect_continue else b"",
        b"TE: trailers\r\n" if fields.te_trailers else b"",
    )


def response_block(head: ResponseHead) -> bytes:
    """Return the block of a response."""
    upgrade = b"Upgrade: %b\r\n" % head.upgrade if head.status == 101 and head.upgrade else b""
    return b"HTTP/1.1 %d %b\r\n%b%b" % (head.status, head.reason, head.lines, upgrade)


def check_request_block(block: bytes, *, upgrade: bool = False) -> bool:
    """Return True if the block is one request head without framing; with `upgrade` it has one
    Upgrade field."""
    start, _, rest = block.partition(b"\r\n")
    return _REQUEST_LINE.fullmatch(start) is not None and _count_upgrades(rest) == (
        1 if upgrade else 0
    )


@recent
def _count_upgrades(rest: bytes) -> int:
    """Return the number of Upgrade fields in the lines of a request; -1 if the lines are
    invalid."""
    match = _REQUEST_LINES.fullmatch(rest)
    if match is None or _NOT_IN_REQUEST.search(rest, match.start(1)) is not None:
        return -1
    return len(_UPGRADE.findall(rest))


@recent
def check_response_block(block: bytes) -> int:
    """Return the status of the block; 0 if it is not one response head without framing.

    A 101 has exactly one Upgrade field (RFC 9110 s7.8). Other responses have none, because there it
    would apply to this hop.
    """
    match = _RESPONSE_BLOCK.fullmatch(block)
    if match is None or _NOT_IN_RESPONSE.search(block) is not None:
        return 0
    status = int(match[1])
    return status if len(_UPGRADE.findall(block)) == (1 if status == 101 else 0) else 0


def switches_as_asked(block: bytes, asked: bytes) -> bool:
    """Return True if a 101 names only protocols that the request named (RFC 9110 s7.8).

    Args:
        block: a response block that has passed `check_response_block`.
        asked: the value of the request's Upgrade field.
    """
    match = _UPGRADE.search(block)
    named = tokens(match[1]) if match is not None else []
    return bool(named) and set(named) <= set(tokens(asked))


def check_trailers(block: bytes) -> bool:
    """Return True if the block is canonical lines of fields that are permitted as trailers."""
    return _TRAILERS.fullmatch(block) is not None and not any(
        is_forbidden_trailer(folded(line.partition(b":")[0])) for line in block.splitlines()
    )


def filter_trailers(
    block: bytes, *, passed: Collection[bytes], edited: Collection[bytes]
) -> tuple[bytes, list[bytes]]:
    """Return the trailer lines to forward, and the names of fields that were dropped.

    Args:
        passed: names (`folded`) that pass besides the usual ones.
        edited: names (`folded`) of header fields that the policy has edited. A trailer must not
            undo an edit, so these are dropped silently.
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


def request_framing_lines(kind: int, length: int, *, upgrade: bool, te: bool) -> bytes:
    """Return the end of a request's head: framing, Connection and the empty line.

    `Content-Length: 0` is kept, because a backend may refuse a POST without it (RFC 9110 s8.6).
    """
    if kind in (Kind.CLOSE, Kind.TUNNEL):
        raise LocalProtocolError("a request body cannot end with the connection")
    if upgrade and te:
        return b"Connection: Upgrade, TE\r\n" + _framing_lines(kind, length)
    if upgrade:
        return b"Connection: Upgrade\r\n" + _framing_lines(kind, length)
    if te:
        return b"Connection: TE\r\n" + _framing_lines(kind, length)
    return _framing_lines(kind, length)


def response_framing_lines(kind: int, length: int, *, close: bool, upgrade: bool) -> bytes:
    """Return the end of a response's head: framing, Connection and the empty line.

    For a response to HEAD and a 304, `Kind.LENGTH` announces the length of the omitted body.
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
