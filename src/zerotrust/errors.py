"""The one tree of exceptions.

    ZeroTrustError
    ├── ConfigError             a file or flag that cannot be used; carries every problem found
    ├── SetupError              the machine is not as we need it: a busy port, a missing file or tool
    │   ├── PkiError            keys and certificates
    │   ├── StateError          the database
    │   ├── JoinError           an agent that does not get its first certificate
    │   └── CaddyError          the edge: not found, not started, refuses its configuration
    ├── BenchError              a measurement that did not come about
    ├── CommandError            a command that the running server did not do
    ├── EnrolmentError          about identities and grants: what was asked for can't be done
    │   ├── NotFound            there is no such agent, grant, token or revocation
    │   └── EnrolmentRefused    somebody asked to be let in and is not; what it says may be told to them
    │       ├── TokenUnknown, TokenUsed, TokenExpired
    │       ├── AgentRevoked, CsrRefused, CertificateRefused
    │       └── TooManyAttempts
    ├── ProtocolError           the tunnel's rules were broken
    │   ├── LocalProtocolError  by the caller on this end: a bug of ours
    │   └── RemoteProtocolError by the other end: it ends the link
    ├── HttpError               a message that is not acceptable HTTP/1.1
    └── ForwardError            a request that could not be carried to its end; one class per hop and cause
        ├── UnknownHost, NoAgent, UpgradeRefused,
        │   WrongScheme, BodyTooLarge, HeadTooLarge,
        │   ClientAddressUnreadable                     decided by the server
        ├── AgentLost, ServiceGone, Overloaded          the tunnel
        ├── UpstreamsDown, UpstreamsBusy                decided by the agent
        └── UpstreamUnreachable, UpstreamFailed,
            UpstreamTimeout                             reported by the agent
            └── ConnectTimeout

Each class says what it means on each border that it crosses: `status` towards an HTTP client, `code` in the
`X-0Trust-Error` field and in logs, `hop` for the text that a person reads, and `retryable` where the same request
may succeed if it is sent again.
"""

from typing import ClassVar


class ZeroTrustError(Exception):
    """Base of everything that 0Trust raises on purpose; the message is one line for a person."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    hop: ClassVar[str] = "server"
    retryable: ClassVar[bool] = False


class ConfigError(ZeroTrustError):
    """A configuration that cannot be used. The message holds one line per problem."""

    code = "config"


class SetupError(ZeroTrustError):
    """The machine is not as we need it; the message names the fix."""

    code = "setup"


class PkiError(SetupError):
    """A key, certificate or authority that is missing, unreadable or does not fit."""

    code = "pki"


class StateError(SetupError):
    """The database can't be opened, read or written, or is newer than this program."""

    code = "state"


class JoinError(SetupError):
    """An agent could not join: the server is not reached, is not the one that the join token names, or refuses."""

    code = "join"


class CaddyError(SetupError):
    """Caddy is missing, does not start, or refuses its configuration."""

    code = "caddy"


class BenchError(ZeroTrustError):
    """Something could not be measured; the message says what and why."""

    code = "bench"


class CommandError(ZeroTrustError):
    """The running server could not be asked, or did not do what was asked for."""

    code = "command"


class EnrolmentError(ZeroTrustError):
    """What an administrator asked for about agents, grants or tokens can't be done as it was asked."""

    code = "enrolment"
    status = 400


class NotFound(EnrolmentError):
    """There is no such agent, grant, token or revocation."""

    code = "not_found"
    status = 404


class EnrolmentRefused(EnrolmentError):
    """A decision against somebody who asked to be let in: it is recorded, so a transaction keeps its record.

    The message may be told to the other side: it names no agent, no path and nothing that only we know.
    """

    code = "refused"
    status = 403


class TokenUnknown(EnrolmentRefused):
    """No token like this was made here, or it was cancelled."""

    code = "token_unknown"


class TokenUsed(EnrolmentRefused):
    """The token has let somebody in already."""

    code = "token_used"
    status = 410


class TokenExpired(EnrolmentRefused):
    """The token's time is over."""

    code = "token_expired"
    status = 410


class AgentRevoked(EnrolmentRefused):
    """The agent, or the certificate that it came with, was revoked."""

    code = "agent_revoked"


class CsrRefused(EnrolmentRefused):
    """The certificate signing request can't be read, is not signed by its own key, or its key is too weak."""

    code = "csr_refused"
    status = 400


class CertificateRefused(EnrolmentRefused):
    """A certificate that has ended is not one that another is given for."""

    code = "certificate_refused"


class TooManyAttempts(EnrolmentRefused):
    """Asked too often; `retry_after`: in so many whole seconds it may be tried again."""

    code = "too_many_attempts"
    status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProtocolError(ZeroTrustError):
    """The rules of docs/spec/tunnel-v1.md were broken; `wire` is the error code of that document."""

    code = "protocol"

    def __init__(self, message: str, wire: int = 1) -> None:
        super().__init__(message)
        self.wire = wire


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol does not allow: a bug on this end."""


class RemoteProtocolError(ProtocolError):
    """The other end broke the protocol; the link ends."""


class HttpError(ZeroTrustError):
    """A message that is not acceptable HTTP/1.1 (RFC 9112).

    Attributes:
        reply: the status that the client is answered with.
    """

    code = "bad_request"
    hop = "client"

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reply = status


class ForwardError(ZeroTrustError):
    """A request that could not be carried to its end.

    `retry_after`: in so many whole seconds it may be tried again; None where nobody knows.
    """

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownHost(ForwardError):
    """No service is published under this host name."""

    code = "unknown_host"
    status = 404


class UpgradeRefused(ForwardError):
    """The service does not allow upgrades (`websocket: false`)."""

    code = "upgrade_refused"
    status = 403


class WrongScheme(ForwardError):
    """The service is not offered over http, or not over https (`listen_on`)."""

    code = "wrong_scheme"
    status = 404


class ClientAddressUnreadable(ForwardError):
    """The service asks for the client's address, and the proxy in front did not say it in a readable form."""

    code = "client_address_unreadable"
    status = 400
    hop = "client"


class BodyTooLarge(ForwardError):
    """The body is larger than the service takes (`max_request_body`)."""

    code = "body_too_large"
    status = 413
    hop = "client"


class HeadTooLarge(ForwardError):
    """The request's head, with the fields that server and service add, is larger than the tunnel takes.

    It is a 431, not a 502: the same head fits no other agent, and a client that sends fewer fields is served.
    """

    code = "head_too_large"
    status = 431
    hop = "client"


class NoAgent(ForwardError):
    """The service is known but no agent that serves it is connected."""

    code = "no_agent"
    status = 503
    retryable = True


class AgentLost(ForwardError):
    """The tunnel ended while the request was under way."""

    code = "agent_lost"
    status = 502
    hop = "tunnel"


class ServiceGone(ForwardError):
    """The agent does not (or no longer) serve the service that the server asked for."""

    code = "service_gone"
    status = 503
    hop = "agent"
    retryable = True


class Overloaded(ForwardError):
    """A limit on streams or memory was reached."""

    code = "overloaded"
    status = 503
    hop = "tunnel"
    retryable = True


class UpstreamsDown(ForwardError):
    """None of the service's upstreams is well, and its file asks for one that is (`health_check_required`)."""

    code = "upstreams_down"
    status = 503
    hop = "agent"
    retryable = True


class UpstreamsBusy(ForwardError):
    """All connections of `max_connections` are taken; the request found no place in the queue or waited in vain."""

    code = "upstreams_busy"
    status = 503
    hop = "agent"
    retryable = True


class UpstreamUnreachable(ForwardError):
    """The backend refused the connection, has no address, or its TLS could not be trusted."""

    code = "upstream_unreachable"
    status = 502
    hop = "backend"
    retryable = True


class UpstreamTimeout(ForwardError):
    """The backend did not answer in time."""

    code = "upstream_timeout"
    status = 504
    hop = "backend"


class ConnectTimeout(UpstreamTimeout):
    """The backend did not accept the connection in time, so it has nothing of the request."""

    retryable = True


class UpstreamFailed(ForwardError):
    """The backend closed the connection or answered with something that is not HTTP."""

    code = "upstream_failed"
    status = 502
    hop = "backend"
