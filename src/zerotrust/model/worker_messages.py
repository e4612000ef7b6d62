"""Requests and responses between the workers of a server: what a dashboard shows of all of them."""

from typing import Annotated, Final

from pydantic import Field

from zerotrust.model.base import Model
from zerotrust.model.capture_admin import CaptureInfo, CaptureRequest, StartCaptureRequest
from zerotrust.model.strict import Strict
from zerotrust.model.traffic_admin import EndConnectionRequest

MAX_NAMED: Final = 100
"""Services that one request names."""
MAX_SLOTS: Final = 240
"""Slots of an hour."""
MAX_BUCKETS: Final = 128
"""Buckets of a histogram."""

Histogram = Annotated[str, Field(pattern=r"^([0-9a-f]{10})*$", max_length=10 * MAX_BUCKETS)]
Numbers = Annotated[list[float], Field(max_length=MAX_SLOTS)]


# ---- requests


class ServiceName(Strict):
    """Request about one service; about all together, if both names are missing."""

    agent: str | None = None
    service: str | None = None


class ServiceNames(Strict):
    """Request about some services."""

    services: Annotated[list[ServiceName], Field(max_length=MAX_NAMED)]


class FinishedQuery(Strict):
    """Request for the last requests of a service, the newest first.

    Those that ended at `ended` or later are left out; of those at this very time, the ids from `id`
    on.
    """

    agent: str
    service: str
    ended: float | None = None
    id: str = ""
    limit: Annotated[int, Field(ge=1, le=MAX_NAMED + 1)]


class OpenConnectionRequest(Strict):
    """Request for one open connection."""

    id: str


class EndForActor(EndConnectionRequest):
    """Request to end a connection for an administrator whom another worker has heard."""

    actor: str


class StartCaptureForActor(StartCaptureRequest):
    """Request to capture messages for an administrator whom another worker has heard."""

    actor: str


class StopCaptureForActor(CaptureRequest):
    """Request to stop a capture for an administrator whom another worker has heard."""

    actor: str


# ---- responses


class TrafficCounts(Model):
    """Counts of some slots, oldest first, as in `telemetry.service_traffic`; those of several
    workers can be added.

    `slot` is the number of the slot after the last one; all workers count slots by one clock. A
    slot in which nothing was measured has NaN. `latencies` are histograms, packed, in hexadecimal
    digits.
    """

    slot: int
    requests: Numbers
    errors: Numbers
    websockets: Numbers
    received: Numbers
    sent: Numbers
    latencies: Annotated[list[Histogram], Field(max_length=MAX_SLOTS)]


class TrafficAnswer(Model):
    """The last hour of a service, or of all; None if the worker has none of it."""

    counts: TrafficCounts | None


class ServiceSlot(Model):
    """The last slots of a service, its open WebSockets, and the number of its kept requests."""

    agent: str
    service: str
    counts: TrafficCounts | None
    websockets: int
    kept: int


class ServiceSlots(Model):
    """The last slots of some services."""

    services: Annotated[list[ServiceSlot], Field(max_length=MAX_NAMED)]


class RoundTrips(Model):
    """Round trips of the link to an agent, in seconds: one for each slot before `slot`."""

    slot: int
    seconds: Numbers


class FinishedRequestInfo(Model):
    """Finished request, as in `server.ops.recent_requests`."""

    id: str
    time: float
    ended: float
    duration: float
    method: str
    host: str
    path: str
    client: str
    agent: str
    service: str
    upstream: str
    subject: str
    upgrade: bool
    status: int
    error: str
    ended_by: str
    received: int
    sent: int
    edge: float | None
    waited: float | None
    policy: float | None
    tunnel: float | None
    connect: float | None
    backend: float | None
    body: float | None

    @property
    def parts(self) -> list[tuple[str, float]]:
        """The parts of the time that were reached, in their order, with their names."""
        found = (
            ("edge", self.edge),
            ("wait", self.waited or None),
            ("policy", self.policy),
            ("tunnel", self.tunnel),
            ("connect", self.connect),
            ("backend", self.backend),
            ("body", self.body),
        )
        return [(name, seconds) for name, seconds in found if seconds is not None]


class FinishedRequestList(Model):
    """Finished requests, the newest first."""

    requests: list[FinishedRequestInfo]


class ServiceNews(Model):
    """Service with the id of its newest request; empty without one."""

    agent: str
    service: str
    newest: str


class WorkerNews(Model):
    """News of a worker: they tell the others that a page has changed.

    `slot` is the current slot of the last hour, `changes` counts services that came and went,
    `agents` changes with each agent, session and service, `streams` is the number of requests that
    run.
    """

    slot: int
    changes: int
    agents: str
    streams: int
    services: list[ServiceNews]
    captures: list[CaptureInfo]
