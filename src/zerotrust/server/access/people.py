"""Users: invitations, groups, passkeys, accounts at identity providers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from zerotrust.access.secret_format import INVITATION, SIGN_IN_LINK
from zerotrust.accounts import identities, passkeys, user_queries, users
from zerotrust.accounts.identities import AccountFacts
from zerotrust.db.access_tables import InvitationRow, PasskeyRow, UserRow
from zerotrust.errors import AccessError, AccessRefused
from zerotrust.model.access import User
from zerotrust.server.access.access_state import AccessState


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedInvitation:
    """A new invitation. `secret` is shown once and stored nowhere."""

    user: str
    secret: str = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInfo:
    """A user, with groups from file, database and identity providers.

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
    """Verified statements of an identity provider about one of its users.

    Attributes:
        groups: as the provider names them.
        claims: those that rules name.
        session: the claim `sid`.
        proven_at: when the user has proven their identity at the provider, in seconds since 1970; 0
            if the provider does not say, which is never recent enough.
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
    proven_at: float = 0.0
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
        self, name: str, *, email: str | None, groups: list[str], actor: str, signs_in: bool = False
    ) -> IssuedInvitation:
        """Invite a user, new or known, to register a passkey. Former invitations end.

        An invitation is good for 7 days.

        Args:
            signs_in: the link signs the user in once without a passkey (`SignIns.by_link`). It is
                good for 10 minutes.
        """

        prefix = SIGN_IN_LINK if signs_in else INVITATION

        def work(session: Session, now: int) -> tuple[UserRow, str, int]:
            return users.invite(
                session,
                name,
                email=email,
                groups=groups,
                file=self._file,
                actor=actor,
                now=now,
                prefix=prefix,
            )

        row, secret, expires_at = await self._state.run(work)
        return IssuedInvitation(user=row.name, secret=secret, expires_at=expires_at)

    async def users(self) -> list[UserInfo]:
        """Return all users of file and database, by name."""
        found = await self._state.run(
            lambda session, now: user_queries.listed(session, self._file, now=now)
        )
        return [self._info(user) for user in found]

    async def user(self, name: str) -> UserInfo:
        """Return one user."""
        found = await self._state.run(
            lambda session, now: user_queries.listed(session, self._file, name=name, now=now)
        )
        if not found:
            raise users.unknown(name)
        return self._info(found[0])

    async def disable(self, name: str, *, actor: str) -> int:
        """Refuse a user from now on; return the number of sign-ins that ended.

        The user's apps, share links and invitations end too.
        """
        return await self._state.run(
            lambda session, now: users.disable(
                session, users.known(session, name, self._file, now=now), actor=actor, now=now
            )
        )

    async def enable(self, name: str, *, actor: str) -> None:
        """Undo `disable`. What has ended stays so."""
        await self._state.run(
            lambda session, now: users.enable(
                session, users.known(session, name, self._file, now=now), actor=actor, now=now
            )
        )

    async def remove(self, name: str, *, actor: str) -> None:
        """Remove a user of the database with passkeys, sign-ins, apps and links."""
        if name in self._file:
            raise AccessError(f"{name} is in the server's file; remove the user there")
        await self._state.run(
            lambda session, now: users.remove(
                session, users.known(session, name, {}, now=now), actor=actor, now=now
            )
        )

    async def add_to_group(self, group: str, name: str, *, actor: str) -> bool:
        """Add a user to a group; return False if the user was in it."""

        def work(session: Session, now: int) -> bool:
            row = users.known(session, name, self._file, now=now)
            return users.add_to_group(session, group, row, actor=actor, now=now)

        return await self._state.run(work)

    async def remove_from_group(self, group: str, name: str, *, actor: str) -> bool:
        """Remove a user from a group; return False if the user was not in it.

        Raises:
            AccessError: the server's file has the user in the group.
        """

        def work(session: Session, now: int) -> bool:
            row = users.known(session, name, self._file, now=now)
            return users.remove_from_group(session, group, row, actor=actor, now=now)

        removed = await self._state.run(work)
        filed = self._file.get(name)
        if filed is not None and group in filed.groups:
            raise AccessError(f"{name} is in {group} by the server's file; remove it there")
        return removed

    async def invited_user(self, secret: str) -> UserRow:
        """Return the user of an invitation without using it up.

        Raises:
            AccessRefused: unknown, used or expired.
        """
        return await self._state.run(lambda session, now: self._invited(session, secret, now)[0])

    async def accept_invitation(self, secret: str, passkey: NewPasskey) -> UserRow:
        """Use up an invitation and store its user's passkey."""

        def work(session: Session, now: int) -> UserRow:
            user, invitation = self._invited(session, secret, now)
            if not users.spend_invitation(session, invitation, now=now):
                raise AccessRefused("this invitation was used; ask for a new one")
            row = _row(passkey, user.id, now)
            passkeys.add(session, user, row, actor=f"user {user.name}", now=now)
            return user

        return await self._state.run(work)

    async def add_passkey(self, user_id: str, passkey: NewPasskey, *, actor: str) -> None:
        """Add another passkey of a signed-in user.

        Users that an identity provider has made have none, unless an administrator invites them: a
        passkey would still sign them in after the provider has refused them.
        """

        def work(session: Session, now: int) -> None:
            user = self._active(session, user_id)
            if provider := users.provider_of(user):
                raise AccessRefused(f"you sign in at {provider}; an administrator can invite you")
            passkeys.add(session, user, _row(passkey, user_id, now), actor=actor, now=now)

        await self._state.run(work)

    async def remove_passkey(self, user_id: str, credential_id: bytes, *, actor: str) -> None:
        """Remove a passkey."""

        def work(session: Session, now: int) -> None:
            user = users.by_id(session, user_id)
            passkeys.remove(session, user, credential_id, actor=actor, now=now)

        await self._state.run(work)

    async def passkeys(self, user_id: str) -> list[PasskeyRow]:
        """Return the passkeys of a user."""
        return await self._state.run(lambda session, now: passkeys.of(session, user_id))

    async def passkey(self, credential_id: bytes) -> PasskeyRow | None:
        """Return a passkey, whose user may be disabled."""
        return await self._state.run(lambda session, now: session.get(PasskeyRow, credential_id))

    async def link_account(self, user_id: str, account: ProviderAccount, *, actor: str) -> None:
        """Join an account at a provider to a user who is signed in to both."""

        def work(session: Session, now: int) -> None:
            user = self._active(session, user_id)
            identities.link(session, user, facts_of(account), actor=actor, now=now)

        await self._state.run(work)

    @property
    def _file(self) -> Mapping[str, User]:
        return self._state.subjects.file

    def _active(self, session: Session, user_id: str) -> UserRow:
        user = users.by_id(session, user_id)
        if not self._state.is_active(user):
            raise AccessRefused("this user is disabled; ask an administrator")
        return user

    def _invited(self, session: Session, secret: str, now: int) -> tuple[UserRow, InvitationRow]:
        return users.invited(
            session, secret, active=self._state.is_active, now=now, rationed=self._state.rationed
        )

    def _info(self, found: user_queries.UserSummary) -> UserInfo:
        filed = self._file.get(found.name)
        groups = found.groups.union(filed.groups if filed else ())
        return UserInfo(
            id=found.id,
            name=found.name,
            email=found.email or (filed.email if filed else None),
            shown_name=found.shown_name or found.name,
            in_file=filed is not None,
            groups=tuple(sorted(groups)),
            providers=found.providers,
            passkeys=found.passkeys,
            sign_ins=found.sign_ins,
            created_at=found.created_at,
            disabled_at=found.disabled_at,
        )


def facts_of(account: ProviderAccount, refresh: bytes | None = None) -> AccountFacts:
    """Return what is stored of a provider's account.

    Args:
        refresh: its refresh token, sealed.
    """
    return AccountFacts(
        provider=account.provider,
        subject=account.subject,
        email=account.email,
        email_verified=account.email_verified,
        shown_name=account.shown_name,
        groups=account.groups,
        claims=account.claims,
        refresh=refresh,
    )


def _row(passkey: NewPasskey, user_id: str, now: int) -> PasskeyRow:
    return PasskeyRow(
        credential_id=passkey.credential_id,
        user_id=user_id,
        public_key=passkey.public_key,
        rp_id=passkey.rp_id,
        created_at=now,
        label=passkey.label[:80],
        backed_up=passkey.backed_up,
        counter=passkey.counter,
    )
