"""Refusals with their audit record, and the checks of names that all decisions share."""

import datetime
from collections.abc import Callable
from typing import NoReturn

from sqlalchemy.orm import Session

from zerotrust.db import audit
from zerotrust.enrollment.grant_table import parse_pattern
from zerotrust.errors import EnrollmentError, EnrollmentRefused, PkiError
from zerotrust.model.base import check_a_labels
from zerotrust.pki.identity import check_id

KEPT = datetime.timedelta(days=30)
"""Retention of finished rows; audit records are kept forever."""


Rationed = Callable[[str], int | None]
"""Returns the `left_out` of `refuse` for a kind of refusal."""


def every(_kind: str) -> int | None:
    """Record all refusals."""
    return 0


def seconds(moment: datetime.datetime) -> int:
    """Return the time in whole seconds since 1970, as the tables have it."""
    return int(moment.timestamp())


def agent_name(text: str) -> str:
    """Return `text` if it is a valid agent id.

    Raises:
        EnrollmentError: it is not.
    """
    try:
        return check_id(text)
    except PkiError as error:
        raise EnrollmentError(str(error)) from error


def host_pattern(text: str) -> str:
    """Return a pattern in the form in which patterns are compared.

    Raises:
        EnrollmentError: invalid pattern.
    """
    try:
        return parse_pattern(text)
    except ValueError as error:
        raise EnrollmentError(str(error)) from error


def new_pattern(text: str) -> str:
    """Return the pattern of a new grant, with its A-labels checked.

    Old grants may have A-labels that no client can request.

    Raises:
        EnrollmentError: invalid pattern or A-label.
    """
    try:
        return check_a_labels(host_pattern(text))
    except ValueError as error:
        raise EnrollmentError(str(error)) from error


def refuse(  # noqa: PLR0913 - the parts of a record
    session: Session,
    error: EnrollmentRefused,
    *,
    action: str,
    actor: str,
    now: datetime.datetime,
    agent: str | None = None,
    details: audit.Details | None = None,
    left_out: int | None = 0,
) -> NoReturn:
    """Roll back, record the refusal, and raise the error.

    Args:
        left_out: number of records of this kind that were left out before; None to leave this one
            out (`rate_limits.RefusalLog`).
    """
    session.rollback()
    if left_out is None:
        raise error
    reason: dict[str, str | int] = {"code": error.code, "reason": str(error)}
    if left_out:
        reason["left_out"] = left_out
    audit.append(
        session,
        at=seconds(now),
        actor=actor,
        action=action,
        agent=agent,
        details={**reason, **(details or {})},
    )
    raise error
