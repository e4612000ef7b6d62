"""Rows of `revocations`, and the copy in memory that every handshake is checked against."""

from dataclasses import dataclass

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from zerotrust.db.database import changed_rows
from zerotrust.db.tables import WHOLE_AGENT, RevocationRow


@dataclass(frozen=True)
class RevocationList:
    """Revoked agents and certificates. Replaced as a whole after each revocation."""

    agents: frozenset[str] = frozenset()

    serials: frozenset[tuple[str, str]] = frozenset()
    """Agent and serial: two authorities may both have issued serial 1."""

    def refuses(self, agent: str, serial: str) -> bool:
        """Return True if the agent, or this certificate of it, is revoked."""
        return agent in self.agents or (agent, serial) in self.serials


def find(session: Session, agent_id: str, serial: str = WHOLE_AGENT) -> RevocationRow | None:
    """Return the revocation of the agent, or of one certificate of it, or None."""
    return session.get(RevocationRow, (agent_id, serial))


def add(
    session: Session,
    agent_id: str,
    serial: str = WHOLE_AGENT,
    *,
    reason: str,
    now: int,
    until: int | None = None,
) -> RevocationRow:
    """Revoke a known agent, or one certificate of it, that is not revoked yet."""
    revocation = RevocationRow(
        agent_id=agent_id, serial=serial, revoked_at=now, reason=reason, until=until
    )
    session.add(revocation)
    session.flush()
    return revocation


def remove(session: Session, agent_id: str, serial: str = WHOLE_AGENT) -> bool:
    """Remove a revocation; return False if there is none."""
    statement = delete(RevocationRow).where(
        RevocationRow.agent_id == agent_id, RevocationRow.serial == serial
    )
    return changed_rows(session, statement) == 1


def listed(session: Session, agent_id: str | None = None) -> list[RevocationRow]:
    """Return all revocations, or those of one agent, in order."""
    query = select(RevocationRow).order_by(RevocationRow.agent_id, RevocationRow.serial)
    return list(
        session.scalars(
            query if agent_id is None else query.where(RevocationRow.agent_id == agent_id)
        )
    )


def load(session: Session, *, now: int) -> RevocationList:
    """Return the revocations to check handshakes against, without those of expired certificates."""
    query = select(RevocationRow).where(
        or_(RevocationRow.until.is_(None), RevocationRow.until > now)
    )
    rows = list(session.scalars(query))
    return RevocationList(
        agents=frozenset(row.agent_id for row in rows if row.serial == WHOLE_AGENT),
        serials=frozenset((row.agent_id, row.serial) for row in rows if row.serial != WHOLE_AGENT),
    )


def forget(session: Session, agent_id: str, *, ended_before: int) -> int:
    """Remove revocations of an agent's certificates that ended before; return the number."""
    return changed_rows(
        session,
        delete(RevocationRow).where(
            RevocationRow.agent_id == agent_id, RevocationRow.until < ended_before
        ),
    )
