"""The tables: one class each, whose instances are rows.

A row that a transaction has handed out can be read after it, and `dataclasses.asdict` makes a dictionary of it. Times
are whole seconds since 1970, UTC. The tables are made by the migrations, not from here; a test compares the two.
"""

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

WHOLE_AGENT = ""
"""The serial of a revocation that is of the agent and not of one certificate."""

_COUNTED = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's row number is an INTEGER by that name only


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """What the tables share: every constraint has a name, so that a later migration can change it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {int: BigInteger, str: Text}  # noqa: RUF012 - SQLAlchemy reads it here


class AgentRow(Base):
    """An agent that was invited, joined, or was named in a grant or revocation."""

    __tablename__ = "agents"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[int]
    joined_at: Mapped[int | None] = mapped_column(default=None)
    """The last time that it joined with a token; None for one that has certificates made by hand."""


class GrantRow(Base):
    """A host name, or a wildcard for one label, that an agent may serve."""

    __tablename__ = "grants"

    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"), primary_key=True)
    pattern: Mapped[str] = mapped_column(String(255), primary_key=True)
    created_at: Mapped[int]


class CertificateRow(Base):
    """A certificate that was issued to an agent."""

    __tablename__ = "certificates"
    __table_args__ = (Index(None, "agent_id"),)

    serial: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Lower-case hexadecimal digits."""
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"))
    issued_at: Mapped[int]
    not_after: Mapped[int]


class JoinTokenRow(Base):
    """A join token: the machine that shows it once, in time, becomes the agent and gets the grants."""

    __tablename__ = "join_tokens"
    __table_args__ = (Index(None, "agent_id"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(_COUNTED, primary_key=True, init=False)
    """Names the token where people talk about it; it is no secret."""
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, repr=False)
    """SHA-256 of the token, which itself is kept nowhere."""
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"))
    patterns: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[int]
    expires_at: Mapped[int]
    used_at: Mapped[int | None] = mapped_column(default=None)
    cancelled_at: Mapped[int | None] = mapped_column(default=None)


class RevocationRow(Base):
    """An agent, or one certificate of it, that is refused."""

    __tablename__ = "revocations"

    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"), primary_key=True)
    serial: Mapped[str] = mapped_column(String(64), primary_key=True)
    revoked_at: Mapped[int]
    reason: Mapped[str]
    until: Mapped[int | None] = mapped_column(default=None)
    """When the certificate ends, where that is known: it is refused then anyway."""


class AuditRow(Base):
    """A decision about identity. Triggers refuse to change or delete one."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(_COUNTED, primary_key=True, autoincrement=False)
    """1 for the first, without gaps."""
    at: Mapped[int]
    actor: Mapped[str]
    """Who decided, or asked: `uid 0`, `agent home`, an address."""
    action: Mapped[str]
    """What was decided, for example `agent.joined`."""
    agent_id: Mapped[str | None]
    """About whom; no foreign key: a record stays what it was."""
    details: Mapped[str]
    """A JSON object, in the one form that `db.audit` writes."""
    hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the previous record's hash and of this record (`db.audit`), in hexadecimal."""
