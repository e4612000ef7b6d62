"""Tests of zerotrust.db.audit."""

import contextlib
import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.support.examples import examples
from zerotrust.db import audit
from zerotrust.db.audit import ORIGIN, AuditHashChain
from zerotrust.db.database import Database
from zerotrust.db.tables import AuditRow
from zerotrust.errors import StateError

COLUMNS = ["number", "at", "actor", "action", "agent_id", "details", "hash"]
RECORDS = 6


def fill(database: Database, count: int = RECORDS) -> None:
    with database.transaction() as session:
        for number in range(1, count + 1):
            audit.append(
                session,
                at=1_900_000_000 + number,
                actor=f"uid {number}",
                action="grant.added",
                agent="home" if number % 2 else "work",
                details={
                    "host": "bücher.example",
                    "count": number,
                    "hosts": ["a", "b"],
                    "none": None,
                    "yes": True,
                },
            )


def verify(database: Database) -> AuditHashChain:
    with database.transaction() as session:
        return audit.verify(session)


def test_an_empty_audit_is_whole(database: Database) -> None:
    assert verify(database) == AuditHashChain(0, ORIGIN)


def test_records_are_numbered_and_chained_as_the_module_says(database: Database) -> None:
    fill(database, 3)
    with database.transaction() as session:
        lines = [audit.as_json(record) for record in audit.records(session)]
    head = "0" * 64
    for number, line in enumerate(lines, 1):
        record: dict[str, Any] = json.loads(line)
        told = record.pop("hash")
        assert record["number"] == number
        assert record["details"]["host"] == "bücher.example"
        plain = json.dumps(record, sort_keys=True, separators=(",", ":"))
        head = hashlib.sha256(f"{head}\n{plain}".encode()).hexdigest()
        assert told == head
    assert verify(database) == AuditHashChain(3, head)


def test_one_record_as_it_will_always_be(database: Database) -> None:
    """A change of the form would break the chain of everybody who has one."""
    with database.transaction() as session:
        record = audit.append(
            session,
            at=1,
            actor="uid 0",
            action="grant.added",
            agent="home",
            details={"b": 1, "a": "é"},
        )
        assert (
            audit.as_json(record) == '{"action":"grant.added","actor":"uid'
            ' 0","agent":"home","at":1,"details":{"a":"\\u00e9","b":1},'
            '"hash":"f8cf3637de78e157c579a886bdce7345aee0ae2574c50c88f3e612b46176cbce","number":1}'
        )


def test_records_are_found_by_page_agent_and_kind(database: Database) -> None:
    fill(database)
    with database.transaction() as session:
        audit.append(session, at=1, actor="x", action="agent.joined", agent="home")

        def numbers(found: list[AuditRow]) -> list[int]:
            return [record.number for record in found]

        assert numbers(audit.records(session, limit=3)) == [1, 2, 3]
        assert numbers(audit.records(session, after=3, limit=3)) == [4, 5, 6]
        assert numbers(audit.records(session, after=7)) == []
        assert numbers(audit.records(session, agent="work")) == [2, 4, 6]
        assert numbers(audit.records(session, agent="home", action="agent.joined")) == [7]
        assert numbers(audit.newest(session, limit=2)) == [6, 7]
        assert numbers(audit.newest(session, limit=2, action="grant.added")) == [5, 6]


def test_a_chain_is_verified_page_by_page(database: Database) -> None:
    fill(database)
    whole = verify(database)
    with database.transaction() as session:
        chain = audit.verify(session, limit=4)
        assert chain.records == 4
        chain = audit.verify(session, chain, limit=4)
        assert chain == whole
        assert audit.verify(session, chain, limit=4) == whole


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit WHERE number = 6"]
)
def test_the_database_itself_refuses_changes(database: Database, statement: str) -> None:
    fill(database)
    with (
        pytest.raises(StateError, match="the audit is never changed"),
        database.transaction() as session,
    ):
        session.execute(text(statement))
    assert verify(database).records == RECORDS


def test_postgresql_refuses_to_truncate_too(database: Database, url: str) -> None:
    if not url.startswith("postgresql"):
        return
    fill(database)
    with pytest.raises(StateError, match="never changed"), database.transaction() as session:
        session.execute(text("TRUNCATE audit"))


@pytest.mark.parametrize(
    "value", ["\udc80", "\0", "a\nb", "é", "", "'; DROP TABLE audit; --", "x" * 100_000]
)
def test_text_of_any_kind_is_kept_and_stays_provable(
    url: str, database: Database, value: str
) -> None:
    with database.transaction() as session:
        audit.append(
            session, at=1, actor=value, action="x", agent=value, details={"value": value, value: 1}
        )
    database.close()
    reopened = Database.open(url)
    with reopened.transaction() as session:
        assert json.loads(audit.records(session)[0].details)["value"] == value
    assert verify(reopened).records == 1
    reopened.close()


@pytest.mark.parametrize("details", [{"x": float("nan")}, {"x": object()}, {"x": b"y"}])
def test_what_is_no_json_is_not_recorded(database: Database, details: Any) -> None:
    with pytest.raises((TypeError, ValueError)), database.transaction() as session:
        audit.append(session, at=1, actor="x", action="x", details=details)
    assert verify(database).records == 0


def break_in(url: str, statement: str, *values: object) -> None:
    """Change the audit table past its triggers, as an attacker with database access would."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            file.execute("DROP TRIGGER IF EXISTS audit_refuses_update")
            file.execute("DROP TRIGGER IF EXISTS audit_refuses_delete")
            file.execute(statement, values)
    else:
        with psycopg.connect(url) as connection:
            connection.execute("ALTER TABLE audit DISABLE TRIGGER ALL")
            connection.execute(statement.replace("?", "%s").encode(), values)


@pytest.mark.parametrize(
    ("statement", "broken", "reason"),
    [
        ("UPDATE audit SET actor = 'uid 0' WHERE number = 3", 3, "changed"),
        ("UPDATE audit SET at = at + 1 WHERE number = 6", 6, "changed"),
        ("UPDATE audit SET agent_id = NULL WHERE number = 1", 1, "changed"),
        ("UPDATE audit SET agent_id = '' WHERE number = 1", 1, "changed"),
        ("UPDATE audit SET details = replace(details, ',', ', ') WHERE number = 4", 4, "rewritten"),
        ("UPDATE audit SET details = '' WHERE number = 4", 4, "details were changed"),
        ("UPDATE audit SET details = '[[[[' WHERE number = 4", 4, "details were changed"),
        ("UPDATE audit SET hash = upper(hash) WHERE number = 2", 2, "changed"),
        ("UPDATE audit SET number = 60 WHERE number = 6", 6, "missing"),
        ("UPDATE audit SET number = 0 WHERE number = 5", 0, "does not belong"),
        ("DELETE FROM audit WHERE number = 1", 1, "missing"),
        ("DELETE FROM audit WHERE number = 3", 3, "missing"),
        (
            (
                "INSERT INTO audit SELECT 7, at, actor, action, agent_id, details, hash FROM audit"
                " WHERE number = 6"
            ),
            7,
            "changed",
        ),
    ],
)
def test_what_was_tampered_with_is_named(
    url: str, database: Database, statement: str, broken: int, reason: str
) -> None:
    fill(database)
    break_in(url, statement)
    found = verify(database)
    assert found.broken == broken
    assert reason in found.reason
    assert found.records == max(broken, 1) - 1


def test_two_records_that_changed_places(url: str, database: Database) -> None:
    fill(database)
    for before, after in ((2, 99), (3, 2), (99, 3)):
        break_in(url, "UPDATE audit SET number = ? WHERE number = ?", after, before)
    assert verify(database).broken == 2


def test_missing_last_records_show_against_a_head_that_was_noted(
    url: str, database: Database
) -> None:
    fill(database)
    noted = verify(database)
    break_in(url, "DELETE FROM audit WHERE number = 6")
    found = verify(database)
    assert found.broken is None
    assert (found.records, found.head) != (noted.records, noted.head)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A SQLite audit without its triggers."""
    url = f"sqlite:///{tmp_path_factory.mktemp('audit')}/state.db"
    database = Database.open(url)
    fill(database)
    break_in(url, "SELECT 1")
    yield database
    database.close()


@settings(max_examples=examples(300))
@given(
    number=st.integers(1, RECORDS),
    column=st.sampled_from(COLUMNS),
    place=st.integers(0, 10**6),
    flip=st.integers(1, 255),
)
def test_one_flipped_byte_anywhere_is_found_and_its_record_named(
    sealed: Database, number: int, column: str, place: int, flip: int
) -> None:
    with sealed.transaction() as session:
        run = session.connection().exec_driver_sql
        found = run(
            f"SELECT CAST({column} AS BLOB), typeof({column}) FROM audit WHERE number = ?",
            (number,),
        ).one()
        raw = bytearray(found[0])
        raw[place % len(raw)] ^= flip
        kind = "TEXT" if found[1] == "text" else "INTEGER"
        changed = run(f"SELECT CAST(CAST(? AS TEXT) AS {kind})", (bytes(raw),)).scalar_one()
        if column == "number" and changed in range(1, RECORDS + 1):
            return  # itself, or a number that the table takes once only
        statement = f"UPDATE audit SET {column} = CAST(CAST(? AS TEXT) AS {kind}) WHERE number = ?"
        run(statement, (bytes(raw), number))
        chain = audit.verify(session)
        session.rollback()
    assert chain.broken == (min(number, changed) if column == "number" else number)


def test_the_document_verifies_an_export_without_us(database: Database) -> None:
    document = Path(__file__).resolve().parents[3] / "docs" / "state.md"
    program = document.read_text().partition("```python\n")[2].partition("```")[0]
    fill(database)
    with database.transaction() as session:
        lines = [audit.as_json(record) for record in audit.records(session)]

    def run(text: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], check=False, input=text, capture_output=True, text=True
        )
        return (done.stdout + done.stderr).strip()

    assert run("\n".join(lines)) == f"{RECORDS} records, head {verify(database).head}"
    assert run("\n".join(lines).replace("uid 3", "uid 0")) == "record 3 is broken"
    assert run("\n".join(lines[:1] + lines[2:])) == "record 2 is broken"
