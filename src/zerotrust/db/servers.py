"""Rows of `servers`: each is a lease, which its server renews every few seconds.

Times are of the database's clock, because those of the servers may differ.
"""

import time
from typing import Final

from sqlalchemy import delete, extract, func, select
from sqlalchemy.orm import Session

from zerotrust.db.tables import ServerRow

LEASE: Final = 15
"""Seconds after which a server that does not renew its lease counts as gone."""
MAX_LISTED: Final = 64
"""Servers that one look finds; further ones are left out."""


def renew(session: Session, server_id: str, *, address: str, version: str) -> ServerRow | None:
    """Renew the lease of a server, or begin one; return the row as it was, None without a lease."""
    now = clock(session)
    row = session.get(ServerRow, server_id)
    before = None if row is None or row.lease_ends_at <= now else _copy(row)
    if row is None:
        row = ServerRow(
            id=server_id, address=address, version=version, since=now, lease_ends_at=now + LEASE
        )
        session.add(row)
    else:
        row.address, row.version = address, version
        row.lease_ends_at = now + LEASE
        if before is None:
            row.since = now
    session.flush()
    return before


def remove(session: Session, server_id: str) -> None:
    """End the lease of a server."""
    session.execute(delete(ServerRow).where(ServerRow.id == server_id))


def listed(session: Session) -> list[ServerRow]:
    """Return the servers with a lease, by id; forget those whose lease ended a day ago."""
    now = clock(session)
    session.execute(delete(ServerRow).where(ServerRow.lease_ends_at < now - 86400))
    query = select(ServerRow).where(ServerRow.lease_ends_at > now)
    return list(session.scalars(query.order_by(ServerRow.id).limit(MAX_LISTED)))


def clock(session: Session) -> int:
    """Return the time now; that of the transaction's begin may be long ago, as it waits for others.

    SQLite has the clock of this machine.
    """
    if session.get_bind().dialect.name == "sqlite":
        return int(time.time())
    return int(session.scalar(select(extract("epoch", func.clock_timestamp()))) or 0)


def _copy(row: ServerRow) -> ServerRow:
    return ServerRow(
        id=row.id,
        address=row.address,
        version=row.version,
        since=row.since,
        lease_ends_at=row.lease_ends_at,
    )
