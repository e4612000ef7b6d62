"""PostgreSQL, through psycopg 3 (`pip install '0trust[postgresql]'`).

Every transaction begins with one advisory lock, as in SQLite with the right to write: there is one at a time, so that
each sees all before it, the migration included. These are decisions about identity, a few in a second at the most.
"""

import importlib.util
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event

from zerotrust.errors import StateError

_LOCK: Final = 0x307472757374  # "0trust"
_BEGIN: Final = f"SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock({_LOCK})"


def connect(url: URL) -> Engine:
    """An engine for the database.

    Raises:
        StateError: the driver is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise StateError("state.url: PostgreSQL needs its driver; install it with: pip install '0trust[postgresql]'")
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="READ COMMITTED",  # after the lock each statement sees what was committed before
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "application_name": "0trust", **url.query},
    )
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(_BEGIN)
