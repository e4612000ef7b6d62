"""Changes to the fields of a head.

Names are compared as gateways to other programs compare them (RFC 3875 s4.1.18): without case, `_` like `-`. Else a
client could say `X_User` where a configuration sets `X-User`, and a backend would not see the difference.
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
"""Fields that say what a content is and for how long: those of a backend's are not true of a page that says why not."""


class Edit(NamedTuple):
    """One change: the fields of this name go away (`replaces`), then `lines` are added."""

    name: bytes
    lines: bytes
    replaces: bool


def set_field(name: str, values: Sequence[str]) -> Edit:
    """The field has these values and no others."""
    return Edit(folded(name.encode()), _lines(name, values), True)


def add_field(name: str, values: Sequence[str]) -> Edit:
    """The field has these values too."""
    return Edit(folded(name.encode()), _lines(name, values), False)


def delete_field(name: str) -> Edit:
    """There is no such field."""
    return Edit(folded(name.encode()), b"", True)


def edit_lines(lines: bytes, edits: Iterable[Edit]) -> bytes:
    """Canonical field lines after the changes, which are made in order."""
    # From the last to the first, so that a name is looked up once for each line, however many edits there are.
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
    """Those of a response's changes that hold for a refusal of our own too: all that are not about its content."""
    return [edit for edit in edits if edit.name not in _CONTENT_HEADERS]


def edit_refusal(page: bytes, edits: Sequence[Edit]) -> bytes:
    """A page of our own (`zerotrust.http.error_responses`) with the changes that hold for it."""
    if not edits:
        return page
    head, _, body = page.partition(b"\r\n\r\n")
    return edit_block(head + b"\r\n", refusal_edits(edits)) + b"\r\n" + body


def edit_block(block: bytes, edits: Sequence[Edit]) -> bytes:
    """A block (`zerotrust.http.head_block`) after the changes of its fields."""
    if not edits:
        return block
    start, _, lines = block.partition(b"\r\n")
    return start + b"\r\n" + edit_lines(lines, edits)


def _lines(name: str, values: Sequence[str]) -> bytes:
    return b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for value in values)
