"""Rows of `agents`."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from zerotrust.state.tables import Agent


def find(session: Session, agent_id: str) -> Agent | None:
    """The agent, where it is known."""
    return session.get(Agent, agent_id)


def ensure(session: Session, agent_id: str, *, now: int) -> Agent:
    """The agent, made known now where it was not."""
    agent = session.get(Agent, agent_id)
    if agent is None:
        agent = Agent(id=agent_id, created_at=now)
        session.add(agent)
        session.flush()
    return agent


def everyone(session: Session) -> list[Agent]:
    """All agents by id."""
    return list(session.scalars(select(Agent).order_by(Agent.id)))
