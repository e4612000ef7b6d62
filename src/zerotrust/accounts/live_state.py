"""Users and credentials as servers keep them in memory: all of them, or those that have changed.

Each transaction of a server ends with this reading, so that its own decisions and those of other
servers reach the memory by the same way. Rows are selected as columns, because there may be
100,000.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from zerotrust.accounts import changes
from zerotrust.accounts.users import provider_of
from zerotrust.db.access_tables import (
    AccessTokenRow,
    IdentityRow,
    MemberRow,
    PassRow,
    ShareLinkRow,
    SignInRow,
    UserRow,
)

MAX_CHANGES: Final = 2000
"""With more changes at once, reading everything is quicker."""
MAX_PASSES: Final = 100_000


class Account(NamedTuple):
    """An account of a user at an identity provider; `email` only if it is verified."""

    provider: str
    email: str | None
    shown_name: str
    groups: Sequence[str]
    claims: Mapping[str, Any]


class KnownUser(NamedTuple):
    """A user, as the database knows it.

    Attributes:
        refused: the provider that has brought the user refuses the account.
    """

    id: str
    name: str
    email: str | None
    shown_name: str
    source: str
    disabled: bool
    groups: frozenset[str]
    accounts: tuple[Account, ...]
    refused: bool = False


class LiveSignIn(NamedTuple):
    """The columns of a sign-in that are kept in memory."""

    number: int
    digest: bytes
    user_id: str
    method: str
    provider: str
    created_at: int
    proven_at: int
    seen_at: int
    ends_at: int
    ended_at: int | None
    why: str


class LivePass(NamedTuple):
    """The columns of a pass that are kept in memory."""

    number: int
    digest: bytes
    host: str
    kind: str
    created_at: int
    ends_at: int
    ended_at: int | None
    sign_in: int | None
    link_id: str | None


class LiveToken(NamedTuple):
    """The columns of a token that are kept in memory."""

    id: str
    digest: bytes
    kind: str
    name: str
    hosts: Sequence[str]
    user_id: str | None
    admin: bool
    expires_at: int | None
    revoked_at: int | None


class LiveLink(NamedTuple):
    """The part of a share link that its passes depend on."""

    path: str
    methods: tuple[str, ...]
    created_by: str


@dataclass(slots=True, kw_only=True)
class LiveState:
    """A reading.

    Attributes:
        number: of the last change that it contains.
        complete: it has everything; what is in memory and not here has ended. Else it has the
            rows that have changed, and `gone` the changed subjects that have no row any more.
        links: the share links that passes refer to.
    """

    number: int
    complete: bool
    users: list[KnownUser] = field(default_factory=list)
    sign_ins: list[LiveSignIn] = field(default_factory=list)
    passes: list[LivePass] = field(default_factory=list)
    tokens: list[LiveToken] = field(default_factory=list)
    links: dict[str, LiveLink] = field(default_factory=dict)
    gone: set[tuple[str, str]] = field(default_factory=set)


_SIGN_INS: Final = select(*(getattr(SignInRow, name) for name in LiveSignIn._fields))
_PASSES: Final = select(*(getattr(PassRow, name) for name in LivePass._fields))
_TOKENS: Final = select(*(getattr(AccessTokenRow, name) for name in LiveToken._fields))


def read_all(session: Session, *, now: int) -> LiveState:
    """Read all users, and the credentials in force."""
    state = LiveState(number=changes.newest(session), complete=True)
    state.users = _users(session)
    _read_sign_ins_and_tokens(session, state, now)
    newest = _PASSES.where(PassRow.ended_at.is_(None), PassRow.ends_at > now).order_by(
        PassRow.number.desc()
    )
    state.passes = [LivePass(*row) for row in session.execute(newest.limit(MAX_PASSES))]
    state.links = _links(session)
    return state


def read_sign_ins_and_tokens(session: Session, *, now: int) -> LiveState:
    """Read the sign-ins and tokens in force: all on which the configuration has an effect."""
    state = LiveState(number=0, complete=False)
    _read_sign_ins_and_tokens(session, state, now)
    return state


def read_changes(session: Session, *, after: int, now: int) -> LiveState:
    """Read the rows that have changed since the change with a number; or all, if need be."""
    found = changes.since(session, after, limit=MAX_CHANGES)
    if found is None:
        return read_all(session, now=now)
    state = LiveState(number=found[-1][0] if found else after, complete=False)
    subjects: dict[str, set[str]] = defaultdict(set)
    for _, kind, subject in found:
        subjects[kind].add(subject)
    if users := subjects[changes.USER]:
        state.users = _users(session, users)
    if numbers := _numbers(subjects[changes.SIGN_IN]):
        query = _SIGN_INS.where(SignInRow.number.in_(numbers))
        state.sign_ins = [LiveSignIn(*row) for row in session.execute(query)]
    if tokens := subjects[changes.TOKEN]:
        query = _TOKENS.where(AccessTokenRow.id.in_(tokens))
        state.tokens = [LiveToken(*row) for row in session.execute(query)]
    _read_passes(session, state, subjects)
    state.gone = _gone(state, subjects)
    return state


def _read_sign_ins_and_tokens(session: Session, state: LiveState, now: int) -> None:
    live = (SignInRow.ended_at.is_(None), SignInRow.ends_at > now)
    state.sign_ins = [LiveSignIn(*row) for row in session.execute(_SIGN_INS.where(*live))]
    kept = AccessTokenRow.revoked_at.is_(None)
    state.tokens = [LiveToken(*row) for row in session.execute(_TOKENS.where(kept))]


def _read_passes(session: Session, state: LiveState, subjects: Mapping[str, set[str]]) -> None:
    conditions: list[ColumnElement[bool]] = []
    if numbers := _numbers(subjects[changes.PASS]):
        conditions.append(PassRow.number.in_(numbers))
    if links := subjects[changes.LINK]:
        conditions.append(PassRow.link_id.in_(links))
    if hosts := subjects[changes.PIN]:
        conditions.append((PassRow.kind == "pin") & PassRow.host.in_(hosts))
    # One query each: together they would not use the indexes.
    rows = {
        row.number: LivePass(*row)
        for condition in conditions
        for row in session.execute(_PASSES.where(condition))
    }
    state.passes = list(rows.values())
    if used := {row.link_id for row in state.passes if row.link_id is not None}:
        state.links = _links(session, used)


def _gone(state: LiveState, subjects: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    found: dict[str, set[str]] = {
        changes.USER: {user.id for user in state.users},
        changes.SIGN_IN: {str(row.number) for row in state.sign_ins},
        changes.PASS: {str(row.number) for row in state.passes},
        changes.TOKEN: {row.id for row in state.tokens},
    }
    return {(kind, subject) for kind, there in found.items() for subject in subjects[kind] - there}


def _users(session: Session, ids: Iterable[str] | None = None) -> list[KnownUser]:
    groups: dict[str, set[str]] = defaultdict(set)
    accounts: dict[str, list[Account]] = defaultdict(list)
    refused: set[tuple[str, str]] = set()
    users, members, identities = select(UserRow), select(MemberRow), select(IdentityRow)
    if ids is not None:
        chosen = list(ids)
        users = users.where(UserRow.id.in_(chosen))
        members = members.where(MemberRow.user_id.in_(chosen))
        identities = identities.where(IdentityRow.user_id.in_(chosen))
    for member in session.scalars(members):
        groups[member.user_id].add(member.group)
    for row in session.scalars(identities):
        if row.refused_at is not None:
            refused.add((row.user_id, row.provider))
        accounts[row.user_id].append(
            Account(
                row.provider,
                row.email if row.email_verified else None,
                row.shown_name,
                row.groups,
                row.claims,
            )
        )
    return [
        KnownUser(
            user.id,
            user.name,
            user.email,
            user.shown_name,
            user.source,
            user.disabled_at is not None,
            frozenset(groups[user.id]),
            tuple(accounts[user.id]),
            (user.id, provider_of(user)) in refused,
        )
        for user in session.scalars(users)
    ]


def _links(session: Session, ids: Iterable[str] | None = None) -> dict[str, LiveLink]:
    query = select(
        ShareLinkRow.id, ShareLinkRow.path, ShareLinkRow.methods, ShareLinkRow.created_by
    )
    if ids is not None:
        query = query.where(ShareLinkRow.id.in_(list(ids)))
    return {
        row.id: LiveLink(row.path, tuple(row.methods), row.created_by)
        for row in session.execute(query)
    }


def _numbers(subjects: Iterable[str]) -> list[int]:
    return [int(subject) for subject in subjects]
