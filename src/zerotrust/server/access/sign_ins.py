"""Sign-ins, their hand-over to services, passes, pairing, and their end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.orm import Session

from zerotrust.access.secret_format import SIGN_IN_LINK, digest_of, new_cookie
from zerotrust.access.subject import (
    ACCESS_WITHDRAWN,
    SESSION_ENDED,
    SIGNED_OUT,
    Credential,
    CredentialKind,
)
from zerotrust.accounts import hand_overs, identities, pairings, sign_ins, users
from zerotrust.accounts.sign_in_attempt import PasskeySignature, SignInAttempt
from zerotrust.db.access_tables import IdentityRow, SignInRow
from zerotrust.errors import AccessRefused, TooManyTries
from zerotrust.limits.gcra import CellRate
from zerotrust.model.access import Sessions
from zerotrust.server.access.access_state import AccessState
from zerotrust.server.access.people import ProviderAccount, facts_of
from zerotrust.server.access.refresh_seal import RefreshSeal

HAND_OVERS_A_MINUTE: Final = 1200
"""Of one sign-in: each writes a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserInfo:
    """The browser of a sign-in, for the list of sessions."""

    client: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCookie:
    """A new credential with the value of its cookie."""

    value: str = field(repr=False)
    credential: Credential
    target: str = "/"
    """Path and query to continue with, after a hand-over."""


class SignIns:
    """Use cases of sign-ins and passes.

    The methods raise AccessRefused where someone may not do what they ask (a code that does not
    fit, a disabled user), and StateError where the database can't be used. `pair` counts the
    attempts of the browser's network (`AccessState.admit`).

    Args:
        seal: encrypts refresh tokens; without it they are not kept, and `recheck` does nothing.
    """

    def __init__(self, state: AccessState, *, seal: RefreshSeal | None = None) -> None:
        self._state = state
        self._seal = seal
        self._hand_overs = CellRate(HAND_OVERS_A_MINUTE, 60)

    async def by_provider(
        self, account: ProviderAccount, browser: BrowserInfo, *, spent: bytes
    ) -> IssuedCookie:
        """Sign in the user of a provider's account; the first time, create the user.

        Args:
            spent: digest of the attempt's random value, which is used up in the same transaction.
        """
        facts = facts_of(account, self._sealed(account))

        def work(attempt: SignInAttempt, digest: bytes) -> None:
            attempt.spend(spent)
            user = identities.user_of(attempt.session, facts, now=attempt.now)
            attempt.check_active(user)
            attempt.begin(
                user,
                digest,
                lifetime=self._sessions.lifetime,
                provider=account.provider,
                provider_subject=account.subject,
                provider_session=account.session,
                proven_at=min(attempt.now, int(account.proven_at)),
            )

        return await self._issued("oidc", browser, work)

    async def renew_by_provider(
        self, sign_in: Credential, account: ProviderAccount, browser: BrowserInfo, *, spent: bytes
    ) -> bool:
        """Note that the user of a sign-in has proven their identity again at a provider.

        The passes of the sign-in stay.

        Returns:
            False if the account is another user's; then nothing is spent.
        """
        self._check(sign_in)
        facts = facts_of(account, self._sealed(account))

        def work(session: Session, now: int) -> bool:
            attempt = self._attempt(session, "oidc", browser, now)
            user = identities.user_of(session, facts, now=now)
            if user.id != sign_in.subject.id:
                return False
            attempt.spend(spent)
            attempt.check_active(user)
            proven_at = min(now, int(account.proven_at))
            number = int(sign_in.id)
            sign_ins.prove_again(session, number, proven_at=proven_at, now=now)
            sign_ins.note_provider_session(session, number, account.provider, account.session)
            return True

        return await self._state.run(work)

    async def by_passkey(
        self,
        credential_id: bytes,
        browser: BrowserInfo,
        *,
        counter: int,
        backed_up: bool,
        spent: bytes,
    ) -> IssuedCookie:
        """Sign in the user of a passkey whose signature has been verified.

        A counter that is not above the stored one, unless both are 0, refuses the passkey: it may
        have been cloned.
        """
        use = PasskeySignature(
            credential_id=credential_id, counter=counter, backed_up=backed_up, spent=spent
        )

        def work(attempt: SignInAttempt, digest: bytes) -> None:
            user = attempt.use_passkey(use)
            attempt.begin(user, digest, lifetime=self._sessions.lifetime)

        return await self._issued("passkey", browser, work)

    async def by_link(self, secret: str, browser: BrowserInfo) -> IssuedCookie:
        """Use up a one-time link, and sign its user in. An administrator has made it a moment ago.

        Raises:
            AccessRefused: it is unknown, used or expired, or its user is disabled.
        """
        self._state.admit(browser.client)

        def work(attempt: SignInAttempt, digest: bytes) -> None:
            user, row = users.invited(
                attempt.session,
                secret,
                active=attempt.is_active,
                now=attempt.now,
                rationed=attempt.rationed,
                prefix=SIGN_IN_LINK,
            )
            if not users.spend_invitation(attempt.session, row, now=attempt.now):
                attempt.refuse("this link was used; ask for a new one")
            attempt.begin(user, digest, lifetime=self._sessions.lifetime)

        return await self._issued("link", browser, work)

    async def prove_again(
        self,
        sign_in: Credential,
        credential_id: bytes,
        browser: BrowserInfo,
        *,
        counter: int,
        backed_up: bool,
        spent: bytes,
    ) -> None:
        """Note that the user has just proven their identity again (`fresh`, `max_age`).

        The passkey is checked as in `by_passkey`, and must be the user's.
        """
        self._check(sign_in)
        use = PasskeySignature(
            credential_id=credential_id, counter=counter, backed_up=backed_up, spent=spent
        )

        def work(session: Session, now: int) -> None:
            attempt = self._attempt(session, "passkey", browser, now)
            if attempt.use_passkey(use).id != sign_in.subject.id:
                attempt.refuse("this passkey is not yours")
            sign_ins.prove_again(session, int(sign_in.id), proven_at=now, now=now)

        await self._state.run(work)

    async def hand_over(
        self, sign_in: Credential, *, host: str, challenge: bytes, target: str
    ) -> str:
        """Return a one-time code, good for 60 s, that carries a sign-in to a host name."""
        self._check(sign_in)
        early = self._hand_overs.take(sign_in.id.encode(), time.monotonic())
        if wait := self._hand_overs.wait(early):
            raise TooManyTries(f"too many pages at once; try again in {wait} s", retry_after=wait)
        code = new_cookie()
        await self._state.run(
            lambda session, now: hand_overs.add(
                session,
                int(sign_in.id),
                code=code,
                host=host,
                challenge=challenge,
                target=target,
                now=now,
                rationed=self._state.rationed,
            )
        )
        return code

    async def accept_hand_over(self, code: str, *, host: str, verifier: bytes) -> IssuedCookie:
        """Use up a code and make a pass for its host name.

        Args:
            verifier: SHA-256 of it is the challenge.
        """
        value = new_cookie()
        await self._state.make_room()

        def work(session: Session, now: int) -> str:
            return hand_overs.accept(
                session,
                code,
                host=host,
                verifier=verifier,
                pass_digest=digest_of(value.encode()),
                now=now,
                rationed=self._state.rationed,
            )[1]

        target = await self._state.run(work)
        return IssuedCookie(value=value, credential=self._made(value), target=target)

    async def sign_out(self, sign_in: Credential, *, everywhere: bool) -> int:
        """End a sign-in (with `everywhere` all of its user) with its passes; return how many."""
        number, user_id = int(sign_in.id), sign_in.subject.id

        def work(session: Session, now: int) -> int:
            user = users.by_id(session, user_id)
            live = sign_ins.in_force(session, user_id, now=now)
            rows = [row for row in live if everywhere or row.number == number]
            return sign_ins.end(
                session,
                rows,
                user,
                why=SIGNED_OUT,
                actor=f"user {user.name}",
                now=now,
                action="signed.out",
            )

        return await self._state.run(work)

    async def end(self, number: int, *, actor: str) -> None:
        """End one sign-in."""
        await self._state.run(
            lambda session, now: sign_ins.end_one(
                session, number, why=SESSION_ENDED, actor=actor, now=now
            )
        )

    async def end_all(self, user: str, *, actor: str) -> int:
        """End all sign-ins of a user; return how many."""

        def work(session: Session, now: int) -> int:
            row = users.known(session, user, self._state.subjects.file, now=now)
            return sign_ins.end_all(session, row, why=SESSION_ENDED, actor=actor, now=now)

        return await self._state.run(work)

    async def provider_logout(self, provider: str, *, session: str, subject: str) -> int:
        """End sign-ins by the provider's back-channel logout; return how many.

        Args:
            session: claim `sid`; empty to end all sign-ins of the subject.
        """

        def work(transaction: Session, now: int) -> int:
            rows = sign_ins.of_account(
                transaction, provider, subject=subject, provider_session=session, now=now
            )
            return sign_ins.end_of_account(
                transaction, rows, provider, why=SIGNED_OUT, action="provider.logout", now=now
            )

        return await self._state.run(work)

    async def of_user(self, user_id: str) -> list[SignInRow]:
        """Return the sign-ins of a user in force, the newest first."""
        return await self._state.run(
            lambda session, now: sign_ins.in_force(session, user_id, now=now)
        )

    async def listed(self, user: str | None = None) -> list[tuple[SignInRow, str]]:
        """Return all sign-ins in force (of one user), each with the user's name."""

        def work(session: Session, now: int) -> list[tuple[SignInRow, str]]:
            user_id = None
            if user is not None:
                user_id = users.known(session, user, self._state.subjects.file, now=now).id
            return [
                (row, users.by_id(session, row.user_id).name)
                for row in sign_ins.in_force(session, user_id, now=now)
            ]

        return await self._state.run(work)

    async def create_pairing(self, sign_in: Credential) -> tuple[str, int]:
        """Return a code of 8 characters for a device, and the time at which it expires.

        A former code of the user ends. A device that was paired itself may not pair others.
        """
        self._check(sign_in)
        code = pairings.new_code()
        digest = await asyncio.to_thread(pairings.digest_of_code, code)
        expires_at = await self._state.run(
            lambda session, now: pairings.add(session, digest, int(sign_in.id), now=now)
        )
        return code, expires_at

    async def pair(self, code: str, browser: BrowserInfo) -> IssuedCookie:
        """Use up a pairing code and sign the device in, for `sessions.device_lifetime`.

        Its proof of identity is as old as that of the sign-in which has made the code.
        """
        self._state.admit(browser.client)
        code_digest = await self._state.pairing_tries.digest(code, browser.client)

        def work(attempt: SignInAttempt, digest: bytes) -> None:
            pairing = pairings.spend(attempt.session, code_digest, now=attempt.now)
            if pairing is None:
                attempt.refuse("this code is wrong or was used, or its 5 minutes are over")
            user = users.by_id(attempt.session, pairing.user_id)
            attempt.check_active(user)
            attempt.begin(
                user,
                digest,
                lifetime=self._sessions.device_lifetime,
                proven_at=pairing.proven_at,
                provider=pairing.provider,
                provider_subject=pairing.provider_subject,
            )

        return await self._issued("device", browser, work)

    async def due_rechecks(self) -> list[tuple[str, str, str]]:
        """Return provider, subject and refresh token of accounts to ask again by now (`recheck`).

        Only accounts with a sign-in or an app in force, whose refresh token this server has sealed.
        """
        seal = self._seal
        if seal is None:
            return []
        providers = self._state.access.identity_providers.items()
        due = [(name, found.recheck) for name, found in providers if found.recheck is not None]

        def work(session: Session, now: int) -> list[IdentityRow]:
            return [
                row
                for provider, every in due
                for row in identities.due(session, provider, seen_before=int(now - every), now=now)
            ]

        rows = await self._state.run(work) if due else []
        return [
            (row.provider, row.subject, token)
            for row in rows
            if row.refresh is not None and (token := seal.open(row.refresh)) is not None
        ]

    async def rechecked(self, account: ProviderAccount) -> None:
        """Store what a provider has said on a recheck; groups that are gone cut at once."""
        facts = facts_of(account, self._sealed(account))
        await self._state.run(lambda session, now: identities.update(session, facts, now=now))

    async def refused_by_provider(
        self, provider: str, subject: str, *, refresh: str | None = None
    ) -> int:
        """End the sign-ins of an account whose provider refused its refresh token.

        Args:
            refresh: the token; if the user has signed in again and has a newer one, nothing ends.
        """
        seal = self._seal

        def work(session: Session, now: int) -> int:
            row = session.get(IdentityRow, (provider, subject))
            kept = None if row is None else row.refresh
            if seal and refresh is not None and kept is not None and seal.open(kept) != refresh:
                return 0
            identities.forget_rights(session, provider, subject, now=now)
            rows = sign_ins.of_account(session, provider, subject=subject, now=now)
            return sign_ins.end_of_account(
                session, rows, provider, why=ACCESS_WITHDRAWN, action="session.ended", now=now
            )

        return await self._state.run(work)

    @property
    def _sessions(self) -> Sessions:
        return self._state.access.sessions

    async def _issued(
        self, method: str, browser: BrowserInfo, work: Callable[[SignInAttempt, bytes], None]
    ) -> IssuedCookie:
        await self._state.make_room()
        value = new_cookie()
        digest = digest_of(value.encode())
        await self._state.run(
            lambda session, now: work(self._attempt(session, method, browser, now), digest)
        )
        return IssuedCookie(value=value, credential=self._made(value))

    def _attempt(
        self, session: Session, method: str, browser: BrowserInfo, now: int
    ) -> SignInAttempt:
        return SignInAttempt(
            session=session,
            method=method,
            client=browser.client,
            user_agent=browser.user_agent,
            now=now,
            is_active=self._state.is_active,
            rationed=self._state.rationed,
        )

    def _made(self, value: str) -> Credential:
        credential = self._state.index.find(digest_of(value.encode()))
        if credential is None or credential.end_reason(self._state.clock()):
            raise AccessRefused("you are signed out; sign in again")
        return credential

    def _check(self, sign_in: Credential) -> None:
        if sign_in.kind is not CredentialKind.SIGN_IN or sign_in.end_reason(self._state.clock()):
            raise AccessRefused("you are signed out; sign in again")

    def _sealed(self, account: ProviderAccount) -> bytes | None:
        if self._seal is None or account.refresh is None:
            return None
        return self._seal.seal(account.refresh)
