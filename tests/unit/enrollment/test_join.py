"""Tests of zerotrust.enrollment.join."""

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

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
from zerotrust.db import agents, certificates, grants, revocations, tokens
from zerotrust.db.database import Database
from zerotrust.enrollment.join import IssuedCertificate, join, renew
from zerotrust.enrollment.revocation import revoke
from zerotrust.enrollment.tokens import cancel_token, digest_of
from zerotrust.errors import (
    AgentRevoked,
    CsrRefused,
    EnrollmentError,
    EnrollmentRefused,
    PkiError,
    TokenExpired,
    TokenUnknown,
    TokenUsed,
)
from zerotrust.pki import csr
from zerotrust.pki.identity import agent_id_of, serial_of
from zerotrust.pki.issuer import Issuer

CLIENT = "203.0.113.9"


def enter(
    database: Database, issuer: Issuer, token: str, csr: bytes = CSR, **changed: Any
) -> IssuedCertificate:
    arguments = {"lifetime": WEEK, "client": CLIENT, "now": NOW, **changed}
    return transact(database, lambda s: join(s, issuer, token=token, csr_pem=csr, **arguments))


def again(
    database: Database, issuer: Issuer, serial: str, csr: bytes = CSR, **changed: Any
) -> IssuedCertificate:
    arguments = {"agent_id": "home", "lifetime": WEEK, "now": NOW, **changed}
    return transact(database, lambda s: renew(s, issuer, serial=serial, csr_pem=csr, **arguments))


def test_a_token_makes_an_agent_with_its_grants(database: Database, issuer: Issuer) -> None:
    token = issue_token(database, "home", "pihole.example.com", "*.lab.example.com")
    asked = csr.create()
    joined = enter(database, issuer, token.secret, asked.pem)
    certificate = x509.load_pem_x509_certificate(joined.chain_pem)
    assert agent_id_of(certificate) == joined.agent_id == "home"
    assert certificate.public_key() == asked.key.public_key()
    assert (joined.serial, joined.not_after) == (serial_of(certificate), NOW + WEEK)
    assert joined.patterns == ["*.lab.example.com", "pihole.example.com"]
    with database.transaction() as session:
        agent = agents.find(session, "home")
        assert agent is not None and agent.joined_at == AT
        assert grants.pairs(session) == [
            ("home", "*.lab.example.com"),
            ("home", "pihole.example.com"),
        ]
        kept = certificates.living(session, "home", now=AT)
        assert [(c.agent_id, c.serial, c.not_after) for c in kept] == [
            ("home", joined.serial, AT + 7 * 86400)
        ]
    assert audit_records(database)[1:] == [
        (
            CLIENT,
            "agent.joined",
            "home",
            {
                "token": 1,
                "serial": joined.serial,
                "not_after": AT + 7 * 86400,
                "hosts": ["pihole.example.com", "*.lab.example.com"],
            },
        )
    ]


def test_a_token_is_used_once_and_its_holder_is_told_when(
    database: Database, issuer: Issuer
) -> None:
    token = issue_token(database)
    enter(database, issuer, token.secret)
    with pytest.raises(
        TokenUsed, match="already used, on 2030-01-01 at 12:00:00 UTC; if that was not you"
    ) as caught:
        enter(database, issuer, token.secret, now=NOW + 2 * HOUR)
    assert (caught.value.status, caught.value.code) == (410, "token_used")
    reason = {"token": 1, "code": "token_used", "reason": str(caught.value)}
    assert audit_records(database)[-1] == (CLIENT, "join.refused", "home", reason)


def test_a_token_ends(database: Database, issuer: Issuer) -> None:
    token = issue_token(database)
    with pytest.raises(TokenExpired, match="has expired"):
        enter(database, issuer, token.secret, now=NOW + HOUR)
    assert audit_records(database)[-1][1:3] == ("join.refused", "home")
    assert (
        enter(
            database, issuer, token.secret, now=NOW + HOUR - datetime.timedelta(seconds=1)
        ).agent_id
        == "home"
    )


def test_a_cancelled_token(database: Database, issuer: Issuer) -> None:
    token = issue_token(database)
    transact(database, lambda s: cancel_token(s, token.number, actor=ADMIN, now=NOW))
    with pytest.raises(TokenUnknown, match="was cancelled"):
        enter(database, issuer, token.secret)


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "\0", "\udc80", "é", "x" * 100_000])
def test_a_token_that_nobody_made_is_recorded_without_itself(
    database: Database, issuer: Issuer, token: str
) -> None:
    issue_token(database)
    with pytest.raises(TokenUnknown, match="unknown join token"):
        enter(database, issuer, token)
    actor, action, agent, details = audit_records(database)[-1]
    assert (actor, action, agent) == (CLIENT, "join.refused", None)
    assert details["code"] == "token_unknown"
    with pytest.raises(TokenUnknown):
        enter(database, issuer, token, rationed=lambda kind: None)
    assert len(audit_records(database)) == 2
    with pytest.raises(TokenUnknown):
        enter(database, issuer, token, rationed={"unknown token": 7}.__getitem__)
    assert audit_records(database)[-1][3]["left_out"] == 7


def test_what_is_in_the_database_lets_nobody_in(database: Database, issuer: Issuer) -> None:
    """A thief of the database has the hashes."""
    token = issue_token(database)
    row = transact(database, lambda s: tokens.find(s, token.number))
    assert row is not None and row.digest == digest_of(token.secret)
    for stolen in (row.digest.hex(), row.digest.decode("latin-1"), repr(row)):
        assert token.secret not in stolen
        with pytest.raises(TokenUnknown):
            enter(database, issuer, stolen)


@given(place=st.integers(0, 42), letter=st.sampled_from("AZaz09-_"))
def test_no_token_but_the_whole_one(place: int, letter: str) -> None:
    secret = "k3JH-2cQmTz0_9vXbLrWnYpEfGaUiOsD1d4h5g6t7y8"
    changed = secret[:place] + letter + secret[place + 1 :]
    assert (digest_of(changed) == digest_of(secret)) is (changed == secret)


def test_a_bad_request_does_not_use_the_token_up(database: Database, issuer: Issuer) -> None:
    token = issue_token(database, "home", "app.example.com")
    with pytest.raises(CsrRefused):
        enter(database, issuer, token.secret, b"not a request")
    assert audit_records(database)[-1][1:3] == ("join.refused", "home")
    with database.transaction() as session:
        assert grants.pairs(session) == []
        assert certificates.living(session, "home", now=AT) == []
    assert enter(database, issuer, token.secret).agent_id == "home"


def test_an_issuer_that_cannot_sign_changes_nothing(database: Database, issuer: Issuer) -> None:
    token = issue_token(database, lifetime=datetime.timedelta(days=30))
    later = issuer.not_after + HOUR
    with database.transaction() as session:
        row = tokens.find(session, token.number)
        assert row is not None
        row.expires_at = int(later.timestamp()) + 60
    with pytest.raises(PkiError) as caught:
        enter(database, issuer, token.secret, now=later)
    assert not isinstance(caught.value, EnrollmentError)
    assert len(audit_records(database)) == 1
    assert enter(database, issuer, token.secret).agent_id == "home"


def test_no_token_lets_a_revoked_agent_in(database: Database, issuer: Issuer) -> None:
    """There should be none: a revocation cancels them, and none is made while it lasts."""
    token = issue_token(database)
    with database.transaction() as session:
        revocations.add(session, "home", "", reason="test", now=AT)
    with pytest.raises(AgentRevoked, match="revoked; ask"):
        enter(database, issuer, token.secret)
    row = transact(database, lambda s: tokens.find(s, token.number))
    assert row is not None and row.used_at is None


def test_who_joins_again_keeps_its_grants(database: Database, issuer: Issuer) -> None:
    enter(database, issuer, issue_token(database, "home", "a.example").secret)
    joined = enter(database, issuer, issue_token(database, "home", "a.example", "b.example").secret)
    assert joined.patterns == ["a.example", "b.example"]


def test_of_many_that_join_with_one_token_exactly_one_does(
    url: str, database: Database, issuer: Issuer
) -> None:
    """Two servers, eight threads, all at once."""
    other = Database.open(url)
    for _ in range(5):
        secret = issue_token(database).secret
        barrier = threading.Barrier(8)

        def attempt(
            opened: Database, secret: str = secret, barrier: threading.Barrier = barrier
        ) -> str:
            barrier.wait(10)
            try:
                return enter(opened, issuer, secret).serial
            except EnrollmentRefused as error:
                return error.code

        with ThreadPoolExecutor(8) as threads:
            futures = [threads.submit(attempt, opened) for opened in (database, other) * 4]
            outcomes = sorted(future.result(15) for future in futures)
        assert outcomes.count("token_used") == 7
    other.close()
    actions = [action for _, action, _, _ in audit_records(database)]
    assert (actions.count("agent.joined"), actions.count("join.refused")) == (5, 35)
    assert len(transact(database, lambda s: certificates.living(s, "home", now=AT))) == 5


def test_an_agent_renews_with_a_new_key_and_the_old_certificate_stays(
    database: Database, issuer: Issuer
) -> None:
    joined = enter(database, issuer, issue_token(database, "home", "a.example").secret)
    asked = csr.create()
    later = NOW + datetime.timedelta(days=4)
    renewed = again(database, issuer, joined.serial, asked.pem, now=later)
    assert x509.load_pem_x509_certificate(renewed.chain_pem).public_key() == asked.key.public_key()
    assert (renewed.agent_id, renewed.not_after, renewed.patterns) == (
        "home",
        later + WEEK,
        ["a.example"],
    )
    kept = transact(database, lambda s: certificates.living(s, "home", now=int(later.timestamp())))
    assert [certificate.serial for certificate in kept] == [renewed.serial, joined.serial]
    actor, action, agent, details = audit_records(database)[-1]
    assert (actor, action, agent) == ("agent home", "certificate.renewed", "home")
    assert (details["before"], details["serial"]) == (joined.serial, renewed.serial)


def test_an_agent_with_a_certificate_made_by_hand_renews_too(
    database: Database, issuer: Issuer
) -> None:
    assert again(database, issuer, "a1b2").agent_id == "home"
    assert transact(database, lambda s: [agent.joined_at for agent in agents.everyone(s)]) == [None]


@pytest.mark.parametrize("whole", [True, False])
def test_who_is_revoked_does_not_renew(database: Database, issuer: Issuer, whole: bool) -> None:
    joined = enter(database, issuer, issue_token(database).secret)
    serial = None if whole else joined.serial
    transact(
        database,
        lambda s: revoke(s, agent_id="home", serial=serial, reason="x", actor=ADMIN, now=NOW),
    )
    with pytest.raises(AgentRevoked):
        again(database, issuer, joined.serial)
    actor, action, agent, details = audit_records(database)[-1]
    assert (actor, action, agent) == ("agent home", "renewal.refused", "home")
    assert (details["serial"], details["code"]) == (joined.serial, "agent_revoked")


def test_a_bad_request_for_renewal_is_refused_and_recorded(
    database: Database, issuer: Issuer
) -> None:
    with pytest.raises(CsrRefused):
        again(database, issuer, "a1", b"")
    assert audit_records(database)[-1][1] == "renewal.refused"
    with pytest.raises(EnrollmentError, match="cannot be used as a name"):
        again(database, issuer, "a1", agent_id="a b")


def test_what_ended_long_ago_is_forgotten_by_the_tables_only(
    database: Database, issuer: Issuer
) -> None:
    joined = enter(database, issuer, issue_token(database).secret)
    transact(
        database,
        lambda s: revoke(
            s, agent_id="home", serial=joined.serial, reason="x", actor=ADMIN, now=NOW
        ),
    )
    later = NOW + datetime.timedelta(days=60)
    renewed = again(database, issuer, "a1", now=later)
    with database.transaction() as session:
        assert certificates.find(session, joined.serial) is None
        assert certificates.find(session, renewed.serial) is not None
        assert revocations.listed(session) == []
    assert [action for _, action, _, _ in audit_records(database)] == [
        "token.created",
        "agent.joined",
        "certificate.revoked",
        "certificate.renewed",
    ]
