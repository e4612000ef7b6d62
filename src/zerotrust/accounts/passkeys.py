"""Passkeys of users: added, used, removed."""

from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from zerotrust.db import audit
from zerotrust.db.access_tables import PasskeyRow, UserRow
from zerotrust.errors import AccessError, UserUnknown

MAX_OF_USER: Final = 50


def add(session: Session, user: UserRow, row: PasskeyRow, *, actor: str, now: int) -> None:
    """Add a passkey of a user.

    Raises:
        AccessError: it is registered already, or the user has too many.
    """
    count = session.scalar(select(func.count()).where(PasskeyRow.user_id == user.id)) or 0
    if count >= MAX_OF_USER:
        raise AccessError(f"{user.name} has {count} passkeys; remove one first")
    if session.get(PasskeyRow, row.credential_id) is not None:
        raise AccessError("this passkey is registered already")
    session.add(row)
    session.flush()
    _record(session, "passkey.added", user, row, actor=actor, now=now)


def remove(session: Session, user: UserRow, credential_id: bytes, *, actor: str, now: int) -> None:
    """Remove a passkey.

    Raises:
        UserUnknown: the user has no passkey with this id.
    """
    row = session.get(PasskeyRow, credential_id)
    if row is None or row.user_id != user.id:
        raise UserUnknown(f"{user.name} has no such passkey")
    session.delete(row)
    session.flush()
    _record(session, "passkey.removed", user, row, actor=actor, now=now)


def count_of_other_domains(session: Session, domain: str) -> int:
    """Return the number of passkeys that are not for this domain (RP ID)."""
    query = select(func.count()).where(PasskeyRow.rp_id != domain)
    return session.scalar(query) or 0


def of(session: Session, user_id: str) -> list[PasskeyRow]:
    """Return the passkeys of a user, the oldest first."""
    query = select(PasskeyRow).where(PasskeyRow.user_id == user_id)
    return list(session.scalars(query.order_by(PasskeyRow.created_at, PasskeyRow.credential_id)))


def _record(
    session: Session, action: str, user: UserRow, row: PasskeyRow, *, actor: str, now: int
) -> None:
    audit.append(
        session,
        at=now,
        actor=actor,
        action=action,
        details={"user": user.name, "user_id": user.id, "label": row.label, "domain": row.rp_id},
    )
