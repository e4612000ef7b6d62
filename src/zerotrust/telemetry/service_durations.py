"""Histograms of the duration of requests, for each service.

The number of services is bounded: agents choose the names of their services, and each has 20 lines
in the metrics. A service without a request for `UNUSED` makes room for another one.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.metrics_core import HistogramMetricFamily

from zerotrust.telemetry.metrics import PREFIX, counter
from zerotrust.telemetry.request_record import RequestRecord

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds; the last bucket has all longer requests."""
MAX_SERVICES: Final = 500
OTHERS: Final = ("", "others")
"""Agent and service of the requests above MAX_SERVICES."""
UNUSED: Final = 3600.0
"""Seconds without a request after which a service makes room."""
LOOK: Final = 60.0
"""Seconds between two looks for services that make room."""

_NAMES: Final = (*map(str, BUCKETS), "+Inf")


class DurationHistogram:
    """Counts durations in BUCKETS."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_NAMES)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound with the number of durations up to it."""
        reached, found = 0, []
        for name, count in zip(_NAMES, self.counts, strict=True):
            reached += count
            found.append((name, float(reached)))
        return found


class ServiceCounts:
    """Durations and statuses of the requests of one service.

    Attributes:
        used_at: end of its last request.
    """

    __slots__ = ("durations", "first_bytes", "statuses", "used_at")

    def __init__(self) -> None:
        self.durations = DurationHistogram()
        self.first_bytes = DurationHistogram()
        self.statuses: dict[str, int] = {}
        self.used_at = 0.0

    def add(self, record: RequestRecord) -> None:
        """Count a finished request."""
        self.used_at = record.ended_at
        status = f"{record.status // 100}xx" if record.status else "none"
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if record.status == 101:
            return
        self.durations.add(record.ended_at - record.began_at)
        if record.answered_at:
            self.first_bytes.add(record.answered_at - record.began_at)


class ServiceDurations:
    """Durations and statuses of the requests of each service (request_record.RequestObserver).

    Upgraded connections are counted by status alone: they last as long as people look at a page.
    Requests without an agent (unknown host names, refusals before one is selected) belong to no
    service and are in `requests_refused_total`.
    """

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], ServiceCounts] = {}
        self._next_look = 0.0

    def add(self, record: RequestRecord) -> None:
        """Count a finished request."""
        if not record.agent:
            return
        service = (record.agent, record.service)
        counts = self._services.get(service)
        if counts is None:
            if self._is_full:
                self._make_room(record.ended_at)
            if self._is_full:
                service = OTHERS
            counts = self._services.setdefault(service, ServiceCounts())
        counts.add(record)

    @property
    def _is_full(self) -> bool:
        return len(self._services) - (OTHERS in self._services) >= MAX_SERVICES

    def _make_room(self, now: float) -> None:
        """Remove the services that are unused, once in `LOOK` seconds."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK
        unused = [
            service
            for service, counts in self._services.items()
            if now - counts.used_at >= UNUSED and service != OTHERS
        ]
        for service in unused:
            del self._services[service]

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        meaning = "Finished requests of each service; `none`: the client left before an answer."
        statuses = {
            (*service, status): count
            for service, counts in self._services.items()
            for status, count in counts.statuses.items()
        }
        yield counter("service_requests_total", meaning, statuses, "agent", "service", "status")
        services = self._services.items()
        yield _family(
            "request_duration_seconds",
            "Time from the head of a request to the end of its answer, without upgrades.",
            {service: counts.durations for service, counts in services},
        )
        yield _family(
            "request_first_byte_seconds",
            "Time from the head of a request to the head of the backend's answer.",
            {service: counts.first_bytes for service, counts in services},
        )


def _family(
    name: str, meaning: str, values: dict[tuple[str, str], DurationHistogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(PREFIX + name, meaning, labels=("agent", "service"))
    for labels, histogram in values.items():
        family.add_metric(labels, histogram.buckets(), sum_value=histogram.total)
    return family
