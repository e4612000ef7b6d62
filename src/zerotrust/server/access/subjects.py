"""Users that this server knows, from file and database, and their subjects.

The credentials of a user share one subject for each way of signing in: a sign-in at an identity
provider has the groups, claims and address that this provider tells. With a passkey there are only
the local ones: what a provider said long ago may no longer be true.
"""

from collections.abc import Mapping
from typing import Final

from zerotrust.access.subject import Subject, SubjectKind
from zerotrust.accounts.live_state import Account, KnownUser
from zerotrust.model.access import Access, User

EVERY_PROVIDER: Final = "*"
"""In place of a provider: all that are known of the user, for the owner of an app."""


class Subjects:
    """The users by id, with their subjects. It belongs to the loop's thread."""

    def __init__(self, access: Access) -> None:
        self._users: dict[str, KnownUser] = {}
        self._subjects: dict[str, dict[str, Subject]] = {}
        self._file: dict[str, User] = {}
        self._providers: frozenset[str] = frozenset()
        self.reconfigure(access)

    @property
    def file(self) -> Mapping[str, User]:
        """The users of the server's file, by name."""
        return self._file

    def reconfigure(self, access: Access) -> None:
        """Use the users and providers of another file."""
        self._file = {user.name: user for user in access.users}
        self._providers = frozenset(access.identity_providers)
        self._subjects.clear()

    def ids(self) -> list[str]:
        """Return the ids of all users in the database."""
        return list(self._users)

    def name(self, user_id: str) -> str:
        """Return the name of a user; empty for an unknown one."""
        user = self._users.get(user_id)
        return "" if user is None else user.name

    def put(self, user: KnownUser) -> None:
        """Add a user, or replace what is known of one."""
        self._users[user.id] = user
        self._subjects.pop(user.id, None)

    def remove(self, user_id: str) -> None:
        """Forget a user."""
        self._users.pop(user_id, None)
        self._subjects.pop(user_id, None)

    def is_active(self, user_id: str) -> bool:
        """Return True if the user may sign in: not disabled, nor gone from the server's file."""
        user = self._users.get(user_id)
        return (
            user is not None
            and not user.disabled
            and (user.source != "file" or user.name in self._file)
        )

    def may_lend(self, user_id: str) -> bool:
        """Return True if apps and share links of the user count: the user is active, and not
        refused by the provider that has brought them."""
        return self.is_active(user_id) and not self._users[user_id].refused

    def of(self, user_id: str, provider: str) -> Subject | None:
        """Return the subject of a user who has signed in at a provider; None if unknown.

        Args:
            provider: empty for a passkey.
        """
        user = self._users.get(user_id)
        if user is None:
            return None
        made = self._subjects.setdefault(user_id, {})
        subject = made.get(provider)
        if subject is None:
            subject = made[provider] = self._subject(user, provider)
        return subject

    def _subject(self, user: KnownUser, provider: str) -> Subject:
        accounts = [
            account
            for account in user.accounts
            if account.provider in self._providers
            and provider in (account.provider, EVERY_PROVIDER)
        ]
        filed = self._file.get(user.name)
        addresses = [
            user.email,
            filed.email if filed else None,
            *(account.email for account in accounts),
        ]
        shown = [user.shown_name, *(account.shown_name for account in accounts)]
        claims = accounts[0].claims if accounts and provider != EVERY_PROVIDER else {}
        return Subject(
            kind=SubjectKind.USER,
            id=user.id,
            name=user.name,
            shown_name=next(filter(None, shown), user.name),
            groups=user.groups.union(filed.groups if filed else (), *map(_groups, accounts)),
            emails=frozenset(filter(None, addresses)),
            email=next(filter(None, addresses), ""),
            provider="" if provider == EVERY_PROVIDER else provider,
            claims=claims,
        )


def _groups(account: Account) -> frozenset[str]:
    return frozenset(f"{account.provider}/{group}" for group in account.groups)
