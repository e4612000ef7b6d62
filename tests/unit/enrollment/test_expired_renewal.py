"""Tests of zerotrust.enrollment.expired_renewal."""

import datetime

import pytest
from cryptography import x509

from tests.unit.enrollment.transactions import ADMIN, CSR, NOW, WEEK, audit_records, transact
from zerotrust.db import certificates
from zerotrust.db.database import Database
from zerotrust.enrollment.expired_renewal import renew_expired
from zerotrust.enrollment.join import IssuedCertificate, renew
from zerotrust.enrollment.refusals import KEPT
from zerotrust.enrollment.revocation import restore, revoke
from zerotrust.errors import AgentRevoked, CertificateRefused
from zerotrust.pki.issuer import Issuer

SECOND = datetime.timedelta(seconds=1)


def issued(database: Database, issuer: Issuer, now: datetime.datetime = NOW) -> x509.Certificate:
    made = transact(
        database,
        lambda s: renew(
            s, issuer, agent_id="home", serial="1", csr_pem=CSR, lifetime=WEEK, now=now
        ),
    )
    return x509.load_pem_x509_certificate(made.chain_pem)


def back(
    database: Database, issuer: Issuer, certificate: x509.Certificate, now: datetime.datetime
) -> IssuedCertificate:
    return transact(
        database,
        lambda s: renew_expired(
            s,
            issuer,
            certificate=certificate,
            csr_pem=CSR,
            lifetime=WEEK,
            client="203.0.113.9",
            now=now,
        ),
    )


def test_an_agent_that_was_away_gets_a_new_certificate(database: Database, issuer: Issuer) -> None:
    certificate = issued(database, issuer)
    late = NOW + WEEK + KEPT - SECOND
    joined = back(database, issuer, certificate, late)
    assert (joined.agent_id, joined.not_after) == ("home", late + WEEK)
    assert audit_records(database)[-1][1] == "certificate.renewed"


def test_who_was_away_for_too_long_has_to_join_again(database: Database, issuer: Issuer) -> None:
    certificate = issued(database, issuer)
    with pytest.raises(CertificateRefused, match="30 days ago"):
        back(database, issuer, certificate, NOW + WEEK + KEPT + SECOND)
    assert audit_records(database)[-1][:3] == ("203.0.113.9", "return.refused", "home")


def test_a_certificate_that_was_not_issued_here_is_worth_nothing(
    database: Database, issuer: Issuer
) -> None:
    foreign = issuer.issue_agent("home", CSR, WEEK, NOW)
    with pytest.raises(CertificateRefused, match="not issued here"):
        back(database, issuer, x509.load_pem_x509_certificate(foreign.chain_pem), NOW + WEEK)


def test_a_certificate_of_another_agents_number_is_worth_nothing(
    database: Database, issuer: Issuer
) -> None:
    certificate = issued(database, issuer)
    with database.transaction() as session:
        row = certificates.find(session, f"{certificate.serial_number:x}")
        assert row is not None
        row.agent_id = do_agent(session)
    with pytest.raises(CertificateRefused, match="not issued here"):
        back(database, issuer, certificate, NOW + WEEK)


def do_agent(session: object) -> str:
    from sqlalchemy.orm import Session

    from zerotrust.db import agents

    assert isinstance(session, Session)
    return agents.ensure(session, "work", now=1).id


def test_the_newest_and_the_one_before_it_will_do_an_old_backup_will_not(
    database: Database, issuer: Issuer
) -> None:
    found = [issued(database, issuer, NOW + SECOND * number) for number in range(3)]
    late = NOW + WEEK + KEPT / 2
    with pytest.raises(CertificateRefused, match="newer certificates"):
        back(database, issuer, found[0], late)
    assert back(database, issuer, found[1], late).agent_id == "home"


def test_a_revoked_agent_does_not_come_back(database: Database, issuer: Issuer) -> None:
    certificate = issued(database, issuer)
    transact(database, lambda s: revoke(s, agent_id="home", reason="lost", actor=ADMIN, now=NOW))
    with pytest.raises(AgentRevoked):
        back(database, issuer, certificate, NOW + WEEK + SECOND)


def test_a_revoked_certificate_does_not_come_back_when_it_has_ended(
    database: Database, issuer: Issuer
) -> None:
    certificate = issued(database, issuer)
    serial = f"{certificate.serial_number:x}"
    transact(
        database,
        lambda s: revoke(s, agent_id="home", serial=serial, reason="stolen", actor=ADMIN, now=NOW),
    )
    for late in (WEEK + SECOND, WEEK + KEPT - SECOND, WEEK + KEPT):
        with pytest.raises(AgentRevoked):
            back(database, issuer, certificate, NOW + late)


@pytest.mark.parametrize("restored_after", [SECOND, WEEK + SECOND, WEEK + KEPT - SECOND])
def test_who_has_to_join_again_does_not_come_back(
    database: Database, issuer: Issuer, restored_after: datetime.timedelta
) -> None:
    certificate = issued(database, issuer)
    transact(database, lambda s: revoke(s, agent_id="home", reason="stolen", actor=ADMIN, now=NOW))
    restored_at = NOW + restored_after
    transact(
        database, lambda s: restore(s, agent_id="home", reissue=True, actor=ADMIN, now=restored_at)
    )
    with pytest.raises(AgentRevoked):
        back(database, issuer, certificate, max(restored_at, NOW + WEEK) + SECOND)
