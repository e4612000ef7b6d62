"""Lists of the dashboard: 100 rows, and a cursor for the next ones."""

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from zerotrust.server.dashboard.fragments import View

ROWS: Final = 100
CURSOR: Final = "after"
"""Name of the cursor in a query: the key of the last row of the page before."""

Row = TypeVar("Row")


class Listing(NamedTuple, Generic[Row]):
    """Rows of one page.

    Attributes:
        next: query of the next page; empty after the last one.
        total: number of rows of all pages.
    """

    rows: list[Row]
    next: dict[str, str]
    total: int


def page_of(
    rows: Iterable[Row], key: Callable[[Row], str], view: View, *, cursor: str = CURSOR
) -> Listing[Row]:
    """Return the rows that follow the cursor in the query of a view, in the order of their keys."""
    ordered = sorted(rows, key=key)
    after = view.get(cursor)
    left = [row for row in ordered if key(row) > after] if after else ordered
    shown = left[:ROWS]
    query = dict(view.query) | {cursor: key(shown[-1])} if len(left) > ROWS else {}
    return Listing(shown, query, len(ordered))


def words(text: str) -> list[str]:
    """Return the words of a form's field, which spaces or commas separate."""
    return text.replace(",", " ").split()


def filled(form: Any, *names: str) -> dict[str, str]:
    """Return the fields of a form that are filled in, without the space around them."""
    return {name: value for name in names if (value := str(form.get(name, "")).strip())}
