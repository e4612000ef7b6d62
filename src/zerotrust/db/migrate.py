"""Migration of a database to the schema of this program; a newer database is refused.

To change the schema: change `tables.py` and write `migrations/versions/vNNNN_….py` with revision
NNNN (Alembic's operations, for both databases). A test compares tables and migrations and names
what is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, column, inspect, select, table

from zerotrust.db import access_tables  # noqa: F401 - adds its tables to the metadata
from zerotrust.db.tables import Base
from zerotrust.errors import StateError

SCRIPTS: Final = Path(__file__).parent / "migrations"
VERSION_TABLE: Final = "zerotrust_schema"


@dataclass(frozen=True)
class Migration:
    """A migration that opening a database has run; as text, one line for the log."""

    before: str | None
    """Schema before; None for a new database."""

    after: str

    backup: Path | None
    """Copy of the database before the migration, if one was made."""

    @property
    def risky(self) -> bool:
        """An older database was changed without a backup."""
        return self.before is not None and self.backup is None

    def __str__(self) -> str:
        if self.before is None:
            return f"database created, schema {self.after}"
        kept = (
            "no backup was made: pg_dump is missing"
            if self.backup is None
            else f"backup: {self.backup}"
        )
        return f"database migrated from schema {self.before} to {self.after}; {kept}"


def migrate(
    connection: Connection, back_up: Callable[[str], Path | None], *, where: str
) -> Migration | None:
    """Run the missing migrations in the connection's transaction; return None if there are none.

    Args:
        connection: in a transaction that holds the lock.
        back_up: copies the database; called with its schema before the first change.
        where: name of the database in errors.

    Raises:
        StateError: the database is newer than this program, or belongs to another program.
    """
    known = _known()
    head = known[-1]
    before = _schema(connection)
    if before == head:
        return None
    if before is None:
        _refuse_foreign(connection, where)
    elif before not in known:
        raise StateError(
            f"{where}: written by a newer 0Trust (schema {before}, this one knows up to {head}); "
            "install that version again, or restore the backup that was made before it"
        )
    backup = None if before is None else back_up(before)
    _upgrade(connection)
    return Migration(before, head, backup)


def _known() -> list[str]:
    """Return the schemas that this program knows, the newest last."""
    return sorted(script.name[1:5] for script in (SCRIPTS / "versions").glob("v*.py"))


def _schema(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(
        select(column("version_num")).select_from(table(VERSION_TABLE))
    )
    return found


def _upgrade(connection: Connection) -> None:
    # Importing Alembic takes a quarter of a second, and few starts have something to migrate.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _refuse_foreign(connection: Connection, where: str) -> None:
    ours = set(Base.metadata.tables) & set(inspect(connection).get_table_names())
    if ours:
        raise StateError(
            f"{where}: has tables of another program ({', '.join(sorted(ours))}); give 0Trust a"
            " database of its own"
        )
