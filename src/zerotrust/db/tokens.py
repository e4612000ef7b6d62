"""Rows of `join_tokens`, which have only the SHA-256 of a token."""

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from zerotrust.db.database import changed_rows
from zerotrust.db.tables import JoinTokenRow

_OPEN = (JoinTokenRow.used_at.is_(None), JoinTokenRow.cancelled_at.is_(None))


def add(
    session: Session,
    digest: bytes,
    agent_id: str,
    patterns: list[str],
    *,
    expires_at: int,
    now: int,
) -> JoinTokenRow:
    """Add a token that was made now; its row has its number."""
    token = JoinTokenRow(
        digest=digest, agent_id=agent_id, patterns=patterns, created_at=now, expires_at=expires_at
    )
    session.add(token)
    session.flush()
    return token


def find(session: Session, number: int) -> JoinTokenRow | None:
    """Return the token with this number, or None."""
    return session.get(JoinTokenRow, number)


def by_digest(session: Session, digest: bytes) -> JoinTokenRow | None:
    """Return the token with this SHA-256, or None."""
    return session.scalar(select(JoinTokenRow).where(JoinTokenRow.digest == digest))


def spend(session: Session, number: int, *, now: int) -> bool:
    """Use a token up: True for exactly one caller, however many ask at the same time."""
    statement = update(JoinTokenRow).where(
        JoinTokenRow.number == number, JoinTokenRow.expires_at > now, *_OPEN
    )
    return changed_rows(session, statement.values(used_at=now)) == 1


def cancel(session: Session, number: int, *, now: int) -> bool:
    """Cancel a token; return False if it was not open."""
    return (
        changed_rows(
            session,
            update(JoinTokenRow)
            .where(JoinTokenRow.number == number, *_OPEN)
            .values(cancelled_at=now),
        )
        == 1
    )


def cancel_all(session: Session, agent_id: str, *, now: int) -> int:
    """Cancel all open tokens of an agent; return the number."""
    statement = update(JoinTokenRow).where(
        JoinTokenRow.agent_id == agent_id, JoinTokenRow.expires_at > now, *_OPEN
    )
    return changed_rows(session, statement.values(cancelled_at=now))


def listed(session: Session, agent_id: str | None = None) -> list[JoinTokenRow]:
    """Return all tokens, or those of one agent, the newest first."""
    query = select(JoinTokenRow).order_by(JoinTokenRow.number.desc())
    return list(
        session.scalars(
            query if agent_id is None else query.where(JoinTokenRow.agent_id == agent_id)
        )
    )


def forget(session: Session, *, over_before: int) -> int:
    """Remove tokens that were used, cancelled or expired before; return the number."""
    columns = (JoinTokenRow.used_at, JoinTokenRow.cancelled_at, JoinTokenRow.expires_at)
    return changed_rows(
        session, delete(JoinTokenRow).where(or_(*(column < over_before for column in columns)))
    )
