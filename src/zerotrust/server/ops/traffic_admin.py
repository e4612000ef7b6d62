"""Traffic for the dashboard: numbers of the last hour, and the last requests of each service."""

import math
from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

from zerotrust.model.worker_messages import FinishedQuery, FinishedRequestInfo
from zerotrust.net.background_work import next_slice
from zerotrust.server.ops.traffic_history import TrafficHistory
from zerotrust.telemetry.service_traffic import ServiceKey, TrafficHour

AT_ONCE: Final = 16
"""Requests that are described in one slice of background work: about 0.3 ms."""


class ServiceNumbers(NamedTuple):
    """Newest numbers of a service; NaN where nothing was measured.

    Attributes:
        requests: finished requests a second.
        errors: share of them that failed.
        p99: seconds to the response's head.
        websockets: open WebSockets.
        kept: number of kept requests.
    """

    requests: float
    errors: float
    p99: float
    websockets: int
    kept: int


class TrafficAdmin:
    """Answers questions about the traffic of this process.

    Attributes:
        history: what it remembers; on while there is a dashboard.
    """

    def __init__(self, history: TrafficHistory) -> None:
        self.history = history

    # ---- what changes, at little cost

    @property
    def slot(self) -> Hashable:
        """Return another value when there are new numbers in all graphs."""
        return self.history.sampler.slot

    @property
    def services_version(self) -> Hashable:
        """Return another value when `services`, or their numbers, have changed."""
        return self.history.sampler.slot, self.history.recent.changes

    def newest_of(self, service: ServiceKey) -> Hashable:
        """Return another value when a service has another newest request."""
        return self.history.recent.newest_of(service)

    # ---- values

    @property
    def services(self) -> set[ServiceKey]:
        """The services that have had requests."""
        return {*self.history.recent.services, *self.history.sampler.services}

    async def numbers(self, services: Sequence[ServiceKey]) -> list[ServiceNumbers]:
        """Return the newest numbers of services."""
        sampler, recent = self.history.sampler, self.history.recent
        return [
            service_numbers(
                sampler.last_slot(service), sampler.open.get(service, 0), recent.count_of(service)
            )
            for service in services
        ]

    async def total(self) -> TrafficHour:
        """Return the last hour of all services together."""
        return self.history.sampler.total()

    async def of_service(self, service: ServiceKey) -> TrafficHour | None:
        """Return the last hour of a service; None if it had no traffic in it."""
        return self.history.sampler.of_service(service)

    async def round_trips(self, agent: str) -> list[float]:
        """Return the round trips of the link to an agent in the last hour, in seconds."""
        return self.history.sampler.round_trips(agent)

    async def requests(self, asked: FinishedQuery) -> list[FinishedRequestInfo]:
        """Return some of the last requests of a service, those that ended last first."""
        found = []
        for at, one in enumerate(self.history.recent.page(asked)):
            if at % AT_ONCE == 0:
                await next_slice()
            found.append(one.info())
        return found


def service_numbers(hour: TrafficHour | None, websockets: int, kept: int) -> ServiceNumbers:
    """Return the newest numbers of a service.

    Args:
        hour: its traffic; None without any in the last hour.
    """
    requests = errors = p99 = math.nan
    if hour is not None:
        requests, errors, p99 = hour.requests[-1], hour.errors[-1], hour.p99[-1]
    return ServiceNumbers(requests, errors, p99, websockets, kept)
