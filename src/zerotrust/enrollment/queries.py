"""Queries for administrators: agents, with all that is known of them."""

import datetime
from collections import Counter
from dataclasses import dataclass

from sqlalchemy.orm import Session

from zerotrust.db import agents, certificates, grants, revocations, tokens
from zerotrust.db.tables import WHOLE_AGENT, AgentRow, CertificateRow, GrantRow, JoinTokenRow, RevocationRow
from zerotrust.enrollment.refusals import agent_name, seconds
from zerotrust.errors import NotFound


@dataclass(frozen=True, kw_only=True)
class AgentSummary:
    """Summary of an agent. Times are seconds since 1970, UTC."""

    id: str
    created_at: int
    joined_at: int | None
    revoked_at: int | None
    grants: int
    certificate_ends_at: int | None
    """End of the last of its certificates; None if no certificate is valid."""


@dataclass(frozen=True, kw_only=True)
class AgentHistory:
    """All that the database knows about an agent."""

    agent: AgentSummary
    grants: list[GrantRow]
    certificates: list[CertificateRow]
    """The valid ones, the newest first."""
    tokens: list[JoinTokenRow]
    revocations: list[RevocationRow]


def list_agents(session: Session, now: datetime.datetime) -> list[AgentSummary]:
    """Return all agents, sorted by id."""
    ends = certificates.ends(session, now=seconds(now))
    count = Counter(grant.agent_id for grant in grants.listed(session))
    out = {row.agent_id: row.revoked_at for row in revocations.listed(session) if row.serial == WHOLE_AGENT}
    return [
        _summary(agent, out.get(agent.id), count[agent.id], ends.get(agent.id)) for agent in agents.everyone(session)
    ]


def show_agent(session: Session, agent_id: str, now: datetime.datetime) -> AgentHistory:
    """Return all that is known about an agent.

    Raises:
        NotFound: the agent does not exist.
        EnrolmentError: invalid agent name.
    """
    agent = agents.find(session, agent_name(agent_id))
    if agent is None:
        raise NotFound(f"there is no agent {agent_id}; list them with: 0trust agents list")
    granted = grants.listed(session, agent.id)
    living = certificates.living(session, agent.id, now=seconds(now))
    out = revocations.listed(session, agent.id)
    revoked_at = next((row.revoked_at for row in out if row.serial == WHOLE_AGENT), None)
    ends = max((certificate.not_after for certificate in living), default=None)
    return AgentHistory(
        agent=_summary(agent, revoked_at, len(granted), ends),
        grants=granted,
        certificates=living,
        tokens=tokens.listed(session, agent.id),
        revocations=out,
    )


def _summary(agent: AgentRow, revoked_at: int | None, count: int, ends_at: int | None) -> AgentSummary:
    return AgentSummary(
        id=agent.id,
        created_at=agent.created_at,
        joined_at=agent.joined_at,
        revoked_at=revoked_at,
        grants=count,
        certificate_ends_at=ends_at,
    )
