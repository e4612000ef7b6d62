"""State that the parts of access share: database, index of credentials, changes of other servers.

Each decision is one transaction, which also adds a row to `changes`. Its effect on the index is
applied in the loop's thread, in the order of the transactions, by the same code that applies the
changes of other servers.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy.orm import Session

from zerotrust.access.subject import Credential, CredentialKind
from zerotrust.accounts import expiry, live_state, passes, passkeys, users
from zerotrust.accounts.live_state import LiveState
from zerotrust.db import audit
from zerotrust.db.access_tables import UserRow
from zerotrust.db.change_watch import ChangeWatch
from zerotrust.db.database import Database
from zerotrust.enrollment.rate_limits import Attempts, RefusalLog
from zerotrust.errors import AccessRefused, StateError, TooManyAttempts, TooManyTries
from zerotrust.model.access import Access
from zerotrust.server.access.credential_index import MAX_CREDENTIALS, CredentialIndex
from zerotrust.server.access.index_updates import IndexUpdates
from zerotrust.server.access.pairing_tries import PairingTries
from zerotrust.server.access.subjects import Subjects
from zerotrust.telemetry import logs

CATCH_UP_EACH: Final = 0.05
"""Least seconds between two readings that requests ask for."""
TOUCH_EACH: Final = 60.0
FORGET_EACH: Final = 600.0
MAKE_ROOM: Final = 1000
"""Passes that end at once when the index is full."""
_SLICE: Final = 2000
"""Credentials that are looked at in one turn of the loop."""

T = TypeVar("T")

Reading = Callable[[Session, int, int], LiveState]
"""Takes the number of the last change that is applied, and the time."""

_log = logs.logger("access")


class AccessState:
    """Database, index and configuration of access.

    `load` must be called before the first request; `follow` runs as long as the server.

    Args:
        clock: seconds since 1970.

    Attributes:
        index: all live credentials.
        subjects: all users of file and database.
        access: the section `access` of the configuration.
        blind: the database could not be read for `sessions.blind`; people get 503.
    """

    def __init__(
        self, database: Database, access: Access, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.database = database
        self.index = CredentialIndex()
        self.subjects = Subjects(access)
        self.access = access
        self.blind = False
        self.clock = clock
        self._updates = IndexUpdates(
            self.index,
            self.subjects,
            access,
            seen_late=expiry.SEEN_LATE if database.shared else 0.0,
        )
        self._applied = 0
        self._is_configured = True
        self._left_file: set[str] = set()
        self._read_at = clock()
        self._touched_at = self._forgot_at = clock()
        self._next_catch_up: asyncio.Task[None] | None = None
        self._caught_up_at = -1.0
        self._callbacks: list[Callable[[], None]] = []
        self._running: set[asyncio.Task[object]] = set()
        self._attempts = Attempts()
        self.pairing_tries = PairingTries()
        self._refusals = RefusalLog()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back, in the loop's thread, after credentials have ended or changed their
        subject."""
        self._callbacks.append(callback)

    async def load(self) -> None:
        """Read all that is in force into the index.

        What belongs to users who left the file while no server ran ends first.

        Raises:
            StateError: the database can't be used.
        """
        file = self.subjects.file

        def work(session: Session, now: int) -> None:
            users.withdraw_from_file(session, users.not_in_file(session, file), now=now)

        await self._shielded(work, _all)
        await self._look_at_passkeys()

    async def run(self, work: Callable[[Session, int], T]) -> T:
        """Run a transaction, and apply what it has changed before returning.

        A caller that is cancelled does not stop it.

        Args:
            work: takes the time in seconds since 1970.

        Raises:
            StateError: the database can't be used; nothing has changed.
        """
        return await self._shielded(work, _changes)

    async def follow(self) -> None:
        """Apply what other servers commit to the same database, until cancelled.

        Once a minute it also calls `touch`. So it has to run on each server.
        """
        watch, lost = ChangeWatch(self.database), False
        while True:
            await watch.wait()
            try:
                if not self._is_configured:
                    await self._configure()
                elif self.database.shared:
                    if await watch.changed():
                        await self.read_changes()
                    self._read_at = self.clock()
                if self.clock() - self._touched_at >= TOUCH_EACH:
                    await self.touch()
                lost = False
            except StateError as error:
                watch.failed()
                if not lost:
                    _log.error(
                        "cannot read who may enter; using last known state", reason=str(error)
                    )
                lost = True
            self._look_whether_blind()

    async def catch_up(self) -> None:
        """Read the changes of other servers now: a request has shown a credential unknown here.

        A database that can't be read is no error here: the credential stays unknown.
        """
        if self.database.shared:
            await asyncio.shield(self.next_reading())

    def next_reading(self) -> asyncio.Task[None]:
        """Return the next reading for `catch_up`. It has not begun, so it sees all that was
        committed before the call.

        Concurrent callers share it, and there are at most 20 a second.
        """
        if self._next_catch_up is None:
            self._next_catch_up = asyncio.get_running_loop().create_task(self._catch_up())
        return self._next_catch_up

    async def reconfigure(self, access: Access) -> None:
        """Use another section `access`: its users, groups and lifetimes apply at once.

        The sessions of users that are no longer in the file end.

        Raises:
            StateError: the database can't be used. Users that are no longer in the file are out
                nevertheless; the rest follows as soon as the database can be used.
        """
        self._left_file |= self.subjects.file.keys() - {user.name for user in access.users}
        self._is_configured &= access == self.access
        self.access = access
        self._updates.access = access
        self.subjects.reconfigure(access)
        if self._updates.refresh_users():
            self._notify()
        await self._configure()

    async def touch(self) -> None:
        """Write the last use of all sign-ins and tokens; end and forget what is over.

        Raises:
            StateError: the database can't be used.
        """
        since, self._touched_at = self._touched_at, self.clock()
        seen = {
            int(found.id): int(found.seen_at) for found in self._used(CredentialKind.SIGN_IN, since)
        }
        used = {found.id: int(found.seen_at) for found in self._used(CredentialKind.TOKEN, since)}
        forget = self._touched_at - self._forgot_at >= FORGET_EACH

        def work(session: Session, now: int) -> list[tuple[int, int]]:
            expiry.note_use(session, seen, used)
            expiry.end_expired(session, self.access.sessions, now=now)
            if forget:
                expiry.forget(session, now=now)
            return expiry.seen_since(session, int(since - expiry.SEEN_LATE))

        try:
            seen_by_all = await self.run(work)
        except StateError:
            self._touched_at = since
            raise
        if forget:
            self._forgot_at = self._touched_at
        for number, at in seen_by_all:
            credential = self.index.get(CredentialKind.SIGN_IN, str(number))
            if credential is not None and credential.seen_at < at:
                credential.seen_at = float(at)
        await self._end_expired()

    async def close(self) -> None:
        """Write the last uses, and wait for the decisions that run."""
        with contextlib.suppress(StateError):
            await self.touch()
        await asyncio.gather(*self._running, return_exceptions=True)

    def admit(self, client: str) -> None:
        """Count an attempt of a client network at a code, link or PIN: 10 a minute.

        Raises:
            TooManyTries: it is over the limit.
        """
        try:
            self._attempts.admit(client, time.monotonic())
        except TooManyAttempts as error:
            raise TooManyTries(str(error), retry_after=error.retry_after) from error

    def rationed(self, kind: str) -> int | None:
        """Ration the audit records of refusals; called in the database's thread alone."""
        return self._refusals.take(kind, time.monotonic())

    def is_active(self, user: UserRow) -> bool:
        """Return True if a user may sign in. The database's thread may call it."""
        return user.disabled_at is None and (
            user.source != "file" or user.name in self.subjects.file
        )

    async def make_room(self) -> None:
        """End the oldest passes if the index is full; strangers' before those of users.

        Raises:
            AccessRefused: it is full of sign-ins and tokens.
        """
        if len(self.index) >= MAX_CREDENTIALS:
            self.index.sweep()
        if len(self.index) >= MAX_CREDENTIALS:
            await self.run(lambda session, now: passes.end_oldest(session, MAKE_ROOM, now=now))
            self.index.sweep()
        if len(self.index) >= MAX_CREDENTIALS:
            raise AccessRefused("too many sessions; try again later")

    async def _shielded(self, work: Callable[[Session, int], T], read: Reading) -> T:
        task = asyncio.get_running_loop().create_task(self._decide(work, read))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _decide(self, work: Callable[[Session, int], T], read: Reading) -> T:
        now = int(self.clock())

        def whole(session: Session) -> tuple[T, LiveState]:
            # Transactions before this one may wait to be applied; reading them twice is harmless.
            return work(session, now), read(session, self._applied, now)

        result, state = await self.database.run(whole)
        self._apply(state)
        return result

    async def _configure(self) -> None:
        """Bring the database and the index to the configuration."""
        left, known = set(self._left_file), self._is_configured

        def work(session: Session, now: int) -> None:
            users.withdraw_from_file(session, left, now=now)
            if not known:
                audit.append(session, at=now, actor="server", action="access.changed")

        await self.run(work)
        self._left_file -= left
        await self._shielded(lambda session, now: None, _sign_ins_and_tokens)
        self._is_configured = True
        if not known:
            await self._look_at_passkeys()

    async def _look_at_passkeys(self) -> None:
        """Log it if there are passkeys which the configured domain makes unusable."""
        domain = self.access.rp_id
        lost = await self.run(lambda session, now: passkeys.count_of_other_domains(session, domain))
        if lost:
            _log.warning(
                "passkeys of another domain cannot be used: set access.passkey_domain back, or"
                " invite their users again",
                passkeys=lost,
                domain=domain,
            )

    async def read_changes(self) -> None:
        """Apply what other servers have committed.

        Raises:
            StateError: the database can't be read.
        """
        await self._shielded(lambda session, now: None, _changes)

    def _apply(self, state: LiveState) -> None:
        self._applied = state.number if state.complete else max(self._applied, state.number)
        self._read_at = self.clock()
        self.blind = False
        if self._updates.apply(state):
            self._notify()

    def _notify(self) -> None:
        for callback in self._callbacks:
            callback()

    async def _catch_up(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._caught_up_at + CATCH_UP_EACH - loop.time()))
        # Who comes from now on waits for another reading: this one may be too early for them.
        self._next_catch_up = None
        self._caught_up_at = loop.time()
        try:
            await self.read_changes()
        except StateError as error:
            _log.debug("cannot look up an unknown credential", reason=str(error))

    def _look_whether_blind(self) -> None:
        blind = self.database.shared and self.clock() - self._read_at > self.access.sessions.blind
        if blind and not self.blind:
            _log.error("the database cannot be read for too long; people are refused")
        self.blind = blind

    def _used(self, kind: CredentialKind, since: float) -> list[Credential]:
        return [found for found in self.index.of_kind(kind) if found.seen_at >= since]

    async def _end_expired(self) -> None:
        """Forget the credentials that have ended, and end those whose time is over."""
        self.index.sweep()
        everyone = list(self.index.all())
        for first in range(0, len(everyone), _SLICE):
            now = self.clock()
            for credential in everyone[first : first + _SLICE]:
                if not credential.ended and (reason := credential.end_reason(now)):
                    self.index.end(credential, reason)
            await asyncio.sleep(0)


def _changes(session: Session, applied: int, now: int) -> LiveState:
    return live_state.read_changes(session, after=applied, now=now)


def _all(session: Session, applied: int, now: int) -> LiveState:
    return live_state.read_all(session, now=now)


def _sign_ins_and_tokens(session: Session, applied: int, now: int) -> LiveState:
    return live_state.read_sign_ins_and_tokens(session, now=now)
