"""Transactions of enrollment tests: issue a join token, read the audit records."""

import datetime
import json
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from zerotrust.db import audit
from zerotrust.db.database import Database
from zerotrust.enrollment.tokens import IssuedToken, create_token
from zerotrust.pki import csr

T = TypeVar("T")

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
AT = int(NOW.timestamp())
HOUR = datetime.timedelta(hours=1)
WEEK = datetime.timedelta(days=7)
CSR = csr.create().pem
ADMIN = "uid 0"


def transact(database: Database, work: Callable[[Session], T]) -> T:
    with database.transaction() as session:
        return work(session)


def issue_token(
    database: Database, agent: str = "home", *patterns: str, lifetime: datetime.timedelta = HOUR
) -> IssuedToken:
    return transact(
        database,
        lambda s: create_token(
            s, agent_id=agent, patterns=patterns, lifetime=lifetime, actor=ADMIN, now=NOW
        ),
    )


def audit_records(database: Database) -> list[tuple[str, str, str | None, dict[str, Any]]]:
    """Return actor, action, agent and details of all records; the hash chain must be whole."""
    with database.transaction() as session:
        assert audit.verify(session).broken is None
        return [
            (r.actor, r.action, r.agent_id, json.loads(r.details)) for r in audit.records(session)
        ]
