"""One request on the server: what is known of it, from its head to its answer."""

from collections.abc import Callable, Sequence
from typing import Final

from zerotrust.access.gate import Gate
from zerotrust.access.shown_credentials import ShownCredentials
from zerotrust.access.subject import Credential
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.middleware.chain import MiddlewareChain
from zerotrust.middleware.header_edits import Edit
from zerotrust.middleware.interface import Counted, Request, Requirement
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.agents.service_policy import CompiledPolicy
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.proxy.retry import Delivery, RetryState

_NOT_FORWARDED: Final = Delivery.NOT_FORWARDED
"""A constant here costs no look-up for each request: `retry` is not compiled."""


class ParkedRequest:
    """Owner of a request that waits for its agent or a verification (http_server.RequestSink).

    It buffers what one read brings of the body, and stops reading.
    """

    __slots__ = ("_connection", "_data", "_ended", "_paused", "_trailers", "withdraw")

    def __init__(self, connection: HttpServerConnection) -> None:
        self.withdraw: Callable[[], None] | None = None
        """Withdraws the request from the verification that it waits for."""
        self._connection: HttpServerConnection | None = connection
        self._data = b""
        self._ended = False
        self._paused = False
        self._trailers = b""

    @property
    def abandoned(self) -> bool:
        """The client is gone."""
        return self._connection is None

    def body(self, data: bytes, *, end: bool) -> None:
        self._data += data
        self._ended = end
        if not end and self._connection is not None:
            self._paused = True
            self._connection.pause_reading()

    def body_trailers(self, fields: bytes) -> None:
        self._trailers = fields

    def aborted(self) -> None:
        self._connection = None
        withdraw, self.withdraw = self.withdraw, None
        if withdraw is not None:
            withdraw()

    def drained(self) -> None:
        """Ignore it: a parked request has written nothing."""

    def release(self, sink: RequestSink) -> None:
        """Make `sink` the owner of the request; send it the buffered body and read on."""
        connection = self._connection
        assert connection is not None
        connection.set_sink(sink)
        if self._paused:
            connection.resume_reading()
        if self._data or self._ended:
            sink.body(self._data, end=self._ended)
        if self._trailers:
            sink.body_trailers(self._trailers)


class RequestContext:
    """Record of one request, shared by all that handle it.

    Attributes:
        head: as the client sent it, with the header fields that `api.pass_headers` names.
        framing: kind and length of the body.
        id: what logs, error pages and the tunnel call the request.
        client: the client's address; empty where the trusted proxy gave none that is readable.
        scheme: `http` or `https`, as the client used it.
        registration: the service of the selected agent; None until one is selected.
        policy: its policy; None where every request passes.
        request: the request as middleware sees it, with its edits; None until it has decided.
        chain: the middleware that decides; set while the policy of `registration` is asked.
        counted: the middleware that has counted the request; it counts no request twice.
        delivery: the part that the agent may have got, once the request has failed.
        retry: the agents that have failed; None while none has.
        may_wait: the request may wait for its agent; False after it has waited in vain.
        parked: owner of the request while it waits, else None.
        gate: the gate of the host name; None if everybody may enter.
        shown: the credentials that the request shows; None where access is not configured.
        who: the credential with which the request has passed the gate; None without one.
        preflight: the request has passed the gate as a CORS preflight, which has no credential.
        caught_up: the request has waited for the changes of other servers.
        identity: header edits that tell the backend who makes the request.
    """

    __slots__ = (
        "caught_up",
        "chain",
        "client",
        "connection",
        "counted",
        "delivery",
        "framing",
        "gate",
        "head",
        "id",
        "identity",
        "may_wait",
        "parked",
        "policy",
        "preflight",
        "registration",
        "request",
        "retry",
        "scheme",
        "shown",
        "who",
    )

    def __init__(
        self,
        connection: HttpServerConnection,
        head: RequestHead,
        framing: tuple[Kind, int],
        *,
        request_id: str,
        client: bytes,
        scheme: bytes,
    ) -> None:
        self.connection = connection
        self.head = head
        self.framing = framing
        self.id = request_id
        self.client = client
        self.scheme = scheme
        self.registration: ServiceRegistration | None = None
        self.policy: CompiledPolicy | None = None
        self.request: Request | None = None
        self.chain: MiddlewareChain | None = None
        self.counted: Counted | None = None
        self.delivery: Delivery = _NOT_FORWARDED
        self.retry: RetryState | None = None
        self.may_wait = True
        self.parked: ParkedRequest | None = None
        self.gate: Gate | None = None
        self.shown: ShownCredentials | None = None
        self.who: Credential | None = None
        self.preflight = False
        self.caught_up = False
        self.identity: Sequence[Edit] = ()

    @property
    def host(self) -> str:
        """The host name that was asked for."""
        return self.head.fields.host

    @property
    def request_edits(self) -> Sequence[Edit]:
        """The header edits for the request: of the service's policy, then of its identity."""
        if self.request is None:
            return self.identity
        return [*self.request.edits, *self.identity] if self.identity else self.request.edits

    @property
    def response_edits(self) -> Sequence[Edit]:
        """The header edits of the service's policy for the response."""
        return () if self.request is None else self.request.response_edits

    @property
    def required(self) -> Sequence[Requirement]:
        """The service's own conditions of access that the request has met."""
        return () if self.request is None else self.request.required

    def assign(self, registration: ServiceRegistration | None) -> None:
        """Assign another agent, whose policy decides anew; None to select one anew."""
        self.registration = registration
        self.policy = registration.policy if registration is not None else None
        self.request = None
        self.chain = None
        self.delivery = _NOT_FORWARDED
