"""Tests of the merged traffic of workers, against one table that has seen all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.model.worker_messages import RoundTrips
from zerotrust.server.ops.merged_traffic import merge_hours, merge_round_trips
from zerotrust.telemetry.hour_ring import SLOTS
from zerotrust.telemetry.service_traffic import ServiceTraffic, TrafficHour

pytestmark = pytest.mark.anyio

REQUEST = st.tuples(st.integers(0, 1), st.floats(0.0001, 100) | st.none(), st.booleans())


def same(found: TrafficHour, expected: TrafficHour) -> bool:
    return all(
        math.isclose(one, other, rel_tol=1e-6) or (math.isnan(one) and math.isnan(other))
        for name in TrafficHour.__slots__
        for one, other in zip(getattr(found, name), getattr(expected, name), strict=True)
    )


@given(st.lists(st.lists(REQUEST, max_size=9), min_size=1, max_size=4))
async def test_two_workers_together_show_what_one_would(
    slots: list[list[tuple[int, float | None, bool]]],
) -> None:
    workers = [ServiceTraffic(latencies=True), ServiceTraffic(latencies=True)]
    alone = ServiceTraffic()
    for slot, requests in enumerate(slots):
        for worker, latency, failed in requests:
            for one in (workers[worker], alone):
                one.finished(10, 20, latency=latency, failed=failed)
        for one in (*workers, alone):
            one.running(3 if one is alone else 1 if one is workers[0] else 2, 5, 7)
            one.running(0, 0, 0)
        alone.running(0, 5, 7)  # of the second worker
        for one in (*workers, alone):
            one.close_slot(slot)
    end = len(slots)
    assert same(await merge_hours([one.counts(end) for one in workers]), alone.hour(end))


async def worker(slots: dict[int, int], now: int) -> ServiceTraffic:
    """Return a worker that has counted this many requests in some slots."""
    made = ServiceTraffic(latencies=True)
    for slot in range(now):
        if slot in slots:
            for _ in range(slots[slot]):
                made.finished(0, 0, latency=0.01, failed=False)
            made.close_slot(slot)
    return made


async def test_a_slot_that_some_worker_has_not_measured_yet_waits() -> None:
    ahead, behind = await worker({8: 15, 9: 15}, 10), await worker({8: 30}, 9)
    found = await merge_hours([ahead.counts(10), behind.counts(9)])
    assert found.requests[-1] == 3.0
    assert len(found.requests) == len(found.p99) == SLOTS


async def test_a_worker_that_does_not_measure_counts_for_nothing() -> None:
    first, second = await worker({98: 15, 99: 15}, 100), await worker({5: 30}, 6)
    found = await merge_hours([first.counts(100), second.counts(6)])
    assert found.requests[-1] == 1.0
    assert found.requests[5 - 99] == 2.0
    assert len(found.requests) == SLOTS


async def test_a_worker_that_began_later_adds_to_what_there_is() -> None:
    first, second = await worker({3: 15, 4: 15}, 5), await worker({4: 15}, 5)
    found = await merge_hours([first.counts(5), second.counts(5)])
    assert found.requests[-2:] == [1.0, 2.0]
    assert math.isnan(found.requests[0]) and math.isnan(found.p99[0])


async def test_the_last_slot_alone() -> None:
    first, second = await worker({4: 15}, 5), await worker({4: 45}, 5)
    found = await merge_hours([first.counts(5, 1), second.counts(5, 1)])
    assert found.requests == [4.0]
    assert found.errors == [0.0]


def test_the_shortest_round_trip_of_an_agents_links() -> None:
    parts = [
        RoundTrips(slot=7, seconds=[0.3, 0.3, math.nan, 0.1]),
        RoundTrips(slot=6, seconds=[0.4, 0.1, math.nan, 0.5]),
    ]
    # Up to slot 6: the first worker has 0.3 in slots 3 and 4.
    found = merge_round_trips(parts)
    assert found[:1] + found[2:] == [0.4, 0.3, 0.5]
    assert found[1] == 0.1
