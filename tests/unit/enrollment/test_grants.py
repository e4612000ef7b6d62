"""Tests of zerotrust.enrollment.grants."""

import pytest
from sqlalchemy.orm import Session

from tests.unit.enrollment.transactions import ADMIN, NOW, audit_records, transact
from zerotrust.db import agents, grants
from zerotrust.db.database import Database
from zerotrust.db.tables import GrantRow
from zerotrust.enrollment.grants import Granted, add_grant, list_grants, remove_grant
from zerotrust.errors import EnrollmentError, NotFound


def grant(database: Database, agent: str, pattern: str) -> Granted:
    return transact(
        database, lambda s: add_grant(s, agent_id=agent, pattern=pattern, actor=ADMIN, now=NOW)
    )


def take(database: Database, agent: str, pattern: str) -> GrantRow:
    return transact(
        database, lambda s: remove_grant(s, agent_id=agent, pattern=pattern, actor=ADMIN, now=NOW)
    )


def test_grants_are_given_listed_and_taken_back(database: Database) -> None:
    assert grant(database, "work", "*.Lab.example.com").pattern == "*.lab.example.com"
    assert grant(database, "home", "bücher.example").pattern == "xn--bcher-kva.example"
    listed = transact(database, list_grants)
    assert [(row.agent_id, row.pattern) for row in listed] == [
        ("home", "xn--bcher-kva.example"),
        ("work", "*.lab.example.com"),
    ]
    assert [row.agent_id for row in transact(database, lambda s: list_grants(s, "home"))] == [
        "home"
    ]
    assert take(database, "home", "BÜCHER.example").pattern == "xn--bcher-kva.example"
    assert [row.agent_id for row in transact(database, list_grants)] == ["work"]
    assert audit_records(database) == [
        (ADMIN, "grant.added", "work", {"host": "*.lab.example.com"}),
        (ADMIN, "grant.added", "home", {"host": "xn--bcher-kva.example"}),
        (ADMIN, "grant.removed", "home", {"host": "xn--bcher-kva.example"}),
    ]


def test_two_agents_may_share_a_name(database: Database) -> None:
    assert grant(database, "home", "a.example").added
    assert grant(database, "work", "a.example").added
    take(database, "home", "a.example")
    assert [row.agent_id for row in transact(database, list_grants)] == ["work"]


def test_twice_is_no_decision(database: Database) -> None:
    assert grant(database, "home", "a.example").added
    assert not grant(database, "home", "A.example.").added
    assert len(audit_records(database)) == 1


def test_a_wildcard_for_everybody_is_granted_with_a_warning(database: Database) -> None:
    assert "public suffix" in grant(database, "home", "*.co.uk").warnings[0]
    assert grant(database, "home", "*.example.co.uk").warnings == []


@pytest.mark.parametrize("name", ["faß.example", "*.xn--a.example"])
def test_a_name_that_is_not_clear_is_not_granted(database: Database, name: str) -> None:
    with pytest.raises(
        EnrollmentError, match=r"write xn--fa-hia\.example|is not an internationalised"
    ):
        grant(database, "home", name)


def test_an_old_grant_with_any_a_label_can_be_taken_back(database: Database) -> None:
    def older(session: Session) -> None:
        agents.ensure(session, "home", now=0)
        grants.add(session, "home", "xn--a.example", now=0)

    transact(database, older)
    assert take(database, "home", "XN--a.example").pattern == "xn--a.example"


def test_what_is_not_granted_cannot_be_taken_back(database: Database) -> None:
    grant(database, "home", "*.example.com")
    with pytest.raises(NotFound, match=r"a\.example\.com is not granted to home here") as caught:
        take(database, "home", "a.example.com")
    assert caught.value.status == 404
    with pytest.raises(EnrollmentError, match="whole first label"):
        grant(database, "home", "*.*.example.com")
    with pytest.raises(EnrollmentError, match="cannot be used as a name"):
        grant(database, "../home", "a.example")
