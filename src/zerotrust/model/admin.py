"""What the admin channel is asked and what it answers: one model for each (docs/reference/admin.md).

Both ends use these. A question with an unknown key is refused; an answer may have keys that its reader does not know.
Times are whole seconds since 1970, UTC. Serials are lower-case hexadecimal digits.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from zerotrust.model.base import Duration, Model
from zerotrust.model.strict import Strict

MAX_HOSTS = 1000
"""Of one token: they are one transaction."""
MAX_REASON = 500

Reason = Annotated[str, Field(max_length=MAX_REASON)]
Number = Annotated[int, Field(ge=0, lt=2**63)]


# ---- questions


class Nothing(Strict):
    """A question without parameters."""


class AboutAgent(Strict):
    """Of one agent, or of all where none is named."""

    agent: str | None = None


class WhichAgent(Strict):
    """Of one agent."""

    agent: str


class WhichToken(Strict):
    """Of one token."""

    number: Number


class TokenWanted(Strict):
    """An invitation for an agent.

    `expires` is how long it may wait to be used. `server` is the address that its line says; without it, the
    `server.public_addr` of the server's file, else a name of the server's certificate.
    """

    agent: str
    hosts: Annotated[list[str], Field(max_length=MAX_HOSTS)] = []
    expires: Duration = 3600.0
    server: str | None = None


class GrantAsked(Strict):
    """A host name, or `*.` and a name, for an agent."""

    agent: str
    host: str


class RevocationWanted(Strict):
    """Refuse an agent, or one certificate of it."""

    agent: str
    serial: str | None = None
    reason: Reason = ""


class RestorationWanted(Strict):
    """Take a revocation back. With `reissue` the agent may join again, and its old certificates stay refused."""

    agent: str
    serial: str | None = None
    reissue: bool = False


class RecordsAsked(Strict):
    """Records of the audit: the newest, or those after a number."""

    after: Number | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    agent: str | None = None
    action: str | None = None


# ---- answers


class TokenInfo(Model):
    """An invitation. The secret in it was shown once and is kept nowhere."""

    number: int
    agent: str
    hosts: list[str]
    created_at: int
    expires_at: int
    used_at: int | None
    cancelled_at: int | None
    state: Literal["open", "used", "cancelled", "expired"]


class Tokens(Model):
    """The newest first."""

    tokens: list[TokenInfo]


class NewToken(Model):
    """`line` is what the other machine joins with: the one secret of this interface."""

    number: int
    agent: str
    hosts: list[str]
    expires_at: int
    server: str
    line: str
    warnings: list[str]


class GrantInfo(Model):
    """A host name that an agent may serve, and who says so: the database, or `grants` of the server's file."""

    agent: str
    host: str
    source: Literal["database", "file"]
    created_at: int | None


class Grants(Model):
    """By agent, then by host name."""

    grants: list[GrantInfo]


class GrantChanged(Model):
    """`changed` is false where it was so already."""

    agent: str
    host: str
    changed: bool
    warnings: list[str]


class SessionInfo(Model):
    """A session of an agent. `services` is how many it has registered, `streams` how many are under way.

    One that is not `connected` has lost its connection and is kept for the agent for a while.
    """

    generation: int
    since: int
    peer: str
    software: str
    serial: str
    certificate_ends_at: int
    services: int
    streams: int
    connected: bool = True


class AgentInfo(Model):
    """An agent that the database knows, or that is connected with a certificate made by hand.

    `joined_at` is the last time that a token let it in, `certificate_ends_at` the end of the newest certificate
    that it is known to have, `hosts` how many names and wildcards are granted to it.
    """

    id: str
    state: Literal["connected", "away", "revoked"]
    created_at: int | None
    joined_at: int | None
    revoked_at: int | None
    certificate_ends_at: int | None
    hosts: int
    sessions: list[SessionInfo]


class Agents(Model):
    """By id."""

    agents: list[AgentInfo]


class CertificateInfo(Model):
    """A certificate that this server's authority issued to an agent."""

    serial: str
    issued_at: int
    ends_at: int


class RevocationInfo(Model):
    """Of an agent, or of one certificate where it has a serial."""

    serial: str | None
    revoked_at: int
    reason: str


class AgentDetails(Model):
    """All that is known about an agent."""

    agent: AgentInfo
    grants: list[GrantInfo]
    certificates: list[CertificateInfo]
    tokens: list[TokenInfo]
    revocations: list[RevocationInfo]


class RevokedInfo(Model):
    """How many sessions and streams were cut; both are 0 where it was not connected."""

    agent: str
    serial: str | None
    reason: str
    revoked_at: int
    sessions: int
    streams: int


class Done(Model):
    """What was asked for holds."""

    done: bool = True


class AuditRecord(Model):
    """A decision: who made it (`actor`), what it was (`action`), and about which agent. `details` is an object."""

    number: int
    at: int
    actor: str
    action: str
    agent: str | None
    details: Any
    hash: str


class AuditRecords(Model):
    """The oldest first."""

    records: list[AuditRecord]


class AuditChain(Model):
    """So many records are as they were written; `broken` is the number of the first that is not, and `reason` why."""

    records: int
    head: str
    broken: int | None
    reason: str


class Status(Model):
    """How the server is. `issuer_ends_at` is None where it can't let agents join."""

    version: str
    started_at: int
    database: str
    issuer_ends_at: int | None
    agents: int
    sessions: int
    streams: int
