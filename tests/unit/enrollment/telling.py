"""Short forms for tests of enrollment: transactions, join tokens, audit records."""

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


def do(database: Database, work: Callable[[Session], T]) -> T:
    with database.transaction() as session:
        return work(session)


def invite(
    database: Database, agent: str = "home", *patterns: str, lifetime: datetime.timedelta = HOUR
) -> IssuedToken:
    return do(
        database,
        lambda s: create_token(
            s, agent_id=agent, patterns=patterns, lifetime=lifetime, actor=ADMIN, now=NOW
        ),
    )


def told(database: Database) -> list[tuple[str, str, str | None, dict[str, Any]]]:
    """Actor, action, agent and details of all records, whose chain is whole."""
    with database.transaction() as session:
        assert audit.verify(session).broken is None
        return [
            (r.actor, r.action, r.agent_id, json.loads(r.details)) for r in audit.records(session)
        ]
