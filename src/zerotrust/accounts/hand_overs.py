"""One-time codes that carry a sign-in from the auth host to a service, and the passes they make."""

import hashlib
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from zerotrust.access.secret_format import digest_of, is_cookie
from zerotrust.accounts import changes, sign_ins
from zerotrust.accounts.refusals import Rationed, refuse
from zerotrust.db.access_tables import HandOverRow, PassRow, SignInRow
from zerotrust.db.database import changed_rows

LIFETIME: Final = 60
"""Seconds for which a code is good."""
MAX_PASSES_OF_HOST: Final = 10
"""Passes of one sign-in for one host name: tabs that finish at once, and repeated hand-overs."""
_REFUSED: Final = "this sign-in link is no longer valid; open the page again"


def add(  # noqa: PLR0913 - the columns of a row
    session: Session,
    number: int,
    *,
    code: str,
    host: str,
    challenge: bytes,
    target: str,
    now: int,
    rationed: Rationed,
) -> None:
    """Store the code of a hand-over.

    Raises:
        AccessRefused: the sign-in has ended.
    """
    found = sign_ins.find(session, number)
    if found is None or found[0].ends_at <= now or found[1].disabled_at is not None:
        refuse(
            session,
            "you are signed out; sign in again",
            kind="hand_over",
            actor=f"sign-in {number}",
            now=now,
            rationed=rationed,
        )
    session.add(
        HandOverRow(
            digest=digest_of(code.encode()),
            sign_in=number,
            host=host,
            challenge=challenge,
            target=target,
            expires_at=now + LIFETIME,
        )
    )


def accept(
    session: Session,
    code: str,
    *,
    host: str,
    verifier: bytes,
    pass_digest: bytes,
    now: int,
    rationed: Rationed,
) -> tuple[PassRow, str]:
    """Use up a code; return the new pass and the path to continue with.

    A code is not used up by a request that does not fit.

    Raises:
        AccessRefused: it is unknown, used or expired, or made for another browser or host name, or
            its sign-in has ended.
    """
    digest = digest_of(code.encode("utf-8", "surrogatepass"))
    row = session.get(HandOverRow, digest) if is_cookie(code.encode("ascii", "replace")) else None
    found = None if row is None else sign_ins.find(session, row.sign_in)
    if row is None or found is None or not _fits(row, found[0], host, verifier, now):
        refuse(session, _REFUSED, kind="hand_over", actor=host, now=now, rationed=rationed)
    spent = changed_rows(
        session,
        update(HandOverRow)
        .where(
            HandOverRow.digest == digest,
            HandOverRow.used_at.is_(None),
            HandOverRow.expires_at > now,
        )
        .values(used_at=now),
    )
    sign_in, user = found
    if not spent or user.disabled_at is not None:
        refuse(session, _REFUSED, kind="hand_over", actor=host, now=now, rationed=rationed)
    made = PassRow(
        digest=pass_digest,
        host=host,
        kind="sign_in",
        created_at=now,
        ends_at=sign_in.ends_at,
        sign_in=sign_in.number,
    )
    session.add(made)
    session.flush()
    changes.add(session, changes.PASS, made.number, now=now)
    _end_former(session, made, now=now)
    return made, row.target


def _fits(row: HandOverRow, sign_in: SignInRow, host: str, verifier: bytes, now: int) -> bool:
    return (
        row.host == host
        and row.challenge == hashlib.sha256(verifier).digest()
        and row.used_at is None
        and row.expires_at > now
        and sign_in.ends_at > now
    )


def _end_former(session: Session, made: PassRow, *, now: int) -> None:
    query = select(PassRow).where(
        PassRow.sign_in == made.sign_in, PassRow.host == made.host, PassRow.ended_at.is_(None)
    )
    former = session.scalars(query.order_by(PassRow.number.desc()).offset(MAX_PASSES_OF_HOST))
    for row in list(former):
        row.ended_at = now
        changes.add(session, changes.PASS, row.number, now=now)
