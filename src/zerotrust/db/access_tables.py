"""Tables of people, their sessions, tokens and links (docs/access.md).

Secrets are stored as SHA-256 only (`digest`), pairing codes as scrypt, PINs as argon2 hashes. Times
are whole seconds since 1970, UTC. `ended_at` and its like stay None while the row is in force.
"""

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from zerotrust.db.tables import COUNTED, Base


class UserRow(Base):
    """A person. Users of the server's file have a row too, from their first invitation on."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    """Random, never used again: `u_` and 22 characters."""
    name: Mapped[str] = mapped_column(String(64), unique=True)
    """Unique name, for rules and commands."""
    created_at: Mapped[int]
    email: Mapped[str | None] = mapped_column(default=None)
    """Address that an administrator has entered; it counts as verified."""
    shown_name: Mapped[str] = mapped_column(default="")
    source: Mapped[str] = mapped_column(String(64), default="database")
    """`file`, `database` or `provider:NAME`."""
    disabled_at: Mapped[int | None] = mapped_column(default=None)


class MemberRow(Base):
    """Membership of a user in a local group."""

    __tablename__ = "members"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    group: Mapped[str] = mapped_column("group_name", String(64), primary_key=True)


class IdentityRow(Base):
    """An account at an identity provider, which belongs to one user."""

    __tablename__ = "identities"
    __table_args__ = (Index(None, "user_id"),)

    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    """The claim `sub`."""
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    seen_at: Mapped[int]
    email: Mapped[str | None] = mapped_column(default=None)
    email_verified: Mapped[bool] = mapped_column(default=False)
    shown_name: Mapped[str] = mapped_column(default="")
    groups: Mapped[list[str]] = mapped_column(JSON, default_factory=list)
    """As the provider names them, without its own name in front."""
    claims: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)
    """Claims that rules name, and no others."""
    refresh: Mapped[bytes | None] = mapped_column(LargeBinary, default=None, repr=False)
    """Refresh token, encrypted with a key in `state.dir`."""
    refused_at: Mapped[int | None] = mapped_column(default=None)
    """The provider has refused the refresh token, and the user has not signed in there since."""


class PasskeyRow(Base):
    """A passkey of a user."""

    __tablename__ = "passkeys"
    __table_args__ = (Index(None, "user_id"),)

    credential_id: Mapped[bytes] = mapped_column(LargeBinary(1024), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    """COSE_Key."""
    rp_id: Mapped[str] = mapped_column(String(253))
    created_at: Mapped[int]
    label: Mapped[str] = mapped_column(default="")
    backed_up: Mapped[bool] = mapped_column(default=False)
    counter: Mapped[int] = mapped_column(default=0)
    used_at: Mapped[int | None] = mapped_column(default=None)


class InvitationRow(Base):
    """A one-time link with which a user registers a passkey."""

    __tablename__ = "invitations"
    __table_args__ = (Index(None, "user_id"),)

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True, repr=False)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[int]
    expires_at: Mapped[int]
    used_at: Mapped[int | None] = mapped_column(default=None)


class PairingRow(Base):
    """A code with which a signed-in user lets a device in."""

    __tablename__ = "pairings"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True, repr=False)
    """Scrypt of the code (`accounts.pairings`)."""
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[int]
    proven_at: Mapped[int]
    """Last proof of identity of the user's sign-in."""
    provider: Mapped[str] = mapped_column(String(64), default="")
    """Identity provider of the user's sign-in, whose groups the device gets."""
    provider_subject: Mapped[str] = mapped_column(String(255), default="")
    used_at: Mapped[int | None] = mapped_column(default=None)


class SpentRow(Base):
    """A one-time value that was used, kept until it expires."""

    __tablename__ = "spent"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    until: Mapped[int]


class SignInRow(Base):
    """The session of a user at the auth host, in one browser."""

    __tablename__ = "sign_ins"
    __table_args__ = (Index(None, "user_id"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(COUNTED, primary_key=True, init=False)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, repr=False)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    method: Mapped[str] = mapped_column(String(16))
    """`passkey`, `oidc` or `device`."""
    created_at: Mapped[int]
    proven_at: Mapped[int]
    """Last proof of identity."""
    seen_at: Mapped[int]
    """Last request or message; written once a minute."""
    ends_at: Mapped[int]
    provider: Mapped[str] = mapped_column(String(64), default="")
    """Identity provider; empty for a passkey or a pairing."""
    provider_subject: Mapped[str] = mapped_column(String(255), default="")
    provider_session: Mapped[str] = mapped_column(String(255), default="")
    """The claim `sid`, for back-channel logout."""
    ended_at: Mapped[int | None] = mapped_column(default=None)
    why: Mapped[str] = mapped_column(default="")
    """Reason of its end."""
    client: Mapped[str] = mapped_column(String(64), default="")
    """Address of the browser when it signed in."""
    browser: Mapped[str] = mapped_column(String(200), default="")
    """User-Agent, cut."""


class PassRow(Base):
    """The right of one browser to use one host name."""

    __tablename__ = "passes"
    __table_args__ = (
        Index(None, "sign_in"),
        Index(None, "link_id"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(COUNTED, primary_key=True, init=False)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, repr=False)
    host: Mapped[str] = mapped_column(String(253))
    kind: Mapped[str] = mapped_column(String(16))
    """`sign_in`, `link` or `pin`: what it was made from."""
    created_at: Mapped[int]
    ends_at: Mapped[int]
    sign_in: Mapped[int | None] = mapped_column(ForeignKey("sign_ins.number"), default=None)
    link_id: Mapped[str | None] = mapped_column(ForeignKey("share_links.id"), default=None)
    ended_at: Mapped[int | None] = mapped_column(default=None)


class HandOverRow(Base):
    """A one-time code that carries a sign-in from the auth host to a service's host name."""

    __tablename__ = "hand_overs"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True, repr=False)
    sign_in: Mapped[int] = mapped_column(ForeignKey("sign_ins.number"))
    host: Mapped[str] = mapped_column(String(253))
    challenge: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 of the verifier, which only the same browser can compute."""
    target: Mapped[str]
    expires_at: Mapped[int]
    used_at: Mapped[int | None] = mapped_column(default=None)


class AccessTokenRow(Base):
    """A token of a machine or of a native app."""

    __tablename__ = "access_tokens"
    __table_args__ = (Index(None, "name"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, repr=False)
    kind: Mapped[str] = mapped_column(String(16))
    """`machine` or `app`."""
    name: Mapped[str] = mapped_column(String(64))
    """Two tokens may have one name while one replaces the other."""
    hosts: Mapped[list[str]] = mapped_column(JSON)
    """Host names or wildcards that it is good for; empty: all whose rules allow it."""
    created_at: Mapped[int]
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id"), default=None)
    """Owner of an app."""
    admin: Mapped[bool] = mapped_column(default=False)
    """May call the admin API at `admin_host`."""
    expires_at: Mapped[int | None] = mapped_column(default=None)
    used_at: Mapped[int | None] = mapped_column(default=None)
    revoked_at: Mapped[int | None] = mapped_column(default=None)


class ShareLinkRow(Base):
    """A link that lets whoever has it use some paths of a host name."""

    __tablename__ = "share_links"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, repr=False)
    host: Mapped[str] = mapped_column(String(253))
    path: Mapped[str]
    """Prefix of whole segments."""
    methods: Mapped[list[str]] = mapped_column(JSON)
    created_by: Mapped[str]
    """User id of the creator, or an actor such as `uid 0`."""
    created_at: Mapped[int]
    expires_at: Mapped[int]
    uses_left: Mapped[int | None] = mapped_column(default=None)
    pin_hash: Mapped[str | None] = mapped_column(default=None, repr=False)
    revoked_at: Mapped[int | None] = mapped_column(default=None)


class PinRow(Base):
    """The PIN of a host name."""

    __tablename__ = "pins"

    host: Mapped[str] = mapped_column(String(253), primary_key=True)
    pin_hash: Mapped[str] = mapped_column(repr=False)
    set_at: Mapped[int]


class ChangeRow(Base):
    """A change that the other servers of this database have to read. Kept for an hour."""

    __tablename__ = "changes"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy reads it here

    number: Mapped[int] = mapped_column(COUNTED, primary_key=True, init=False)
    at: Mapped[int]
    kind: Mapped[str] = mapped_column(String(32))
    """`user`, `sign_in`, `pass`, `token`, `link` or `pin`."""
    subject: Mapped[str] = mapped_column(String(255))
    """Id or number of the row that has changed."""


class IdentityKeyRow(Base):
    """The public half of a key that signs assertions to backends."""

    __tablename__ = "identity_keys"

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    server: Mapped[str] = mapped_column(String(64))
    """Random id of the server that has the private half."""
    public_key: Mapped[dict[str, Any]] = mapped_column(JSON)
    """JWK."""
    begins_at: Mapped[int]
    ends_at: Mapped[int]
