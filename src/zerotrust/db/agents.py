"""Rows of `agents`."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from zerotrust.db.tables import AgentRow


def find(session: Session, agent_id: str) -> AgentRow | None:
    """Return the agent, or None if it is unknown."""
    return session.get(AgentRow, agent_id)


def ensure(session: Session, agent_id: str, *, now: int) -> AgentRow:
    """Return the agent; add it if it is unknown."""
    agent = session.get(AgentRow, agent_id)
    if agent is None:
        agent = AgentRow(id=agent_id, created_at=now)
        session.add(agent)
        session.flush()
    return agent


def everyone(session: Session) -> list[AgentRow]:
    """Return all agents, sorted by id."""
    return list(session.scalars(select(AgentRow).order_by(AgentRow.id)))
