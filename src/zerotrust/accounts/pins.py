"""PINs of host names: set, cleared, used."""

import re
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from zerotrust.accounts import changes
from zerotrust.accounts.refusals import Rationed, refuse
from zerotrust.db import audit
from zerotrust.db.access_tables import PassRow, PinRow
from zerotrust.db.database import changed_rows
from zerotrust.errors import AccessError
from zerotrust.model.base import normalise_host

_PIN: Final = re.compile(r"[0-9]{6,32}")


def check_pin(pin: str) -> str:
    """Return a new PIN.

    Raises:
        AccessError: it has not 6 to 32 digits.
    """
    if _PIN.fullmatch(pin) is None:
        raise AccessError("invalid PIN: use 6 to 32 digits")
    return pin


def is_pin(text: str) -> bool:
    """Return True if the text may be a PIN."""
    return _PIN.fullmatch(text) is not None


def put(session: Session, host: str, pin_hash: str, *, actor: str, now: int) -> None:
    """Set the PIN of a host name; passes of a former PIN end.

    Raises:
        AccessError: invalid host name.
    """
    try:
        name = normalise_host(host)
    except ValueError as error:
        raise AccessError(str(error)) from error
    session.merge(PinRow(host=name, pin_hash=pin_hash, set_at=now))
    session.flush()
    _end_passes(session, name, "pin.set", actor=actor, now=now)


def clear(session: Session, host: str, *, actor: str, now: int) -> bool:
    """Clear the PIN of a host name; return False if there was none."""
    row = session.get(PinRow, host)
    if row is None:
        return False
    session.delete(row)
    session.flush()
    _end_passes(session, host, "pin.cleared", actor=actor, now=now)
    return True


def use(  # noqa: PLR0913 - the columns of a row
    session: Session,
    host: str,
    pin_hash: str,
    *,
    pass_digest: bytes,
    ends_at: int,
    client: str,
    now: int,
    rationed: Rationed,
) -> PassRow:
    """Make a pass for a visitor whose PIN has been verified against a hash.

    Raises:
        AccessRefused: the PIN was changed meanwhile.
    """
    row = session.get(PinRow, host)
    if row is None or row.pin_hash != pin_hash:
        refuse(
            session,
            "the PIN was changed; enter the new one",
            kind="pin",
            actor=client,
            now=now,
            rationed=rationed,
        )
    made = PassRow(digest=pass_digest, host=host, kind="pin", created_at=now, ends_at=ends_at)
    session.add(made)
    session.flush()
    changes.add(session, changes.PASS, made.number, now=now)
    return made


def record_asleep(session: Session, of: str, *, now: int) -> None:
    """Record that a PIN accepts no further tries.

    Args:
        of: its host name, or the link that it belongs to.
    """
    audit.append(session, at=now, actor="server", action="pin.asleep", details={"of": of})


def listed(session: Session) -> list[PinRow]:
    """Return the host names with a PIN, in order."""
    return list(session.scalars(select(PinRow).order_by(PinRow.host)))


def _end_passes(session: Session, host: str, action: str, *, actor: str, now: int) -> None:
    ended = changed_rows(
        session,
        update(PassRow)
        .where(PassRow.kind == "pin", PassRow.host == host, PassRow.ended_at.is_(None))
        .values(ended_at=now),
    )
    changes.add(session, changes.PIN, host, now=now)
    details: dict[str, str | int] = {"host": host, "passes": ended}
    audit.append(session, at=now, actor=actor, action=action, details=details)
