"""Traffic sampler: feeds the numbers of the last hour (telemetry.service_traffic).

Each finished request is one call. What runs is looked at every `INTERVAL`, in slices, because a
server may have 30,000 WebSockets: no byte that passes costs anything for it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Final, Protocol, cast

from zerotrust.model.worker_messages import TrafficCounts
from zerotrust.net.background_work import BackgroundWork
from zerotrust.server.agents.session import AgentSession
from zerotrust.server.proxy.request_context import RequestContext
from zerotrust.telemetry.hour_ring import SLOTS, slot_of
from zerotrust.telemetry.request_record import RequestRecord
from zerotrust.telemetry.service_traffic import ServiceKey, TrafficHour, TrafficTable

INTERVAL: Final = 5.0
"""Seconds between two looks at what runs."""
EARLY: Final = 0.001
"""Seconds by which a timer may be early: a look begins this long after the end of its interval."""
CLOCK_EVERY: Final = 32
"""Requests between two looks at the clock."""


class OpenExchange(Protocol):
    """A request that runs (`server.proxy.relay`)."""

    @property
    def context(self) -> RequestContext:
        """The request."""

    @property
    def over(self) -> bool:
        """The client has its answer."""

    def withdraw(self, reason: str) -> None:
        """End the request at once."""


def open_exchanges(session: AgentSession) -> Iterator[OpenExchange]:
    """Yield the requests that run in a session."""
    for request in session.open_requests():
        exchange = cast("OpenExchange", request)
        if not exchange.over:
            yield exchange


class TrafficSampler:
    """Counts requests, and looks at what runs.

    Args:
        sessions: returns the sessions of all agents.
        clock: monotonic seconds.
        shared: this process is one of several workers, whose numbers are added up.

    Attributes:
        open: open WebSockets of each service at the last look.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[AgentSession]],
        *,
        clock: Callable[[], float] = perf_counter,
        shared: bool = False,
    ) -> None:
        self.open: Mapping[ServiceKey, int] = {}
        self._sessions = sessions
        self._clock = clock
        self._table = TrafficTable(latencies=shared)
        self._slot = slot_of(clock())
        self._counted: dict[str, tuple[int, int]] = {}
        """Bytes of each running request that were counted at the last look; `_counting`: at the
        look that is under way."""
        self._counting: dict[str, tuple[int, int]] = {}

    @property
    def slot(self) -> int:
        """Number of the current slot: it changes when there is a new number in all graphs."""
        return self._slot

    @property
    def services(self) -> list[ServiceKey]:
        """The services that have had traffic in the last hour."""
        return list(self._table.services)

    @property
    def uncounted(self) -> int:
        """Finished requests of services for which there was no room."""
        return self._table.uncounted

    def total(self) -> TrafficHour:
        """Return the last hour of all services together."""
        return self._table.total.hour(self._slot)

    def of_service(self, service: ServiceKey) -> TrafficHour | None:
        """Return the last hour of a service; None if it had no traffic in it."""
        return self._table.hour(service, self._slot)

    def last_slot(self, service: ServiceKey) -> TrafficHour | None:
        """Return the last slot of a service alone; None if it had no traffic in the last hour."""
        return self._table.hour(service, self._slot, 1)

    def counts(self, service: ServiceKey | None, slots: int = SLOTS) -> TrafficCounts | None:
        """Return the counts of the last slots of a service, or of all together, for other workers;
        None if it had no traffic in the last hour."""
        traffic = self._table.total if service is None else self._table.services.get(service)
        return None if traffic is None else traffic.counts(self._slot, slots)

    def round_trips(self, agent: str) -> list[float]:
        """Return the round trips of the link to an agent in the last hour, in seconds."""
        return self._table.round_trips(agent, self._slot)

    def observe(self, record: RequestRecord) -> None:
        """Count a finished request (telemetry.request_record.RequestObserver)."""
        received, sent = record.received, record.sent
        counted = self._counting.pop(record.id, None) or self._counted.pop(record.id, None)
        if counted is not None:
            received -= counted[0]
            sent -= counted[1]
        answered_at = record.answered_at
        self._table.finished(
            (record.agent, record.service) if record.service else None,
            received,
            sent,
            latency=answered_at - record.began_at if answered_at else None,
            failed=record.failed,
        )

    async def run(self) -> None:
        """Look at what runs, until cancelled. All workers look, and end a slot, at one time."""
        while True:
            await asyncio.sleep(INTERVAL - self._clock() % INTERVAL + EARLY)
            await self.look()

    async def look(self) -> None:
        """Count what runs now, and end the slot if its time is over."""
        found: dict[ServiceKey, list[int]] = {}
        number, work = 0, BackgroundWork()
        for session in list(self._sessions()):
            for exchange in open_exchanges(session):
                self._count(exchange.context, found)
                number += 1
                if number % CLOCK_EVERY == 0 and work.slice_over:
                    await work.next_slice()
        self._counted, self._counting = self._counting, {}
        self._table.running(found)
        self.open = {service: numbers[0] for service, numbers in found.items() if numbers[0]}
        slot = slot_of(self._clock())
        if slot != self._slot:
            self._table.close_slot(self._slot, self._all_round_trips())
            self._slot = slot

    def _count(self, context: RequestContext, found: dict[ServiceKey, list[int]]) -> None:
        registration, connection = context.registration, context.connection
        if context.record is None or registration is None:
            return  # its end will not be observed
        received, sent = connection.received, connection.sent
        counted = self._counted.pop(context.id, (0, 0))
        self._counting[context.id] = (received, sent)
        service = (registration.session.agent, registration.service)
        numbers = found.setdefault(service, [0, 0, 0])
        numbers[0] += connection.tunnelled
        numbers[1] += received - counted[0]
        numbers[2] += sent - counted[1]

    def _all_round_trips(self) -> dict[str, float]:
        """Return the shortest round trip of each agent's links, in seconds."""
        found: dict[str, float] = {}
        for session in self._sessions():
            seconds = session.link.session.keepalive.round_trip
            if session.attached and seconds is not None:
                found[session.agent] = min(seconds, found.get(session.agent, seconds))
        return found
