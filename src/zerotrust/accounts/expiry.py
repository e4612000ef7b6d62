"""Rows over time: last uses are noted, what has run out is ended, finished rows are forgotten."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from sqlalchemy import BigInteger, bindparam, delete, or_, select, update
from sqlalchemy.orm import Session

from zerotrust.access.subject import SESSION_ENDED
from zerotrust.accounts import changes, sign_ins
from zerotrust.db.access_tables import (
    AccessTokenRow,
    HandOverRow,
    InvitationRow,
    PairingRow,
    PassRow,
    ShareLinkRow,
    SignInRow,
    SpentRow,
    UserRow,
)
from zerotrust.model.access import Sessions

SIGN_INS_KEPT: Final = 30 * 86400
"""Seconds for which ended sign-ins are kept, with address and browser."""
SEEN_LATE: Final = 120.0
"""Seconds by which the last use of a sign-in may be late in the database."""
_ENDED_AT_ONCE: Final = 1000


def note_use(
    session: Session, sign_ins_seen: Mapping[int, int], tokens_used: Mapping[str, int]
) -> None:
    """Store the last uses of sign-ins and tokens, unless another server has seen a later one."""
    connection = session.connection()
    if sign_ins_seen:
        seen = bindparam("seen", type_=BigInteger)
        statement = (
            update(SignInRow)
            .where(SignInRow.number == bindparam("id"), SignInRow.seen_at < seen)
            .values(seen_at=seen)
        )
        rows = [{"id": number, "seen": at} for number, at in sign_ins_seen.items()]
        connection.execute(statement, rows)
    if tokens_used:
        used = bindparam("used", type_=BigInteger)
        changed = update(AccessTokenRow).where(AccessTokenRow.id == bindparam("token"))
        later = or_(AccessTokenRow.used_at.is_(None), AccessTokenRow.used_at < used)
        uses = [{"token": id, "used": at} for id, at in tokens_used.items()]
        connection.execute(changed.where(later).values(used_at=used), uses)


def seen_since(session: Session, moment: int) -> list[tuple[int, int]]:
    """Return number and last use of the sign-ins in force that were used since."""
    query = select(SignInRow.number, SignInRow.seen_at).where(
        SignInRow.ended_at.is_(None), SignInRow.seen_at >= moment
    )
    return [(row.number, row.seen_at) for row in session.execute(query)]


def end_expired(session: Session, sessions: Sessions, *, now: int) -> int:
    """End the sign-ins whose time is over; return the number."""
    browser = SignInRow.method != "device"
    unused = int(now - sessions.idle - SEEN_LATE)
    expired = or_(
        SignInRow.ends_at <= now,
        browser & (SignInRow.created_at <= int(now - sessions.lifetime)),
        browser & (SignInRow.seen_at <= unused),
        ~browser & (SignInRow.created_at <= int(now - sessions.device_lifetime)),
    )
    query = select(SignInRow).where(SignInRow.ended_at.is_(None), expired).limit(_ENDED_AT_ONCE)
    of_user: dict[str, list[SignInRow]] = defaultdict(list)
    for row in session.scalars(query):
        of_user[row.user_id].append(row)
    count = 0
    for user_id, rows in of_user.items():
        user = session.get_one(UserRow, user_id)
        count += sign_ins.end(session, rows, user, why=SESSION_ENDED, actor="server", now=now)
    return count


def forget(session: Session, *, now: int) -> None:
    """Remove finished rows, each kind in the order in which rows refer to each other."""
    changes.forget(session, before=now - changes.KEPT)
    old = select(SignInRow.number).where(SignInRow.ended_at < now - SIGN_INS_KEPT)
    for statement in (
        delete(HandOverRow).where(HandOverRow.expires_at <= now),
        delete(InvitationRow).where(InvitationRow.expires_at <= now),
        delete(InvitationRow).where(InvitationRow.used_at <= now - SIGN_INS_KEPT),
        delete(PairingRow).where(PairingRow.expires_at <= now),
        delete(SpentRow).where(SpentRow.until <= now),
        delete(PassRow).where(or_(PassRow.ended_at.is_not(None), PassRow.ends_at <= now)),
        delete(PassRow).where(PassRow.sign_in.in_(old)),
        delete(SignInRow).where(SignInRow.number.in_(old)),
        delete(AccessTokenRow).where(AccessTokenRow.revoked_at <= now - SIGN_INS_KEPT),
        delete(AccessTokenRow).where(AccessTokenRow.expires_at <= now - SIGN_INS_KEPT),
        delete(ShareLinkRow).where(
            or_(ShareLinkRow.revoked_at <= now, ShareLinkRow.expires_at <= now),
            ~select(PassRow.number).where(PassRow.link_id == ShareLinkRow.id).exists(),
        ),
    ):
        session.execute(statement)
