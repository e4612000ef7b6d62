"""Rows of the database and sessions, as the admin channel tells them (model.admin)."""

import json
import time
from collections.abc import Iterable

from zerotrust.db.tables import WHOLE_AGENT, AuditRow, CertificateRow, GrantRow, JoinTokenRow, RevocationRow
from zerotrust.enrollment.queries import AgentSummary
from zerotrust.errors import StateError
from zerotrust.model import admin
from zerotrust.server.agents.session_control import Connected


def agent(name: str, known: AgentSummary | None, sessions: list[Connected], *, hosts: int) -> admin.AgentInfo:
    """An agent that the database knows, or that is connected all the same.

    Args:
        hosts: how many names and wildcards are granted to it.
    """
    ends = [session.certificate_ends for session in sessions]
    if known is not None and known.certificate_ends_at is not None:
        ends.append(known.certificate_ends_at)
    revoked_at = None if known is None else known.revoked_at
    return admin.AgentInfo(
        id=name,
        state="revoked" if revoked_at is not None else "connected" if any(one.attached for one in sessions) else "away",
        created_at=None if known is None else known.created_at,
        joined_at=None if known is None else known.joined_at,
        revoked_at=revoked_at,
        certificate_ends_at=max(ends, default=None),
        hosts=hosts,
        sessions=[session(one) for one in sessions],
    )


def by_agent(sessions: Iterable[Connected]) -> dict[str, list[Connected]]:
    """The sessions of each agent."""
    found: dict[str, list[Connected]] = {}
    for one in sessions:
        found.setdefault(one.agent, []).append(one)
    return found


def session(one: Connected) -> admin.SessionInfo:
    """A connection."""
    return admin.SessionInfo(
        generation=one.generation,
        since=int(one.since),
        peer=one.peer,
        software=one.software,
        serial=one.serial,
        certificate_ends_at=one.certificate_ends,
        services=one.services,
        streams=one.streams,
        connected=one.attached,
    )


def token(row: JoinTokenRow) -> admin.TokenInfo:
    """Return a join token for the admin API."""
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


def grants(kept: Iterable[GrantRow], filed: Iterable[tuple[str, str]]) -> list[admin.GrantInfo]:
    """Those of the database and those of the server's file, in order."""
    both = [admin.GrantInfo(agent=g.agent_id, host=g.pattern, source="database", created_at=g.created_at) for g in kept]
    both += [admin.GrantInfo(agent=name, host=host, source="file", created_at=None) for name, host in filed]
    return sorted(both, key=lambda grant: (grant.agent, grant.host, grant.source))


def certificate(row: CertificateRow) -> admin.CertificateInfo:
    """What was issued."""
    return admin.CertificateInfo(serial=row.serial, issued_at=row.issued_at, ends_at=row.not_after)


def revocation(row: RevocationRow) -> admin.RevocationInfo:
    """Who is refused."""
    return admin.RevocationInfo(serial=serial(row), revoked_at=row.revoked_at, reason=row.reason)


def serial(row: RevocationRow) -> str | None:
    """Of the certificate that is revoked; None where it is the agent."""
    return None if row.serial == WHOLE_AGENT else row.serial


def record(row: AuditRow) -> admin.AuditRecord:
    """A record of the audit.

    Raises:
        StateError: somebody has damaged it.
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
        raise StateError(f"record {row.number} of the audit is damaged; see: 0trust audit verify") from error
