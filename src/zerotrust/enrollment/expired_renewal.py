"""An agent that was away for longer than its certificate is good, or whose server was.

It shows the certificate that has ended and proves, by a signature, that it has the key: so nobody has to walk to its
machine. Whoever stole that key could do the same, for as long as `KEPT`; revoking the agent ends that too.
"""

import datetime

from cryptography import x509
from sqlalchemy.orm import Session

from zerotrust.db import certificates
from zerotrust.enrollment.join import CertificateIssuer, IssuedCertificate, renew
from zerotrust.enrollment.refusals import KEPT, Rationed, every, refuse, seconds
from zerotrust.errors import CertificateRefused
from zerotrust.pki.identity import agent_id_of, serial_of

NEWEST = 2
"""The answer to an agent's last request may have been lost on the way, so that it has the certificate before."""


def come_back(  # noqa: PLR0913 - what a stranger brings, and what we add
    session: Session,
    issuer: CertificateIssuer,
    *,
    certificate: x509.Certificate,
    csr_pem: bytes,
    lifetime: datetime.timedelta,
    client: str,
    now: datetime.datetime,
    rationed: Rationed = every,
) -> IssuedCertificate:
    """A new certificate for one that has ended. Its signature and the proof of its key have been checked.

    Args:
        client: the address of whoever asks, for the audit.
        rationed: which refusals are recorded.

    Raises:
        CertificateRefused, AgentRevoked, CsrRefused: refused, and recorded.
        PkiError: the issuer can't sign, or the certificate names no agent.
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
        session, issuer, agent_id=name, serial=serial, csr_pem=csr_pem, lifetime=lifetime, now=now, rationed=rationed
    )


def _refusal(session: Session, agent_id: str, serial: str, now: datetime.datetime) -> str:
    """Why the agent can't come back with this certificate; empty where it can."""
    row = certificates.find(session, serial)
    if row is None or row.agent_id != agent_id:
        return "this certificate was not issued here, or expired too long ago; ask for a join token and join again"
    if row.not_after + KEPT.total_seconds() < seconds(now):
        return f"this certificate expired more than {KEPT.days} days ago; ask for a join token and join again"
    newer = [one for one in certificates.of(session, agent_id) if one.issued_at > row.issued_at]
    if len(newer) >= NEWEST:
        return "this agent has newer certificates; ask for a join token and join again"
    return ""
