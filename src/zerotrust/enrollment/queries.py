"""Queries for administrators: agents, with all that is known of them."""

import datetime
from dataclasses import dataclass

from sqlalchemy.orm import Session

from zerotrust.db import agents, certificates, revocations, tokens
from zerotrust.db.tables import WHOLE_AGENT, AgentRow, CertificateRow, JoinTokenRow, RevocationRow
from zerotrust.enrollment.refusals import agent_name, seconds
from zerotrust.errors import NotFound


@dataclass(frozen=True, kw_only=True)
class AgentSummary:
    """Summary of an agent. Times are seconds since 1970, UTC."""

    id: str
    created_at: int
    joined_at: int | None
    revoked_at: int | None
    certificate_ends_at: int | None
    """End of the last of its certificates; None if no certificate is valid."""


@dataclass(frozen=True, kw_only=True)
class AgentHistory:
    """All that the database knows about an agent."""

    agent: AgentSummary
    certificates: list[CertificateRow]
    """The valid ones, the newest first."""
    tokens: list[JoinTokenRow]
    revocations: list[RevocationRow]


def list_agents(session: Session, now: datetime.datetime) -> list[AgentSummary]:
    """Return all agents, sorted by id."""
    ends = certificates.ends(session, now=seconds(now))
    revoked = {
        row.agent_id: row.revoked_at
        for row in revocations.listed(session)
        if row.serial == WHOLE_AGENT
    }
    return [
        _summary(agent, revoked.get(agent.id), ends.get(agent.id))
        for agent in agents.everyone(session)
    ]


def show_agent(session: Session, agent_id: str, now: datetime.datetime) -> AgentHistory:
    """Return all that is known about an agent.

    Raises:
        NotFound: the agent does not exist.
        EnrollmentError: invalid agent name.
    """
    agent = agents.find(session, agent_name(agent_id))
    if agent is None:
        raise NotFound(f"there is no agent {agent_id}; list them with: 0trust agents list")
    valid = certificates.living(session, agent.id, now=seconds(now))
    revoked = revocations.listed(session, agent.id)
    revoked_at = next((row.revoked_at for row in revoked if row.serial == WHOLE_AGENT), None)
    ends = max((certificate.not_after for certificate in valid), default=None)
    return AgentHistory(
        agent=_summary(agent, revoked_at, ends),
        certificates=valid,
        tokens=tokens.listed(session, agent.id),
        revocations=revoked,
    )


def _summary(agent: AgentRow, revoked_at: int | None, ends_at: int | None) -> AgentSummary:
    return AgentSummary(
        id=agent.id,
        created_at=agent.created_at,
        joined_at=agent.joined_at,
        revoked_at=revoked_at,
        certificate_ends_at=ends_at,
    )
