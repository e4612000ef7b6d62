"""Traffic of a server from that of its workers: counts add up, latencies are put together."""

import math
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from zerotrust.model.worker_messages import FinishedRequestInfo, RoundTrips, TrafficCounts
from zerotrust.net.background_work import next_slice
from zerotrust.telemetry.latency_histogram import quantiles
from zerotrust.telemetry.service_traffic import TrafficHour

AT_ONCE: Final = 48
"""Slots whose quantiles are computed in one slice of background work: about 0.5 ms."""

Value = TypeVar("Value")


async def merge_hours(parts: Sequence[TrafficCounts]) -> TrafficHour:
    """Return the traffic of all workers together, up to the last slot that all have measured.

    Args:
        parts: counts of each worker, for the same number of slots; at least one.
    """
    end = _end([part.slot for part in parts])
    latencies = [_until(end, part.slot, part.latencies, "") for part in parts]
    p50, p99 = [], []
    for at, packed in enumerate(zip(*latencies, strict=False)):
        if at % AT_ONCE == 0:
            await next_slice()
        middle, high = quantiles(map(bytes.fromhex, packed), (0.5, 0.99))
        p50.append(middle)
        p99.append(high)

    def added(columns: Iterable[Sequence[float]]) -> list[float]:
        aligned = [
            _until(end, part.slot, column, math.nan)
            for part, column in zip(parts, columns, strict=True)
        ]
        return [_sum(values) for values in zip(*aligned, strict=False)]

    return TrafficHour.of_counts(
        requests=added(part.requests for part in parts),
        errors=added(part.errors for part in parts),
        p50=p50,
        p99=p99,
        websockets=added(part.websockets for part in parts),
        received=added(part.received for part in parts),
        sent=added(part.sent for part in parts),
    )


def merge_round_trips(parts: Sequence[RoundTrips]) -> list[float]:
    """Return the shortest round trip of an agent's links, at any worker, in each slot."""
    end = _end([part.slot for part in parts])
    aligned = [_until(end, part.slot, part.seconds, math.nan) for part in parts]
    return [
        min((one for one in values if math.isfinite(one)), default=math.nan)
        for values in zip(*aligned, strict=False)
    ]


def merge_requests(
    parts: Iterable[Sequence[FinishedRequestInfo]], limit: int
) -> list[FinishedRequestInfo]:
    """Return the requests of all workers that ended last, those first."""
    found = [one for part in parts for one in part]
    return sorted(found, key=lambda one: (one.ended, one.id), reverse=True)[:limit]


def _end(slots: Sequence[int]) -> int:
    """Return the slot up to which all workers have measured.

    A worker that is more than one slot behind does not measure, so it counts for nothing.
    """
    return max(min(slots), max(slots) - 1)


def _until(end: int, slot: int, values: Sequence[Value], nothing: Value) -> list[Value]:
    """Return as many values, up to the slot `end` in place of `slot`, which is at most 1 later."""
    surplus = slot - end
    if surplus >= 0:
        return [nothing] * surplus + list(values[: len(values) - surplus])
    return list(values[-surplus:]) + [nothing] * min(-surplus, len(values))


def _sum(values: Sequence[float]) -> float:
    """Return the sum of what was measured; NaN if nothing was."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) if known else math.nan
