"""All exceptions of 0Trust.

    ZeroTrustError
    ├── ConfigError             an invalid file or option; the message lists every problem
    ├── SetupError              a problem of the machine: a busy port, a missing file or tool
    │   ├── PkiError            keys and certificates
    │   ├── StateError          the database
    │   ├── JoinError           an agent did not get its first certificate
    │   ├── ProxyError          a proxy does not connect the agent to its server
    │   └── CaddyError          Caddy is missing, does not start or refuses its configuration
    ├── BenchError              a benchmark could not measure
    ├── CommandError            the running server did not carry out a command
    ├── EnrollmentError          a request about agents, grants or tokens that is not possible
    │   ├── NotFound            unknown agent, grant, token or revocation
    │   └── EnrollmentRefused    an agent may not join; the message is safe to send to it
    │       ├── TokenUnknown, TokenUsed, TokenExpired
    │       ├── AgentRevoked, CsrRefused, CertificateRefused
    │       └── TooManyAttempts
    ├── AccessError             a request about users, tokens or links that is not possible
    │   ├── UserUnknown         unknown user, token, link or session
    │   ├── NameTaken           a token has this name
    │   ├── AccessRefused       someone may not do what they ask; the message is safe to show them
    │   │   └── TooManyTries    from one network, or at one PIN
    │   └── ProviderFailed      an identity provider does not answer as it must
    ├── ProtocolError           a violation of the tunnel protocol
    │   ├── LocalProtocolError  by this end: a bug
    │   └── RemoteProtocolError by the other end: the link is closed
    ├── HttpError               an invalid HTTP/1.1 message
    └── ForwardError            a request that failed; one class per hop and cause
        ├── UnknownHost, NoAgent, UpgradeRefused,
        │   WrongScheme, BodyTooLarge, HeadTooLarge,
        │   ClientAddressUnreadable                     from the server
        ├── AgentLost, ServiceGone, Overloaded          from the tunnel
        ├── UpstreamsDown, UpstreamsBusy                from the agent's load balancing
        └── UpstreamUnreachable, UpstreamFailed,
            UpstreamTimeout                             from the agent, about a backend
            └── ConnectTimeout

Each class has `status` for HTTP clients, `code` for `X-0Trust-Error` and logs, `hop` for the error
page, and `retryable` if the same request may succeed when it is sent again. `HttpError` has its
status in `reply`.
"""

from typing import ClassVar


class ZeroTrustError(Exception):
    """Base of all exceptions that 0Trust raises; the message is one line for people."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    hop: ClassVar[str] = "server"
    retryable: ClassVar[bool] = False


class ConfigError(ZeroTrustError):
    """Invalid configuration. The message has one line per problem."""

    code = "config"


class SetupError(ZeroTrustError):
    """A problem of the machine; the message names the fix."""

    code = "setup"


class PkiError(SetupError):
    """A key, certificate or authority is missing, unreadable or does not fit."""

    code = "pki"


class StateError(SetupError):
    """The database cannot be opened, read or written, or is newer than this program."""

    code = "state"


class JoinError(SetupError):
    """An agent could not join.

    The server is unreachable, is not the one in the join token, or refuses the agent.
    """

    code = "join"


class ProxyError(SetupError, OSError):
    """A proxy does not connect the agent to its server.

    It is an OSError too, because a connection that fails for its proxy has failed. The message
    names the proxy and the setting that it comes from.
    """

    code = "proxy"


class CaddyError(SetupError):
    """Caddy is missing, does not start, or refuses its configuration."""

    code = "caddy"


class BenchError(ZeroTrustError):
    """A benchmark could not measure; the message states the reason."""

    code = "bench"


class CommandError(ZeroTrustError):
    """The running server was unreachable, or did not carry out the command."""

    code = "command"


class EnrollmentError(ZeroTrustError):
    """A request of an administrator about agents, grants, tokens or connections is not possible."""

    code = "enrollment"
    status = 400


class NotFound(EnrollmentError):
    """There is no such agent, grant, token, revocation, open connection or capture."""

    code = "not_found"
    status = 404


class CaptureRefused(EnrollmentError):
    """A WebSocket cannot be captured: its service does not allow it, or there are too many."""

    code = "capture_refused"
    status = 409


class AccessError(ZeroTrustError):
    """A request about users, tokens, links or sessions is not possible."""

    code = "access"
    status = 400


class UserUnknown(AccessError):
    """There is no such user, token, link or session."""

    code = "not_found"
    status = 404


class NameTaken(AccessError):
    """A token in force has this name."""

    code = "name_taken"
    status = 409


class AccessRefused(AccessError):
    """Someone may not do what they ask for: a code, link or PIN that is not valid.

    The message may be shown to them: it tells nothing internal. The refusal is in the audit log,
    rationed.
    """

    code = "access_refused"
    status = 403


class TooManyTries(AccessRefused):
    """Too many tries at codes, links or PINs. `retry_after` is the number of seconds to wait."""

    code = "too_many_tries"
    status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderFailed(AccessError):
    """An identity provider does not answer, or its answer can't be trusted.

    The message is for the log; a page names the provider only.
    """

    code = "provider_failed"
    status = 502


class EnrollmentRefused(EnrollmentError):
    """An agent may not join or renew. The refusal is recorded in the audit log.

    The message may be sent to the agent: it names no agent, no path and nothing internal.
    """

    code = "refused"
    status = 403


class TokenUnknown(EnrollmentRefused):
    """The token was not created here, or was cancelled."""

    code = "token_unknown"


class TokenUsed(EnrollmentRefused):
    """The token was already used."""

    code = "token_used"
    status = 410


class TokenExpired(EnrollmentRefused):
    """The token has expired."""

    code = "token_expired"
    status = 410


class AgentRevoked(EnrollmentRefused):
    """The agent or its certificate is revoked."""

    code = "agent_revoked"


class CsrRefused(EnrollmentRefused):
    """The certificate signing request is invalid.

    It cannot be parsed, its signature is wrong, or its key is too weak.
    """

    code = "csr_refused"
    status = 400


class CertificateRefused(EnrollmentRefused):
    """An expired certificate that the server does not renew."""

    code = "certificate_refused"


class TooManyAttempts(EnrollmentRefused):
    """Too many attempts. `retry_after` is the number of whole seconds to wait."""

    code = "too_many_attempts"
    status = 429
    retryable = True

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProtocolError(ZeroTrustError):
    """A violation of docs/spec/tunnel-v1.md. `wire` is the error code in that document."""

    code = "protocol"

    def __init__(self, message: str, wire: int = 1) -> None:
        super().__init__(message)
        self.wire = wire


class LocalProtocolError(ProtocolError):
    """This end violated the protocol: a bug."""


class RemoteProtocolError(ProtocolError):
    """The other end violated the protocol; the link is closed."""


class HttpError(ZeroTrustError):
    """An invalid HTTP/1.1 message (RFC 9112).

    Attributes:
        reply: the status code for the client.
    """

    code = "bad_request"
    hop = "client"

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reply = status


class ForwardError(ZeroTrustError):
    """A request that failed.

    `retry_after` is the number of whole seconds to wait; None if unknown.
    """

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownHost(ForwardError):
    """No service has this host name."""

    code = "unknown_host"
    status = 404


class UpgradeRefused(ForwardError):
    """The service does not allow upgrades (`websocket: false`)."""

    code = "upgrade_refused"
    status = 403


class WrongScheme(ForwardError):
    """The service is not available over http, or not over https (`listen_on`)."""

    code = "wrong_scheme"
    status = 404


class ClientAddressUnreadable(ForwardError):
    """The service needs the client's address, and the proxy in front sent an unreadable one."""

    code = "client_address_unreadable"
    status = 400
    hop = "client"


class BodyTooLarge(ForwardError):
    """The request body is larger than the service accepts (`max_request_body`)."""

    code = "body_too_large"
    status = 413
    hop = "client"


class HeadTooLarge(ForwardError):
    """The request head is too large for the tunnel, with the headers that server and service add.

    It gets 431, not 502: no other agent could take it, and a client that sends fewer headers is
    served.
    """

    code = "head_too_large"
    status = 431
    hop = "client"


class NoAgent(ForwardError):
    """No agent of the service is connected."""

    code = "no_agent"
    status = 503
    retryable = True


class AgentLost(ForwardError):
    """The tunnel broke during the request."""

    code = "agent_lost"
    status = 502
    hop = "tunnel"


class ServiceGone(ForwardError):
    """The agent does not, or no longer, serve this service."""

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
    """No upstream is healthy, and the service requires one (`health_check_required`)."""

    code = "upstreams_down"
    status = 503
    hop = "agent"
    retryable = True


class UpstreamsBusy(ForwardError):
    """All upstreams have reached `max_connections`, and the queue is full or too slow."""

    code = "upstreams_busy"
    status = 503
    hop = "agent"
    retryable = True


class UpstreamUnreachable(ForwardError):
    """The backend refused the connection, has no address, or its TLS is not trusted."""

    code = "upstream_unreachable"
    status = 502
    hop = "backend"
    retryable = True


class UpstreamTimeout(ForwardError):
    """The backend did not respond in time."""

    code = "upstream_timeout"
    status = 504
    hop = "backend"


class ConnectTimeout(UpstreamTimeout):
    """The backend did not accept the connection in time, so it got nothing of the request."""

    retryable = True


class UpstreamFailed(ForwardError):
    """The backend closed the connection, or its response is not HTTP."""

    code = "upstream_failed"
    status = 502
    hop = "backend"
