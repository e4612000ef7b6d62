"""Brings a database to the schema of this program, and refuses one that is newer.

A new step: change `tables.py`, write `migrations/versions/NNNN_….py` (Alembic's operations, for both databases); the
test that compares tables and migrations says what is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from zerotrust.errors import StateError
from zerotrust.state.tables import Base

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

    def __str__(self) -> str:
        if self.before is None:
            return f"database created, schema {self.after}"
        kept = "no backup was made" if self.backup is None else f"as it was before: {self.backup}"
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
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    known = ScriptDirectory.from_config(config)
    head = known.get_current_head()
    assert head is not None
    before = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if before == head:
        return None
    if before is None:
        _refuse_foreign(connection, where)
    elif before not in {script.revision for script in known.walk_revisions()}:
        raise StateError(
            f"{where}: written by a newer 0Trust (schema {before}, this one knows up to {head}); "
            "install that version again, or restore the backup that was made before it"
        )
    backup = None if before is None else back_up(before)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return Migration(before, head, backup)


def _refuse_foreign(connection: Connection, where: str) -> None:
    ours = set(Base.metadata.tables) & set(inspect(connection).get_table_names())
    if ours:
        raise StateError(
            f"{where}: has tables of another program ({', '.join(sorted(ours))}); give 0Trust a database of its own"
        )
