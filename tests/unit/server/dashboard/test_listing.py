"""Tests of lists in pages of 100 rows."""

from zerotrust.server.dashboard.fragments import View
from zerotrust.server.dashboard.listing import filled, page_of, words


def test_rows_follow_the_cursor_and_keep_the_query() -> None:
    rows = [f"{number:03}" for number in range(250)][::-1]
    first = page_of(rows, str, View("/", (("host", "x"),)))
    assert (first.rows[0], first.rows[-1], first.total) == ("000", "099", 250)
    assert first.next == {"host": "x", "after": "099"}
    second = page_of(rows, str, View("/", (("after", "099"),)))
    assert (second.rows[0], second.next) == ("100", {"after": "199"})
    last = page_of(rows, str, View("/", (("after", "199"),)))
    assert (last.rows[0], last.rows[-1], last.next) == ("200", "249", {})


def test_fields_of_forms() -> None:
    assert words(" a.example, b.example  c ") == ["a.example", "b.example", "c"]
    assert filled({"a": " x ", "b": " "}, "a", "b", "c") == {"a": "x"}
