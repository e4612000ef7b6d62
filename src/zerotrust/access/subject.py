"""Subjects, and the credentials that prove them.

A *subject* is a user, machine, app, share link or PIN. A *credential* is what a request shows: a
pass (a cookie of one host name), a token, or a sign-in (the cookie of the auth host).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

_NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


class SubjectKind(Enum):
    """Kinds of subjects."""

    USER = "user"
    MACHINE = "machine"
    APP = "app"
    LINK = "link"
    PIN = "pin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """User, machine, app, share link or PIN behind a request. It is replaced, never changed.

    Attributes:
        id: user id, `machine:NAME`, `app:NAME`, `link:ID` or `pin:HOST`; `sub` of assertions.
        name: name for rules: of the user, machine or app; empty for links and PINs.
        owner: the user that an app belongs to, or that has created a link.
        groups: local groups, and groups of the provider with its name in front.
        emails: verified addresses.
        email: the one of them that backends are told; empty for the first in the alphabet.
        provider: identity provider of the sign-in; empty without one.
        claims: claims of that provider which rules name.
    """

    kind: SubjectKind
    id: str
    name: str = ""
    shown_name: str = ""
    owner: "Subject | None" = None
    groups: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    email: str = ""
    provider: str = ""
    claims: Mapping[str, Any] = field(default_factory=lambda: _NO_CLAIMS)


class CredentialKind(Enum):
    """Kinds of credentials."""

    SIGN_IN = "sign_in"
    PASS = "pass"  # noqa: S105
    TOKEN = "token"  # noqa: S105 - kinds, no secrets


class Credential:
    """A live credential in the index (`server.access.credential_index`).

    It belongs to the loop's thread. At most 1 KiB, because there may be 100,000.

    Attributes:
        id: number of the sign-in or pass, or id of the token.
        digest: SHA-256 of the secret.
        subject: replaced when the user's groups or claims change.
        ended: reason of the end ("signed out", "session ended", "access withdrawn"); empty while
            the credential is in force. It never becomes empty again.
        ends_at: end of its lifetime, in seconds since 1970.
        idle: longest time in seconds without a request or message; 0 for no limit.
        seen_at: last request or message, in seconds since 1970.
        proven_at: last proof of identity, in seconds since 1970; 0 if there was none.
        method: `passkey`, `oidc`, `device`, or empty.
        sign_in: the sign-in that a pass was made from, else None. A pass ends with it.
        host: the host name of a pass; empty for others.
        hosts: host names and wildcards that a token is good for; empty for all.
        path, methods: what a share link opens; empty for all.
        admin: a machine's token that is good for the admin API at `admin_host`.
        verdicts: remembered verdicts of gates (`access.gate`); cleared when `subject` is replaced.
    """

    __slots__ = (
        "admin",
        "digest",
        "ended",
        "ends_at",
        "host",
        "hosts",
        "id",
        "idle",
        "kind",
        "method",
        "methods",
        "path",
        "proven_at",
        "seen_at",
        "sign_in",
        "subject",
        "verdicts",
    )

    def __init__(  # noqa: PLR0913 - the columns of a row
        self,
        kind: CredentialKind,
        id: str,
        *,
        digest: bytes,
        subject: Subject,
        ends_at: float,
        seen_at: float = 0.0,
        proven_at: float = 0.0,
        idle: float = 0.0,
        method: str = "",
        sign_in: "Credential | None" = None,
        host: str = "",
        hosts: tuple[str, ...] = (),
        path: str = "",
        methods: tuple[str, ...] = (),
        admin: bool = False,
    ) -> None:
        self.kind = kind
        self.id = id
        self.digest = digest
        self.subject = subject
        self.ended = ""
        self.ends_at = ends_at
        self.idle = idle
        self.seen_at = seen_at
        self.proven_at = proven_at
        self.method = method
        self.sign_in = sign_in
        self.host = host
        self.hosts = hosts
        self.path = path
        self.methods = methods
        self.admin = admin
        self.verdicts: dict[Any, Any] | None = None

    def end_reason(self, now: float) -> str:
        """Return the reason why the credential is no longer in force; empty while it is.

        Args:
            now: seconds since 1970.
        """
        if self.ended:
            return self.ended
        if now >= self.ends_at or (self.idle and now >= self.seen_at + self.idle):
            return SESSION_ENDED
        return "" if self.sign_in is None else self.sign_in.end_reason(now)

    def note_use(self, now: float) -> None:
        """Note a request or message at this time, in seconds since 1970."""
        self.seen_at = now
        if self.sign_in is not None:
            self.sign_in.seen_at = now


SIGNED_OUT: Final = "signed out"
SESSION_ENDED: Final = "session ended"
ACCESS_WITHDRAWN: Final = "access withdrawn"
