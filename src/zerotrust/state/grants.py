"""Rows of `grants`: patterns as `route.grants.parse_pattern` returns them."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from zerotrust.state.tables import Grant


def add(session: Session, agent_id: str, pattern: str, *, now: int) -> bool:
    """Grant the pattern to a known agent; False where it is granted already."""
    if session.get(Grant, (agent_id, pattern)) is not None:
        return False
    session.add(Grant(agent_id=agent_id, pattern=pattern, created_at=now))
    session.flush()
    return True


def find(session: Session, agent_id: str, pattern: str) -> Grant | None:
    """The grant, where there is one."""
    return session.get(Grant, (agent_id, pattern))


def remove(session: Session, grant: Grant) -> None:
    """Take a grant back."""
    session.delete(grant)
    session.flush()


def listed(session: Session, agent_id: str | None = None) -> list[Grant]:
    """All grants, or those of one agent, in order."""
    query = select(Grant).order_by(Grant.agent_id, Grant.pattern)
    return list(session.scalars(query if agent_id is None else query.where(Grant.agent_id == agent_id)))


def pairs(session: Session) -> list[tuple[str, str]]:
    """Agent and pattern of all grants, as `route.grants.GrantTable` takes them."""
    return [(grant.agent_id, grant.pattern) for grant in listed(session)]
