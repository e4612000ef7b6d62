"""What all decisions have in common: a time, names that are names, and a record of each refusal."""

import datetime
from typing import NoReturn

from sqlalchemy.orm import Session

from zerotrust.errors import EnrolmentError, EnrolmentRefused, PkiError
from zerotrust.pki.identity import check_id
from zerotrust.route.grants import parse_pattern
from zerotrust.state import audit

KEPT = datetime.timedelta(days=30)
"""What is over stays in the tables for so long, and in the audit for ever."""


def seconds(moment: datetime.datetime) -> int:
    """The moment as the tables keep it."""
    return int(moment.timestamp())


def agent_name(text: str) -> str:
    """`text`, fit to be the id of an agent.

    Raises:
        EnrolmentError: it is not.
    """
    try:
        return check_id(text)
    except PkiError as error:
        raise EnrolmentError(str(error)) from error


def host_pattern(text: str) -> str:
    """A pattern in the form in which it is compared.

    Raises:
        EnrolmentError: it is none.
    """
    try:
        return parse_pattern(text)
    except ValueError as error:
        raise EnrolmentError(str(error)) from error


def refuse(
    session: Session,
    error: EnrolmentRefused,
    *,
    action: str,
    actor: str,
    now: datetime.datetime,
    agent: str | None = None,
    details: audit.Details | None = None,
) -> NoReturn:
    """Raise the error; of the transaction nothing is kept but the record of the refusal."""
    session.rollback()
    reason = {"code": error.code, "reason": str(error)}
    audit.append(
        session, at=seconds(now), actor=actor, action=action, agent=agent, details={**reason, **(details or {})}
    )
    raise error
