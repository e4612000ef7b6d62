"""Traffic history: what the server remembers of its requests, for the dashboard.

It costs nothing while it is off: then no request is observed, and nothing is kept.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from zerotrust.model.worker_messages import RoundTrips, ServiceSlot
from zerotrust.net.tasks import Tasks
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.ops.recent_requests import RecentRequests
from zerotrust.server.ops.traffic_sampler import TrafficSampler
from zerotrust.server.proxy.request_context import ObserverSource
from zerotrust.telemetry.request_record import RequestRecord
from zerotrust.telemetry.service_traffic import ServiceKey

LAST_SLOTS: Final = 2
"""Slots of which a worker tells the newest numbers: another worker may be one slot behind."""


class TrafficHistory:
    """The numbers of the last hour and the last requests of each service.

    Args:
        sessions: returns the sessions of all agents.
        shared: this process is one of several workers, whose numbers are added up.

    Attributes:
        sampler: the numbers.
        recent: the requests.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[AgentSession]],
        observed: ObserverSource,
        tasks: Tasks,
        *,
        shared: bool = False,
    ) -> None:
        self._shared = shared
        self._sessions = sessions
        self._observed = observed
        self._tasks = tasks
        self._looking: asyncio.Task[None] | None = None
        self._forget()

    @property
    def on(self) -> bool:
        """Requests are observed."""
        return self._looking is not None

    def turn(self, *, on: bool) -> None:
        """Begin to observe requests, or end it and forget all."""
        if on and self._looking is None:
            self._looking = self._tasks.supervise(self.sampler.run, "sample traffic")
            self._observed.observers = (*self._observed.observers, self.observe)
        elif not on and self._looking is not None:
            self._looking.cancel()
            self._looking = None
            self._observed.observers = tuple(
                one for one in self._observed.observers if one != self.observe
            )
            self._forget()

    def observe(self, record: RequestRecord) -> None:
        """Count and keep a finished request (telemetry.request_record.RequestObserver)."""
        self.sampler.observe(record)
        self.recent.observe(record)

    def counts(self, services: Iterable[ServiceKey]) -> list[ServiceSlot]:
        """Return the newest numbers of services, for other workers."""
        return [
            ServiceSlot.model_construct(
                agent=agent,
                service=name,
                counts=self.sampler.counts((agent, name), LAST_SLOTS),
                websockets=self.sampler.open.get((agent, name), 0),
                kept=self.recent.count_of((agent, name)),
            )
            for agent, name in services
        ]

    def round_trips(self, agent: str) -> RoundTrips:
        """Return the round trips of the link to an agent, for other workers."""
        return RoundTrips.model_construct(
            slot=self.sampler.slot, seconds=self.sampler.round_trips(agent)
        )

    def _forget(self) -> None:
        self.sampler = TrafficSampler(self._sessions, shared=self._shared)
        self.recent = RecentRequests()
