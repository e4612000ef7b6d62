"""Tests of zerotrust.db.tokens."""

from sqlalchemy.orm import Session

from zerotrust.db import agents, tokens
from zerotrust.db.database import Database


def add(session: Session, name: str, agent: str = "home", expires_at: int = 100) -> int:
    agents.ensure(session, agent, now=1)
    return tokens.add(
        session, name.encode().ljust(32), agent, ["*.a.example"], expires_at=expires_at, now=1
    ).number


def test_a_token_is_spent_once_and_in_time(database: Database) -> None:
    with database.transaction() as session:
        number, late = add(session, "a"), add(session, "b")
        assert not tokens.spend(session, late, now=100)
        assert tokens.spend(session, late, now=99)
        assert tokens.spend(session, number, now=50)
        assert not tokens.spend(session, number, now=50)
        assert not tokens.spend(session, 99, now=50)
        row = tokens.find(session, number)
        assert row is not None
        assert (row.used_at, row.patterns) == (50, ["*.a.example"])


def test_a_token_is_found_by_its_whole_digest(database: Database) -> None:
    with database.transaction() as session:
        number = add(session, "a")
        found = tokens.by_digest(session, b"a".ljust(32))
        assert found is not None and found.number == number
        assert tokens.by_digest(session, b"a") is None
        assert tokens.by_digest(session, b"") is None


def test_what_is_cancelled_is_not_spent_and_what_is_spent_not_cancelled(database: Database) -> None:
    with database.transaction() as session:
        first, second = add(session, "a"), add(session, "b")
        assert tokens.cancel(session, first, now=2)
        assert not tokens.cancel(session, first, now=3)
        assert not tokens.spend(session, first, now=3)
        assert tokens.spend(session, second, now=3)
        assert not tokens.cancel(session, second, now=4)


def test_all_open_tokens_of_one_agent_are_cancelled(database: Database) -> None:
    with database.transaction() as session:
        used, ended, still, other = (
            add(session, "a"),
            add(session, "b", expires_at=5),
            add(session, "c"),
            add(session, "d", "work"),
        )
        tokens.spend(session, used, now=2)
        assert tokens.cancel_all(session, "home", now=10) == 1
        assert [row.number for row in tokens.listed(session) if row.cancelled_at] == [still]
        assert [row.number for row in tokens.listed(session, "home")] == [still, ended, used]
        assert tokens.spend(session, other, now=11)


def test_what_was_over_long_ago_is_forgotten(database: Database) -> None:
    with database.transaction() as session:
        used, cancelled, ended, open_ = (add(session, name, expires_at=1000) for name in "abcd")
        tokens.spend(session, used, now=10)
        tokens.cancel(session, cancelled, now=10)
        row = tokens.find(session, ended)
        assert row is not None
        row.expires_at = 10
        assert tokens.forget(session, over_before=10) == 0
        assert tokens.forget(session, over_before=11) == 3
        assert [row.number for row in tokens.listed(session)] == [open_]
        tokens.cancel(session, open_, now=11)
        assert tokens.forget(session, over_before=12) == 1
        assert add(session, "e") == 5, "a number that the audit speaks of is not given again"
