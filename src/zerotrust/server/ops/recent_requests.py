"""The last requests of each service, in bounded memory, without queries, header fields and bodies.

A service has at most `MAX_OF_SERVICE` requests, and all together `MAX_REQUESTS`: beyond that, the
services with most requests lose their oldest ones. Beyond `MAX_SERVICES` services, the one whose
last request is the oldest is forgotten. Texts of strangers are cut to `MAX_TEXT`, so a request
takes at most 1.6 kB; usual ones take 0.7 kB.
"""

from collections import OrderedDict, deque
from heapq import nlargest
from typing import Any, Final

from zerotrust.model.worker_messages import FinishedQuery, FinishedRequestInfo
from zerotrust.telemetry.request_record import RequestRecord
from zerotrust.telemetry.service_traffic import ServiceKey

MAX_OF_SERVICE: Final = 512
MAX_REQUESTS: Final = 16 * MAX_OF_SERVICE
MAX_SERVICES: Final = 512
"""An agent may have 10,000 services. With this bound, to make room costs 4 µs a request."""
MAX_TEXT: Final = 200
"""Characters of a host name or a path."""

OWN_PAGES: Final[ServiceKey] = ("", "")
"""Requests that no service has answered: pages of the server, and refusals before the choice."""


class FinishedRequest:
    """A finished request, as people see it.

    Attributes:
        time: arrival of the request, in seconds since 1970.
        duration: seconds from the head of the request to the end.
        edge: seconds before that at the edge; None if unknown.
        waited, policy, tunnel, connect, backend, body: the parts of `duration`, as in
            `telemetry.request_record`; None for a part that was not reached or not reported.
        status: 0 if the client has gone before any.
        received, sent: bytes of the request's body and of the answer's.
    """

    __slots__ = (
        "agent",
        "backend",
        "body",
        "client",
        "connect",
        "duration",
        "edge",
        "ended_by",
        "error",
        "host",
        "id",
        "method",
        "path",
        "policy",
        "received",
        "sent",
        "service",
        "status",
        "subject",
        "time",
        "tunnel",
        "upgrade",
        "upstream",
        "waited",
    )

    def __init__(self, record: RequestRecord) -> None:
        self.id = record.id
        self.time = record.time
        self.method = record.method[:MAX_TEXT].decode("ascii", "backslashreplace")
        self.host = record.host[:MAX_TEXT]
        self.path = record.path[:MAX_TEXT]
        self.client = record.client.decode("ascii", "replace")
        self.agent = record.agent
        self.service = record.service
        self.upstream = record.upstream[:MAX_TEXT]
        self.subject = record.subject[:MAX_TEXT]
        self.upgrade = record.upgrade
        self.status = record.status
        self.error = record.error
        self.ended_by = record.ended_by
        self.received = record.received
        self.sent = record.sent
        self.duration = record.duration
        self.edge = record.edge
        self.waited = record.waited
        self.policy = record.policy
        self.tunnel = record.tunnel
        self.connect = record.connect
        self.backend = record.backend
        self.body = record.body

    @property
    def ended(self) -> float:
        """Time of the end, in seconds since 1970."""
        return self.time + self.duration

    def info(self) -> FinishedRequestInfo:
        """Return the request as pages and other workers get it."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return FinishedRequestInfo.model_construct(ended=self.ended, **values)


class RecentRequests:
    """Keeps the last requests of each service.

    Attributes:
        count: number of kept requests.
        changes: number of services that were added or forgotten so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self.changes = 0
        self._requests: OrderedDict[ServiceKey, deque[FinishedRequest]] = OrderedDict()
        """Requests by service, the service with the last request at the end."""

    def observe(self, record: RequestRecord) -> None:
        """Keep a finished request (telemetry.request_record.RequestObserver)."""
        service = (record.agent, record.service)
        requests = self._requests.get(service)
        if requests is None:
            requests = self._add(service)
        else:
            self._requests.move_to_end(service)
        if len(requests) == MAX_OF_SERVICE:
            requests.popleft()
            self.count -= 1
        requests.append(FinishedRequest(record))
        self.count += 1
        if self.count > MAX_REQUESTS:
            self._make_room()

    @property
    def services(self) -> list[ServiceKey]:
        """The services that have requests, in no order."""
        return list(self._requests)

    def of_service(self, service: ServiceKey) -> list[FinishedRequest]:
        """Return the last requests of a service, the newest first."""
        return list(reversed(self._requests.get(service, ())))

    def page(self, asked: FinishedQuery) -> list[FinishedRequest]:
        """Return some of the last requests of a service, those that ended last first."""
        before = None if asked.ended is None else (asked.ended, asked.id)
        found = [
            (one.ended, one.id, one)
            for one in self._requests.get((asked.agent, asked.service), ())
            if before is None or (one.ended, one.id) < before
        ]
        return [one for *_, one in nlargest(asked.limit, found, key=lambda row: row[:2])]

    def count_of(self, service: ServiceKey) -> int:
        """Return the number of kept requests of a service."""
        return len(self._requests.get(service, ()))

    def newest_of(self, service: ServiceKey) -> str:
        """Return the id of the last request of a service; empty without one."""
        requests = self._requests.get(service)
        return requests[-1].id if requests else ""

    def _add(self, service: ServiceKey) -> deque[FinishedRequest]:
        """Add a service; without room, forget the one whose last request is the oldest."""
        if len(self._requests) >= MAX_SERVICES:
            _, forgotten = self._requests.popitem(last=False)
            self.count -= len(forgotten)
        self.changes += 1
        requests = self._requests[service] = deque()
        return requests

    def _make_room(self) -> None:
        """Drop the older half of the requests of the service that has most of them."""
        requests = max(self._requests.values(), key=len)
        dropped = (len(requests) + 1) // 2
        for _ in range(dropped):
            requests.popleft()
        self.count -= dropped
