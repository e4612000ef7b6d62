"""Rows of `certificates`."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from zerotrust.db.database import changed_rows
from zerotrust.db.tables import CertificateRow


def add(
    session: Session, agent_id: str, serial: str, *, not_after: int, now: int
) -> CertificateRow:
    """Add a certificate that was issued now."""
    certificate = CertificateRow(
        serial=serial, agent_id=agent_id, issued_at=now, not_after=not_after
    )
    session.add(certificate)
    session.flush()
    return certificate


def living(session: Session, agent_id: str, *, now: int) -> list[CertificateRow]:
    """Return the valid certificates of an agent, the newest first."""
    query = (
        select(CertificateRow)
        .where(CertificateRow.agent_id == agent_id, CertificateRow.not_after > now)
        .order_by(
            CertificateRow.issued_at.desc(), CertificateRow.not_after.desc(), CertificateRow.serial
        )
    )
    return list(session.scalars(query))


def ends(session: Session, *, now: int) -> dict[str, int]:
    """Return the latest end of a valid certificate by agent."""
    query = (
        select(CertificateRow.agent_id, func.max(CertificateRow.not_after))
        .where(CertificateRow.not_after > now)
        .group_by(CertificateRow.agent_id)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def issued_since(session: Session, agent_id: str, since: int) -> int:
    """Return the number of certificates issued to an agent since then."""
    query = select(func.count()).where(
        CertificateRow.agent_id == agent_id, CertificateRow.issued_at >= since
    )
    return session.scalar(query) or 0


def of(session: Session, agent_id: str) -> list[CertificateRow]:
    """Return all certificates of an agent in the table."""
    return list(session.scalars(select(CertificateRow).where(CertificateRow.agent_id == agent_id)))


def find(session: Session, serial: str) -> CertificateRow | None:
    """Return a certificate that was issued here and did not expire long ago, or None."""
    return session.get(CertificateRow, serial)


def forget(session: Session, agent_id: str, *, ended_before: int) -> int:
    """Remove an agent's certificates that ended before; return the number.

    The audit log keeps them.
    """
    statement = delete(CertificateRow).where(
        CertificateRow.agent_id == agent_id, CertificateRow.not_after < ended_before
    )
    return changed_rows(session, statement)
