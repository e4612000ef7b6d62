"""Renewal of an expired certificate: the agent, or its server, was away for too long.

The agent shows the expired certificate and proves by a signature that it has the key, so that no
administrator has to visit its machine. A thief of the key could do the same for `KEPT`; revoking
the agent prevents it.
"""

import datetime

from cryptography import x509
from sqlalchemy.orm import Session

from zerotrust.db import certificates
from zerotrust.enrollment.join import IssuedCertificate, renew
from zerotrust.enrollment.refusals import KEPT, Rationed, every, refuse, seconds
from zerotrust.errors import CertificateRefused
from zerotrust.pki.identity import agent_id_of, serial_of
from zerotrust.pki.issuer import Issuer

NEWEST = 2
"""The agent may have the second newest certificate, if the answer to its last request was lost."""


def renew_expired(  # noqa: PLR0913 - the request, and its circumstances
    session: Session,
    issuer: Issuer,
    *,
    certificate: x509.Certificate,
    csr_pem: bytes,
    lifetime: datetime.timedelta,
    client: str,
    now: datetime.datetime,
    rationed: Rationed = every,
) -> IssuedCertificate:
    """Issue a certificate in place of an expired one.

    The caller has verified the certificate's signature and the proof of possession.

    Args:
        client: address of the requester, for the audit log.
        rationed: decides which refusals are recorded.

    Raises:
        CertificateRefused, AgentRevoked, CsrRefused: refused and recorded.
        PkiError: the issuer cannot sign, or the certificate names no agent.
    """
    name, serial = agent_id_of(certificate), serial_of(certificate)
    if reason := _refusal(session, name, serial, now):
        refuse(
            session,
            CertificateRefused(reason),
            action="return.refused",
            actor=client,
            agent=name,
            details={"serial": serial},
            left_out=rationed(f"return of {name}"),
            now=now,
        )
    return renew(
        session,
        issuer,
        agent_id=name,
        serial=serial,
        csr_pem=csr_pem,
        lifetime=lifetime,
        now=now,
        rationed=rationed,
    )


def _refusal(session: Session, agent_id: str, serial: str, now: datetime.datetime) -> str:
    """Return why this certificate is not accepted; empty if it is."""
    row = certificates.find(session, serial)
    if row is None or row.agent_id != agent_id:
        return (
            "this certificate was not issued here, or expired too long ago; ask for a join token"
            " and join again"
        )
    if row.not_after + KEPT.total_seconds() < seconds(now):
        return (
            f"this certificate expired more than {KEPT.days} days ago; ask for a join token and"
            " join again"
        )
    newer = [one for one in certificates.of(session, agent_id) if one.issued_at > row.issued_at]
    if len(newer) >= NEWEST:
        return "this agent has newer certificates; ask for a join token and join again"
    return ""
