"""Rows of `join_tokens`: of a token only its SHA-256 is kept."""

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from zerotrust.state.changes import changed
from zerotrust.state.tables import JoinToken

_OPEN = (JoinToken.used_at.is_(None), JoinToken.cancelled_at.is_(None))


def add(session: Session, digest: bytes, agent_id: str, patterns: list[str], *, expires_at: int, now: int) -> JoinToken:
    """Remember a token that was made now; its row has its number."""
    token = JoinToken(digest=digest, agent_id=agent_id, patterns=patterns, created_at=now, expires_at=expires_at)
    session.add(token)
    session.flush()
    return token


def find(session: Session, number: int) -> JoinToken | None:
    """The token with this number."""
    return session.get(JoinToken, number)


def by_digest(session: Session, digest: bytes) -> JoinToken | None:
    """The token whose SHA-256 this is."""
    return session.scalar(select(JoinToken).where(JoinToken.digest == digest))


def spend(session: Session, number: int, *, now: int) -> bool:
    """Use a token up: True for exactly one caller, however many ask at the same time."""
    statement = update(JoinToken).where(JoinToken.number == number, JoinToken.expires_at > now, *_OPEN)
    return changed(session, statement.values(used_at=now)) == 1


def cancel(session: Session, number: int, *, now: int) -> bool:
    """Nobody can use it any more; False where that was so already."""
    return changed(session, update(JoinToken).where(JoinToken.number == number, *_OPEN).values(cancelled_at=now)) == 1


def cancel_all(session: Session, agent_id: str, *, now: int) -> int:
    """Cancel all open tokens of an agent; how many."""
    statement = update(JoinToken).where(JoinToken.agent_id == agent_id, JoinToken.expires_at > now, *_OPEN)
    return changed(session, statement.values(cancelled_at=now))


def listed(session: Session, agent_id: str | None = None) -> list[JoinToken]:
    """All tokens, or those of one agent, the newest first."""
    query = select(JoinToken).order_by(JoinToken.number.desc())
    return list(session.scalars(query if agent_id is None else query.where(JoinToken.agent_id == agent_id)))


def forget(session: Session, *, over_before: int) -> int:
    """Remove those that were used, cancelled or ended before; how many."""
    columns = (JoinToken.used_at, JoinToken.cancelled_at, JoinToken.expires_at)
    return changed(session, delete(JoinToken).where(or_(*(column < over_before for column in columns))))
