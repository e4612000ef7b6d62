"""Public keys of all servers that sign assertions: add, list, remove what has expired."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from zerotrust.db import audit
from zerotrust.db.access_tables import ChangeRow, IdentityKeyRow

LISTED_AROUND: Final = 86400
"""Seconds for which a key is listed before its first use and after its last."""
LIFETIME: Final = 30 * 86400
"""Seconds for which a key is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicIdentityKey:
    """The public half of a key.

    Attributes:
        server: random id of the server that has the private half.
        jwk: the key as in a JWKS document, without `kid`.
        begins_at, ends_at: first and last use, in seconds since 1970.
    """

    kid: str
    server: str
    jwk: dict[str, Any]
    begins_at: int
    ends_at: int


def add_key(session: Session, key: PublicIdentityKey, *, now: int) -> None:
    """Publish a key of this server, and remove the keys whose listing has ended."""
    session.execute(delete(IdentityKeyRow).where(IdentityKeyRow.ends_at + LISTED_AROUND < now))
    session.add(
        IdentityKeyRow(
            kid=key.kid,
            server=key.server,
            public_key=key.jwk,
            begins_at=key.begins_at,
            ends_at=key.ends_at,
        )
    )
    session.add(ChangeRow(at=now, kind="key", subject=key.kid))
    details = {"kid": key.kid, "server": key.server}
    audit.append(session, at=now, actor="server", action="key.rotated", details=details)


def listed_keys(session: Session, *, now: int) -> list[PublicIdentityKey]:
    """Return the keys of all servers that a JWKS document lists now, the oldest first."""
    rows = session.scalars(
        select(IdentityKeyRow)
        .where(IdentityKeyRow.ends_at + LISTED_AROUND >= now)
        .order_by(IdentityKeyRow.begins_at, IdentityKeyRow.kid)
    )
    return [
        PublicIdentityKey(
            kid=row.kid,
            server=row.server,
            jwk=row.public_key,
            begins_at=row.begins_at,
            ends_at=row.ends_at,
        )
        for row in rows
    ]
