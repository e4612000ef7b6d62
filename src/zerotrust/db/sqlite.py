"""SQLite: one file that only its owner can read.

A write-ahead log with `synchronous=FULL` keeps committed data through a power cut. Every
transaction begins IMMEDIATE and so takes the write lock: there is one at a time, and each sees all
earlier ones.
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event

from zerotrust.config import folders
from zerotrust.errors import StateError

PRIVATE: Final = 0o600
BUSY_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.01
_SETTINGS: Final = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA trusted_schema=OFF",
)


def connect(path: Path) -> Engine:
    """Return an engine for the file, which is created if it is missing.

    Raises:
        StateError: the file cannot be created, its mode cannot be set, or other users may replace
            it.
    """
    _make_private(path)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": BUSY_SECONDS},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def back_up(path: Path, revision: str) -> Path:
    """Copy the database to a file beside it, atomically.

    Raises:
        StateError: the copy cannot be written.
    """
    backup = path.with_name(f"{path.name}.backup-{revision}")
    temporary = path.with_name(f".{backup.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.touch(PRIVATE, exist_ok=False)
        _copy(path, temporary)
        _flush(temporary)
        temporary.replace(backup)
        _flush(path.parent)
    except (OSError, sqlite3.Error) as error:
        temporary.unlink(missing_ok=True)
        raise StateError(
            f"{backup}: no backup, so nothing is migrated: {_reason(error)}"
        ) from error
    return backup


def _copy(path: Path, copy: Path) -> None:
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    try:
        source.backup(target)
    finally:
        target.close()
        source.close()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_private(path: Path) -> None:
    """Set the mode before SQLite opens the file: its log gets the same mode."""
    try:
        if (refusal := folders.refusal(path.parent)) is not None:
            raise StateError(f"{path}: {refusal}")
        path.touch(PRIVATE)
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if file.exists():
                file.chmod(PRIVATE)
    except FileNotFoundError as error:
        raise StateError(
            f"{path}: there is no folder {path.parent}; create it, or correct the path"
        ) from error
    except OSError as error:
        raise StateError(f"{path}: {_reason(error)}; correct path or permissions") from error


def _prepare(connection: sqlite3.Connection, record: object) -> None:
    connection.text_factory = _text
    _write_ahead(connection)
    for setting in _SETTINGS:
        connection.execute(setting)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Set the journal mode; try again for BUSY_SECONDS while others use the new file.

    SQLite's own timeout does not apply here: beside a transaction that may write, the change fails
    at once.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _text(raw: bytes) -> str:
    """Decode damaged text too, so that the audit can name the record."""
    return raw.decode("utf-8", "surrogateescape")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
