"""Revoke and restore agents and certificates."""

import datetime
from typing import Final

from sqlalchemy.orm import Session

from zerotrust.db import agents, audit, certificates, revocations, tokens
from zerotrust.db.tables import WHOLE_AGENT, RevocationRow
from zerotrust.enrollment.refusals import agent_name, seconds
from zerotrust.errors import EnrollmentError, NotFound

_REASON_LENGTH: Final = 500
_HEXADECIMAL: Final = frozenset("0123456789abcdef")


def revoke(
    session: Session,
    *,
    agent_id: str,
    serial: str | None = None,
    reason: str,
    connected: bool = False,
    actor: str,
    now: datetime.datetime,
) -> RevocationRow:
    """Refuse an agent, or one certificate of it, from now on, and cancel its open join tokens.

    Revoking twice changes nothing and is no error.

    Args:
        serial: in hexadecimal, with or without colons; None for the whole agent.
        connected: the agent is connected; so it exists, though its certificate may have been made
            by hand.

    Raises:
        NotFound: the agent is unknown.
        EnrollmentError: invalid name or serial, or the certificate is another agent's.
    """
    name, at = agent_name(agent_id), seconds(now)
    number = WHOLE_AGENT if serial is None else _serial(serial)
    if not connected and agents.find(session, name) is None:
        raise NotFound(f"there is no agent {name}; list them with: 0trust agents list")
    agents.ensure(session, name, now=at)
    found = revocations.find(session, name, number)
    if found is not None:
        return found
    until = _end(session, name, number)
    revocation = revocations.add(
        session, name, number, reason=_legible(reason), until=until, now=at
    )
    details: dict[str, str | int] = {"reason": revocation.reason}
    if number == WHOLE_AGENT:
        details["tokens_cancelled"] = tokens.cancel_all(session, name, now=at)
    else:
        details["serial"] = number
    action = "agent.revoked" if number == WHOLE_AGENT else "certificate.revoked"
    audit.append(session, at=at, actor=actor, action=action, agent=name, details=details)
    return revocation


def restore(
    session: Session,
    *,
    agent_id: str,
    serial: str | None = None,
    reissue: bool = False,
    actor: str,
    now: datetime.datetime,
) -> None:
    """Undo a revocation.

    Args:
        reissue: keep certificates issued here refused, so that the agent joins again with a new
            key, for example after a theft. A certificate made by hand is unknown here: revoke its
            serial.

    Raises:
        NotFound: the agent, or the certificate, is not revoked.
        EnrollmentError: invalid name or serial.
    """
    name, at = agent_name(agent_id), seconds(now)
    number = WHOLE_AGENT if serial is None else _serial(serial)
    if not revocations.remove(session, name, number):
        what = name if serial is None else f"certificate {number} of {name}"
        raise NotFound(f"{what} is not revoked; see: 0trust agents show {name}")
    if number != WHOLE_AGENT:
        audit.append(
            session,
            at=at,
            actor=actor,
            action="certificate.restored",
            agent=name,
            details={"serial": number},
        )
        return
    refused = []
    # Expired ones, too: the agent could renew with one of these.
    for certificate in certificates.of(session, name) if reissue else ():
        if revocations.find(session, name, certificate.serial) is None:
            until = certificate.not_after
            revocations.add(
                session,
                name,
                certificate.serial,
                reason="restored to join again",
                until=until,
                now=at,
            )
        refused.append(certificate.serial)
    details = {"certificates_still_refused": refused}
    audit.append(session, at=at, actor=actor, action="agent.restored", agent=name, details=details)


def _legible(reason: str) -> str:
    """Return the text without characters that a database refuses or a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in reason[:_REASON_LENGTH])


def _serial(text: str) -> str:
    """Return the serial in the form of `pki.identity.serial_of`."""
    digits = text.strip().lower().removeprefix("0x").replace(":", "").lstrip("0")
    if not 0 < len(digits) <= 64 or not _HEXADECIMAL.issuperset(digits):
        raise EnrollmentError(
            f'"{text[:80]}" is not the serial number of a certificate; write its hexadecimal digits'
        )
    return digits


def _end(session: Session, agent_id: str, serial: str) -> int | None:
    certificate = certificates.find(session, serial)
    if certificate is None:
        return None
    if certificate.agent_id != agent_id:
        raise EnrollmentError(
            f"certificate {serial} is of {certificate.agent_id}, not of {agent_id}"
        )
    return certificate.not_after
