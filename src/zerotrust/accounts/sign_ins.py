"""Sign-ins of users: begun, proven again, ended."""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from zerotrust.access.subject import SESSION_ENDED
from zerotrust.accounts import changes
from zerotrust.db import audit
from zerotrust.db.access_tables import (
    HandOverRow,
    PairingRow,
    PassRow,
    SignInRow,
    SpentRow,
    UserRow,
)
from zerotrust.errors import UserUnknown

MAX_OF_USER: Final = 100
"""With one more, the oldest ends."""
SPENT_KEPT: Final = 3600
"""Seconds for which a used value is remembered: longer than any such value is good for."""


def begin(session: Session, user: UserRow, row: SignInRow) -> SignInRow:
    """Add the sign-in of a user; end the oldest ones over the limit."""
    now = row.created_at
    over = in_force(session, user.id, now=now)[MAX_OF_USER - 1 :]
    end(session, over, user, why=SESSION_ENDED, actor="server", now=now)
    session.add(row)
    session.flush()
    changes.add(session, changes.SIGN_IN, row.number, now=now)
    details: dict[str, str | int] = {
        "user": user.name,
        "user_id": user.id,
        "sign_in": row.number,
        "method": row.method,
    }
    if row.provider:
        details["provider"] = row.provider
    if row.client:
        details["client"] = row.client
    audit.append(session, at=now, actor=f"user {user.name}", action="signed.in", details=details)
    return row


def spend(session: Session, digest: bytes, *, now: int) -> bool:
    """Use a one-time value up: True for exactly one caller."""
    if session.get(SpentRow, digest) is not None:
        return False
    session.add(SpentRow(digest=digest, until=now + SPENT_KEPT))
    session.flush()
    return True


def find(session: Session, number: int) -> tuple[SignInRow, UserRow] | None:
    """Return a sign-in that has not been ended, with its user; or None."""
    row = session.get(SignInRow, number)
    user = None if row is None else session.get(UserRow, row.user_id)
    return None if row is None or user is None or row.ended_at is not None else (row, user)


def in_force(session: Session, user_id: str | None, *, now: int) -> list[SignInRow]:
    """Return the sign-ins in force (of one user), the newest first."""
    query = select(SignInRow).where(SignInRow.ended_at.is_(None), SignInRow.ends_at > now)
    if user_id is not None:
        query = query.where(SignInRow.user_id == user_id)
    return list(session.scalars(query.order_by(SignInRow.number.desc())))


def end(
    session: Session,
    rows: Iterable[SignInRow],
    user: UserRow,
    *,
    why: str,
    actor: str,
    now: int,
    action: str = "session.ended",
) -> int:
    """End sign-ins of a user with their passes; return the number.

    There is one audit record for all of them. The user's pairing code ends too: it may be of one
    of them.

    Args:
        why: reason, as in `access.subject`.
    """
    live = [row for row in rows if row.ended_at is None]
    if not live:
        return 0
    for row in live:
        row.ended_at, row.why = now, why
    numbers = [row.number for row in live]
    session.execute(
        update(PassRow)
        .where(PassRow.sign_in.in_(numbers), PassRow.ended_at.is_(None))
        .values(ended_at=now)
    )
    session.execute(
        update(PairingRow)
        .where(PairingRow.user_id == user.id, PairingRow.used_at.is_(None))
        .values(used_at=now)
    )
    changes.add_all(session, changes.SIGN_IN, numbers, now=now)
    details: dict[str, str | Sequence[str]] = {
        "user": user.name,
        "user_id": user.id,
        "sign_ins": [str(number) for number in numbers],
        "why": why,
    }
    audit.append(session, at=now, actor=actor, action=action, details=details)
    return len(live)


def end_all(session: Session, user: UserRow, *, why: str, actor: str, now: int) -> int:
    """End all sign-ins of a user; return the number."""
    rows = in_force(session, user.id, now=now)
    return end(session, rows, user, why=why, actor=actor, now=now)


def end_one(session: Session, number: int, *, why: str, actor: str, now: int) -> None:
    """End one sign-in.

    Raises:
        UserUnknown: there is none with this number in force.
    """
    found = find(session, number)
    if found is None:
        raise UserUnknown(f"there is no session {number}; list them with: 0trust session list")
    row, user = found
    end(session, [row], user, why=why, actor=actor, now=now)


def of_account(
    session: Session, provider: str, *, subject: str = "", provider_session: str = "", now: int
) -> list[SignInRow]:
    """Return the sign-ins in force of an account at a provider, or of one session there."""
    query = select(SignInRow).where(
        SignInRow.ended_at.is_(None), SignInRow.ends_at > now, SignInRow.provider == provider
    )
    if subject:
        query = query.where(SignInRow.provider_subject == subject)
    if provider_session:
        query = query.where(SignInRow.provider_session == provider_session)
    return list(session.scalars(query)) if subject or provider_session else []


def end_of_account(
    session: Session, rows: Iterable[SignInRow], provider: str, *, why: str, action: str, now: int
) -> int:
    """End sign-ins because their provider says so; return the number."""
    return sum(
        end(
            session,
            [row],
            session.get_one(UserRow, row.user_id),
            why=why,
            actor=f"provider {provider}",
            now=now,
            action=action,
        )
        for row in rows
    )


def prove_again(session: Session, number: int, *, proven_at: int, now: int) -> None:
    """Note that the user of a sign-in has proven their identity again."""
    found = find(session, number)
    if found is not None:
        found[0].proven_at = max(found[0].proven_at, proven_at)
        changes.add(session, changes.SIGN_IN, number, now=now)


def note_provider_session(
    session: Session, number: int, provider: str, provider_session: str
) -> None:
    """Note a new session at the provider that a sign-in was begun at; its logout ends the
    sign-in."""
    found = find(session, number)
    if found is not None and found[0].provider == provider and provider_session:
        found[0].provider_session = provider_session[:255]


def remove_of(session: Session, user_id: str) -> None:
    """Remove the rows of a user's sign-ins, with passes and codes."""
    numbers = select(SignInRow.number).where(SignInRow.user_id == user_id)
    session.execute(delete(HandOverRow).where(HandOverRow.sign_in.in_(numbers)))
    session.execute(delete(PassRow).where(PassRow.sign_in.in_(numbers)))
    session.execute(delete(SignInRow).where(SignInRow.user_id == user_id))
