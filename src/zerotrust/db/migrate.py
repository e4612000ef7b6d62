"""Brings a database to the schema of this program, and refuses one that is newer.

A new step: change `tables.py`, write `migrations/versions/vNNNN_….py`, whose revision is NNNN (Alembic's operations,
for both databases); the test that compares tables and migrations says what is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, column, inspect, select, table

from zerotrust.db.tables import Base
from zerotrust.errors import StateError

SCRIPTS: Final = Path(__file__).parent / "migrations"
VERSION_TABLE: Final = "zerotrust_schema"


@dataclass(frozen=True)
class Migration:
    """What opening a database changed; as text, one line for the log."""

    before: str | None
    """The schema that was found; None where there was none."""

    after: str

    backup: Path | None
    """The database as it was before, where a copy was made."""

    @property
    def risky(self) -> bool:
        """Nobody could go back."""
        return self.before is not None and self.backup is None

    def __str__(self) -> str:
        if self.before is None:
            return f"database created, schema {self.after}"
        kept = "no backup was made: there is no pg_dump" if self.backup is None else f"as it was before: {self.backup}"
        return f"database migrated from schema {self.before} to {self.after}; {kept}"


def migrate(connection: Connection, back_up: Callable[[str], Path | None], *, where: str) -> Migration | None:
    """Run what is missing, inside the connection's transaction; None where nothing is.

    Args:
        connection: in a transaction that nobody else can be in.
        back_up: copies the database, given the schema that it has; called before anything is changed.
        where: names the database in errors.

    Raises:
        StateError: the database is newer than this program, or not one of ours.
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
    """The schemas that this program has steps to, the newest last."""
    return sorted(script.name[1:5] for script in (SCRIPTS / "versions").glob("v*.py"))


def _schema(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return found


def _upgrade(connection: Connection) -> None:
    # Alembic takes a quarter of a second to import, and hardly any start has something to migrate.
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
            f"{where}: has tables of another program ({', '.join(sorted(ours))}); give 0Trust a database of its own"
        )
