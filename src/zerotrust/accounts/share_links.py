"""Share links: created, used, revoked."""

import re
import secrets
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from zerotrust.access.secret_format import LINK, digest_of, is_secret, new_secret
from zerotrust.accounts import changes
from zerotrust.accounts.refusals import Rationed, refuse
from zerotrust.db import audit
from zerotrust.db.access_tables import PassRow, ShareLinkRow
from zerotrust.db.database import changed_rows
from zerotrust.errors import AccessError, UserUnknown
from zerotrust.model.base import normalise_host

LONGEST: Final = 30 * 86400
"""Seconds for which a link can be good."""
MAX_OF_CREATOR: Final = 1000
MAX_USES: Final = 1_000_000
_PATH: Final = re.compile(r"/(?:[!-\[\]-~]{0,2047})")
_DOTS: Final = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)|//|%2f|%5c", re.IGNORECASE)
_METHOD: Final = re.compile(r"[A-Z]{1,20}")
_REFUSED: Final = "this link is not valid, or no longer; ask for a new one"


def parse_url(url: str) -> tuple[str, str]:
    """Return host name and path prefix of a URL to share.

    Raises:
        AccessError: it is not an HTTPS URL with a plain path.
    """
    try:
        parts = urlsplit(url)
        host = normalise_host(parts.netloc)
    except ValueError as error:
        raise AccessError(f"invalid URL: {error}") from error
    path = parts.path or "/"
    if parts.scheme != "https" or parts.query or parts.fragment or "@" in parts.netloc:
        raise AccessError("invalid URL: write https://HOST/PATH, without a query")
    if _PATH.fullmatch(path) is None or _DOTS.search(path):
        raise AccessError("invalid path: write it without dots as segments and double slashes")
    return host, path.rstrip("/") or "/"


def create(  # noqa: PLR0913 - the columns of a row
    session: Session,
    *,
    host: str,
    path: str,
    methods: list[str],
    lifetime: float,
    uses: int | None,
    pin_hash: str | None,
    created_by: str,
    actor: str,
    now: int,
) -> tuple[ShareLinkRow, str]:
    """Create a link to a path and all below it; return its row and its secret.

    Raises:
        AccessError: the lifetime, a method or the number of uses is invalid.
    """
    if not 1 <= lifetime <= LONGEST:
        raise AccessError("invalid lifetime of a link: choose 1 second to 30 days")
    if uses is not None and not 1 <= uses <= MAX_USES:
        raise AccessError(f"invalid number of uses: choose 1 to {MAX_USES}")
    if not all(_METHOD.fullmatch(method) for method in methods) or len(methods) > 20:
        raise AccessError("invalid method: write them in capitals, as GET")
    if len(in_force(session, created_by, now=now)) >= MAX_OF_CREATOR:
        raise AccessError(f"{MAX_OF_CREATOR} links are in force; revoke some first")
    secret = new_secret(LINK)
    row = ShareLinkRow(
        id=f"l_{secrets.token_urlsafe(16)}",
        digest=digest_of(secret.encode()),
        host=host,
        path=path,
        methods=list(dict.fromkeys(methods)) or ["GET", "HEAD"],
        created_by=created_by,
        created_at=now,
        expires_at=now + int(lifetime),
        uses_left=uses,
        pin_hash=pin_hash,
    )
    session.add(row)
    _record(
        session,
        "link.created",
        row,
        actor=actor,
        now=now,
        details={"path": path, "methods": row.methods},
    )
    return row, secret


def find(
    session: Session, secret: str, *, host: str, client: str, now: int, rationed: Rationed
) -> ShareLinkRow:
    """Return the link in force with this secret.

    Raises:
        AccessRefused: unknown, expired, revoked or used up, or of another host name.
    """
    row = None
    if is_secret(secret, LINK):
        digest = digest_of(secret.encode())
        row = session.scalar(select(ShareLinkRow).where(ShareLinkRow.digest == digest))
    if (
        row is None
        or row.host != host
        or row.revoked_at is not None
        or row.expires_at <= now
        or row.uses_left == 0
    ):
        refuse(session, _REFUSED, kind="link", actor=client, now=now, rationed=rationed)
    return row


def use(
    session: Session,
    secret: str,
    *,
    host: str,
    pass_digest: bytes,
    client: str,
    now: int,
    rationed: Rationed,
) -> PassRow:
    """Use a link once: make a pass.

    Raises:
        AccessRefused: as `find`.
    """
    row = find(session, secret, host=host, client=client, now=now, rationed=rationed)
    if row.uses_left is not None:
        counted = (
            update(ShareLinkRow)
            .where(ShareLinkRow.id == row.id, ShareLinkRow.uses_left > 0)
            .values(uses_left=ShareLinkRow.uses_left - 1)
        )
        if changed_rows(session, counted) != 1:
            refuse(session, _REFUSED, kind="link", actor=client, now=now, rationed=rationed)
    made = PassRow(
        digest=pass_digest,
        host=row.host,
        kind="link",
        created_at=now,
        ends_at=row.expires_at,
        link_id=row.id,
    )
    session.add(made)
    session.flush()
    changes.add(session, changes.PASS, made.number, now=now)
    left_out = rationed("link.used")
    if left_out is not None:
        details = {"pass": made.number, "left_out": left_out}
        _record(session, "link.used", row, actor=client, now=now, details=details)
    return made


def revoke(
    session: Session, link_id: str, *, created_by: str | None = None, actor: str, now: int
) -> int:
    """Revoke a link (of one creator); return how many passes ended.

    Raises:
        UserUnknown: there is no link in force with this id.
    """
    row = session.get(ShareLinkRow, link_id)
    if (
        row is None
        or row.revoked_at is not None
        or row.expires_at <= now
        or created_by not in (None, row.created_by)
    ):
        raise UserUnknown("there is no such link; list them with: 0trust share list")
    row.revoked_at = now
    ended = changed_rows(
        session,
        update(PassRow)
        .where(PassRow.link_id == link_id, PassRow.ended_at.is_(None))
        .values(ended_at=now),
    )
    changes.add(session, changes.LINK, link_id, now=now)
    _record(session, "link.revoked", row, actor=actor, now=now, details={"passes": ended})
    return ended


def revoke_of(session: Session, user_id: str, *, actor: str, now: int) -> None:
    """Revoke all links of a user."""
    for row in in_force(session, user_id, now=now):
        revoke(session, row.id, actor=actor, now=now)


def in_force(session: Session, created_by: str | None, *, now: int) -> list[ShareLinkRow]:
    """Return the links (of one creator) that are neither revoked nor expired, the newest first.

    Those that are used up are among them: revoking one ends its passes.
    """
    query = select(ShareLinkRow).where(
        ShareLinkRow.revoked_at.is_(None), ShareLinkRow.expires_at > now
    )
    if created_by is not None:
        query = query.where(ShareLinkRow.created_by == created_by)
    return list(session.scalars(query.order_by(ShareLinkRow.created_at.desc(), ShareLinkRow.id)))


def remove_of(session: Session, user_id: str, *, now: int) -> None:
    """Remove the links of a user, and the passes that they have made."""
    links = select(ShareLinkRow.id).where(ShareLinkRow.created_by == user_id)
    passes = select(PassRow.number).where(PassRow.link_id.in_(links))
    changes.add_all(session, changes.PASS, session.scalars(passes).all(), now=now)
    session.execute(delete(PassRow).where(PassRow.link_id.in_(links)))
    session.execute(delete(ShareLinkRow).where(ShareLinkRow.created_by == user_id))


def _record(
    session: Session,
    action: str,
    row: ShareLinkRow,
    *,
    actor: str,
    now: int,
    details: audit.Details,
) -> None:
    audit.append(
        session,
        at=now,
        actor=actor or "unknown",
        action=action,
        details={"link": row.id, "host": row.host, **details},
    )
