"""PostgreSQL, through psycopg 3 (`pip install '0trust[postgresql]'`).

Every transaction, migrations included, begins with the same advisory lock: so there is one at a
time, and each sees all earlier ones, as in SQLite. Transactions decide about identity, a few a
second at most.

One that hangs would stop all. So TCP gives up a silent database after about ten seconds, and the
database itself ends a statement that takes longer, or a transaction whose server is silent.

Every transaction that has written something notifies all servers when it commits (NOTIFY). The
engine does this, so no code that changes rows has to think of it.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event

from zerotrust.errors import StateError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

CHANGES: Final = "zerotrust_changes"
"""Channel of the notifications."""

_LOCK: Final = 0x307472757374  # "0trust"
_BEGIN: Final = (
    "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '15s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '30s'; SELECT pg_advisory_xact_lock({_LOCK})"
)
_PATIENCE: Final = (
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
)
_NOTIFY: Final = (
    # A transaction has a number of its own if it has written something.
    f"SELECT pg_notify('{CHANGES}', '') WHERE txid_current_if_assigned() IS NOT NULL"
)
_CONNECTION: Final = {
    "application_name": "0trust",
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "tcp_user_timeout": 10_000,
}
_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret")
"""Parameters of libpq that are secret."""


def shown(url: URL) -> str:
    """Return the address without its secrets."""
    return url.difference_update_query(_SECRETS).render_as_string(hide_password=True)


def connect(url: URL) -> Engine:
    """Return an engine for the database.

    Raises:
        StateError: the driver is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise StateError(
            "state.url: PostgreSQL needs its driver; install it with: pip install"
            " '0trust[postgresql]'"
        )
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        # After the lock each statement sees all that was committed before.
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        connect_args={**_CONNECTION, **url.query},
    )
    event.listen(engine, "begin", _begin)
    event.listen(engine, "commit", _notify)
    return engine


async def listen(engine: Engine, channels: Iterable[str]) -> "AsyncConnection[Any]":
    """Return a connection of its own that gets the notifications of some channels.

    Raises:
        psycopg.Error: the database refuses it, or can't be reached.
    """
    from psycopg import AsyncConnection

    _, named = engine.dialect.create_connect_args(engine.url)
    settings: dict[str, Any] = {**_CONNECTION, **named}
    connection = await AsyncConnection.connect(**settings, autocommit=True)
    try:
        for channel in channels:
            await connection.execute(f"LISTEN {channel}".encode())
    except BaseException:
        await connection.close()
        raise
    return connection


def back_up(connection: Connection, url: URL, folder: Path, schema: str) -> Path | None:
    """Write a dump for pg_restore to a new file; return None if pg_dump is not installed.

    Args:
        connection: in a transaction that holds the lock; its timeouts are switched off.

    Raises:
        StateError: pg_dump failed, or the file cannot be written.
    """
    connection.exec_driver_sql(_PATIENCE)
    program = shutil.which("pg_dump")
    if program is None:
        return None
    backup = folder / f"postgresql.backup-{schema}"
    address = url.set(drivername="postgresql", password=None).difference_update_query(_SECRETS)
    words = [
        program,
        "--format=custom",
        "--no-password",
        f"--dbname={address.render_as_string(hide_password=False)}",
    ]
    # Other users see a program's arguments, but not its environment.
    password = url.password or url.query.get("password")
    secret = {"PGPASSWORD": str(password)} if password else {}
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".backup-") as place:
            dump = Path(place, backup.name)
            dump.touch(0o600)
            done = subprocess.run(  # noqa: S603 - the operator's own PATH and address
                [*words, f"--file={dump}"],
                capture_output=True,
                text=True,
                env={**os.environ, **secret},
                check=False,
            )
            if done.returncode:
                reason = " ".join(done.stderr.split()) or "pg_dump failed"
                raise StateError(
                    f"{backup}: no backup, so nothing is migrated: {reason}; correct that, or make"
                    " a backup by hand and start once without pg_dump in the PATH"
                )
            dump.replace(backup)
    except OSError as error:
        raise StateError(
            f"{backup}: no backup, so nothing is migrated: {error.strerror}"
        ) from error
    return backup


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(_BEGIN)


def _notify(connection: Connection) -> None:
    connection.exec_driver_sql(_NOTIFY).close()
