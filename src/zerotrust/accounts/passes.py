"""Ending of passes: of visitors who sign out, and when there are too many."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from zerotrust.accounts import changes
from zerotrust.db.access_tables import PassRow


def end_of_visitor(session: Session, number: int, *, now: int) -> None:
    """End the pass of a share link or PIN whose visitor signs out. What has ended stays so."""
    row = session.get(PassRow, number)
    if row is not None and row.sign_in is None and row.ended_at is None:
        row.ended_at = now
        changes.add(session, changes.PASS, number, now=now)


def end_oldest(session: Session, count: int, *, now: int) -> int:
    """End the oldest passes in force, those without a user first; return the number."""
    query = select(PassRow.number).where(PassRow.ended_at.is_(None), PassRow.ends_at > now)
    order = (PassRow.sign_in.is_not(None), PassRow.number)
    numbers = list(session.scalars(query.order_by(*order).limit(count)))
    session.execute(update(PassRow).where(PassRow.number.in_(numbers)).values(ended_at=now))
    changes.add_all(session, changes.PASS, numbers, now=now)
    return len(numbers)
