"""Users: invitations, groups, passkeys, accounts at identity providers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zerotrust.db.access_tables import PasskeyRow, UserRow
from zerotrust.server.access.access_state import AccessState


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedInvitation:
    """A new invitation. `secret` is shown once and stored nowhere."""

    user: str
    secret: str = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInfo:
    """A user, with groups from file and database.

    Attributes:
        in_file: the user stands in the server's file.
        providers: the identity providers at which the user has an account.
    """

    id: str
    name: str
    email: str | None
    shown_name: str
    in_file: bool
    groups: tuple[str, ...]
    providers: tuple[str, ...]
    passkeys: int
    sign_ins: int
    created_at: int
    disabled_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccount:
    """What an identity provider says about one of its users, after verification.

    Attributes:
        groups: as the provider names them.
        claims: those that rules name.
        session: the claim `sid`.
        refresh: refresh token, if `recheck` asks for one.
    """

    provider: str
    subject: str
    email: str | None = None
    email_verified: bool = False
    shown_name: str = ""
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""
    refresh: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPasskey:
    """A passkey that a browser has just registered."""

    credential_id: bytes
    public_key: bytes
    rp_id: str
    counter: int
    backed_up: bool
    label: str


class People:
    """Use cases of users. Every `actor` is for the audit log: "uid 0" or "user anna".

    The methods raise AccessError for requests that are not possible, UserUnknown for unknown users,
    and StateError where the database can't be used.
    """

    def __init__(self, state: AccessState) -> None:
        self._state = state

    async def invite(
        self, name: str, *, email: str | None, groups: list[str], actor: str
    ) -> IssuedInvitation:
        """Invite a user, new or known, to register a passkey. Former invitations end."""
        raise NotImplementedError

    async def users(self) -> list[UserInfo]:
        """Return all users of file and database, by name."""
        raise NotImplementedError

    async def user(self, name: str) -> UserInfo:
        """Return one user."""
        raise NotImplementedError

    async def disable(self, name: str, *, actor: str) -> int:
        """Refuse a user from now on; return the number of sign-ins that ended."""
        raise NotImplementedError

    async def enable(self, name: str, *, actor: str) -> None:
        """Undo `disable`."""
        raise NotImplementedError

    async def remove(self, name: str, *, actor: str) -> None:
        """Remove a user of the database with passkeys, sign-ins, apps and links."""
        raise NotImplementedError

    async def add_to_group(self, group: str, name: str, *, actor: str) -> bool:
        """Add a user to a group; return False if the user was in it."""
        raise NotImplementedError

    async def remove_from_group(self, group: str, name: str, *, actor: str) -> bool:
        """Remove a user from a group; return False if the user was not in it."""
        raise NotImplementedError

    async def invited_user(self, secret: str) -> UserRow:
        """Return the user of an invitation without using it up.

        Raises:
            AccessRefused: unknown, used or expired.
        """
        raise NotImplementedError

    async def accept_invitation(self, secret: str, passkey: NewPasskey) -> UserRow:
        """Use up an invitation and store its user's passkey."""
        raise NotImplementedError

    async def add_passkey(self, user_id: str, passkey: NewPasskey, *, actor: str) -> None:
        """Add another passkey of a signed-in user."""
        raise NotImplementedError

    async def remove_passkey(self, user_id: str, credential_id: bytes, *, actor: str) -> None:
        """Remove a passkey."""
        raise NotImplementedError

    async def passkeys(self, user_id: str) -> list[PasskeyRow]:
        """Return the passkeys of a user."""
        raise NotImplementedError

    async def passkey(self, credential_id: bytes) -> PasskeyRow | None:
        """Return a passkey whose user is not disabled."""
        raise NotImplementedError

    async def link_account(self, user_id: str, account: ProviderAccount, *, actor: str) -> None:
        """Join an account at a provider to a user who is signed in to both."""
        raise NotImplementedError
