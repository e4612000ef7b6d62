"""The audit log: decisions about identity, in records that are only added.

The records form a hash chain (Haber and Stornetta, How to Time-Stamp a Digital Document, 1991,
s5.1). The hash of a record is the SHA-256 of the previous record's hash (of 64 zeros for the
first), a line feed, and the record as a JSON object with sorted keys, without spaces, in ASCII. To
change, insert or remove a record an attacker has to change all later ones, which an earlier note of
a hash reveals. Removing the last records is revealed by such a note only.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from zerotrust.db.tables import AuditRow

Details = Mapping[str, str | int | bool | Sequence[str] | None]
"""No fractions: their text form differs between platforms."""

ORIGIN: Final = "0" * 64
"""Stands for the hash before the first record."""


@dataclass(frozen=True)
class AuditHashChain:
    """Result of `verify`."""

    records: int = 0
    """Number of intact records, from the first on."""

    head: str = ORIGIN
    """Hash of the last intact record."""

    broken: int | None = None
    """Number of the first record that is not intact."""

    reason: str = ""


def append(
    session: Session,
    *,
    at: int,
    actor: str,
    action: str,
    agent: str | None = None,
    details: Details | None = None,
) -> AuditRow:
    """Add a record to the transaction.

    Args:
        at: seconds since 1970, UTC.
        actor: the one who decided or asked: "uid 0", "agent home", an address.
        action: the decision, for example "agent.joined".
        agent: the agent that it is about.
        details: further values; no secrets.
    """
    last = session.scalar(select(AuditRow).order_by(AuditRow.number.desc()).limit(1))
    record = AuditRow(
        number=1 if last is None else last.number + 1,
        at=at,
        actor=_ascii(actor),
        action=action,
        agent_id=None if agent is None else _ascii(agent),
        details=_canonical(details or {}),
        hash="",
    )
    record.hash = _hash(ORIGIN if last is None else last.hash, record)
    session.add(record)
    session.flush()
    return record


def records(
    session: Session,
    *,
    after: int = 0,
    limit: int = 100,
    agent: str | None = None,
    action: str | None = None,
) -> list[AuditRow]:
    """Return at most `limit` records with a number above `after`, optionally of one agent or
    action."""
    query = select(AuditRow).where(AuditRow.number > after).order_by(AuditRow.number).limit(limit)
    return list(session.scalars(_of(query, agent, action)))


def newest(
    session: Session,
    *,
    before: int | None = None,
    limit: int = 100,
    agent: str | None = None,
    action: str | None = None,
) -> list[AuditRow]:
    """Return the last `limit` records, in order.

    Args:
        before: number of a record: only earlier ones are returned.
    """
    query = select(AuditRow).order_by(AuditRow.number.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditRow.number < before)
    return list(session.scalars(_of(query, agent, action)))[::-1]


def last_number(session: Session) -> int:
    """Return the number of the last record; 0 without one."""
    return session.scalar(select(func.max(AuditRow.number))) or 0


def as_json(record: AuditRow) -> str:
    """Return a line of the export: the record and its hash, from which the chain can be
    verified."""
    return _canonical({**_content(record), "hash": record.hash})


def verify(
    session: Session, start: AuditHashChain = AuditHashChain(), *, limit: int | None = None
) -> AuditHashChain:
    """Check hash and number of each record, up to the first that is wrong.

    Args:
        start: the result of an earlier call, to continue from.
        limit: number of records to check, so that no other transaction waits for long.
    """
    count, head = start.records, start.head
    query = (
        select(AuditRow).order_by(AuditRow.number).limit(limit).execution_options(yield_per=1000)
    )
    with contextlib.closing(
        session.scalars(query.where(AuditRow.number > count) if count else query)
    ) as found:
        for record in found:
            reason = _fault(record, count + 1, head)
            if reason:
                return AuditHashChain(
                    count, head, broken=min(record.number, count + 1), reason=reason
                )
            count, head = count + 1, record.hash
            session.expunge(record)
    return AuditHashChain(count, head)


def _of(query: Any, agent: str | None, action: str | None) -> Any:
    if agent is not None:
        query = query.where(AuditRow.agent_id == agent)
    return query if action is None else query.where(AuditRow.action == action)


def _fault(record: AuditRow, number: int, before: str) -> str:
    if record.number != number:
        return "it is missing" if record.number > number else "it does not belong there"
    try:
        if _canonical(json.loads(record.details)) != record.details:
            return "its details were rewritten"
        fits = _hash(before, record) == record.hash
    except (TypeError, ValueError, RecursionError):
        return "its details were changed"
    return "" if fits else "it was changed, or the one before it"


def _hash(before: str, record: AuditRow) -> str:
    return hashlib.sha256(f"{before}\n{_canonical(_content(record))}".encode("ascii")).hexdigest()


def _content(record: AuditRow) -> dict[str, Any]:
    return {
        "number": record.number,
        "at": record.at,
        "actor": record.actor,
        "action": record.action,
        "agent": record.agent_id,
        "details": json.loads(record.details),
    }


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def _ascii(text: str) -> str:
    """Escape text to ASCII: databases differ in what they accept (a NUL, half of a surrogate
    pair)."""
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")
