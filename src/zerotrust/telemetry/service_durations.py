"""Histograms of the duration of requests, for each service.

The number of services is bounded: agents choose the names of their services, and each has 20 lines
in the metrics.
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


class ServiceDurations:
    """Durations and statuses of the requests of each service (request_record.RequestObserver).

    Upgraded connections are counted by status alone: they last as long as people look at a page.
    Requests without an agent (unknown host names, refusals before one is selected) belong to no
    service and are in `requests_refused_total`.
    """

    def __init__(self) -> None:
        self._durations: dict[tuple[str, str], DurationHistogram] = {}
        self._first_bytes: dict[tuple[str, str], DurationHistogram] = {}
        self._statuses: dict[tuple[str, str, str], int] = {}

    def add(self, record: RequestRecord) -> None:
        """Count a finished request."""
        if not record.agent:
            return
        service = (record.agent, record.service)
        histogram = self._durations.get(service)
        if histogram is None:
            if len(self._durations) >= MAX_SERVICES:
                service = OTHERS
            histogram = self._durations.setdefault(service, DurationHistogram())
            self._first_bytes.setdefault(service, DurationHistogram())
        status = (*service, f"{record.status // 100}xx" if record.status else "none")
        self._statuses[status] = self._statuses.get(status, 0) + 1
        if record.status == 101:
            return
        histogram.add(record.ended_at - record.began_at)
        if record.answered_at:
            self._first_bytes[service].add(record.answered_at - record.began_at)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        meaning = "Finished requests of each service; `none`: the client left before an answer."
        yield counter(
            "service_requests_total", meaning, self._statuses, "agent", "service", "status"
        )
        yield _family(
            "request_duration_seconds",
            "Time from the head of a request to the end of its answer, without upgrades.",
            self._durations,
        )
        yield _family(
            "request_first_byte_seconds",
            "Time from the head of a request to the head of the backend's answer.",
            self._first_bytes,
        )


def _family(
    name: str, meaning: str, values: dict[tuple[str, str], DurationHistogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(PREFIX + name, meaning, labels=("agent", "service"))
    for labels, histogram in values.items():
        family.add_metric(labels, histogram.buckets(), sum_value=histogram.total)
    return family
