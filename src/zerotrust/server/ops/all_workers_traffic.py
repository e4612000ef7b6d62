"""Traffic of all workers of a server: a worker adds the numbers of the others to its own."""

from collections.abc import Hashable, Sequence

from zerotrust.model.admin import AgentRequest
from zerotrust.model.worker_messages import (
    FinishedQuery,
    FinishedRequestInfo,
    FinishedRequestList,
    RoundTrips,
    ServiceName,
    ServiceNames,
    ServiceSlot,
    ServiceSlots,
    TrafficAnswer,
)
from zerotrust.server.ops import worker_endpoints as endpoints
from zerotrust.server.ops.merged_traffic import merge_hours, merge_requests, merge_round_trips
from zerotrust.server.ops.traffic_admin import ServiceNumbers, TrafficAdmin, service_numbers
from zerotrust.server.ops.traffic_history import TrafficHistory
from zerotrust.server.ops.worker_news import NewsReader
from zerotrust.server.ops.worker_peers import WorkerPeers
from zerotrust.telemetry.service_traffic import ServiceKey, TrafficHour


class AllWorkersTraffic(TrafficAdmin):
    """Answers questions about the traffic of all workers."""

    def __init__(self, history: TrafficHistory, *, peers: WorkerPeers, news: NewsReader) -> None:
        super().__init__(history)
        self._peers = peers
        self._news = news

    @property
    def slot(self) -> Hashable:
        """Return another value when there are new numbers in all graphs."""
        return super().slot, [one.slot for one in self._news.news]

    @property
    def services_version(self) -> Hashable:
        """Return another value when `services`, or their numbers, have changed."""
        return super().services_version, [(one.slot, one.changes) for one in self._news.news]

    def newest_of(self, service: ServiceKey) -> Hashable:
        """Return another value when a service has another newest request."""
        return super().newest_of(service), [
            one.newest
            for news in self._news.news
            for one in news.services
            if (one.agent, one.service) == service
        ]

    @property
    def services(self) -> set[ServiceKey]:
        """The services that have had requests."""
        others = {(one.agent, one.service) for news in self._news.news for one in news.services}
        return super().services | others

    async def numbers(self, services: Sequence[ServiceKey]) -> list[ServiceNumbers]:
        """Return the newest numbers of services."""
        names = [ServiceName(agent=agent, service=service) for agent, service in services]
        found = await self._peers.post(
            endpoints.SERVICES, ServiceSlots, ServiceNames(services=names)
        )
        own = self.history.counts(services)
        others = [one.services for one in found if len(one.services) == len(own)]
        return [await _numbers(parts) for parts in zip(own, *others, strict=True)]

    async def total(self) -> TrafficHour:
        """Return the last hour of all services together."""
        found = await self._hour(None)
        return found or await super().total()

    async def of_service(self, service: ServiceKey) -> TrafficHour | None:
        """Return the last hour of a service; None if it had no traffic in it."""
        return await self._hour(service)

    async def round_trips(self, agent: str) -> list[float]:
        """Return the shortest round trips of the links to an agent in the last hour."""
        found = await self._peers.post(endpoints.ROUND_TRIPS, RoundTrips, AgentRequest(agent=agent))
        return merge_round_trips([self.history.round_trips(agent), *found])

    async def requests(self, asked: FinishedQuery) -> list[FinishedRequestInfo]:
        """Return some of the last requests of a service, those that ended last first."""
        found = await self._peers.post(endpoints.REQUESTS, FinishedRequestList, asked)
        own = await super().requests(asked)
        return merge_requests([own, *(one.requests for one in found)], asked.limit)

    async def _hour(self, service: ServiceKey | None) -> TrafficHour | None:
        agent, name = service or (None, None)
        found = await self._peers.post(
            endpoints.TRAFFIC, TrafficAnswer, ServiceName(agent=agent, service=name)
        )
        own = self.history.sampler.counts(service)
        parts = [one for one in (own, *(one.counts for one in found)) if one is not None]
        return await merge_hours(parts) if parts else None


async def _numbers(parts: Sequence[ServiceSlot]) -> ServiceNumbers:
    """Return the newest numbers of a service from those of each worker."""
    counts = [one.counts for one in parts if one.counts is not None]
    return service_numbers(
        await merge_hours(counts) if counts else None,
        sum(one.websockets for one in parts),
        sum(one.kept for one in parts),
    )
