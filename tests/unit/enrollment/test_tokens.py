"""Tests of zerotrust.enrollment.tokens."""

import datetime
from functools import partial
from typing import Any

import pytest

from tests.unit.enrollment.transactions import (
    ADMIN,
    AT,
    HOUR,
    NOW,
    audit_records,
    issue_token,
    transact,
)
from zerotrust.db.database import Database
from zerotrust.enrollment.revocation import revoke
from zerotrust.enrollment.tokens import (
    MAX_PATTERNS,
    IssuedToken,
    cancel_token,
    create_token,
    list_tokens,
)
from zerotrust.errors import EnrollmentError, NotFound


def test_a_token_is_256_bits_and_shown_once(database: Database) -> None:
    token = issue_token(
        database, "home", "Pihole.example.com", "*.lab.example.com", "pihole.example.com."
    )
    assert len(token.secret) == 43
    assert token.secret not in repr(token)
    assert (token.agent_id, token.expires_at, token.warnings) == ("home", AT + 3600, [])
    assert token.patterns == ["pihole.example.com", "*.lab.example.com"]
    assert issue_token(database).secret != token.secret
    rows = transact(database, list_tokens)
    assert [(row.number, row.patterns) for row in rows] == [(2, []), (1, token.patterns)]
    assert token.secret not in repr(rows)
    assert audit_records(database)[0] == (
        ADMIN,
        "token.created",
        "home",
        {"token": 1, "hosts": token.patterns, "expires_at": AT + 3600},
    )
    assert token.secret not in str(audit_records(database))


def test_a_wildcard_for_everybody_is_granted_with_a_warning(database: Database) -> None:
    token = issue_token(database, "home", "*.co.uk", "*.lab.example.com")
    assert len(token.warnings) == 1
    assert 'public suffix "co.uk"' in token.warnings[0]


def attempt(database: Database, **changed: Any) -> IssuedToken:
    arguments = {
        "agent_id": "home",
        "patterns": [],
        "lifetime": HOUR,
        "actor": ADMIN,
        "now": NOW,
        **changed,
    }
    return transact(database, lambda s: create_token(s, **arguments))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"agent_id": ""}, "cannot be used as a name"),
        ({"agent_id": "a b"}, "cannot be used as a name"),
        ({"agent_id": "x" * 65}, "cannot be used as a name"),
        ({"patterns": ["a.*"]}, "whole first label"),
        (
            {"patterns": [f"a{n}.example" for n in range(MAX_PATTERNS + 1)]},
            "1001 host names are too many",
        ),
        ({"lifetime": datetime.timedelta(0)}, "1 second to 30 days"),
        ({"lifetime": -HOUR}, "1 second to 30 days"),
        ({"lifetime": datetime.timedelta(days=31)}, "1 second to 30 days"),
    ],
)
def test_what_will_not_do_is_refused_with_the_reason(
    database: Database, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EnrollmentError, match=reason) as caught:
        attempt(database, **changed)
    assert caught.value.status == 400
    assert audit_records(database) == []


def test_no_token_for_a_revoked_agent(database: Database) -> None:
    issue_token(database)
    transact(database, lambda s: revoke(s, agent_id="home", reason="stolen", actor=ADMIN, now=NOW))
    with pytest.raises(EnrollmentError, match="0trust agents restore home"):
        issue_token(database)


def test_a_token_is_cancelled_once(database: Database) -> None:
    token = issue_token(database)
    row = transact(database, lambda s: cancel_token(s, token.number, actor=ADMIN, now=NOW))
    assert (row.number, row.cancelled_at) == (token.number, AT)
    assert audit_records(database)[-1] == (
        ADMIN,
        "token.cancelled",
        "home",
        {"token": token.number},
    )
    for number in (token.number, 99):
        with pytest.raises(NotFound, match=f"no open join token {number}"):
            transact(database, partial(cancel_token, number=number, actor=ADMIN, now=NOW))
    assert len(audit_records(database)) == 2


def test_old_tokens_are_forgotten_and_their_numbers_not_given_again(database: Database) -> None:
    first = issue_token(database)
    attempt(database, now=NOW + datetime.timedelta(days=31, hours=1))
    assert [row.number for row in transact(database, list_tokens)] == [first.number + 1]
