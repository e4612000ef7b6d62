"""Tokens of machines and of users' apps: created, rotated, revoked."""

import re
import secrets
from typing import Final

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from zerotrust.access.secret_format import APP, MACHINE, digest_of, new_secret
from zerotrust.accounts import changes
from zerotrust.db import audit
from zerotrust.db.access_tables import AccessTokenRow, UserRow
from zerotrust.errors import AccessError, NameTaken, UserUnknown
from zerotrust.model.base import check_a_labels, parse_pattern

PREFIXES: Final = {"machine": MACHINE, "app": APP}
"""Prefix of the secret of each kind of token."""
MAX_HOSTS: Final = 100
MAX_OF_USER: Final = 100
LONGEST: Final = 10 * 366 * 86400
_NAMES: Final = {
    "machine": re.compile(r"[A-Za-z0-9._-]{1,64}"),
    "app": re.compile(r"[^\x00-\x1f\x7f]{1,64}"),
}


def create(  # noqa: PLR0913 - the columns of a row
    session: Session,
    kind: str,
    name: str,
    *,
    hosts: list[str],
    lifetime: float | None,
    user: UserRow | None,
    admin: bool,
    actor: str,
    now: int,
) -> tuple[AccessTokenRow, str]:
    """Create a token; return its row and its secret.

    Args:
        lifetime: seconds; None for no end.
        user: owner of an app.

    Raises:
        AccessError: the name, a host name or the lifetime is invalid.
        NameTaken: a token in force has this name.
    """
    _check_name(kind, name)
    if in_force(session, kind, name=name, now=now):
        raise NameTaken(f'there is a token "{name}" already; replace it with: 0trust {kind} rotate')
    if user and len(in_force(session, kind, user_id=user.id, now=now)) >= MAX_OF_USER:
        raise AccessError(f"{user.name} has {MAX_OF_USER} apps; revoke one first")
    row, secret = _new(
        kind,
        name,
        hosts=_checked_hosts(hosts),
        expires_at=None if lifetime is None else now + _checked_lifetime(lifetime),
        user_id=None if user is None else user.id,
        admin=admin,
        now=now,
    )
    _add(session, row, f"{kind}.created", actor, now)
    return row, secret


def rotate(
    session: Session, kind: str, name: str, *, keep: float, actor: str, now: int
) -> tuple[AccessTokenRow, str]:
    """Create a second token like the newest of a name; the former ones end after `keep` seconds.

    Raises:
        UserUnknown: there is no token in force with this name.
    """
    former = in_force(session, kind, name=name, now=now)
    if not former:
        raise UserUnknown(_unknown(kind, name))
    last = former[0]
    expires_at = last.expires_at
    if expires_at is not None:
        expires_at = now + max(1, expires_at - last.created_at)
    until = now + max(0, int(keep))
    for row in former:
        if until <= now:
            row.revoked_at = now
        elif row.expires_at is None or row.expires_at > until:
            row.expires_at = until
        changes.add(session, changes.TOKEN, row.id, now=now)
    made, secret = _new(
        kind,
        name,
        hosts=last.hosts,
        expires_at=expires_at,
        user_id=last.user_id,
        admin=last.admin,
        now=now,
    )
    _add(session, made, f"{kind}.rotated", actor, now)
    return made, secret


def revoke(
    session: Session, kind: str, name: str, *, user_id: str | None = None, actor: str, now: int
) -> int:
    """Revoke all tokens of a name (of one user); return how many.

    Raises:
        UserUnknown: there is no token in force with this name.
    """
    rows = in_force(session, kind, name=name, user_id=user_id, now=now)
    if not rows:
        raise UserUnknown(_unknown(kind, name))
    _revoke(session, rows, actor=actor, now=now)
    return len(rows)


def revoke_apps_of(session: Session, user_id: str, *, actor: str, now: int) -> int:
    """Revoke all apps of a user; return how many."""
    rows = in_force(session, "app", user_id=user_id, now=now)
    _revoke(session, rows, actor=actor, now=now)
    return len(rows)


def in_force(
    session: Session,
    kind: str,
    *,
    name: str | None = None,
    user_id: str | None = None,
    now: int,
) -> list[AccessTokenRow]:
    """Return the tokens of a kind in force, by name, the newest of a name first."""
    query = select(AccessTokenRow).where(
        AccessTokenRow.kind == kind,
        AccessTokenRow.revoked_at.is_(None),
        or_(AccessTokenRow.expires_at.is_(None), AccessTokenRow.expires_at > now),
    )
    if name is not None:
        query = query.where(AccessTokenRow.name == name)
    if user_id is not None:
        query = query.where(AccessTokenRow.user_id == user_id)
    order = (AccessTokenRow.name, AccessTokenRow.created_at.desc(), AccessTokenRow.id)
    return list(session.scalars(query.order_by(*order)))


def remove_of(session: Session, user_id: str) -> None:
    """Remove the rows of a user's apps."""
    session.execute(delete(AccessTokenRow).where(AccessTokenRow.user_id == user_id))


def _new(
    kind: str,
    name: str,
    *,
    hosts: list[str],
    expires_at: int | None,
    user_id: str | None,
    admin: bool,
    now: int,
) -> tuple[AccessTokenRow, str]:
    secret = new_secret(PREFIXES[kind])
    row = AccessTokenRow(
        id=f"t_{secrets.token_urlsafe(16)}",
        digest=digest_of(secret.encode()),
        kind=kind,
        name=name,
        hosts=list(hosts),
        created_at=now,
        user_id=user_id,
        admin=admin,
        expires_at=expires_at,
    )
    return row, secret


def _add(session: Session, row: AccessTokenRow, action: str, actor: str, now: int) -> None:
    session.add(row)
    session.flush()
    changes.add(session, changes.TOKEN, row.id, now=now)
    _record(session, action, row, actor, now)


def _revoke(session: Session, rows: list[AccessTokenRow], *, actor: str, now: int) -> None:
    for row in rows:
        row.revoked_at = now
        changes.add(session, changes.TOKEN, row.id, now=now)
        _record(session, f"{row.kind}.revoked", row, actor, now)


def _record(session: Session, action: str, row: AccessTokenRow, actor: str, now: int) -> None:
    details = {
        "name": row.name,
        "token": row.id,
        "hosts": row.hosts,
        "user_id": row.user_id,
        "expires_at": row.expires_at,
    }
    if row.admin:
        details["admin"] = True
    audit.append(session, at=now, actor=actor, action=action, details=details)


def _unknown(kind: str, name: str) -> str:
    return f'there is no token "{name[:80]}"; list them with: 0trust {kind} list'


def _check_name(kind: str, name: str) -> None:
    if _NAMES[kind].fullmatch(name) is None or not name.isprintable():
        allowed = "printable characters" if kind == "app" else 'letters, digits, ".", "_" and "-"'
        raise AccessError(f'invalid name "{name[:80]}": use 1 to 64 {allowed}')


def _checked_hosts(hosts: list[str]) -> list[str]:
    if len(hosts) > MAX_HOSTS:
        raise AccessError(f"{len(hosts)} host names are too many; the limit is {MAX_HOSTS}")
    try:
        return list(dict.fromkeys(check_a_labels(parse_pattern(host)) for host in hosts))
    except ValueError as error:
        raise AccessError(str(error)) from error


def _checked_lifetime(lifetime: float) -> int:
    if not 1 <= lifetime <= LONGEST:
        raise AccessError("invalid lifetime: choose 1 second to 10 years, or none")
    return int(lifetime)
