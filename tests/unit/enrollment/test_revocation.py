"""Tests of zerotrust.enrollment.revocation."""

from typing import Any

import pytest

from tests.unit.enrollment.transactions import (
    ADMIN,
    AT,
    CSR,
    HOUR,
    NOW,
    WEEK,
    audit_records,
    issue_token,
    transact,
)
from zerotrust.db import revocations
from zerotrust.db.database import Database
from zerotrust.db.revocations import RevocationList
from zerotrust.db.tables import RevocationRow
from zerotrust.enrollment.join import IssuedCertificate, join
from zerotrust.enrollment.revocation import restore, revoke
from zerotrust.errors import EnrollmentError, NotFound, TokenUnknown
from zerotrust.pki.issuer import Issuer


def enter(database: Database, issuer: Issuer, secret: str) -> IssuedCertificate:
    return transact(
        database,
        lambda s: join(
            s, issuer, token=secret, csr_pem=CSR, lifetime=WEEK, client="192.0.2.1", now=NOW
        ),
    )


def out(database: Database, agent: str = "home", **changed: Any) -> RevocationRow:
    arguments = {"reason": "stolen", "actor": ADMIN, "now": NOW, **changed}
    return transact(database, lambda s: revoke(s, agent_id=agent, **arguments))


def back(database: Database, agent: str = "home", **changed: Any) -> None:
    transact(database, lambda s: restore(s, agent_id=agent, actor=ADMIN, now=NOW, **changed))


def revoked(database: Database, now: int = AT) -> RevocationList:
    return transact(database, lambda s: revocations.load(s, now=now))


def test_an_agent_is_out_and_back(database: Database, issuer: Issuer) -> None:
    joined = enter(database, issuer, issue_token(database).secret)
    assert not revoked(database).refuses("home", joined.serial)
    row = out(database)
    assert (row.agent_id, row.serial, row.revoked_at, row.reason) == ("home", "", AT, "stolen")
    assert revoked(database).refuses("home", joined.serial)
    assert revoked(database).refuses("home", "any")
    assert not revoked(database).refuses("work", joined.serial)
    back(database)
    assert revoked(database) == RevocationList()
    assert audit_records(database)[-2:] == [
        (ADMIN, "agent.revoked", "home", {"reason": "stolen", "tokens_cancelled": 0}),
        (ADMIN, "agent.restored", "home", {"certificates_still_refused": []}),
    ]


def test_open_tokens_go_with_the_agent_and_do_not_come_back(
    database: Database, issuer: Issuer
) -> None:
    used, stolen, other = (
        issue_token(database),
        issue_token(database),
        issue_token(database, "work"),
    )
    enter(database, issuer, used.secret)
    out(database)
    assert audit_records(database)[-1][3]["tokens_cancelled"] == 1
    back(database)
    with pytest.raises(TokenUnknown, match="cancelled"):
        enter(database, issuer, stolen.secret)
    assert enter(database, issuer, other.secret).agent_id == "work"


def test_one_certificate_is_out_until_it_ends_anyway(database: Database, issuer: Issuer) -> None:
    stolen = enter(database, issuer, issue_token(database).secret)
    good = enter(database, issuer, issue_token(database).secret)
    shown = ":".join(stolen.serial.zfill(40)[n : n + 2].upper() for n in range(0, 40, 2))
    assert out(database, serial=shown).serial == stolen.serial
    assert revoked(database).refuses("home", stolen.serial)
    assert not revoked(database).refuses("home", good.serial)
    assert revoked(database, AT + 7 * 86400) == RevocationList()
    assert audit_records(database)[-1] == (
        ADMIN,
        "certificate.revoked",
        "home",
        {"reason": "stolen", "serial": stolen.serial},
    )
    back(database, serial=stolen.serial)
    assert audit_records(database)[-1] == (
        ADMIN,
        "certificate.restored",
        "home",
        {"serial": stolen.serial},
    )
    assert revoked(database) == RevocationList()


def test_after_a_theft_the_agent_joins_again_and_the_stolen_key_stays_out(
    database: Database, issuer: Issuer
) -> None:
    stolen = enter(database, issuer, issue_token(database).secret)
    out(database, serial=stolen.serial)
    second = enter(database, issuer, issue_token(database).secret)
    out(database)
    back(database, reissue=True)
    new = enter(database, issuer, issue_token(database).secret)
    now = revoked(database)
    assert [now.refuses("home", joined.serial) for joined in (stolen, second, new)] == [
        True,
        True,
        False,
    ]
    refused = audit_records(database)[-3][3]["certificates_still_refused"]
    assert sorted(refused) == sorted([stolen.serial, second.serial])


def test_twice_is_no_error_and_no_decision(database: Database) -> None:
    issue_token(database)
    first = out(database)
    assert out(database, reason="again", now=NOW + HOUR).revoked_at == first.revoked_at
    assert [action for _, action, _, _ in audit_records(database)] == [
        "token.created",
        "agent.revoked",
    ]


def test_an_agent_that_nobody_knows(database: Database) -> None:
    with pytest.raises(NotFound, match="there is no agent hoem"):
        out(database, "hoem")
    assert out(database, "byhand", connected=True).agent_id == "byhand"
    assert revoked(database).agents == {"byhand"}


def test_a_certificate_made_by_hand_is_refused_for_good(database: Database) -> None:
    out(database, serial="0x00A1", connected=True)
    assert revoked(database, AT + 10**9).refuses("home", "a1")


def test_a_certificate_of_another_agent(database: Database, issuer: Issuer) -> None:
    joined = enter(database, issuer, issue_token(database, "work").secret)
    issue_token(database)
    with pytest.raises(EnrollmentError, match="is of work, not of home"):
        out(database, serial=joined.serial)


@pytest.mark.parametrize("serial", ["", "0", "xyz", "-1", "1" * 65, "a b"])
def test_what_is_no_serial(database: Database, serial: str) -> None:
    with pytest.raises(EnrollmentError, match="not the serial number of a certificate"):
        out(database, serial=serial, connected=True)


def test_who_is_not_revoked_cannot_be_restored(database: Database) -> None:
    issue_token(database)
    with pytest.raises(NotFound, match="home is not revoked"):
        back(database)
    with pytest.raises(NotFound, match="certificate a1 of home is not revoked"):
        back(database, serial="A1")


def test_a_reason_of_any_kind(database: Database) -> None:
    issue_token(database)
    row = out(database, reason="\udc80\0\n\x1b[2Jé'\"" + "x" * 1000)
    assert row.reason.startswith("????[2Jé'\"xxx")
    assert len(row.reason) == 500
    assert audit_records(database)[-1][3]["reason"] == row.reason
