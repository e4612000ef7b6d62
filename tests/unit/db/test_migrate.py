"""Tests of zerotrust.db.migrate: with a second step, as the next version will have."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from tests.support.databases import Cluster
from zerotrust.db import (
    access_tables,  # noqa: F401 - adds its tables to the metadata
    agents,
    audit,
    migrate,
)
from zerotrust.db.database import Database
from zerotrust.db.migrate import SCRIPTS, VERSION_TABLE
from zerotrust.db.tables import Base
from zerotrust.errors import StateError

ROOT = Path(__file__).resolve().parents[3]

NEXT = '''"""A step of the next version."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make it so."""
    op.add_column("agents", sa.Column("note", sa.Text(), nullable=True))
    op.execute(sa.text("UPDATE agents SET note = 'was ' || id"))
'''


@contextlib.contextmanager
def next_version(folder: Path, step: str = NEXT) -> Iterator[None]:
    """The program as it will be after another step."""
    scripts = folder / "migrations 100%"
    shutil.copytree(
        SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    (scripts / "versions" / "v0005_next.py").write_text(step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "SCRIPTS", scripts)
        yield


def fill(url: str) -> None:
    database = Database.open(url)
    with database.transaction() as session:
        agents.ensure(session, "home", now=7)
        audit.append(session, at=7, actor="test", action="made", agent="home")
    database.close()


def test_the_migrations_make_the_tables_of_the_models(database: Database) -> None:
    with database.transaction() as session:
        context = MigrationContext.configure(
            session.connection(), opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_each_step_is_named_after_the_schema_that_it_makes() -> None:
    newest_first = list(ScriptDirectory(str(SCRIPTS)).walk_revisions())
    revisions = [step.revision for step in newest_first]
    assert [Path(step.path).name[:6] for step in newest_first] == [
        f"v{revision}_" for revision in revisions
    ]
    assert revisions == sorted(revisions, reverse=True)


def test_a_database_that_is_up_to_date_is_opened_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    fill(url)
    code = (
        "import sys; from zerotrust.db.database import Database; Database.open(sys.argv[1]);"
        " print(*sys.modules)"
    )
    opened = subprocess.run(
        [sys.executable, "-c", code, url], check=True, capture_output=True, text=True
    )
    assert "alembic" not in opened.stdout.split()


def test_an_older_database_is_migrated_and_keeps_its_rows(empty_url: str, tmp_path: Path) -> None:
    fill(empty_url)
    with next_version(tmp_path):
        database = Database.open(empty_url, folder=tmp_path)
    assert str(database.migration).startswith("database migrated from schema 0004 to 0005; ")
    with database.transaction() as session:
        assert session.scalar(text("SELECT note FROM agents")) == "was home"
        assert audit.verify(session).records == 1
    database.close()


def test_sqlite_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    fill(f"sqlite:///{file}")
    backup = tmp_path / "state.db.backup-0004"
    backup.write_text("an older backup")
    with next_version(tmp_path):
        database = Database.open(f"sqlite:///{file}")
        assert database.migration is not None
        assert database.migration.backup == backup
        assert str(backup) in str(database.migration)
        database.close()
        assert Database.open(f"sqlite:///{file}").migration is None
    assert backup.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*"))
    shutil.copy(backup, file)
    restored = Database.open(f"sqlite:///{file}")
    with restored.transaction() as session:
        assert [agent.id for agent in agents.everyone(session)] == ["home"]
    restored.close()


def test_no_backup_no_migration(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    fill(f"sqlite:///{file}")
    (tmp_path / "state.db.backup-0004").mkdir()
    with (
        next_version(tmp_path),
        pytest.raises(StateError, match="backup-0004: no backup, so nothing is migrated"),
    ):
        Database.open(f"sqlite:///{file}")
    assert not list(tmp_path.glob(".*"))
    assert Database.open(f"sqlite:///{file}").migration is None


@pytest.mark.slow
def test_postgresql_is_dumped_before_it_is_migrated(postgresql: Cluster, tmp_path: Path) -> None:
    url = postgresql.new()
    fill(url)
    backup = tmp_path / "postgresql.backup-0004"
    with next_version(tmp_path):
        database = Database.open(url + "&password=unused", folder=tmp_path)
        database.close()
    assert database.migration is not None
    assert (database.migration.backup, database.migration.risky) == (backup, False)
    assert backup.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*"))
    listed = subprocess.run(
        ["pg_restore", "--list", backup], check=True, capture_output=True, text=True
    ).stdout
    assert "TABLE DATA" in listed
    assert "agents" in listed


@pytest.mark.slow
def test_postgresql_is_not_migrated_where_the_dump_fails(
    postgresql: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.new()
    fill(url)
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\necho $PGPASSWORD >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with next_version(tmp_path):
        with pytest.raises(
            StateError, match="backup-0004: no backup, so nothing is migrated: told; correct that"
        ):
            Database.open(url + "&password=told", folder=tmp_path)
        with pytest.raises(StateError, match="no backup, so nothing is migrated: Not a directory"):
            Database.open(url, folder=program)
    assert not list(tmp_path.glob(".*"))
    database = Database.open(url)
    assert database.migration is None
    database.close()


@pytest.mark.slow
def test_postgresql_without_pg_dump_says_that_no_backup_was_made(
    postgresql: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.new()
    fill(url)
    monkeypatch.setenv("PATH", str(tmp_path))
    with next_version(tmp_path):
        database = Database.open(url)
    assert database.migration is not None
    assert database.migration.risky
    assert str(database.migration).endswith("; no backup was made: pg_dump is missing")
    database.close()


def test_a_step_that_fails_changes_nothing(empty_url: str, tmp_path: Path) -> None:
    fill(empty_url)
    broken = NEXT + '    op.execute(sa.text("INSERT INTO nowhere VALUES (1)"))\n'
    with next_version(tmp_path, broken), pytest.raises(StateError, match="nowhere"):
        Database.open(empty_url, folder=tmp_path)
    database = Database.open(empty_url)
    assert database.migration is None
    with database.transaction() as session:
        assert [agent.id for agent in agents.everyone(session)] == ["home"]
    database.close()


def test_a_newer_database_is_refused_and_left_alone(empty_url: str, tmp_path: Path) -> None:
    fill(empty_url)
    with next_version(tmp_path):
        Database.open(empty_url, folder=tmp_path).close()
    with pytest.raises(
        StateError, match=r"written by a newer 0Trust \(schema 0005, this one knows up to 0004\)"
    ) as caught:
        Database.open(empty_url)
    assert "\n" not in str(caught.value)
    with next_version(tmp_path):
        database = Database.open(empty_url)
        assert database.migration is None
        database.close()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE agents (name TEXT)")
    with pytest.raises(StateError, match=r"tables of another program \(agents\)"):
        Database.open(f"sqlite:///{file}")


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_the_wheel_brings_the_migrations(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(
        build,
        cwd=ROOT,
        env={"ZEROTRUST_COMPILE": "0", "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "package")
    program = (
        "from zerotrust.db.database import Database; import sys;"
        " print(Database.open(sys.argv[1]).migration)"
    )
    opened = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{tmp_path}/state.db"],
        env={"PYTHONPATH": str(tmp_path / "package")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert opened.stdout == "database created, schema 0004\n"
