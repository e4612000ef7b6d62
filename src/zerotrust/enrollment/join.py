"""Joining with a token, and renewal of an agent's certificate."""

import datetime
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from zerotrust.db import agents, audit, certificates, grants, revocations, tokens
from zerotrust.db.tables import JoinTokenRow
from zerotrust.enrollment.refusals import KEPT, Rationed, agent_name, every, refuse, seconds
from zerotrust.enrollment.tokens import digest_of, seconds_of
from zerotrust.errors import (
    AgentRevoked,
    EnrollmentRefused,
    TokenExpired,
    TokenUnknown,
    TokenUsed,
    TooManyAttempts,
)
from zerotrust.pki.issuer import Issued, Issuer

MOST_ISSUED: Final = 10
PART_OF_LIFE: Final = 10
"""An agent gets at most MOST_ISSUED certificates by renewal in a tenth of a certificate's
lifetime. It needs a fraction of one. Each is a row until long after it expires, and an audit
record forever."""

_REVOKED: Final = "this agent was revoked; ask the administrator of the server"


@dataclass(frozen=True, kw_only=True)
class IssuedCertificate:
    """A certificate issued to an agent, and the host names granted to it."""

    agent_id: str
    chain_pem: bytes
    serial: str
    not_after: datetime.datetime
    patterns: list[str]


def join(  # noqa: PLR0913 - the request, and its circumstances
    session: Session,
    issuer: Issuer,
    *,
    token: str,
    csr_pem: bytes,
    lifetime: datetime.timedelta,
    client: str,
    now: datetime.datetime,
    rationed: Rationed = every,
) -> IssuedCertificate:
    """Use up a join token and issue the certificate of its agent.

    Of two requests with one token, one succeeds. The holder of a real token is told why it is
    refused, which reveals nothing to others.

    Args:
        client: address of the requester, for the audit log.
        rationed: decides which refusals are recorded.

    Raises:
        TokenUnknown, TokenUsed, TokenExpired, AgentRevoked, CsrRefused: refused and recorded.
        PkiError: the issuer cannot sign; the token can still be used.
    """
    row = tokens.by_digest(session, digest_of(token))
    if row is None:
        unknown = TokenUnknown("unknown join token; check that it is complete and from this server")
        refuse(
            session,
            unknown,
            action="join.refused",
            actor=client,
            now=now,
            left_out=rationed("unknown token"),
        )
    name, about = row.agent_id, {"token": row.number}
    try:
        _spend(session, row, now)
        issued = issuer.issue_agent(name, csr_pem, lifetime, now)
    except EnrollmentRefused as error:
        left_out = rationed(f"token {row.number}")
        refuse(
            session,
            error,
            action="join.refused",
            actor=client,
            agent=name,
            details=about,
            left_out=left_out,
            now=now,
        )
    _remember(session, name, issued, now)
    agents.ensure(session, name, now=seconds(now)).joined_at = seconds(now)
    for pattern in row.patterns:
        grants.add(session, name, pattern, now=seconds(now))
    details: audit.Details = {**about, **_said(issued), "hosts": row.patterns}
    audit.append(
        session, at=seconds(now), actor=client, action="agent.joined", agent=name, details=details
    )
    return _joined(session, name, issued)


def renew(  # noqa: PLR0913 - as above
    session: Session,
    issuer: Issuer,
    *,
    agent_id: str,
    serial: str,
    csr_pem: bytes,
    lifetime: datetime.timedelta,
    now: datetime.datetime,
    rationed: Rationed = every,
) -> IssuedCertificate:
    """Issue a new certificate to an agent that has authenticated; its present one stays valid.

    Args:
        agent_id, serial: of the certificate that the session was authenticated with.
        rationed: decides which refusals are recorded.

    Raises:
        AgentRevoked, CsrRefused, TooManyAttempts: refused and recorded.
        PkiError: the issuer cannot sign.
    """
    name, actor = agent_name(agent_id), f"agent {agent_id}"
    agents.ensure(session, name, now=seconds(now))
    try:
        # All revocations count, also those of expired certificates, which handshakes ignore: an
        # agent may come back with one of these.
        if revocations.find(session, name) or revocations.find(session, name, serial):
            raise AgentRevoked(_REVOKED)
        _check_count(session, name, lifetime / PART_OF_LIFE, now)
        issued = issuer.issue_agent(name, csr_pem, lifetime, now)
    except EnrollmentRefused as error:
        refuse(
            session,
            error,
            action="renewal.refused",
            actor=actor,
            agent=name,
            details={"serial": serial},
            left_out=rationed(f"renewal of {name}"),
            now=now,
        )
    _remember(session, name, issued, now)
    details = {"before": serial, **_said(issued)}
    audit.append(
        session,
        at=seconds(now),
        actor=actor,
        action="certificate.renewed",
        agent=name,
        details=details,
    )
    return _joined(session, name, issued)


def _check_count(
    session: Session, agent_id: str, span: datetime.timedelta, now: datetime.datetime
) -> None:
    if certificates.issued_since(session, agent_id, seconds(now - span)) >= MOST_ISSUED:
        wait = seconds_of(span)
        raise TooManyAttempts(
            f"{MOST_ISSUED} certificates in {wait} s, its next has to wait", retry_after=wait
        )


def _spend(session: Session, token: JoinTokenRow, now: datetime.datetime) -> None:
    """Use up the token, or raise the reason. The one update makes sure that it is used once."""
    spent = tokens.spend(session, token.number, now=seconds(now))
    if spent and revocations.find(session, token.agent_id) is None:
        return
    if spent:
        raise AgentRevoked(_REVOKED)
    if token.cancelled_at is not None:
        raise TokenUnknown("this join token was cancelled; ask for a new one")
    if token.used_at is None:
        raise TokenExpired("this join token has expired; ask for a new one")
    used = datetime.datetime.fromtimestamp(token.used_at, datetime.UTC)
    raise TokenUsed(
        f"this join token was already used, on {used:%Y-%m-%d at %H:%M:%S} UTC; if that was not"
        " you, have the agent revoked and ask for a new join token"
    )


def _remember(session: Session, agent_id: str, issued: Issued, now: datetime.datetime) -> None:
    long_ago = seconds(now - KEPT)
    certificates.forget(session, agent_id, ended_before=long_ago)
    revocations.forget(session, agent_id, ended_before=long_ago)
    certificates.add(
        session, agent_id, issued.serial, not_after=seconds(issued.not_after), now=seconds(now)
    )


def _said(issued: Issued) -> dict[str, str | int]:
    return {"serial": issued.serial, "not_after": seconds(issued.not_after)}


def _joined(session: Session, agent_id: str, issued: Issued) -> IssuedCertificate:
    return IssuedCertificate(
        agent_id=agent_id,
        chain_pem=issued.chain_pem,
        serial=issued.serial,
        not_after=issued.not_after,
        patterns=[grant.pattern for grant in grants.listed(session, agent_id)],
    )
