"""Accounts of users at identity providers.

A user is found by provider and subject, never by an email address, which anybody may claim.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from zerotrust.accounts import changes, users
from zerotrust.db import audit
from zerotrust.db.access_tables import (
    AccessTokenRow,
    IdentityRow,
    MemberRow,
    PasskeyRow,
    SignInRow,
    UserRow,
)
from zerotrust.errors import AccessError

MAX_GROUPS: Final = 2000
RECENT: Final = 100
"""Accounts of a provider that are looked at for groups, the last seen first."""
_PRINTABLE: Final = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """Verified statements of an identity provider about one of its users.

    Attributes:
        refresh: sealed refresh token; None to keep the stored one.
    """

    provider: str
    subject: str
    email: str | None = None
    email_verified: bool = False
    shown_name: str = ""
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)
    refresh: bytes | None = field(default=None, repr=False)


def user_of(session: Session, account: AccountFacts, *, now: int) -> UserRow:
    """Return the user of an account, with what its provider says now; add a new user.

    A new user has no local groups, and a name that no local user can have.
    """
    row = session.get(IdentityRow, (account.provider, account.subject))
    user = None if row is None else session.get(UserRow, row.user_id)
    if user is None:
        user = users.add(
            session,
            _new_name(session, account),
            source=f"provider:{account.provider}"[:64],
            now=now,
            shown_name=account.shown_name[:200],
        )
        actor = f"provider {account.provider}"
        _record(session, "user.added", user, account.provider, actor=actor, now=now)
    store(session, user, account, now=now)
    return user


def store(session: Session, user: UserRow, account: AccountFacts, *, now: int) -> None:
    """Store what a provider says about the account of a user."""
    groups = [group for group in account.groups if 0 < len(group) <= 255][:MAX_GROUPS]
    said: dict[str, Any] = {
        "email": account.email,
        "email_verified": account.email_verified and account.email is not None,
        "shown_name": account.shown_name[:200],
        "groups": groups,
        "claims": dict(account.claims),
    }
    row = session.get(IdentityRow, (account.provider, account.subject))
    if row is None:
        row = IdentityRow(
            provider=account.provider,
            subject=account.subject,
            user_id=user.id,
            seen_at=now,
            **said,
        )
        session.add(row)
        changes.add(session, changes.USER, user.id, now=now)
    elif any(getattr(row, name) != value for name, value in said.items()):
        for name, value in said.items():
            setattr(row, name, value)
        changes.add(session, changes.USER, user.id, now=now)
    row.seen_at = now
    if account.refresh is not None:
        row.refresh = account.refresh
    if row.refused_at is not None:
        row.refused_at = None
        changes.add(session, changes.USER, user.id, now=now)
        for token in session.scalars(
            select(AccessTokenRow.id).where(AccessTokenRow.user_id == user.id)
        ):
            changes.add(session, changes.TOKEN, token, now=now)
    session.flush()


def update(session: Session, account: AccountFacts, *, now: int) -> None:
    """Store what a provider says about a known account; an unknown one stays so."""
    row = session.get(IdentityRow, (account.provider, account.subject))
    user = None if row is None else session.get(UserRow, row.user_id)
    if user is not None:
        store(session, user, account, now=now)


def link(session: Session, user: UserRow, account: AccountFacts, *, actor: str, now: int) -> None:
    """Join an account to a user who is signed in to both.

    A user that this account alone has made, by an earlier sign-in, is removed.

    Raises:
        AccessError: the account is another user's, or the user has one at this provider.
    """
    row = session.get(IdentityRow, (account.provider, account.subject))
    if row is not None and row.user_id != user.id:
        other = users.by_id(session, row.user_id)
        if other.disabled_at is not None or not _is_account_alone(session, other):
            raise AccessError(
                f"this account at {account.provider} belongs to another user; ask the person who"
                " runs this server to remove that user first"
            )
        users.remove(session, other, actor=actor, now=now)
        row = None
    query = select(IdentityRow.subject).where(
        IdentityRow.user_id == user.id, IdentityRow.provider == account.provider
    )
    if row is None and session.scalar(query) is not None:
        raise AccessError(f"{user.name} has an account at {account.provider} already")
    store(session, user, account, now=now)
    if row is None:
        _record(session, "account.linked", user, account.provider, actor=actor, now=now)


def _is_account_alone(session: Session, user: UserRow) -> bool:
    """Return True if a user has nothing but one account at a provider."""
    counts = [
        session.scalar(select(func.count()).where(column == user.id)) or 0
        for column in (IdentityRow.user_id, MemberRow.user_id, PasskeyRow.user_id)
    ]
    return users.provider_of(user) != "" and counts == [1, 0, 0]


def due(session: Session, provider: str, *, seen_before: int, now: int) -> list[IdentityRow]:
    """Return the accounts to ask the provider about: with a refresh token, and with a sign-in or
    an app in force."""
    live = select(SignInRow.number).where(
        SignInRow.provider == IdentityRow.provider,
        SignInRow.provider_subject == IdentityRow.subject,
        SignInRow.ended_at.is_(None),
        SignInRow.ends_at > now,
    )
    app = select(AccessTokenRow.id).where(
        AccessTokenRow.user_id == IdentityRow.user_id,
        AccessTokenRow.revoked_at.is_(None),
        or_(AccessTokenRow.expires_at.is_(None), AccessTokenRow.expires_at > now),
    )
    query = select(IdentityRow).where(
        IdentityRow.provider == provider,
        IdentityRow.refresh.is_not(None),
        IdentityRow.seen_at <= seen_before,
        or_(live.exists(), app.exists()),
    )
    return list(session.scalars(query.order_by(IdentityRow.seen_at)))


def without_groups(session: Session, providers: Iterable[str]) -> dict[str, int]:
    """Return the number of accounts at each provider where no recent account has groups."""
    found = {}
    for provider in providers:
        query = select(IdentityRow.groups).where(IdentityRow.provider == provider)
        recent = session.scalars(query.order_by(IdentityRow.seen_at.desc()).limit(RECENT)).all()
        if recent and not any(recent):
            found[provider] = len(recent)
    return found


def forget_rights(session: Session, provider: str, subject: str, *, now: int) -> None:
    """Remove groups, claims and refresh token of an account that its provider refuses.

    Apps and share links of a user whom this provider has brought rest until the user signs in
    there again.
    """
    row = session.get(IdentityRow, (provider, subject))
    if row is None:
        return
    row.groups, row.claims, row.refresh, row.email_verified = [], {}, None, False
    row.refused_at = now
    session.flush()
    changes.add(session, changes.USER, row.user_id, now=now)
    user = session.get_one(UserRow, row.user_id)
    _record(session, "account.refused", user, provider, actor=f"provider {provider}", now=now)


def _record(
    session: Session, action: str, user: UserRow, provider: str, *, actor: str, now: int
) -> None:
    details = {"user": user.name, "user_id": user.id, "provider": provider}
    audit.append(session, at=now, actor=actor, action=action, details=details)


def _new_name(session: Session, account: AccountFacts) -> str:
    """Return a free name with the provider's name and a slash in front, which no local user has."""
    said = account.email if account.email and account.email_verified else account.subject
    name = f"{account.provider}/{said}"
    if _PRINTABLE.fullmatch(name) is None or users.find(session, name) is not None:
        whole = f"{account.provider}\0{account.subject}".encode()
        digest = hashlib.sha256(whole).hexdigest()
        name = f"{account.provider[:31]}/{digest[:32]}"
    return name
