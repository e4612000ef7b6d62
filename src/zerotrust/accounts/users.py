"""Users: added, invited, disabled, removed, and their groups."""

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from zerotrust.access.secret_format import (
    INVITATION,
    SIGN_IN_LINK,
    digest_of,
    is_secret,
    new_secret,
)
from zerotrust.access.subject import ACCESS_WITHDRAWN
from zerotrust.accounts import access_tokens, changes, share_links, sign_ins
from zerotrust.accounts.refusals import Rationed, refuse
from zerotrust.db import audit
from zerotrust.db.access_tables import (
    IdentityRow,
    InvitationRow,
    MemberRow,
    PairingRow,
    PasskeyRow,
    UserRow,
)
from zerotrust.db.database import changed_rows
from zerotrust.errors import AccessError, UserUnknown
from zerotrust.model.access import User

LIFETIMES: Final = {INVITATION: 7 * 86400, SIGN_IN_LINK: 600}
"""Seconds for which an invitation is good, by the prefix of its secret."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

FileUsers = Mapping[str, User]
"""The users of the server's file, by name."""


def find(session: Session, name: str) -> UserRow | None:
    """Return the user with this name, or None."""
    return session.scalar(select(UserRow).where(UserRow.name == name))


def by_id(session: Session, user_id: str) -> UserRow:
    """Return the user with this id.

    Raises:
        UserUnknown: there is none.
    """
    row = session.get(UserRow, user_id)
    if row is None:
        raise UserUnknown("this user was removed")
    return row


def provider_of(row: UserRow) -> str:
    """Return the identity provider whose account has made a user; empty for others."""
    kind, _, provider = row.source.partition(":")
    return provider if kind == "provider" else ""


def unknown(name: str) -> UserUnknown:
    """Return the error about a name that no user has."""
    return UserUnknown(f'there is no user "{name[:80]}"; list them with: 0trust user list')


def known(session: Session, name: str, file: FileUsers, *, now: int) -> UserRow:
    """Return a user of database or file; a user of the file gets a row.

    Raises:
        UserUnknown: neither has the user.
    """
    row = find(session, name)
    if row is not None:
        return row
    if name not in file:
        raise unknown(name)
    return add(session, name, source="file", now=now)


def add(
    session: Session,
    name: str,
    *,
    source: str,
    now: int,
    email: str | None = None,
    shown_name: str = "",
) -> UserRow:
    """Add a user with a new id."""
    row = UserRow(
        id=f"u_{secrets.token_urlsafe(16)}",
        name=name,
        created_at=now,
        email=email,
        shown_name=shown_name,
        source=source,
    )
    session.add(row)
    session.flush()
    changes.add(session, changes.USER, row.id, now=now)
    return row


def invite(  # noqa: PLR0913 - what to invite to, and which kind of link
    session: Session,
    name: str,
    *,
    email: str | None,
    groups: list[str],
    file: FileUsers,
    actor: str,
    now: int,
    prefix: str = INVITATION,
) -> tuple[UserRow, str, int]:
    """Invite a user, new or known; return the user, the secret, and the time of its expiry.

    Args:
        prefix: `INVITATION` to register a passkey, `SIGN_IN_LINK` to sign in once without one. The
            digest covers it, so no secret of one kind passes for the other.

    Raises:
        AccessError: a name or address is invalid, or the user is disabled.
    """
    row = find(session, name)
    if row is None:
        source = "file" if name in file else "database"
        row = add(session, check_name(name), source=source, now=now)
        _record(session, "user.added", row, actor=actor, now=now)
    if row.disabled_at is not None:
        raise AccessError(f"{name} is disabled; enable the user first: 0trust user enable {name}")
    if email is not None and email != row.email:
        row.email = check_email(email)
        changes.add(session, changes.USER, row.id, now=now)
    for group in groups:
        add_to_group(session, group, row, actor=actor, now=now)
    session.execute(
        update(InvitationRow)
        .where(InvitationRow.user_id == row.id, InvitationRow.used_at.is_(None))
        .values(used_at=now)
    )
    secret = new_secret(prefix)
    expires_at = now + LIFETIMES[prefix]
    session.add(
        InvitationRow(
            digest=digest_of(secret.encode()), user_id=row.id, created_at=now, expires_at=expires_at
        )
    )
    details: dict[str, int | bool] = {"expires_at": expires_at}
    if prefix == SIGN_IN_LINK:
        details["signs_in"] = True
    _record(session, "user.invited", row, actor=actor, now=now, details=details)
    return row, secret, expires_at


def invited(
    session: Session,
    secret: str,
    *,
    active: Callable[[UserRow], bool],
    now: int,
    rationed: Rationed,
    prefix: str = INVITATION,
) -> tuple[UserRow, InvitationRow]:
    """Return the user of an invitation with this prefix, and its row.

    Raises:
        AccessRefused: it is unknown, used or expired, or its user is disabled.
    """
    digest = digest_of(secret.encode("utf-8", "surrogatepass"))
    row = session.get(InvitationRow, digest) if is_secret(secret, prefix) else None
    user = None if row is None else session.get(UserRow, row.user_id)
    message = ""
    if row is None or user is None:
        message = "this invitation is not valid; ask for a new one"
    elif row.used_at is not None:
        message = "this invitation was used or replaced; ask for a new one"
    elif row.expires_at <= now:
        message = "this invitation has expired; ask for a new one"
    elif not active(user):
        message = "this user is disabled; ask an administrator"
    if row is None or user is None or message:
        refuse(session, message, kind="invitation", actor="unknown", now=now, rationed=rationed)
    return user, row


def spend_invitation(session: Session, row: InvitationRow, *, now: int) -> bool:
    """Use an invitation up: True for exactly one caller."""
    statement = update(InvitationRow).where(
        InvitationRow.digest == row.digest,
        InvitationRow.used_at.is_(None),
        InvitationRow.expires_at > now,
    )
    return changed_rows(session, statement.values(used_at=now)) == 1


def disable(session: Session, row: UserRow, *, actor: str, now: int) -> int:
    """Refuse a user from now on; return the number of sign-ins that ended."""
    if row.disabled_at is None:
        row.disabled_at = now
        changes.add(session, changes.USER, row.id, now=now)
        _record(session, "user.disabled", row, actor=actor, now=now)
    return withdraw(session, row, actor=actor, now=now)


def withdraw(session: Session, row: UserRow, *, actor: str, now: int) -> int:
    """End sign-ins, apps, links, invitations and pairings of a user; return the number of
    sign-ins."""
    share_links.revoke_of(session, row.id, actor=actor, now=now)
    access_tokens.revoke_apps_of(session, row.id, actor=actor, now=now)
    for table in (InvitationRow, PairingRow):
        session.execute(
            update(table)
            .where(table.user_id == row.id, table.used_at.is_(None))
            .values(used_at=now)
        )
    return sign_ins.end_all(session, row, why=ACCESS_WITHDRAWN, actor=actor, now=now)


def not_in_file(session: Session, file: FileUsers) -> list[str]:
    """Return the names of users who have come from the server's file, and are not in it."""
    names = session.scalars(select(UserRow.name).where(UserRow.source == "file"))
    return sorted(set(names) - file.keys())


def withdraw_from_file(session: Session, names: Iterable[str], *, now: int) -> None:
    """End sign-ins and links of users that are no longer in the server's file.

    Their apps rest, and are good again when the users come back.
    """
    for name in names:
        row = find(session, name)
        if row is not None and row.source == "file":
            share_links.revoke_of(session, row.id, actor="server", now=now)
            sign_ins.end_all(session, row, why=ACCESS_WITHDRAWN, actor="server", now=now)


def enable(session: Session, row: UserRow, *, actor: str, now: int) -> None:
    """Undo `disable`; what has ended stays so."""
    if row.disabled_at is not None:
        row.disabled_at = None
        changes.add(session, changes.USER, row.id, now=now)
        _record(session, "user.enabled", row, actor=actor, now=now)


def remove(session: Session, row: UserRow, *, actor: str, now: int) -> None:
    """Remove a user, and all rows that belong to the user."""
    withdraw(session, row, actor=actor, now=now)
    share_links.remove_of(session, row.id, now=now)
    sign_ins.remove_of(session, row.id)
    access_tokens.remove_of(session, row.id)
    for table in (MemberRow, IdentityRow, PasskeyRow, InvitationRow, PairingRow):
        session.execute(delete(table).where(table.user_id == row.id))
    _record(session, "user.removed", row, actor=actor, now=now)
    session.delete(row)
    session.flush()
    changes.add(session, changes.USER, row.id, now=now)


def add_to_group(session: Session, group: str, row: UserRow, *, actor: str, now: int) -> bool:
    """Add a user to a group; return False if the user was in it.

    Raises:
        AccessError: invalid name; groups of identity providers are theirs.
    """
    if session.get(MemberRow, (row.id, check_group(group))) is not None:
        return False
    session.add(MemberRow(user_id=row.id, group=group))
    session.flush()
    changes.add(session, changes.USER, row.id, now=now)
    _record(session, "group.added", row, actor=actor, now=now, details={"group": group})
    return True


def remove_from_group(session: Session, group: str, row: UserRow, *, actor: str, now: int) -> bool:
    """Remove a user from a group; return False if the user was not in it."""
    statement = delete(MemberRow).where(MemberRow.user_id == row.id, MemberRow.group == group)
    if not changed_rows(session, statement):
        return False
    changes.add(session, changes.USER, row.id, now=now)
    _record(session, "group.removed", row, actor=actor, now=now, details={"group": group})
    return True


def check_name(name: str) -> str:
    """Return the name of a new user.

    Raises:
        AccessError: it is invalid.
    """
    if _NAME.fullmatch(name) is None:
        raise AccessError(
            f'invalid user name "{name[:80]}": use 1 to 64 letters, digits, ".", "_" and "-"'
        )
    return name


def check_group(group: str) -> str:
    """Return the name of a local group.

    Raises:
        AccessError: it is invalid.
    """
    if _NAME.fullmatch(group) is None:
        raise AccessError(
            f'invalid group "{group[:80]}": use 1 to 64 letters, digits, ".", "_" and "-"; groups'
            " of an identity provider have its name in front and are managed there"
        )
    return group


def check_email(email: str) -> str:
    """Return an email address.

    Raises:
        AccessError: it is invalid.
    """
    if re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,253}", email) is None or not email.isprintable():
        raise AccessError(f'invalid email address "{email[:80]}": write NAME@DOMAIN')
    return email


def _record(
    session: Session,
    action: str,
    row: UserRow,
    *,
    actor: str,
    now: int,
    details: audit.Details | None = None,
) -> None:
    audit.append(
        session,
        at=now,
        actor=actor,
        action=action,
        details={"user": row.name, "user_id": row.id, **(details or {})},
    )
