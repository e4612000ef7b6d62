"""Rows of `grants`, with patterns as `enrollment.grant_table.parse_pattern` returns them."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from zerotrust.db.tables import GrantRow


def add(session: Session, agent_id: str, pattern: str, *, now: int) -> bool:
    """Grant the pattern to a known agent; return False if it is granted already."""
    if session.get(GrantRow, (agent_id, pattern)) is not None:
        return False
    session.add(GrantRow(agent_id=agent_id, pattern=pattern, created_at=now))
    session.flush()
    return True


def find(session: Session, agent_id: str, pattern: str) -> GrantRow | None:
    """Return the grant, or None."""
    return session.get(GrantRow, (agent_id, pattern))


def remove(session: Session, grant: GrantRow) -> None:
    """Remove a grant."""
    session.delete(grant)
    session.flush()


def listed(session: Session, agent_id: str | None = None) -> list[GrantRow]:
    """Return all grants, or those of one agent, in order."""
    query = select(GrantRow).order_by(GrantRow.agent_id, GrantRow.pattern)
    return list(
        session.scalars(query if agent_id is None else query.where(GrantRow.agent_id == agent_id))
    )


def pairs(session: Session) -> list[tuple[str, str]]:
    """Return agent and pattern of all grants, as `enrollment.grant_table.GrantTable` takes them."""
    return [(grant.agent_id, grant.pattern) for grant in listed(session)]
