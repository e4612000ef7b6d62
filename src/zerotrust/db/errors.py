"""Errors of the database, translated to one line for a person."""

import contextlib
from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import DBAPIError, TimeoutError

from zerotrust.errors import StateError

_MEANT: Final = {
    "disk is full": "the disk is full; nothing was changed; free some space and try again",
    "No space left on device": (
        "the disk is full; nothing was changed; free some space and try again"
    ),
    "disk I/O error": "disk I/O error; nothing was changed; see the system log",
    "is locked": "another process has locked it; stop that process and try again",
    "lock timeout": "another process has locked it; stop that process and try again",
    "statement timeout": "the database is too slow; see what else it is doing, and try again",
    "readonly database": "cannot write; correct the permissions of the file and of its folder",
    "unable to open database file": "cannot open; correct the path or the permissions",
    "not a database": "not a database; correct the path, or restore a backup",
    "malformed": "the file is damaged; restore a backup",
}
_CONNECTION_LOST: Final = (
    "connection failed",
    "connection is bad",
    "connection to server",
    "connection timeout expired",
    "closed the connection",
    "terminating connection",
    "connection is closed",
    "connection is lost",
    "could not receive data",
    "could not send data",
)
"""Words of libpq and psycopg about a PostgreSQL that is away."""


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Translate errors of the database to StateError.

    Args:
        where: name of the database, without its password.
    """
    try:
        yield
    except DBAPIError as error:
        raise StateError(f"{where}: {_reason(str(error.orig))}") from error
    except TimeoutError as error:
        raise StateError(f"{where}: all connections are in use; try again") from error


def _reason(said: str) -> str:
    for words, meaning in _MEANT.items():
        if words in said:
            return meaning
    cause = " ".join(said.split()) or "the connection was lost"
    if said and not any(words in said for words in _CONNECTION_LOST):
        return cause
    return (
        f"cannot reach the database: {cause}; check that PostgreSQL runs, and the address and user"
        " in state.url, then try again"
    )
