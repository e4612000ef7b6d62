"""Grants of host names to agents: add, remove, list."""

import datetime
from dataclasses import dataclass

from sqlalchemy.orm import Session

from zerotrust.db import agents, audit, grants
from zerotrust.db.tables import GrantRow
from zerotrust.enrollment.public_suffix import warning
from zerotrust.enrollment.refusals import agent_name, host_pattern, new_pattern, seconds
from zerotrust.errors import NotFound


@dataclass(frozen=True, kw_only=True)
class Granted:
    """A grant that is in force now."""

    agent_id: str
    pattern: str
    added: bool
    """False if it was in force before."""
    warnings: list[str]


def add_grant(
    session: Session, *, agent_id: str, pattern: str, actor: str, now: datetime.datetime
) -> Granted:
    """Let an agent serve a host name or a wildcard; adds the agent if it is unknown.

    Raises:
        EnrollmentError: invalid agent name or pattern.
    """
    name, meant, at = agent_name(agent_id), new_pattern(pattern), seconds(now)
    agents.ensure(session, name, now=at)
    added = grants.add(session, name, meant, now=at)
    if added:
        audit.append(
            session, at=at, actor=actor, action="grant.added", agent=name, details={"host": meant}
        )
    return Granted(
        agent_id=name,
        pattern=meant,
        added=added,
        warnings=[text] if (text := warning(meant)) else [],
    )


def remove_grant(
    session: Session, *, agent_id: str, pattern: str, actor: str, now: datetime.datetime
) -> GrantRow:
    """Remove a grant.

    Raises:
        NotFound: the grant does not exist.
        EnrollmentError: invalid agent name or pattern.
    """
    name, meant, at = agent_name(agent_id), host_pattern(pattern), seconds(now)
    row = grants.find(session, name, meant)
    if row is None:
        raise NotFound(
            f"{meant} is not granted to {name} here; list what is with: 0trust grants list"
        )
    grants.remove(session, row)
    audit.append(
        session, at=at, actor=actor, action="grant.removed", agent=name, details={"host": meant}
    )
    return row


def list_grants(session: Session, agent_id: str | None = None) -> list[GrantRow]:
    """Return all grants of the database, or those of one agent."""
    return grants.listed(session, agent_id)
