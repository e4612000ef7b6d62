"""Requests and responses of the admin API (docs/reference/admin.md), one model each.

The server and the commands share these models. A request with an unknown key is refused; a response
may have keys that its reader does not know. Times are whole seconds since 1970, UTC. Serial numbers
are lower-case hexadecimal digits.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from zerotrust.model.base import Duration, Model
from zerotrust.model.service_access import Inspection
from zerotrust.model.strict import Strict

MAX_HOSTS = 1000
"""Maximum host names of one token. They are stored in one transaction."""
MAX_REASON = 500

Reason = Annotated[str, Field(max_length=MAX_REASON)]
Number = Annotated[int, Field(ge=0, lt=2**63)]


# ---- requests


class NoParameters(Strict):
    """Request without parameters."""


class AgentFilter(Strict):
    """Request about one agent, or about all agents if `agent` is missing."""

    agent: str | None = None


class AgentRequest(Strict):
    """Request about one agent."""

    agent: str


class TokenRequest(Strict):
    """Request about one token."""

    number: Number


class CreateTokenRequest(Strict):
    """Request for a join token.

    The token is valid for the duration `expires`. `server` is the server's address in the token.
    Default: `server.public_addr` of the server's file, else a name in the server's certificate.
    """

    agent: str
    hosts: Annotated[list[str], Field(max_length=MAX_HOSTS)] = []
    expires: Duration = 3600.0
    server: str | None = None


class GrantRequest(Strict):
    """Request to grant a host name, or a wildcard `*.` and a name, to an agent."""

    agent: str
    host: str


class RevokeRequest(Strict):
    """Request to revoke an agent, or one certificate of it."""

    agent: str
    serial: str | None = None
    reason: Reason = ""


class RestoreRequest(Strict):
    """Request to undo a revocation.

    With `reissue` the agent may join again, but its old certificates stay revoked.
    """

    agent: str
    serial: str | None = None
    reissue: bool = False


class AuditQuery(Strict):
    """Request for audit records: the newest ones, those after a number, or the last before one."""

    after: Number | None = None
    before: Number | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    agent: str | None = None
    action: str | None = None


# ---- responses


class TokenInfo(Model):
    """Join token. The secret was shown once and is not stored."""

    number: int
    agent: str
    hosts: list[str]
    created_at: int
    expires_at: int
    used_at: int | None
    cancelled_at: int | None
    state: Literal["open", "used", "cancelled", "expired"]


class TokenList(Model):
    """Join tokens, newest first."""

    tokens: list[TokenInfo]


class CreatedToken(Model):
    """New join token. `line` contains its secret: the only secret in this API."""

    number: int
    agent: str
    hosts: list[str]
    expires_at: int
    server: str
    line: str
    warnings: list[str]


class GrantInfo(Model):
    """Host name that an agent may serve.

    `source` is `database`, or `file` for `grants` in the server's file.
    """

    agent: str
    host: str
    source: Literal["database", "file"]
    created_at: int | None


class GrantList(Model):
    """Grants, sorted by agent and host name."""

    grants: list[GrantInfo]


class GrantResult(Model):
    """Result of adding or removing a grant. `changed` is false if there was nothing to do."""

    agent: str
    host: str
    changed: bool
    warnings: list[str]


class SessionInfo(Model):
    """Session of an agent, with the numbers of its registered services and open streams.

    If `connected` is false, the connection was lost and the agent may still resume the session.
    `round_trip` is the time to the agent and back, in seconds.
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
    round_trip: float | None = None


class AgentInfo(Model):
    """Agent that the database knows, or that is connected with a manually issued certificate.

    `joined_at` is the time of the last join with a token. `certificate_ends_at` is the end of the
    newest known certificate. `hosts` is the number of granted names and wildcards.
    """

    id: str
    state: Literal["connected", "away", "revoked"]
    created_at: int | None
    joined_at: int | None
    revoked_at: int | None
    certificate_ends_at: int | None
    hosts: int
    sessions: list[SessionInfo]


class AgentList(Model):
    """Agents, sorted by id."""

    agents: list[AgentInfo]


class CertificateInfo(Model):
    """Certificate that this server's authority issued to an agent."""

    serial: str
    issued_at: int
    ends_at: int


class RevocationInfo(Model):
    """Revocation of an agent, or of one certificate if `serial` is set."""

    serial: str | None
    revoked_at: int
    reason: str


class AgentDetails(Model):
    """Details of an agent."""

    agent: AgentInfo
    grants: list[GrantInfo]
    certificates: list[CertificateInfo]
    tokens: list[TokenInfo]
    revocations: list[RevocationInfo]


class RevokeResult(Model):
    """Result of a revocation: the numbers of closed sessions and streams."""

    agent: str
    serial: str | None
    reason: str
    revoked_at: int
    sessions: int
    streams: int


class Confirmation(Model):
    """Confirmation that the request has taken effect."""

    done: bool = True


class AuditRecord(Model):
    """Record of the audit log: who (`actor`) did what (`action`) to which agent."""

    number: int
    at: int
    actor: str
    action: str
    agent: str | None
    details: Any
    hash: str


class AuditRecordList(Model):
    """Audit records, oldest first."""

    records: list[AuditRecord]


class AuditCheck(Model):
    """Result of verifying the audit log.

    `records` is the number of intact records. `broken` is the number of the first record that was
    changed, and `reason` the difference.
    """

    records: int
    head: str
    broken: int | None
    reason: str


class UnhealthyUpstream(Model):
    """Upstream whose health checks or requests fail. The texts are those of the agent."""

    address: str
    reason: str


class UpstreamsView(Model):
    """Health of the upstreams of a service. `unhealthy` names at most 8 of them."""

    healthy: int
    total: int
    unhealthy: list[UnhealthyUpstream]


class ServiceView(Model):
    """Host name of a service, and the agent that serves it.

    `state` is `serving`, `away` (the agent's connection is lost and may be resumed), `standby`
    (another service of the agent comes first), or `offline`. `who` may enter by the
    server's rule, in words; `require` are conditions that the agent's file adds. `upstreams` is
    None if the agent does not report their health, or checks none. `inspection` is the most that
    it lets the server show of WebSockets.
    """

    host: str
    service: str
    agent: str
    state: Literal["serving", "away", "standby", "offline"]
    websocket: bool
    http: bool
    https: bool
    who: str
    require: list[str]
    upstreams: UpstreamsView | None = None
    inspection: Inspection = "metadata"


class ServiceList(Model):
    """Services, sorted by host name."""

    services: list[ServiceView]


class MemberInfo(Model):
    """A server that agents are told of. `here` is True for the one that answers."""

    id: str
    address: str
    version: str
    since: int
    here: bool


class MemberList(Model):
    """Servers of the same database with an address for agents (`server.member_addr`), by id."""

    members: list[MemberInfo]


class ServerStatus(Model):
    """State of the server. `issuer_ends_at` is None if the server cannot issue certificates.

    `hosts` is the number of host names that agents serve, `offline` are those whose last agent has
    disconnected, and `overloads` the limits because of which new requests get 503. Of `workers`,
    `workers_ready` answer; the others start, or end.
    """

    version: str
    started_at: int
    database: str
    issuer_ends_at: int | None
    agents: int
    sessions: int
    streams: int
    hosts: int = 0
    offline: list[str] = []
    overloads: list[str] = []
    workers: int = 1
    workers_ready: int = 1
