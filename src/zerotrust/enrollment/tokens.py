"""Join tokens: each lets one machine join once, before the token expires."""

import datetime
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.orm import Session

from zerotrust.db import agents, audit, revocations, tokens
from zerotrust.db.tables import JoinTokenRow
from zerotrust.enrollment.public_suffix import warning
from zerotrust.enrollment.refusals import KEPT, agent_name, new_pattern, seconds
from zerotrust.errors import EnrollmentError, NotFound

LONGEST: Final = datetime.timedelta(days=30)
MAX_PATTERNS: Final = 1000
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A new token. Its secret is shown once."""

    number: int
    secret: str = field(repr=False)
    agent_id: str
    patterns: list[str]
    expires_at: int
    warnings: list[str]


def digest_of(secret: str) -> bytes:
    """Return the hash that the database keeps.

    The secret has 256 random bits: no salt is needed.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def create_token(
    session: Session,
    *,
    agent_id: str,
    patterns: Sequence[str],
    lifetime: datetime.timedelta,
    actor: str,
    now: datetime.datetime,
) -> IssuedToken:
    """Create a join token for an agent, which is granted the patterns when it joins.

    Args:
        lifetime: one second to 30 days.

    Raises:
        EnrollmentError: invalid name, pattern or lifetime, or the agent is revoked.
    """
    name = agent_name(agent_id)
    wanted = list(dict.fromkeys(new_pattern(text) for text in patterns))
    if len(wanted) > MAX_PATTERNS:
        raise EnrollmentError(
            f"{len(wanted)} host names are too many for one join token; the limit is {MAX_PATTERNS}"
        )
    if not datetime.timedelta(seconds=1) <= lifetime <= LONGEST:
        raise EnrollmentError(
            f"invalid lifetime {lifetime} for a join token; choose 1 second to {LONGEST.days} days"
        )
    at = seconds(now)
    agents.ensure(session, name, now=at)
    if revocations.find(session, name) is not None:
        raise EnrollmentError(
            f"{name} is revoked; if it may come back: 0trust agents restore {name}"
        )
    tokens.forget(session, over_before=at - seconds_of(KEPT))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    row = tokens.add(
        session, digest_of(secret), name, wanted, expires_at=at + seconds_of(lifetime), now=at
    )
    audit.append(
        session,
        at=at,
        actor=actor,
        action="token.created",
        agent=name,
        details={"token": row.number, "hosts": wanted, "expires_at": row.expires_at},
    )
    warnings = [text for text in map(warning, wanted) if text is not None]
    return IssuedToken(
        number=row.number,
        secret=secret,
        agent_id=name,
        patterns=wanted,
        expires_at=row.expires_at,
        warnings=warnings,
    )


def cancel_token(
    session: Session, number: int, *, actor: str, now: datetime.datetime
) -> JoinTokenRow:
    """Cancel a join token.

    Raises:
        NotFound: the token does not exist, or is used or cancelled.
    """
    at = seconds(now)
    row = tokens.find(session, number)
    if row is None or not tokens.cancel(session, number, now=at):
        raise NotFound(f"there is no open join token {number}; list them with: 0trust tokens list")
    audit.append(
        session,
        at=at,
        actor=actor,
        action="token.cancelled",
        agent=row.agent_id,
        details={"token": number},
    )
    return row


def list_tokens(session: Session) -> list[JoinTokenRow]:
    """Return all join tokens of the last 30 days, the newest first."""
    return tokens.listed(session)


def seconds_of(span: datetime.timedelta) -> int:
    """Return the span in whole seconds, at least 1."""
    return max(1, int(span.total_seconds()))
