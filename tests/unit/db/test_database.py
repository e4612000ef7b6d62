"""Tests of zerotrust.db.database."""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from tests.support.databases import Cluster
from zerotrust.db import agents, audit, grants
from zerotrust.db.database import Database
from zerotrust.errors import EnrollmentRefused, StateError

pytestmark = pytest.mark.anyio


def note(session: Session, word: str) -> int:
    return audit.append(session, at=1, actor="test", action=word).number


def noted(database: Database) -> list[str]:
    with database.transaction() as session:
        return [record.action for record in audit.records(session, limit=10**6)]


def test_what_is_committed_is_there_after_opening_again(empty_url: str) -> None:
    first = Database.open(empty_url)
    assert str(first.migration) == "database created, schema 0004"
    with first.transaction() as session:
        agents.ensure(session, "home", now=7)
        grants.add(session, "home", "app.example", now=7)
    first.close()
    second = Database.open(empty_url)
    assert second.migration is None
    with second.transaction() as session:
        assert grants.pairs(session) == [("home", "app.example")]
    second.close()


def test_other_servers_may_share_what_is_no_file(url: str, database: Database) -> None:
    assert database.shared is url.startswith("postgresql")


@pytest.mark.anyio
async def test_the_clock_of_the_database(database: Database) -> None:
    before = time.time()
    assert before - 2 <= await database.unix_time() <= time.time() + 2


def test_a_row_can_be_read_after_its_transaction(database: Database) -> None:
    with database.transaction() as session:
        agent = agents.ensure(session, "home", now=7)
    assert (agent.id, agent.created_at, agent.joined_at) == ("home", 7, None)


def test_an_exception_undoes_everything(database: Database) -> None:
    with pytest.raises(LookupError), database.transaction() as session:
        note(session, "lost")
        raise LookupError
    assert noted(database) == []


def test_a_refusal_keeps_what_was_recorded_about_it(database: Database) -> None:
    with pytest.raises(EnrollmentRefused), database.transaction() as session:
        note(session, "refused")
        raise EnrollmentRefused("no")
    assert noted(database) == ["refused"]


def test_a_foreign_key_is_held_and_said_in_one_line(database: Database) -> None:
    with (
        pytest.raises(StateError, match=r"(?i)foreign key") as caught,
        database.transaction() as session,
    ):
        grants.add(session, "nobody", "app.example", now=7)
    assert "\n" not in str(caught.value)
    assert caught.value.code == "state"


async def test_work_is_done_in_one_thread_and_committed_when_run_returns(
    database: Database,
) -> None:
    names = await asyncio.gather(
        *(database.run(lambda s: (note(s, "x"), threading.get_ident())) for _ in range(20))
    )
    assert sorted(number for number, _ in names) == list(range(1, 21))
    assert len({thread for _, thread in names}) == 1
    assert threading.get_ident() not in {thread for _, thread in names}
    with pytest.raises(LookupError):
        await database.run(lambda session: dict[str, int]()["x"])
    assert len(noted(database)) == 20


async def test_work_goes_on_where_its_caller_is_cancelled(database: Database) -> None:
    begun, go = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        begun.set()
        go.wait(20)
        note(session, "done")

    task = asyncio.get_running_loop().create_task(database.run(work))
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await database.run(lambda session: None)
    assert noted(database) == ["done"]


async def test_work_for_a_closed_database_is_refused_in_one_line(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    database.close()
    with pytest.raises(StateError, match="closed, the server is stopping"):
        await database.run(lambda session: None)


def test_transactions_are_one_after_the_other(url: str, database: Database) -> None:
    """Two servers, four threads each: whoever reads and then writes is never overtaken."""
    other = Database.open(url)

    def count(opened: Database) -> None:
        for _ in range(10):
            with opened.transaction() as session:
                note(session, "x")

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(count, opened) for opened in (database, other) * 4]:
            future.result(15)
    other.close()
    with database.transaction() as session:
        assert audit.verify(session).records == 80


def test_two_that_open_an_empty_database_at_once_share_it(empty_url: str) -> None:
    barrier = threading.Barrier(4)

    def work() -> Database:
        barrier.wait(30)
        return Database.open(empty_url)

    with ThreadPoolExecutor(4) as threads:
        opened = [future.result(15) for future in [threads.submit(work) for _ in range(4)]]
    assert len([database for database in opened if database.migration]) == 1
    for database in opened:
        database.close()


def test_opening_a_new_file_waits_for_the_transaction_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself refuses at once to change the journal mode beside it."""
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits: list[float] = []

    def end_the_transaction(seconds: float) -> None:
        waits.append(seconds)
        other.execute("COMMIT")

    monkeypatch.setattr("time.sleep", end_the_transaction)
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    assert (len(waits), noted(database)) == (1, [])
    database.close()
    other.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "not a valid database URL"),
        ("nonsense", "not a valid database URL"),
        ("/var/lib/state.db", "not a valid database URL"),
        ("mysql://user:hush@host/x", "unsupported database mysql"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("postgresql://user:hush@127.0.0.1:1/x", "postgresql://user:.*@127.0.0.1:1/x: .*refused"),
        (
            "postgresql://127.0.0.1:1/x?user=u&password=hush&sslpassword=hush",
            r"127\.0\.0\.1:1/x\?user=u: .*refused",
        ),
        ("postgresql://user:hush@127.0.0.1:port/x", "not a valid database URL"),
    ],
)
def test_what_cannot_be_opened_says_why_in_one_line_without_the_password(
    address: str, reason: str
) -> None:
    with pytest.raises(StateError, match=reason) as caught:
        Database.open(address)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_postgresql_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StateError, match=r"pip install '0trust\[postgresql\]'"):
        Database.open("postgresql://localhost/x")


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=f"there is no folder {tmp_path}/missing"):
        Database.open(f"sqlite:///{tmp_path}/missing/state.db")


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    file.write_text("important notes, not a database at all" * 100)
    before = file.read_bytes()
    with pytest.raises(StateError, match="not a database"):
        Database.open(f"sqlite:///{file}")
    assert file.read_bytes() == before
    with pytest.raises(StateError, match=f"^{tmp_path}: "):
        Database.open(f"sqlite:///{tmp_path}")


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = Database.open(f"sqlite:///{tmp_path}/state.db")
        with database.transaction() as session:
            note(session, "x")
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {
        "state.db": "0o600",
        "state.db-wal": "0o600",
        "state.db-shm": "0o600",
    }
    database.close()
    (tmp_path / "state.db").chmod(0o644)
    Database.open(f"sqlite:///{tmp_path}/state.db").close()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


def test_sqlite_is_set_for_a_power_cut(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    with database.transaction() as session:
        found = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()


def test_a_database_that_another_keeps_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerotrust.db.sqlite.BUSY_SECONDS", 0.05)
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(StateError, match="another process has locked it"),
        database.transaction() as session,
    ):
        note(session, "x")
    other.close()
    with database.transaction() as session:
        note(session, "x")
    database.close()


@pytest.mark.slow
def test_a_lost_connection_is_said_and_the_next_transaction_has_a_new_one(
    postgresql: Cluster,
) -> None:
    database = Database.open(postgresql.new())
    with pytest.raises(
        StateError, match=r"postgres@/postgres.*: .*(terminat|closed|lost)"
    ) as caught:
        with database.transaction() as session:
            note(session, "lost")
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert "\n" not in str(caught.value)
    with database.transaction() as session:
        note(session, "kept")
    assert noted(database) == ["kept"]
    database.close()


@pytest.mark.slow
def test_a_postgresql_that_hangs_does_not_keep_the_one_thread_for_minutes(
    postgresql: Cluster,
) -> None:
    database = Database.open(postgresql.new() + "&tcp_user_timeout=7000")
    with database.transaction() as session:
        driver = session.connection().connection.driver_connection
        assert driver is not None
        told = driver.info.get_parameters()
        assert (told["keepalives_idle"], told["tcp_user_timeout"]) == ("5", "7000"), (
            "the address has the last word"
        )
        assert session.scalar(text("SHOW statement_timeout")) == "15s"
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "30s"
    with (
        pytest.raises(StateError, match="the database is too slow"),
        database.transaction() as session,
    ):
        session.execute(text("SET LOCAL statement_timeout = '10ms'"))
        session.execute(text("SELECT pg_sleep(10)"))
    database.close()


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")

    def limit(connection: sqlite3.Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    # SQLite ignores a limit below the size that the file has, and that grows with the schema.
    with database.transaction() as session:
        empty = session.scalar(text("PRAGMA page_count"))
    assert empty is not None
    full = [empty + 28]
    event.listen(database.engine, "checkout", lambda dbapi, record, proxy: limit(dbapi, full[0]))
    kept = 0
    with pytest.raises(StateError, match="the disk is full; nothing was changed"):
        for _ in range(10_000):
            with database.transaction() as session:
                note(session, "x" * 500)
            kept += 1
    assert kept > 20
    assert len(noted(database)) == kept
    full[0] = 10_000
    with database.transaction() as session:
        assert note(session, "again") == kept + 1
        assert audit.verify(session).broken is None
    database.close()


WRITER = """
import resource, sys
from zerotrust.errors import StateError
from zerotrust.db import audit
from zerotrust.db.database import Database
database = Database.open(sys.argv[1])
if sys.argv[2] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    while True:
        with database.transaction() as session:
            number = audit.append(session, at=1, actor="writer", action="x" * 300).number
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
except StateError as error:
    sys.exit(str(error))
"""


def writer(url: str, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("commits", [1, 37, 150])
def test_a_killed_process_loses_nothing_that_was_acknowledged(url: str, commits: int) -> None:
    with writer(url) as process:
        assert process.stdout is not None
        for _ in range(commits):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = [str(commits), *process.stdout.read().split()]
    acknowledged = int(said[-1])
    database = Database.open(url)
    with database.transaction() as session:
        chain = audit.verify(session)
    database.close()
    assert chain.broken is None
    assert chain.records in (acknowledged, acknowledged + 1)


@pytest.mark.slow
def test_a_disk_that_refuses_to_write_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A limit on the size of files stands for a quota: the write itself fails, in the middle."""
    url = f"sqlite:///{tmp_path}/state.db"
    with writer(url, 300_000) as process:
        out, err = process.communicate(timeout=15)
    assert process.returncode == 1
    assert err.startswith(f"{tmp_path}/state.db: disk I/O error")
    assert err.count("\n") == 1
    acknowledged = [int(line) for line in out.split()]
    database = Database.open(url)
    with database.transaction() as session:
        chain = audit.verify(session)
        assert (chain.records, chain.broken) == (acknowledged[-1], None)
        note(session, "again")
    database.close()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
