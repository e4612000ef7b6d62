"""Refusals of people, with their audit record."""

from collections.abc import Callable
from typing import NoReturn

from sqlalchemy.orm import Session

from zerotrust.db import audit
from zerotrust.errors import AccessRefused

Rationed = Callable[[str], int | None]
"""Returns how many records of a kind were left out since the last one; None to leave one out."""


def refuse(
    session: Session,
    message: str,
    *,
    kind: str,
    actor: str,
    now: int,
    rationed: Rationed,
    details: audit.Details | None = None,
) -> NoReturn:
    """Roll back, record the refusal, and raise AccessRefused.

    Args:
        message: for the person who asked.
        kind: what was refused, for example "passkey"; records are rationed by kind.
    """
    session.rollback()
    error = AccessRefused(message)
    left_out = rationed(kind)
    if left_out is None:
        raise error
    reason: dict[str, str | int] = {"what": kind, "reason": message}
    if left_out:
        reason["left_out"] = left_out
    audit.append(
        session,
        at=now,
        actor=actor or "unknown",
        action="sign_in.refused",
        details={**reason, **(details or {})},
    )
    raise error
