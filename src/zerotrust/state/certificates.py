"""Rows of `certificates`."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from zerotrust.state.changes import changed
from zerotrust.state.tables import Certificate


def add(session: Session, agent_id: str, serial: str, *, not_after: int, now: int) -> Certificate:
    """Remember a certificate that was issued now."""
    certificate = Certificate(serial=serial, agent_id=agent_id, issued_at=now, not_after=not_after)
    session.add(certificate)
    session.flush()
    return certificate


def living(session: Session, agent_id: str, *, now: int) -> list[Certificate]:
    """Those of an agent that have not ended; the newest first."""
    query = (
        select(Certificate)
        .where(Certificate.agent_id == agent_id, Certificate.not_after > now)
        .order_by(Certificate.issued_at.desc(), Certificate.not_after.desc(), Certificate.serial)
    )
    return list(session.scalars(query))


def ends(session: Session, *, now: int) -> dict[str, int]:
    """When the last certificate of each agent ends, that has one which is good."""
    query = (
        select(Certificate.agent_id, func.max(Certificate.not_after))
        .where(Certificate.not_after > now)
        .group_by(Certificate.agent_id)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def issued_since(session: Session, agent_id: str, since: int) -> int:
    """How many an agent was issued then or later."""
    query = select(func.count()).where(Certificate.agent_id == agent_id, Certificate.issued_at >= since)
    return session.scalar(query) or 0


def of(session: Session, agent_id: str) -> list[Certificate]:
    """All of an agent that are remembered."""
    return list(session.scalars(select(Certificate).where(Certificate.agent_id == agent_id)))


def find(session: Session, serial: str) -> Certificate | None:
    """The certificate, where we issued it and it did not end long ago."""
    return session.get(Certificate, serial)


def forget(session: Session, agent_id: str, *, ended_before: int) -> int:
    """Remove those of an agent that ended before; how many. That they were issued stays in the audit."""
    statement = delete(Certificate).where(Certificate.agent_id == agent_id, Certificate.not_after < ended_before)
    return changed(session, statement)
