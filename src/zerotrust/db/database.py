"""The database: opened, migrated, and used in one transaction at a time."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sqlalchemy import (
    URL,
    CursorResult,
    Delete,
    Engine,
    Update,
    extract,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection

from zerotrust.db import postgresql, sqlite
from zerotrust.db.change_signal import ChangeSignal
from zerotrust.db.errors import explained
from zerotrust.db.migrate import Migration, migrate
from zerotrust.errors import AccessRefused, EnrollmentRefused, StateError

T = TypeVar("T")

_CLOCK: Final = select(extract("epoch", func.now()))


class Database:
    """Owns the connections and the thread in which the server's transactions run.

    Attributes:
        engine: the SQLAlchemy engine.
        signal: wakes the readers of this process (`db.change_watch`).
    """

    def __init__(
        self, engine: Engine, name: str, migration: Migration | None, *, shared: bool
    ) -> None:
        self.engine = engine
        self.signal = ChangeSignal()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="state")
        self.name = name
        """The file, or the address without its password."""
        self.migration = migration
        """The migration that opening it has run, if any."""
        self._observer: PoolProxiedConnection | None = None
        self.shared = shared
        """Other servers, or other workers of this one, may use it at the same time."""

    @classmethod
    def open(cls, url: str, *, folder: Path = Path(), shared: bool = False) -> "Database":
        """Connect to a database; create or migrate it. This may take seconds.

        Args:
            url: `sqlite:////var/lib/0trust/state.db` (a fourth slash for an absolute path) or
                `postgresql://user@host/name`.
            folder: for the backup of a PostgreSQL database before it is migrated.
            shared: other processes of this server use it, too.

        Raises:
            StateError: the URL is invalid, or the database cannot be opened or is of a newer
                program.
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            file = Path(str(parsed.database))
            name, engine = str(file), sqlite.connect(file)
        else:
            file = None
            name, engine = postgresql.shown(parsed), postgresql.connect(parsed)

        def back_up(schema: str) -> Path | None:
            if file is not None:
                return sqlite.back_up(file, schema)
            return postgresql.back_up(connection, parsed, folder, schema)

        try:
            with explained(name), engine.begin() as connection:
                migration = migrate(connection, back_up, where=name)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, name, migration, shared=shared or file is None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a session that may write, and commit it at the end of the block.

        EnrollmentRefused and AccessRefused commit too, because the record of a refusal stays. Any
        other exception rolls back.

        Raises:
            StateError: the database cannot be reached, written or locked; nothing was changed.
        """
        with explained(self.name), Session(self.engine, expire_on_commit=False) as session:
            try:
                yield session
            except (AccessRefused, EnrollmentRefused):
                session.commit()
                raise
            session.commit()

    async def run(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction in the database's thread; return when it is committed.

        Cancelling the caller does not stop work that has begun.

        Raises:
            StateError: as `transaction`; or the database was closed.
        """
        try:
            done = self._worker.submit(self._run, work)
        except RuntimeError as error:
            raise StateError(f"{self.name}: closed, the server is stopping") from error
        return await asyncio.wrap_future(done)

    @property
    def notifies(self) -> bool:
        """Return True if it notifies all processes of each commit (`db.change_listener`)."""
        return self.engine.dialect.name == "postgresql"

    async def unix_time(self) -> float:
        """Return the clock of the database, in seconds since 1970.

        Raises:
            StateError: the database can't be used.
        """
        return await self.run(lambda session: float(session.scalar(_CLOCK) or 0.0))

    async def version(self) -> int | None:
        """Return a number that changes with each commit; None where the database has none.

        It costs a hundredth of a transaction.

        Raises:
            StateError: the database can't be used.
        """
        if self.engine.dialect.name != "sqlite":
            return None
        try:
            done = self._worker.submit(self._read_version)
        except RuntimeError as error:
            raise StateError(f"{self.name}: closed, the server is stopping") from error
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Finish the running work and close the connections."""
        if self._observer is not None:
            self._worker.submit(self._observer.close)
        self._worker.shutdown()
        self.engine.dispose()

    def _read_version(self) -> int:
        """Raises StateError. A connection of its own sees the commits of all others."""
        with explained(self.name):
            if self._observer is None:
                self._observer = self.engine.raw_connection()
            cursor = self._observer.cursor()
            try:
                cursor.execute("PRAGMA data_version")
                (found,) = cursor.fetchone() or (0,)
                return int(found)
            except sqlite3.Error as error:
                raise StateError(f"{self.name}: {error}") from error
            finally:
                cursor.close()

    def _run(self, work: Callable[[Session], T]) -> T:
        with self.transaction() as session:
            return work(session)


def changed_rows(session: Session, statement: Update | Delete) -> int:
    """Run a statement; return the number of rows that it changed."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def _parse(url: str) -> URL:
    """Parse the URL. The StateError does not repeat it: it may contain a password."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise StateError(
            "state.url is not a valid database URL; write sqlite:////PATH or postgresql://…"
        ) from error
    if backend not in ("sqlite", "postgresql", "postgres"):
        raise StateError(
            f"state.url: unsupported database {backend}: use sqlite:////PATH or postgresql://…"
        )
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StateError(
            "state.url: SQLite needs a file, for example sqlite:////var/lib/0trust/state.db"
        )
    return parsed
