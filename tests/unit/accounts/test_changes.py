"""Tests of zerotrust.accounts.changes."""

import pytest

from zerotrust.accounts import changes
from zerotrust.db.database import Database


def add(database: Database, *subjects: str, now: int = 1) -> None:
    with database.transaction() as session:
        changes.add_all(session, changes.USER, subjects, now=now)


def since(database: Database, number: int, limit: int = 10) -> list[str] | None:
    with database.transaction() as session:
        found = changes.since(session, number, limit=limit)
    return None if found is None else [subject for _, _, subject in found]


def test_changes_are_read_in_order_from_a_number_on(database: Database) -> None:
    assert since(database, 0) == []
    add(database, "a", "b", "c")
    with database.transaction() as session:
        assert changes.newest(session) == 3
    assert since(database, 0) == ["a", "b", "c"]
    assert since(database, 1) == ["b", "c"]
    assert since(database, 3) == []


def test_too_many_changes_are_not_read_one_by_one(database: Database) -> None:
    add(database, *"abcdef")
    assert since(database, 0, limit=6) is not None
    assert since(database, 0, limit=5) is None
    assert since(database, 1, limit=5) is not None
    assert since(database, 1, limit=4) is None


def test_a_reader_knows_when_changes_have_been_forgotten(database: Database) -> None:
    add(database, "a", "b", now=1)
    add(database, "c", now=100)
    with database.transaction() as session:
        assert changes.forget(session, before=50) == 2
    assert since(database, 1) is None
    assert since(database, 0) is None
    assert since(database, 3) == []


def test_the_last_change_stays_so_that_readers_find_their_place(database: Database) -> None:
    add(database, "a", "b", now=1)
    with database.transaction() as session:
        assert changes.forget(session, before=50) == 1
    assert since(database, 2) == []
    add(database, "c", now=100)
    assert since(database, 2) == ["c"]


def test_a_database_that_was_restored_from_a_copy_is_noticed(database: Database) -> None:
    add(database, "a")
    assert since(database, 7) is None


def test_a_rollback_leaves_a_gap_at_most(database: Database) -> None:
    add(database, "a")
    with pytest.raises(LookupError), database.transaction() as session:
        changes.add(session, changes.USER, "lost", now=1)
        raise LookupError
    add(database, "b")
    assert since(database, 1) == ["b"]
