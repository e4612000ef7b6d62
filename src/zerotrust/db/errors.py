"""What a database says when it fails, as one line for a person."""

import contextlib
from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import DBAPIError, TimeoutError

from zerotrust.errors import StateError

_MEANT: Final = {
    "disk is full": "the disk is full; nothing of this change was kept, free some space and try again",
    "No space left on device": "the disk is full; nothing of this change was kept, free some space and try again",
    "disk I/O error": "the disk refuses to write or read; nothing of this change was kept, look at the system's log",
    "is locked": "another process keeps it locked; end that one and try again",
    "lock timeout": "another process keeps it locked; end that one and try again",
    "statement timeout": "it takes too long; look at what else it does, and try again",
    "readonly database": "it can't be written; correct the permissions of the file and of its folder",
    "unable to open database file": "it can't be opened; correct path or permissions",
    "not a database": "it is not a database; correct the path, or restore a backup",
    "malformed": "it is damaged; restore a backup",
}


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns errors of the database into StateError.

    Args:
        where: names the database, without its password.
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
    return " ".join(said.split()) or "the connection was lost"
