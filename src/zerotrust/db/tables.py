"""The tables: one class each, whose instances are rows.

A row can be read after its transaction, and `dataclasses.asdict` makes a dictionary of it. Times
are whole seconds since 1970, UTC. Migrations create the tables; a test compares them with these
classes.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

WHOLE_AGENT = ""
"""Serial of a revocation of the agent as a whole."""

COUNTED = BigInteger().with_variant(Integer(), "sqlite")
"""Type of a column with counted numbers. In SQLite only an INTEGER can be the row number."""


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """Base of the tables: every constraint has a name, so that a migration can change it."""

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
    """An agent that has joined, or is named in a join token, grant or revocation."""

    __tablename__ = "agents"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[int]
    joined_at: Mapped[int | None] = mapped_column(default=None)
    """Last time that it joined with a token; None if its certificates were made by hand."""


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
    """A join token: the first machine that shows it in time becomes the agent and gets the
    grants."""

    __tablename__ = "join_tokens"
    __table_args__ = (Index(None, "agent_id"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(COUNTED, primary_key=True, init=False)
    """Public name of the token; no secret."""
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True, repr=False)
    """SHA-256 of the token, which is stored nowhere."""
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
    """End of the certificate, if known: afterwards TLS refuses it anyway."""


class AuditRow(Base):
    """A decision about identity. Triggers refuse to change or delete one."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(COUNTED, primary_key=True, autoincrement=False)
    """1 for the first, without gaps."""
    at: Mapped[int]
    actor: Mapped[str]
    """The one who decided or asked: `uid 0`, `agent home`, an address."""
    action: Mapped[str]
    """The decision, for example `agent.joined`."""
    agent_id: Mapped[str | None]
    """The agent that it is about. No foreign key: a record never changes."""
    details: Mapped[str]
    """A JSON object, in the one form that `db.audit` writes."""
    hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the previous record's hash and of this record (`db.audit`), in hexadecimal."""


class ServerRow(Base):
    """A server that other servers of this database tell their agents of (`db.servers`)."""

    __tablename__ = "servers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    """Random hexadecimal digits, kept in the server's `state.dir`."""
    address: Mapped[str] = mapped_column(String(261))
    """Where agents reach it, `host:port`."""
    version: Mapped[str] = mapped_column(String(64))
    since: Mapped[int]
    """Time of its first lease without a break."""
    lease_ends_at: Mapped[int]
    """Time after which it counts as gone, by the database's clock, as all times of this table."""


class CertificateOrderRow(Base):
    """A host name whose public certificate a server is ordering (`db.certificate_orders`)."""

    __tablename__ = "certificate_orders"

    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    server_id: Mapped[str] = mapped_column(String(32))
    lease_ends_at: Mapped[int]
    """Time after which another server may order it, by the database's clock."""
