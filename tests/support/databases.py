"""Databases for tests: a SQLite file, and PostgreSQL started by the tests.

Most tests take a database that is migrated already, as a copy of one: the migrations take longer
than the test.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest

from zerotrust.db.database import Database

_POSTGRESQL = (pytest.mark.xdist_group("postgresql"), pytest.mark.slow)
_TEMPLATE = "migrated_template"
KINDS = ["sqlite", pytest.param("postgresql", marks=_POSTGRESQL)]


class Cluster:
    """PostgreSQL on a Unix socket in a temporary folder, without passwords and fsync."""

    def __init__(self) -> None:
        programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="0trust-pg-", dir="/tmp"))
        self._url = f"postgresql://postgres@/postgres?host={self._folder}"
        self._names = count(1)
        self._migrated = ""
        self._emptying = ""
        self._used: list[str] = []
        self._become = become = ["setpriv", "--pdeathsig=INT"]
        if os.geteuid() == 0:
            user = _unprivileged()
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            become += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        subprocess.run(
            [
                *become,
                programs / "initdb",
                "-D",
                self._folder / "data",
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ],
            check=True,
            capture_output=True,
            cwd=self._folder,
        )
        self.start()

    def start(self) -> None:
        """Start PostgreSQL again after `stop`."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._become,
                    _programs() / "postgres",
                    "-D",
                    self._folder / "data",
                    "-k",
                    self._folder,
                    "-c",
                    "listen_addresses=",
                    "-F",
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end_at = time.monotonic() + 15
        while not self._answers():
            assert time.monotonic() < end_at, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop PostgreSQL: connections end, new ones are refused."""
        self._process.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
        self._process.wait(10)

    def new(self) -> str:
        """Return the URL of an empty database: a new schema, which costs no files."""
        return self._new_schema(self._next_name())

    def migrated(self) -> str:
        """Return the URL of a database with all tables, without rows of other tests."""
        if not self._migrated:
            Database.open(self._new_schema(_TEMPLATE)).close()
            self._migrated = self._dump(_TEMPLATE)
            self._emptying = self._delete_all(_TEMPLATE) + self._dump(_TEMPLATE, "--data-only")
        while self._used:
            name = self._used.pop()
            if self._empty(name):
                return self._in_schema(name)
        name = self._next_name()
        with psycopg.connect(self._url) as connection:
            connection.execute(self._migrated.replace(_TEMPLATE, name).encode())
        return self._in_schema(name)

    def reuse(self, url: str) -> None:
        """Let another test have a database of `migrated`: a new one is a hundred files."""
        self._used.append(url.rpartition("%3D")[2])

    def close(self) -> None:
        self.stop()
        # A schema is a hundred files: `shutil.rmtree` takes ten times as long.
        subprocess.run(["rm", "-rf", self._folder], check=True)

    def _next_name(self) -> str:
        return f"test_{next(self._names)}"

    def _in_schema(self, name: str) -> str:
        return f"{self._url}&options=-csearch_path%3D{name}"

    def _new_schema(self, name: str) -> str:
        with psycopg.connect(self._url) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return self._in_schema(name)

    def _delete_all(self, schema: str) -> str:
        """Return the statements that delete all rows of a schema, also where triggers refuse it."""
        with psycopg.connect(self._url) as connection:
            found = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]
            )
            deleting = "".join(f"DELETE FROM {schema}.{table};\n" for (table,) in found)
        return f"SET lock_timeout = 100; SET session_replication_role = replica;\n{deleting}"

    def _empty(self, schema: str) -> bool:
        """Empty a schema; return False if a test has changed it, or still uses it."""
        with psycopg.connect(self._url) as connection:
            changed = connection.execute(
                "SELECT FROM pg_trigger, pg_class WHERE pg_class.oid = tgrelid"
                " AND relnamespace = %s::regnamespace AND tgenabled = 'D'",
                [schema],
            ).fetchone()
            if changed is not None:
                return False
            try:
                connection.execute(self._emptying.replace(_TEMPLATE, schema).encode())
            except psycopg.errors.LockNotAvailable:
                connection.rollback()
                return False
        return True

    def _dump(self, schema: str, *options: str) -> str:
        """Return the statements that create a schema with its rows."""
        program = str(_programs() / "pg_dump")
        done = subprocess.run(
            [program, "--inserts", *options, f"--schema={schema}", self._url],
            check=True,
            capture_output=True,
            text=True,
        )
        return "".join(
            line
            for line in done.stdout.splitlines(keepends=True)
            if not line.startswith(("\\", "SET lock_timeout"))
        )

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self._url):
            return True
        return False


def _programs() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    program = found[-1] if found else shutil.which("initdb")
    assert program, "the tests need PostgreSQL: apt-get install postgresql"
    return Path(program).parent


def _unprivileged() -> pwd.struct_passwd:
    """Return the user to run PostgreSQL as: it refuses to run as root."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database of each kind, with tables and without rows."""
    if request.param == "sqlite":
        yield migrated_sqlite(tmp_path / "state.db")
        return
    cluster: Cluster = request.getfixturevalue("postgresql")
    made = cluster.migrated()
    yield made
    cluster.reuse(made)


@pytest.fixture(params=KINDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database of each kind, without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.new()


def migrated_sqlite(file: Path) -> str:
    """Create a SQLite database with all tables; return its URL."""
    file.write_bytes(_migrated_sqlite())
    return f"sqlite:///{file}"


@cache
def _migrated_sqlite() -> bytes:
    with tempfile.TemporaryDirectory(prefix="0trust-") as folder:
        file = Path(folder) / "state.db"
        Database.open(f"sqlite:///{file}").close()
        return file.read_bytes()
