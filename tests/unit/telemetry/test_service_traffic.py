"""Tests of the traffic of the last hour, against lists of all that happened."""

import math
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.telemetry import service_traffic
from zerotrust.telemetry.hour_ring import SLOT, SLOTS
from zerotrust.telemetry.service_traffic import AGENT_BYTES, SERVICE_BYTES, TrafficTable

WEB, CHAT = ("home", "web"), ("home", "chat")
BYTES = st.integers(0, 10_000)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from([WEB, CHAT, None]),
        BYTES,
        BYTES,
        st.none() | st.floats(0.001, 10),
        st.booleans(),
    ),
    max_size=20,
)
RUNNING = st.lists(
    st.dictionaries(
        st.sampled_from([WEB, CHAT]), st.tuples(st.integers(0, 9), BYTES, BYTES), max_size=2
    ),
    max_size=3,
)


@given(st.lists(st.tuples(REQUESTS, RUNNING), min_size=1, max_size=5))
def test_a_slot_has_what_happened_in_it(
    slots: list[
        tuple[
            list[tuple[tuple[str, str] | None, int, int, float | None, bool]],
            list[dict[tuple[str, str], tuple[int, int, int]]],
        ]
    ],
) -> None:
    table = TrafficTable()
    for slot, (requests, looks) in enumerate(slots):
        for service, received, sent, latency, failed in requests:
            table.finished(service, received, sent, latency=latency, failed=failed)
        for look in looks:
            table.running(look)
        table.close_slot(slot, {})
    for service in (WEB, CHAT):
        hour = table.hour(service, len(slots))
        for slot, (requests, looks) in enumerate(slots):
            own = [request for request in requests if request[0] == service]
            at = SLOTS - len(slots) + slot
            if hour is None:
                assert not own and not any(service in look for look in looks)
                continue
            if math.isnan(hour.requests[at]):
                assert not own  # the service was seen later for the first time
                continue
            seen = [look.get(service, (0, 0, 0)) for look in looks]
            assert hour.requests[at] * SLOT == pytest.approx(len(own))
            failed_ones = sum(failed for *_, failed in own)
            assert hour.errors[at] == pytest.approx(failed_ones / len(own) if own else 0)
            received = sum(one[1] for one in own) + sum(one[1] for one in seen)
            sent = sum(one[2] for one in own) + sum(one[2] for one in seen)
            assert hour.received[at] * SLOT == pytest.approx(received)
            assert hour.sent[at] * SLOT == pytest.approx(sent)
            latencies = [one[3] for one in own if one[3] is not None]
            assert math.isnan(hour.p99[at]) == (not latencies)
            if latencies:
                assert max(latencies) <= hour.p99[at] <= max(latencies) * 1.2
                assert hour.p50[at] <= hour.p99[at]
            assert hour.websockets[at] >= max([one[0] for one in seen], default=0)
    total = table.total.hour(len(slots))
    assert total.requests[-1] * SLOT == pytest.approx(len(slots[-1][0]))


def test_open_websockets_stay_from_one_slot_to_the_next_without_a_look() -> None:
    table = TrafficTable()
    table.running({CHAT: (5, 0, 0)})
    table.close_slot(1, {})
    table.close_slot(2, {})
    table.running({})
    table.close_slot(3, {})
    table.close_slot(4, {})
    hour = table.hour(CHAT, 5)
    assert hour is not None
    assert hour.websockets[-4:] == [5, 5, 5, 0]
    assert table.total.hour(5).websockets[-4:] == [5, 5, 5, 0]


def test_the_number_of_services_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_traffic, "MAX_SERVICES", 2)
    table = TrafficTable()
    for number in range(3):
        table.finished(("home", str(number)), 1, 1, latency=0.1, failed=False)
    table.running({("home", "9"): (1, 0, 0)})
    assert len(table.services) == 2
    assert table.uncounted == 1
    assert table.hour(("home", "2"), 0) is None
    for slot in range(SLOTS):
        table.finished(("home", "0"), 0, 0, latency=None, failed=False)
        table.close_slot(slot, {})
    table.close_slot(SLOTS, {})
    assert set(table.services) == {("home", "0")}, "the other had no traffic for an hour"
    table.finished(("home", "2"), 1, 1, latency=0.1, failed=False)
    assert table.hour(("home", "2"), SLOTS) is not None


def test_round_trips_of_agents_are_kept_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_traffic, "MAX_AGENTS", 1)
    table, slots = TrafficTable(), count()
    table.close_slot(next(slots), {"home": 0.02, "one too many": 0.03})
    assert table.round_trips("home", 1)[-1] == pytest.approx(0.02)
    assert all(map(math.isnan, table.round_trips("one too many", 1)))
    for _ in range(SLOTS):
        table.close_slot(next(slots), {})
    table.close_slot(next(slots), {"other": 0.04})
    assert table.round_trips("other", next(slots))[-1] == pytest.approx(0.04)
    assert all(map(math.isnan, table.round_trips("home", SLOTS)))


def test_the_documented_sizes() -> None:
    assert SERVICE_BYTES == 7064
    assert AGENT_BYTES == 960
