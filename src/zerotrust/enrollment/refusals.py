"""What all decisions have in common: a time, names that are names, and a record of each refusal."""

import datetime
from collections.abc import Callable
from typing import NoReturn

from sqlalchemy.orm import Session

from zerotrust.db import audit
from zerotrust.enrollment.grant_table import parse_pattern
from zerotrust.errors import EnrolmentError, EnrolmentRefused, PkiError
from zerotrust.model.base import check_a_labels
from zerotrust.pki.identity import check_id

KEPT = datetime.timedelta(days=30)
"""What is over stays in the tables for so long, and in the audit for ever."""


Rationed = Callable[[str], int | None]
"""From the kind of a refusal to what `refuse` is told as `left_out`."""


def every(_kind: str) -> int | None:
    """Record all refusals."""
    return 0


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
    """Return a pattern in the form in which it is compared.

    Raises:
        EnrolmentError: it is none.
    """
    try:
        return parse_pattern(text)
    except ValueError as error:
        raise EnrolmentError(str(error)) from error


def new_pattern(text: str) -> str:
    """Return the pattern of a new grant; old grants may have A-labels that nobody can ask for.

    Raises:
        EnrolmentError: it is none, or has such a label.
    """
    try:
        return check_a_labels(host_pattern(text))
    except ValueError as error:
        raise EnrolmentError(str(error)) from error


def refuse(  # noqa: PLR0913 - a record has so many parts
    session: Session,
    error: EnrolmentRefused,
    *,
    action: str,
    actor: str,
    now: datetime.datetime,
    agent: str | None = None,
    details: audit.Details | None = None,
    left_out: int | None = 0,
) -> NoReturn:
    """Raise the error; of the transaction nothing is kept but the record of the refusal.

    Args:
        left_out: how many records like it were not made; None where this one is not either (`attempts.Ration`).
    """
    session.rollback()
    if left_out is None:
        raise error
    reason: dict[str, str | int] = {"code": error.code, "reason": str(error)}
    if left_out:
        reason["left_out"] = left_out
    audit.append(
        session, at=seconds(now), actor=actor, action=action, agent=agent, details={**reason, **(details or {})}
    )
    raise error
