"""Views of database rows and sessions for the admin API (model.admin)."""

import json
import time
from collections.abc import Iterable

from zerotrust.db.tables import (
    WHOLE_AGENT,
    AuditRow,
    CertificateRow,
    GrantRow,
    JoinTokenRow,
    RevocationRow,
)
from zerotrust.enrollment.queries import AgentSummary
from zerotrust.errors import StateError
from zerotrust.model import admin
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.identity.membership import MemberServer


def agent(
    name: str, known: AgentSummary | None, sessions: list[AgentSession], *, hosts: int
) -> admin.AgentInfo:
    """Return the view of an agent that is in the database, or connected, or both.

    Args:
        hosts: number of host names and wildcards that are granted to it.
    """
    ends = [int(session.certificate_ends) for session in sessions]
    if known is not None and known.certificate_ends_at is not None:
        ends.append(known.certificate_ends_at)
    revoked_at = None if known is None else known.revoked_at
    return admin.AgentInfo(
        id=name,
        state="revoked"
        if revoked_at is not None
        else "connected"
        if any(one.attached for one in sessions)
        else "away",
        created_at=None if known is None else known.created_at,
        joined_at=None if known is None else known.joined_at,
        revoked_at=revoked_at,
        certificate_ends_at=max(ends, default=None),
        hosts=hosts,
        sessions=[session(one) for one in sessions],
    )


def member(one: MemberServer, *, here: bool) -> admin.MemberInfo:
    """Return the view of a server; `here` for the one that answers."""
    return admin.MemberInfo(
        id=one.id, address=one.address, version=one.version, since=one.since, here=here
    )


def by_agent(sessions: Iterable[AgentSession]) -> dict[str, list[AgentSession]]:
    """Group sessions by agent."""
    found: dict[str, list[AgentSession]] = {}
    for one in sessions:
        found.setdefault(one.agent, []).append(one)
    return found


def session(one: AgentSession) -> admin.SessionInfo:
    """Return the view of a session."""
    return admin.SessionInfo(
        generation=one.generation,
        since=int(one.since),
        peer=one.peer,
        software=one.software,
        serial=one.serial,
        certificate_ends_at=int(one.certificate_ends),
        services=len(one.services),
        streams=one.stream_count,
        connected=one.attached,
        round_trip=one.round_trip,
    )


def token(row: JoinTokenRow) -> admin.TokenInfo:
    """Return the view of a join token, with its state now."""
    if row.used_at is not None:
        state = "used"
    elif row.cancelled_at is not None:
        state = "cancelled"
    else:
        state = "expired" if row.expires_at <= time.time() else "open"
    return admin.TokenInfo.model_validate(
        {
            "number": row.number,
            "agent": row.agent_id,
            "hosts": row.patterns,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "used_at": row.used_at,
            "cancelled_at": row.cancelled_at,
            "state": state,
        }
    )


def grants(stored: Iterable[GrantRow], filed: Iterable[tuple[str, str]]) -> list[admin.GrantInfo]:
    """Return the views of the grants in the database and in the server's file, in order."""
    both = [
        admin.GrantInfo(
            agent=g.agent_id, host=g.pattern, source="database", created_at=g.created_at
        )
        for g in stored
    ]
    both += [
        admin.GrantInfo(agent=name, host=host, source="file", created_at=None)
        for name, host in filed
    ]
    return sorted(both, key=lambda grant: (grant.agent, grant.host, grant.source))


def certificate(row: CertificateRow) -> admin.CertificateInfo:
    """Return the view of a certificate."""
    return admin.CertificateInfo(serial=row.serial, issued_at=row.issued_at, ends_at=row.not_after)


def revocation(row: RevocationRow) -> admin.RevocationInfo:
    """Return the view of a revocation."""
    return admin.RevocationInfo(serial=serial(row), revoked_at=row.revoked_at, reason=row.reason)


def serial(row: RevocationRow) -> str | None:
    """Return the serial number of the revoked certificate; None where the agent is revoked."""
    return None if row.serial == WHOLE_AGENT else row.serial


def record(row: AuditRow) -> admin.AuditRecord:
    """Return the view of an audit record.

    Raises:
        StateError: the record is damaged.
    """
    try:
        return admin.AuditRecord(
            number=row.number,
            at=row.at,
            actor=row.actor,
            action=row.action,
            agent=row.agent_id,
            details=json.loads(row.details),
            hash=row.hash,
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise StateError(
            f"record {row.number} of the audit is damaged; see: 0trust audit verify"
        ) from error
