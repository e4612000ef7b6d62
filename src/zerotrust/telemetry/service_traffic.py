"""Traffic of services and round trips of agents in the last hour, in fixed memory.

Each service takes `SERVICE_BYTES`, each agent `AGENT_BYTES`, and there are at most `MAX_SERVICES`
and `MAX_AGENTS` of them. One more is not counted until another has had no traffic for an hour.

A worker of several also keeps the histograms of latencies: the quantiles of all workers together do
not follow from those of each. A slot takes 41 bytes more then, and 5 for each bucket that is not
empty: some 25 kB a service, at most 113 kB.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from zerotrust.model.worker_messages import TrafficCounts
from zerotrust.telemetry.hour_ring import SLOT, SLOTS, HourRing
from zerotrust.telemetry.latency_histogram import BOUNDS, LatencyHistogram

MAX_SERVICES: Final = 512
MAX_AGENTS: Final = 512

COLUMNS: Final = ("requests", "errors", "p50", "p99", "websockets", "received", "sent")
"""Numbers of each slot: requests and failed ones, seconds to the response's head, most open
WebSockets, bytes from and to clients."""
SERVICE_BYTES: Final = SLOTS * len(COLUMNS) * 4 + (len(BOUNDS) + 1) * 4
AGENT_BYTES: Final = SLOTS * 4

ServiceKey = tuple[str, str]
"""Agent and service id."""


@dataclass(frozen=True, slots=True)
class TrafficHour:
    """The last hour of one service or of all, one number for each slot, oldest first; NaN where
    nothing was measured.

    Attributes:
        requests: finished requests a second.
        errors: share of them that failed, from 0 to 1.
        p50, p99: seconds to the response's head.
        websockets: open WebSockets and other upgraded connections.
        received, sent: bytes a second from clients and to them.
    """

    requests: list[float]
    errors: list[float]
    p50: list[float]
    p99: list[float]
    websockets: list[float]
    received: list[float]
    sent: list[float]

    @classmethod
    def of_counts(
        cls,
        *,
        requests: list[float],
        errors: list[float],
        p50: list[float],
        p99: list[float],
        websockets: list[float],
        received: list[float],
        sent: list[float],
    ) -> Self:
        """Return the hour with these numbers of each slot (`COLUMNS`)."""
        return cls(
            requests=[number / SLOT for number in requests],
            errors=list(map(_share, errors, requests)),
            p50=p50,
            p99=p99,
            websockets=websockets,
            received=[number / SLOT for number in received],
            sent=[number / SLOT for number in sent],
        )


class ServiceTraffic:
    """Traffic of one service: counters of the current slot, and rows of the last hour.

    Args:
        latencies: keep the histogram of each slot, too.

    Attributes:
        quiet: slots without any traffic, up to now.
    """

    __slots__ = (
        "_errors",
        "_histograms",
        "_latencies",
        "_most",
        "_open",
        "_received",
        "_requests",
        "_ring",
        "_sent",
        "quiet",
    )

    def __init__(self, *, latencies: bool = False) -> None:
        self.quiet = 0
        self._requests = 0
        self._errors = 0
        self._open = 0
        self._most = 0
        self._received = 0
        self._sent = 0
        self._latencies = LatencyHistogram()
        self._ring = HourRing(len(COLUMNS))
        self._histograms = [b""] * SLOTS if latencies else []
        """Packed histograms, each at its slot modulo `SLOTS`."""

    def finished(self, received: int, sent: int, *, latency: float | None, failed: bool) -> None:
        """Count a finished request.

        Args:
            received, sent: its bytes that were not counted while it ran.
            latency: seconds to the response's head; None if there was none.
        """
        self._requests += 1
        self._received += received
        self._sent += sent
        if failed:
            self._errors += 1
        if latency is not None:
            self._latencies.add(latency)

    def running(self, websockets: int, received: int, sent: int) -> None:
        """Count what runs now.

        Args:
            websockets: open WebSockets.
            received, sent: bytes of running requests that were not counted before.
        """
        self._open = websockets
        self._most = max(self._most, websockets)
        self._received += received
        self._sent += sent

    def close_slot(self, slot: int) -> None:
        """Write the row of a slot that is over, and begin the next."""
        row = (
            self._requests,
            self._errors,
            self._latencies.quantile(0.5),
            self._latencies.quantile(0.99),
            self._most,
            self._received,
            self._sent,
        )
        self._ring.write(slot, row)
        if self._histograms:
            self._histograms[slot % SLOTS] = self._latencies.packed()
        idle = not (self._requests or self._most or self._received or self._sent)
        self.quiet = self.quiet + 1 if idle else 0
        self._requests = self._errors = self._received = self._sent = 0
        self._most = self._open
        self._latencies.clear()

    def hour(self, slot: int, slots: int = SLOTS) -> TrafficHour:
        """Return the hour before this slot, or its last slots."""
        requests, errors, p50, p99, websockets, received, sent = (
            self._ring.column(index, slot, slots) for index in range(len(COLUMNS))
        )
        return TrafficHour.of_counts(
            requests=requests,
            errors=errors,
            p50=p50,
            p99=p99,
            websockets=websockets,
            received=received,
            sent=sent,
        )

    def counts(self, slot: int, slots: int = SLOTS) -> TrafficCounts:
        """Return the counts of the hour before this slot, or of its last slots.

        It needs the histograms.
        """
        requests, errors, _, _, websockets, received, sent = (
            self._ring.column(index, slot, slots) for index in range(len(COLUMNS))
        )
        latencies = [
            "" if math.isnan(measured) else self._histograms[number % SLOTS].hex()
            for number, measured in enumerate(requests, slot - slots)
        ]
        return TrafficCounts.model_construct(
            slot=slot,
            requests=requests,
            errors=errors,
            websockets=websockets,
            received=received,
            sent=sent,
            latencies=latencies,
        )


class TrafficTable:
    """Traffic of all services, and round trips of all agents.

    Args:
        latencies: keep the histogram of each slot, too.

    Attributes:
        total: traffic of all services together, counted or not.
        services: traffic by service.
        uncounted: finished requests of services for which there was no room.
    """

    def __init__(self, *, latencies: bool = False) -> None:
        self._latencies = latencies
        self.total = ServiceTraffic(latencies=latencies)
        self.services: dict[ServiceKey, ServiceTraffic] = {}
        self.uncounted = 0
        self._agents: dict[str, HourRing] = {}

    def finished(
        self,
        service: ServiceKey | None,
        received: int,
        sent: int,
        *,
        latency: float | None,
        failed: bool,
    ) -> None:
        """Count a finished request.

        Args:
            service: None if no agent got the request.
            received, sent: its bytes that were not counted while it ran.
            latency: seconds to the response's head; None if there was none.
        """
        self.total.finished(received, sent, latency=latency, failed=failed)
        if service is None:
            return
        traffic = self._find(service)
        if traffic is None:
            self.uncounted += 1
        else:
            traffic.finished(received, sent, latency=latency, failed=failed)

    def running(self, services: Mapping[ServiceKey, Sequence[int]]) -> None:
        """Count what runs now.

        Args:
            services: of each service, its open WebSockets, and the bytes received and sent by
                running requests that were not counted before.
        """
        sums = [0, 0, 0]
        for service, (websockets, received, sent) in services.items():
            sums = [sums[0] + websockets, sums[1] + received, sums[2] + sent]
            traffic = self._find(service)
            if traffic is not None:
                traffic.running(websockets, received, sent)
        for service, traffic in self.services.items():
            if service not in services:
                traffic.running(0, 0, 0)
        self.total.running(*sums)

    def close_slot(self, slot: int, round_trips: Mapping[str, float]) -> None:
        """End a slot. Services and agents without a number for an hour are forgotten.

        Args:
            round_trips: seconds of each connected agent.
        """
        self.total.close_slot(slot)
        for traffic in self.services.values():
            traffic.close_slot(slot)
        for service in [key for key, one in self.services.items() if one.quiet >= SLOTS]:
            del self.services[service]
        for agent, seconds in round_trips.items():
            ring = self._agents.get(agent)
            if ring is None:
                if len(self._agents) >= MAX_AGENTS:
                    continue
                ring = self._agents[agent] = HourRing(1)
            ring.write(slot, (seconds,))
        for agent in [name for name, ring in self._agents.items() if ring.is_over(slot + 1)]:
            del self._agents[agent]

    def hour(self, service: ServiceKey, slot: int, slots: int = SLOTS) -> TrafficHour | None:
        """Return the hour of a service before this slot, or its last slots; None if it is not
        counted."""
        traffic = self.services.get(service)
        return None if traffic is None else traffic.hour(slot, slots)

    def round_trips(self, agent: str, slot: int) -> list[float]:
        """Return the round trips of an agent before this slot, in seconds, oldest first."""
        ring = self._agents.get(agent)
        return [float("nan")] * SLOTS if ring is None else ring.column(0, slot)

    def _find(self, service: ServiceKey) -> ServiceTraffic | None:
        traffic = self.services.get(service)
        if traffic is None and len(self.services) < MAX_SERVICES:
            traffic = self.services[service] = ServiceTraffic(latencies=self._latencies)
        return traffic


def _share(part: float, whole: float) -> float:
    """Return 0 where there was nothing at all, NaN where nothing was measured."""
    return part / whole if whole else 0.0 * part
