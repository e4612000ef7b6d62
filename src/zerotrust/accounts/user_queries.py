"""Lists of users, with what belongs to them."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from zerotrust.accounts.users import FileUsers
from zerotrust.db.access_tables import IdentityRow, MemberRow, PasskeyRow, SignInRow, UserRow


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSummary:
    """A user of file or database.

    The groups are those of the database, and those that identity providers have stated, with the
    provider's name in front.
    """

    id: str = ""
    name: str
    email: str | None = None
    shown_name: str = ""
    groups: frozenset[str] = frozenset()
    providers: tuple[str, ...] = ()
    passkeys: int = 0
    sign_ins: int = 0
    created_at: int = 0
    disabled_at: int | None = None


def listed(
    session: Session, file: FileUsers, *, name: str | None = None, now: int
) -> list[UserSummary]:
    """Return all users of database and file by name, or the one with a name."""
    query = select(UserRow) if name is None else select(UserRow).where(UserRow.name == name)
    groups, providers = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for member in session.scalars(select(MemberRow)):
        groups[member.user_id].add(member.group)
    for row in session.execute(
        select(IdentityRow.user_id, IdentityRow.provider, IdentityRow.groups)
    ):
        providers[row.user_id].add(row.provider)
        groups[row.user_id].update(f"{row.provider}/{group}" for group in row.groups)
    passkeys = _counted(session, PasskeyRow.user_id)
    live = (SignInRow.ended_at.is_(None), SignInRow.ends_at > now)
    sign_ins = _counted(session, SignInRow.user_id, *live)
    found = {
        user.name: UserSummary(
            id=user.id,
            name=user.name,
            email=user.email,
            shown_name=user.shown_name,
            groups=frozenset(groups[user.id]),
            providers=tuple(sorted(providers[user.id])),
            passkeys=passkeys[user.id],
            sign_ins=sign_ins[user.id],
            created_at=user.created_at,
            disabled_at=user.disabled_at,
        )
        for user in session.scalars(query)
    }
    for filed in file:
        if name in (None, filed):
            found.setdefault(filed, UserSummary(name=filed))
    return [found[name] for name in sorted(found)]


def _counted(session: Session, column: Any, *conditions: Any) -> Counter[str]:
    rows = session.execute(select(column, func.count()).where(*conditions).group_by(column))
    return Counter({row[0]: row[1] for row in rows})
