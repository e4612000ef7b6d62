"""Tests of zerotrust.db.revocations."""

from zerotrust.db import agents, revocations
from zerotrust.db.database import Database
from zerotrust.db.revocations import RevocationList


def test_an_agent_and_a_certificate_are_two_things(database: Database) -> None:
    with database.transaction() as session:
        for name in ("home", "work"):
            agents.ensure(session, name, now=1)
        revocations.add(session, "home", reason="x", now=1)
        revocations.add(session, "work", "a1", reason="y", now=1, until=50)
        now = revocations.load(session, now=49)
        assert now == RevocationList(frozenset({"home"}), frozenset({("work", "a1")}))
        assert [
            now.refuses(*who)
            for who in (("home", "b2"), ("work", "a1"), ("work", "b2"), ("lab", "a1"))
        ] == [
            True,
            True,
            False,
            False,
        ]
        assert revocations.load(session, now=50) == RevocationList(frozenset({"home"}))
        assert [row.agent_id for row in revocations.listed(session)] == ["home", "work"]


def test_a_revocation_is_removed_once(database: Database) -> None:
    with database.transaction() as session:
        agents.ensure(session, "home", now=1)
        revocations.add(session, "home", reason="x", now=1)
        revocations.add(session, "home", "a1", reason="x", now=1)
        assert revocations.remove(session, "home")
        assert not revocations.remove(session, "home")
        assert revocations.find(session, "home") is None
        assert revocations.find(session, "home", "a1") is not None


def test_only_those_of_certificates_that_ended_are_forgotten(database: Database) -> None:
    with database.transaction() as session:
        for name in ("home", "work"):
            agents.ensure(session, name, now=1)
            revocations.add(session, name, reason="x", now=1)
            revocations.add(session, name, "a1", reason="x", now=1, until=50)
            revocations.add(session, name, "b2", reason="x", now=1)
        assert revocations.forget(session, "home", ended_before=50) == 0
        assert revocations.forget(session, "home", ended_before=51) == 1
        assert [(row.agent_id, row.serial) for row in revocations.listed(session)] == [
            ("home", ""),
            ("home", "b2"),
            ("work", ""),
            ("work", "a1"),
            ("work", "b2"),
        ]
