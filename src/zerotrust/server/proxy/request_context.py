"""One request on the server: what is known of it, from its head to its answer."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, Protocol

from zerotrust.access.gate import Gate
from zerotrust.access.shown_credentials import ShownCredentials
from zerotrust.access.subject import Credential, Subject, SubjectKind
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.middleware.chain import MiddlewareChain
from zerotrust.middleware.header_edits import Edit
from zerotrust.middleware.interface import Counted, Request, Requirement
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.agents.service_policy import CompiledPolicy
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.proxy.retry import Delivery, RetryState
from zerotrust.telemetry import logs
from zerotrust.telemetry.request_record import RequestObserver, RequestRecord
from zerotrust.tunnel.binary import unpack_report

_log = logs.logger("ingress")

_NOT_FORWARDED: Final = Delivery.NOT_FORWARDED
"""A constant here costs no look-up for each request: `retry` is not compiled."""


class ObserverSource(Protocol):
    """Has the observers of finished requests (`server.proxy.ingress`)."""

    observers: tuple[RequestObserver, ...]


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
    """State of one request, shared by all that handle it (net.http_server.RequestWatcher).

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
        record: what observers are told of the request; None while there are no observers.
        source: has the observers that get the record at the end of the request; a reload may have
            replaced those of its beginning.
        parked_at: time at which the request began to wait; 0 while it does not wait.
        error: code of the error that has ended the request; empty if there is none.
        ended_by: hop that has ended it; empty if none has ended it before its time.
    """

    __slots__ = (
        "caught_up",
        "chain",
        "client",
        "connection",
        "counted",
        "delivery",
        "ended_by",
        "error",
        "framing",
        "gate",
        "head",
        "id",
        "identity",
        "may_wait",
        "parked",
        "parked_at",
        "policy",
        "preflight",
        "record",
        "registration",
        "request",
        "retry",
        "scheme",
        "shown",
        "source",
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
        self.record: RequestRecord | None = None
        self.source: ObserverSource | None = None
        self.parked_at = 0.0
        self.error = ""
        self.ended_by = ""

    @property
    def host(self) -> str:
        """The host name that was asked for."""
        return self.head.fields.host

    @property
    def inspection(self) -> str:
        """Most that may be shown of the WebSockets of its service (`access.inspection`)."""
        return "never" if self.registration is None else self.registration.inspection

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
        self.error = self.ended_by = ""

    def park(self) -> ParkedRequest:
        """Let the request wait; return its owner while it does."""
        parked = self.parked
        if parked is None:
            parked = self.parked = ParkedRequest(self.connection)
            self.parked_at = perf_counter()
        return parked

    def end_wait(self) -> None:
        """Note that the request no longer waits."""
        if self.record is not None and self.parked_at:
            self.record.waited += perf_counter() - self.parked_at
        self.parked_at = 0.0

    def fail(self, code: str, hop: str) -> None:
        """Note the error and the hop that end the request; the first of each counts."""
        if not self.error:
            self.error = code
        if not self.ended_by:
            self.ended_by = hop

    # ---- for observers

    def observe(self, record: RequestRecord, source: ObserverSource) -> None:
        """Record the request from now on, and give the record at its end to the observers that the
        source has then."""
        record.client = self.client
        record.scheme = self.scheme
        record.upgrade = self.head.fields.upgrade is not None
        self.record, self.source = record, source
        self.connection.watcher = self

    def note_forwarded(self, record: RequestRecord) -> None:
        """Note that the request was sent to its agent."""
        record.tries += 1
        record.forwarded_at = perf_counter()

    def note_answer(self, record: RequestRecord, payload: bytes) -> None:
        """Note the head of the agent's answer, with what the agent reports."""
        record.answered_at = perf_counter()
        report = unpack_report(payload)
        if report is not None:
            queued, backend, upstream = report
            record.queued, record.backend_time = queued / 1e6, backend / 1e6
            record.upstream = upstream

    def answering(self, status: int) -> None:
        if self.record is not None:
            self.record.status = status

    def half_closed(self, *, by_client: bool) -> None:
        self.fail("", "client" if by_client else "backend")

    def ended(self, *, by_client: bool, received: int, sent: int) -> None:
        record, self.record = self.record, None
        if record is None:
            return
        if self.parked_at:
            record.waited += perf_counter() - self.parked_at
        record.ended_at = perf_counter()
        record.received, record.sent = received, sent
        registration = self.registration
        if registration is not None:
            record.agent, record.service = registration.session.agent, registration.service
            record.registered_host = registration.registered_host(self.host)
        if self.who is not None:
            record.subject = subject_name(self.who.subject)
        record.error = self.error
        if self.ended_by:
            record.ended_by = self.ended_by
        elif by_client:
            record.ended_by = "client"
        else:
            record.ended_by = "backend" if record.answered_at else "server"
        assert self.source is not None
        for observer in self.source.observers:
            try:
                observer(record)
            except Exception as error:  # noqa: BLE001 - the connection must go on
                _log.error("request not observed", request=self.id, error=repr(error))


def subject_name(subject: Subject) -> str:
    """Return a subject for people who read logs: a kind and a name, such as `user:anna`."""
    return f"user:{subject.name}" if subject.kind is SubjectKind.USER else subject.id
