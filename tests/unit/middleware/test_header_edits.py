"""Tests of zerotrust.middleware.header_edits."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.http import grammar
from zerotrust.middleware.header_edits import (
    Edit,
    add_field,
    delete_field,
    edit_block,
    edit_lines,
    edit_refusal,
    set_field,
)

LINES = b"A: 1\r\nX_User: evil\r\na: 2\r\nB:\r\n"


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], LINES),
        ([set_field("a", ["3"])], b"X_User: evil\r\nB:\r\na: 3\r\n"),
        ([add_field("A", ["3", "4"])], LINES + b"A: 3\r\nA: 4\r\n"),
        ([delete_field("b")], b"A: 1\r\nX_User: evil\r\na: 2\r\n"),
        ([set_field("X-User", ["ann"])], b"A: 1\r\na: 2\r\nB:\r\nX-User: ann\r\n"),
        (
            [delete_field("a"), add_field("A", ["3"]), set_field("A", ["4"])],
            b"X_User: evil\r\nB:\r\nA: 4\r\n",
        ),
        ([set_field("C", ["ü"])], LINES + "C: ü\r\n".encode()),
    ],
)
def test_changes_are_made_in_order(edits: list[Edit], expected: bytes) -> None:
    assert edit_lines(LINES, edits) == expected


def test_a_block_keeps_its_start_line() -> None:
    block = b"HTTP/1.1 200 OK\r\n" + LINES
    assert edit_block(block, []) is block
    assert (
        edit_block(block, [delete_field("a"), delete_field("x-user")])
        == b"HTTP/1.1 200 OK\r\nB:\r\n"
    )
    assert edit_block(b"HTTP/1.1 204 \r\n", [set_field("A", ["b"])]) == b"HTTP/1.1 204 \r\nA: b\r\n"


def test_a_refusal_gets_all_but_content_edits() -> None:
    page = (
        b"HTTP/1.1 502 Bad Gateway\r\nCache-Control: no-store\r\nContent-Type: text/plain\r\nX:"
        b" 1\r\n\r\nbody\r\n\r\nx"
    )
    about_content = [
        set_field("Cache_Control", ["public, max-age=3600"]),
        add_field("content-type", ["text/html"]),
        delete_field("Retry-After"),
    ]
    assert edit_refusal(page, []) is page
    assert edit_refusal(page, about_content) == page
    result = edit_refusal(
        page, [*about_content, set_field("X-Frame-Options", ["DENY"]), delete_field("x")]
    )
    assert result == page.replace(b"X: 1", b"X-Frame-Options: DENY")


NAMES = st.sampled_from(["A", "a", "B", "X-User", "x_user", "X_USER"])
EDITS = st.lists(
    st.one_of(
        st.builds(set_field, NAMES, st.lists(st.just("v"), min_size=1, max_size=2)),
        st.builds(add_field, NAMES, st.lists(st.just("v"), min_size=1, max_size=2)),
        st.builds(delete_field, NAMES),
    ),
    max_size=5,
)


def one_by_one(lines: bytes, edits: list[Edit]) -> bytes:
    """Return the lines after one edit at a time, which takes quadratic time."""
    for name, added, replaces in edits:
        rows = lines.splitlines(True)
        kept = [
            row
            for row in rows
            if row.partition(b":")[0].lower().replace(b"_", b"-") != name or not replaces
        ]
        lines = b"".join(kept) + added
    return lines


@given(st.lists(NAMES, max_size=6), EDITS)
def test_all_edits_at_once_are_the_edits_one_by_one(present: list[str], edits: list[Edit]) -> None:
    lines = "".join(f"{there}: {place}\r\n" for place, there in enumerate(present)).encode()
    assert edit_lines(lines, edits) == one_by_one(lines, edits)


@given(st.lists(NAMES, max_size=6), EDITS, NAMES)
def test_a_header_deleted_last_is_gone(present: list[str], edits: list[Edit], name: str) -> None:
    lines = "".join(f"{there}: x\r\n" for there in present).encode()
    after = edit_lines(lines, [*edits, delete_field(name)])
    assert re.fullmatch(grammar.LINES, after)
    spelled = name.lower().replace("_", "-").encode()
    assert all(
        row.partition(b":")[0].lower().replace(b"_", b"-") != spelled for row in after.splitlines()
    )
