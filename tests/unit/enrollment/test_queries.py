"""Tests of zerotrust.enrollment.queries."""

import dataclasses
import json
from functools import partial

import pytest

from tests.unit.enrollment.transactions import (
    ADMIN,
    AT,
    CSR,
    HOUR,
    NOW,
    WEEK,
    issue_token,
    transact,
)
from zerotrust.db.database import Database
from zerotrust.enrollment.grants import add_grant
from zerotrust.enrollment.join import join
from zerotrust.enrollment.queries import AgentSummary, list_agents, show_agent
from zerotrust.enrollment.revocation import revoke
from zerotrust.errors import NotFound
from zerotrust.pki.issuer import Issuer


@pytest.fixture
def filled(database: Database, issuer: Issuer) -> Database:
    """`home` joined twice, `lab` was only granted something, `work` is invited and revoked."""
    for life in (WEEK, 2 * WEEK):
        secret = issue_token(database, "home", "a.example").secret
        transact(
            database,
            partial(
                join,
                issuer=issuer,
                token=secret,
                csr_pem=CSR,
                lifetime=life,
                client="192.0.2.1",
                now=NOW,
            ),
        )
    transact(
        database,
        lambda s: add_grant(s, agent_id="lab", pattern="*.lab.example", actor=ADMIN, now=NOW),
    )
    issue_token(database, "work", "b.example")
    transact(
        database, lambda s: revoke(s, agent_id="work", reason="left", actor=ADMIN, now=NOW + HOUR)
    )
    return database


def summary(name: str, **changed: int | None) -> AgentSummary:
    known = {"created_at": AT, "joined_at": None, "revoked_at": None, "certificate_ends_at": None}
    return AgentSummary(id=name, **{**known, **changed})  # type: ignore[arg-type]


def test_everybody(filled: Database) -> None:
    assert transact(filled, lambda s: list_agents(s, NOW)) == [
        summary("home", joined_at=AT, certificate_ends_at=AT + 14 * 86400),
        summary("lab"),
        summary("work", revoked_at=AT + 3600),
    ]
    later = transact(filled, lambda s: list_agents(s, NOW + 2 * WEEK))
    assert later[0] == summary("home", joined_at=AT)


def test_one(filled: Database) -> None:
    home = transact(filled, lambda s: show_agent(s, "home", NOW))
    assert home.agent == transact(filled, lambda s: list_agents(s, NOW))[0]
    assert [certificate.not_after for certificate in home.certificates] == [
        AT + 14 * 86400,
        AT + 7 * 86400,
    ]
    assert [token.used_at for token in home.tokens] == [AT, AT]
    work = transact(filled, lambda s: show_agent(s, "work", NOW))
    assert work.agent.revoked_at == AT + 3600
    assert [(row.reason, row.serial) for row in work.revocations] == [("left", "")]
    assert transact(filled, lambda s: show_agent(s, "home", NOW + 3 * WEEK)).certificates == []


def test_rows_become_dictionaries(filled: Database) -> None:
    shown = dataclasses.asdict(transact(filled, lambda s: show_agent(s, "home", NOW)).agent)
    assert json.loads(json.dumps(shown))["id"] == "home"


def test_nobody(database: Database) -> None:
    assert transact(database, lambda s: list_agents(s, NOW)) == []
    with pytest.raises(NotFound, match="there is no agent home"):
        transact(database, lambda s: show_agent(s, "home", NOW))
