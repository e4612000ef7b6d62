"""Folder of the server's state (`state.dir`), and the database in it."""

from pathlib import Path

from zerotrust.config import folders
from zerotrust.db.database import Database
from zerotrust.errors import StateError
from zerotrust.model.database import DatabaseConfig
from zerotrust.net.channel import describe
from zerotrust.telemetry import logs

_log = logs.logger("server")


def open_database(state: DatabaseConfig, *, shared: bool = False) -> Database:
    """Open the server's database and migrate it; create its folder where there is none.

    Args:
        shared: other workers of this server use it, too.

    Raises:
        StateError: it can't be used, a newer program wrote it, or other users may replace files in
            its folder.
    """
    folder = Path(state.dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        refusal, warnings = folders.refusal(folder), list(folders.above(folder))
    except OSError as error:
        raise StateError(
            f"state.dir: cannot create {state.dir}: {describe(error)}; correct the path, or create"
            " the folder"
        ) from error
    if refusal is not None:
        raise StateError(f"state.dir: {refusal}")
    for warning in warnings:
        _log.warning("state.dir is not safe", reason=warning)
    database = Database.open(state.database, folder=folder, shared=shared)
    if database.migration is not None:
        say = _log.warning if database.migration.risky else _log.info
        say(str(database.migration), database=database.name)
    return database
