"""Record of one request to the server, for its observers: access log, metrics, traces, dashboard.

The server fills the record while the request runs, with a few readings of a clock. At the end it
gives the record to each observer, once. Times are seconds of `time.perf_counter`, so only their
differences mean something; 0 stands for a moment that did not come.

    began_at       the head has arrived, and the server begins with it
    forwarded_at   it is sent to an agent; the last time, if there was a retry
    answered_at    the head of the agent's answer has arrived
    ended_at       the last byte was sent, or the request broke off

The parts of the duration are what lies between: `wait`, `policy`, `tunnel`, `connect`, `backend`
and `body`. A part that was not reached is None. The time at the edge comes before the duration.
"""

from collections.abc import Callable
from typing import Final

from zerotrust.telemetry.trace_context import TraceContext

MAX_TARGET_BYTES: Final = 2048
"""Part of a request's target that a record keeps: observers may keep hundreds of records."""
_INTENDED_ENDS: Final = frozenset(
    ("going_away", "access_ended", "limit", "idle_timeout", "max_duration")
)
"""Errors of upgraded connections that the server or the agent has ended: a restart, access that an
administrator or a rule has ended, a client that has exceeded a limit, a limit of the service's
time."""


class RequestRecord:
    """A finished request. Observers must not change it.

    `host`, `target` and `upstream` are texts of strangers.

    Attributes:
        id: as in logs and error pages.
        time: arrival of the request, in seconds since 1970.
        method, host, scheme: as the client used them.
        client: the client's address; empty if unknown.
        target: path and query as the client sent them, at most MAX_TARGET_BYTES.
        own_page: a page of the server itself has answered; its queries may have secrets.
        upgrade: the request asked for an upgrade.
        status: of the answer; 0 if the client has gone before any.
        received, sent: bytes of the request's body and of the answer's, without framing; of both
            directions after an upgrade.
        agent, service: of the agent that got the request last; empty if none was selected.
        registered_host: the host name or wildcard under which that service is registered.
        upstream: address that the agent has sent it to; empty if the agent does not report it.
        subject: the user, machine, app, link or PIN behind the request; empty if unknown.
        error: error code, as in `X-0Trust-Error`; empty if nothing failed.
        ended_by: `client`, `server`, `tunnel`, `agent` or `backend`; `connection` if the client's
            connection was lost without the Close frame of a WebSocket.
        tries: number of times that it was forwarded.
        trace: the request's place in a trace; None without tracing.
        edge_time: seconds for which the edge had the request; below 0 if it does not say so.
        waited: seconds in which it waited for its agent, a verification or other servers.
        queued: seconds in which the agent waited for a connection to the upstream; below 0 if it
            does not report it.
        backend_time: seconds in which the upstream has made the head of its answer; below 0 as
            well.
    """

    __slots__ = (
        "agent",
        "answered_at",
        "backend_time",
        "began_at",
        "client",
        "edge_time",
        "ended_at",
        "ended_by",
        "error",
        "forwarded_at",
        "host",
        "id",
        "method",
        "own_page",
        "queued",
        "received",
        "registered_host",
        "scheme",
        "sent",
        "service",
        "status",
        "subject",
        "target",
        "time",
        "trace",
        "tries",
        "upgrade",
        "upstream",
        "waited",
    )

    def __init__(
        self, id: str, *, method: bytes, host: str, target: bytes, time: float, began_at: float
    ) -> None:
        self.id = id
        self.time = time
        self.method = method
        self.host = host
        self.scheme = b""
        self.client = b""
        self.target = target if len(target) <= MAX_TARGET_BYTES else target[:MAX_TARGET_BYTES]
        self.own_page = False
        self.upgrade = False
        self.status = 0
        self.received = 0
        self.sent = 0
        self.agent = ""
        self.service = ""
        self.registered_host = ""
        self.upstream = ""
        self.subject = ""
        self.error = ""
        self.ended_by = ""
        self.tries = 0
        self.trace: TraceContext | None = None
        self.edge_time = -1.0
        self.waited = 0.0
        self.queued = -1.0
        self.backend_time = -1.0
        self.began_at = began_at
        self.forwarded_at = 0.0
        self.answered_at = 0.0
        self.ended_at = 0.0

    @property
    def path(self) -> str:
        """The path without the query, in ASCII; other bytes are escaped."""
        return self.target.partition(b"?")[0].decode("ascii", "backslashreplace")

    @property
    def query(self) -> str:
        """The query, in ASCII; empty for pages of the server, whose queries may have secrets."""
        if self.own_page:
            return ""
        return self.target.partition(b"?")[2].decode("ascii", "backslashreplace")

    @property
    def duration(self) -> float:
        """Seconds from the head of the request to the end."""
        return self.ended_at - self.began_at

    @property
    def edge(self) -> float | None:
        """Seconds from the head of the request at the edge until the edge sent it on."""
        return None if self.edge_time < 0.0 else self.edge_time

    @property
    def policy(self) -> float | None:
        """Seconds for gate and policy, and for attempts with other agents before the last."""
        until = self.forwarded_at or self.ended_at
        return max(until - self.began_at - self.waited, 0.0)

    @property
    def tunnel(self) -> float | None:
        """Seconds in the tunnel and in the agent; the backend's too if the agent reports none."""
        if not self.answered_at:
            return None
        seconds = self.answered_at - self.forwarded_at
        return max(seconds - max(self.queued, 0.0) - max(self.backend_time, 0.0), 0.0)

    @property
    def connect(self) -> float | None:
        """Seconds in which the agent waited for a connection to the upstream, or opened one."""
        return None if self.queued < 0.0 else self.queued

    @property
    def backend(self) -> float | None:
        """Seconds from the request's head at the upstream to the head of its answer."""
        return None if self.backend_time < 0.0 else self.backend_time

    @property
    def body(self) -> float | None:
        """Seconds from the head of the answer to the end; the life of an upgraded connection."""
        return self.ended_at - self.answered_at if self.answered_at else None

    @property
    def failed(self) -> bool:
        """The answer is a failure of the server or behind it, or it broke off.

        An upgraded connection may also end by intention: then it has not failed.
        """
        if self.status == 101 and self.error in _INTENDED_ENDS:
            return False
        return self.status == 0 or self.status >= 500 or (self.status < 400 and self.error != "")


RequestObserver = Callable[[RequestRecord], None]
"""Called with each finished request, in the loop's thread. It must be quick, and not raise."""
