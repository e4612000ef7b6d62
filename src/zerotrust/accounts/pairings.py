"""Codes with which a signed-in user lets a device in."""

import hashlib
import secrets
from typing import Final

from sqlalchemy import update
from sqlalchemy.orm import Session

from zerotrust.accounts import sign_ins
from zerotrust.db.access_tables import PairingRow
from zerotrust.db.database import changed_rows
from zerotrust.errors import AccessRefused

LIFETIME: Final = 300
"""Seconds."""
LENGTH: Final = 8
LETTERS: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
"""Without 0 and O, 1, I and L."""


def new_code() -> str:
    """Return a new random code."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def is_code(text: str) -> bool:
    """Return True if the text may be a code; case, spaces and hyphens do not count."""
    code = _plain(text)
    return len(code) == LENGTH and set(code) <= set(LETTERS)


def digest_of_code(code: str) -> bytes:
    """Return the digest under which a code is stored. It takes some ms.

    A code has 40 bits only: with a quick digest, a copy of the database would tell it in time.
    """
    return hashlib.scrypt(_plain(code).encode(), salt=b"0trust pairing", n=4096, r=8, p=1, dklen=32)


def add(session: Session, digest: bytes, sign_in: int, *, now: int) -> int:
    """Store a code of a signed-in user; return the time at which it expires.

    Raises:
        AccessRefused: the sign-in has ended, or is of a device that was paired.
    """
    found = sign_ins.find(session, sign_in)
    if found is None:
        raise AccessRefused("you are signed out; sign in again")
    row, user = found
    if row.method == "device":
        raise AccessRefused("a paired device cannot pair others; use a browser with your passkey")
    session.execute(
        update(PairingRow)
        .where(PairingRow.user_id == user.id, PairingRow.used_at.is_(None))
        .values(used_at=now)
    )
    pairing = PairingRow(
        digest=digest,
        user_id=user.id,
        expires_at=now + LIFETIME,
        proven_at=row.proven_at,
        provider=row.provider,
        provider_subject=row.provider_subject,
    )
    session.add(pairing)
    session.flush()
    return pairing.expires_at


def spend(session: Session, digest: bytes, *, now: int) -> PairingRow | None:
    """Use a code up: return its row to exactly one caller, else None."""
    statement = update(PairingRow).where(
        PairingRow.digest == digest, PairingRow.used_at.is_(None), PairingRow.expires_at > now
    )
    if changed_rows(session, statement.values(used_at=now)) != 1:
        return None
    return session.get(PairingRow, digest)


def _plain(text: str) -> str:
    return text[:40].upper().replace(" ", "").replace("-", "")
