"""Edits of header lines.

Names are compared as gateways to other programs compare them (RFC 3875 s4.1.18): without case, and
`_` equals `-`. Otherwise a client could send `X_User` although the configuration sets `X-User`, and
a backend could not tell the two apart.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from zerotrust.routing.match import folded

_CONTENT_HEADERS: Final = frozenset(
    (
        b"cache-control",
        b"expires",
        b"pragma",
        b"age",
        b"etag",
        b"last-modified",
        b"content-type",
        b"content-encoding",
        b"content-language",
        b"content-location",
        b"content-disposition",
        b"accept-ranges",
        b"retry-after",
    )
)
"""Headers that describe the content of a response. They do not apply to an error page of ours."""


class Edit(NamedTuple):
    """One edit: removes the header if `replaces`, then adds `lines`."""

    name: bytes
    lines: bytes
    replaces: bool


def set_field(name: str, values: Sequence[str]) -> Edit:
    """Return an edit that replaces all values of a header."""
    return Edit(folded(name.encode()), _lines(name, values), True)


def add_field(name: str, values: Sequence[str]) -> Edit:
    """Return an edit that adds values to a header."""
    return Edit(folded(name.encode()), _lines(name, values), False)


def delete_field(name: str) -> Edit:
    """Return an edit that removes a header."""
    return Edit(folded(name.encode()), b"", True)


def edit_lines(lines: bytes, edits: Iterable[Edit]) -> bytes:
    """Return header lines in canonical form after the edits, applied in order."""
    # From last to first, so that each line needs one lookup, however many edits there are.
    replaced: set[bytes] = set()
    added: list[bytes] = []
    for name, own, replaces in reversed(tuple(edits)):
        if name not in replaced:
            added.append(own)
        if replaces:
            replaced.add(name)
    kept = [row for row in lines.splitlines(True) if folded(row.partition(b":")[0]) not in replaced]
    return b"".join((*kept, *reversed(added)))


def refusal_edits(edits: Iterable[Edit]) -> list[Edit]:
    """Return the response edits that apply to a refusal: all but content headers."""
    return [edit for edit in edits if edit.name not in _CONTENT_HEADERS]


def edit_refusal(page: bytes, edits: Sequence[Edit]) -> bytes:
    """Return an error page (`zerotrust.http.error_responses`) after the edits that apply."""
    if not edits:
        return page
    head, _, body = page.partition(b"\r\n\r\n")
    return edit_block(head + b"\r\n", refusal_edits(edits)) + b"\r\n" + body


def edit_block(block: bytes, edits: Sequence[Edit]) -> bytes:
    """Return a block (`zerotrust.http.head_block`) after the edits of its headers."""
    if not edits:
        return block
    start, _, lines = block.partition(b"\r\n")
    return start + b"\r\n" + edit_lines(lines, edits)


def _lines(name: str, values: Sequence[str]) -> bytes:
    return b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for value in values)
