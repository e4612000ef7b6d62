"""Rows of `changes`: numbered notes for the other servers of a database.

Transactions run one at a time (`db.postgresql`, `db.sqlite`), so a change with a lower number is
never committed after one with a higher number. A number that is missing was rolled back.
"""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from zerotrust.db.access_tables import ChangeRow
from zerotrust.db.database import changed_rows

USER: Final = "user"
SIGN_IN: Final = "sign_in"
PASS: Final = "pass"  # noqa: S105 - a kind, no secret
TOKEN: Final = "token"  # noqa: S105
LINK: Final = "link"
PIN: Final = "pin"

KEPT: Final = 3600
"""Seconds. A server that has read no change for longer reads everything again."""


def add(session: Session, kind: str, subject: str | int, *, now: int) -> None:
    """Note that the row of a subject has changed."""
    add_all(session, kind, [subject], now=now)


def add_all(session: Session, kind: str, subjects: Iterable[str | int], *, now: int) -> None:
    """Note that the rows of several subjects have changed."""
    session.add_all([ChangeRow(at=now, kind=kind, subject=str(subject)) for subject in subjects])
    session.flush()


def newest(session: Session) -> int:
    """Return the number of the last change, 0 without any."""
    return session.scalar(select(func.max(ChangeRow.number))) or 0


def since(session: Session, number: int, *, limit: int) -> list[tuple[int, str, str]] | None:
    """Return number, kind and subject of the changes after a number, in order.

    Returns:
        None if there are more than `limit`, or some of them have been forgotten.
    """
    query = select(ChangeRow.number, ChangeRow.kind, ChangeRow.subject)
    # From the last known change on: while that is there, none after it has been forgotten.
    rows = session.execute(
        query.where(ChangeRow.number >= number).order_by(ChangeRow.number).limit(limit + 2)
    ).all()
    if number == 0 and (not rows or rows[0].number == 1):
        known = 0
    elif rows and rows[0].number == number:
        known = 1
    else:
        return None
    found = [(row.number, row.kind, row.subject) for row in rows[known:]]
    return found if len(found) <= limit else None


def forget(session: Session, *, before: int) -> int:
    """Remove older changes, except the last of all; return the number."""
    return changed_rows(
        session,
        delete(ChangeRow).where(ChangeRow.at < before, ChangeRow.number < newest(session)),
    )
