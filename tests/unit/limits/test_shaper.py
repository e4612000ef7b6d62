"""Tests of zerotrust.limits.shaper."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from zerotrust.limits.shaper import MAX_CLIENTS, Bucket, Flow, Shaper, burst_of, turn_of

CLIENTS = [b"203.0.113.1", b"203.0.113.2", b"2001:db8::1"]
RATES = st.sampled_from([1024.0, 10_000.0, 2e6, 125e6])


class Carrier(Flow):
    """Flow that records what passes."""

    def __init__(self, clock: "Clock", client: bytes) -> None:
        super().__init__(clock.shaper.queue_for(client, clock.now))
        self.clock = clock
        self.client = client
        self.asked = 0
        self.total = 0

    def passed(self, count: int) -> None:
        assert count > 0
        self.total += count
        assert self.total <= self.asked
        self.clock.log.append((self.clock.now, self, count))


class Clock:
    """Simulated clock that runs a shaper when it asks for it, or later."""

    def __init__(
        self, *, total: float | None = None, per_client: float | None = None, lateness: float = 0.0
    ) -> None:
        self.now = 1000.0
        self.log: list[tuple[float, Carrier, int]] = []
        self.shaper = Shaper(total=total, per_client=per_client, now=self.now)
        self.lateness = lateness
        self.due: float | None = None

    def carrier(self, client: bytes = CLIENTS[0]) -> Carrier:
        return Carrier(self, client)

    def ask(self, carrier: Carrier, count: int) -> None:
        carrier.asked += count
        self.shaper.enqueue(carrier, count)
        self.due = self.shaper.run(self.now)

    def until(self, end: float) -> None:
        """Advance the time and run the shaper when it is due."""
        while self.due is not None and max(self.due, self.now) + self.lateness <= end:
            before = (self.now, len(self.log))
            self.now = max(self.due, self.now) + self.lateness
            self.due = self.shaper.run(self.now)
            assert self.due is None or (self.now, len(self.log)) != before or self.due > self.now
        self.now = max(self.now, end)

    def drain(self) -> None:
        """Run until no bytes wait."""
        for _ in range(1_000_000):
            if self.due is None:
                return
            self.until(max(self.due, self.now) + self.lateness)
        raise AssertionError("it never ends")


def most(log: list[tuple[float, int]], rate: float) -> float:
    """Return the maximum of bytes minus rate * time over all intervals, ends included."""
    worst = level = 0.0
    for (before, _), (at, count) in itertools.pairwise([(log[0][0], 0), *log] if log else []):
        level = max(0.0, level - (at - before) * rate) + count
        worst = max(worst, level)
    return worst


STEPS = st.lists(
    st.tuples(
        st.integers(0, 5), st.integers(1, 300_000), st.sampled_from([0.0, 0.0, 0.001, 0.1, 3.0])
    ),
    min_size=1,
    max_size=30,
)


@given(RATES, STEPS, st.sampled_from([0.0, 0.005, 0.5]))
@settings(max_examples=examples(60))
def test_no_more_than_rate_and_burst_passes_in_any_time(
    rate: float, steps: list[tuple[int, int, float]], late: float
) -> None:
    clock = Clock(total=rate, lateness=late)
    carriers = [clock.carrier(client) for client in CLIENTS * 2]
    scale = min(1.0, rate / 1e6)
    for which, count, pause in steps:
        clock.ask(carriers[which], max(1, int(count * scale)))
        clock.until(clock.now + pause)
    clock.drain()
    assert most([(at, count) for at, _, count in clock.log], rate) <= burst_of(rate) + 2
    assert [carrier.total for carrier in carriers] == [carrier.asked for carrier in carriers]


@given(RATES, st.none() | RATES, STEPS)
@settings(max_examples=examples(60))
def test_limits_hold_for_each_client_and_for_all(
    each: float, total: float | None, steps: list[tuple[int, int, float]]
) -> None:
    clock = Clock(total=total, per_client=each)
    carriers = [clock.carrier(client) for client in CLIENTS * 2]
    scale = min(1.0, each / 1e6, (total or math.inf) / 1e6)
    for which, count, pause in steps:
        clock.ask(carriers[which], max(1, int(count * scale)))
        clock.until(clock.now + pause)
    clock.drain()
    for client in CLIENTS:
        passed = [(at, count) for at, carrier, count in clock.log if carrier.client == client]
        assert most(passed, each) <= burst_of(each) + 2
    if total is not None:
        assert most([(at, count) for at, _, count in clock.log], total) <= burst_of(total) + 2
    assert [carrier.total for carrier in carriers] == [carrier.asked for carrier in carriers]


@given(st.integers(2, 8), st.sampled_from([20_000.0, 2e6]), st.booleans())
@settings(max_examples=examples(30))
def test_busy_flows_get_equal_shares(count: int, rate: float, by_client: bool) -> None:
    """Streams share a limit evenly, and so do clients if each has a limit (here a high one)."""
    clock = Clock(total=rate, per_client=rate * 10 if by_client else None)
    carriers = [clock.carrier(b"192.0.2.%d" % number) for number in range(count)]
    for carrier in carriers:
        clock.ask(carrier, int(rate * 3))
    at_first = [carrier.total for carrier in carriers]  # the burst goes to the first flows
    clock.until(clock.now + 2.5)
    gains = [carrier.total - before for carrier, before in zip(carriers, at_first, strict=True)]
    assert max(gains) - min(gains) <= turn_of(rate)
    assert sum(gains) >= rate * 2.5 * 0.99 - turn_of(rate)


def test_the_rate_is_reached() -> None:
    clock = Clock(total=2e6, lateness=0.005)
    carrier = clock.carrier()
    began_at = clock.now
    clock.ask(carrier, 10_000_000)
    clock.drain()
    assert clock.now - began_at == pytest.approx((10e6 - burst_of(2e6)) / 2e6, rel=0.02)


def test_a_small_flow_is_not_delayed_by_large_ones() -> None:
    clock = Clock(total=2e6)
    bulk = [clock.carrier() for _ in range(4)]
    for carrier in bulk:
        clock.ask(carrier, 10_000_000)
    clock.until(clock.now + 1)
    small = clock.carrier()
    asked_at = clock.now
    clock.ask(small, 100)
    while not small.total:
        assert clock.due is not None
        clock.until(clock.due)
    assert clock.now - asked_at <= 5 * turn_of(2e6) / 2e6


def test_a_client_with_an_empty_bucket_delays_no_other() -> None:
    clock = Clock(total=1e6, per_client=1e5)
    greedy = [clock.carrier(CLIENTS[0]) for _ in range(20)]
    for carrier in greedy:
        clock.ask(carrier, 1_000_000)
    clock.until(clock.now + 1)
    other = clock.carrier(CLIENTS[1])
    before = clock.now
    clock.ask(other, 10_000)
    assert (other.total, clock.now) == (10_000, before)
    at_first = [carrier.total for carrier in greedy]
    clock.until(clock.now + 5)
    gains = [carrier.total - before for carrier, before in zip(greedy, at_first, strict=True)]
    assert max(gains) - min(gains) <= turn_of(1e5)
    assert sum(gains) == pytest.approx(5e5, rel=0.02)


def test_flows_that_come_and_go_do_not_starve_one_that_waits() -> None:
    clock = Clock(total=50_000, per_client=50_000)
    waits = clock.carrier()
    clock.ask(waits, 100_000)
    for _ in range(600):
        clock.ask(clock.carrier(), 200)
        clock.until(clock.now + 0.01)
    assert waits.total == 100_000


def test_a_pause_allows_one_burst() -> None:
    clock = Clock(total=2e6)
    carrier = clock.carrier()
    clock.until(clock.now + 3600)
    clock.ask(carrier, 1_000_000)
    assert burst_of(2e6) - turn_of(2e6) < carrier.total <= burst_of(2e6) + 1


def test_a_cancelled_flow_uses_no_tokens() -> None:
    clock = Clock(total=10_000)
    gone, stays = clock.carrier(), clock.carrier()
    clock.ask(stays, 16 * 1024)
    clock.ask(gone, 1_000_000)
    clock.ask(stays, 10_000)
    clock.shaper.cancel(gone)
    began_at = clock.now
    clock.drain()
    assert (gone.total, stays.total) == (0, stays.asked)
    assert clock.now - began_at == pytest.approx(1, abs=0.01)
    clock.ask(gone, 10)
    clock.drain()
    assert gone.total == 10


def test_streams_of_a_client_share_its_bucket() -> None:
    clock = Clock(per_client=10_000)
    for _ in range(40):
        clock.ask(clock.carrier(b"2001:db8::%x" % len(clock.log)), 1000)
    assert sum(count for _, _, count in clock.log) <= burst_of(10_000) + 1


def test_memory_is_bounded() -> None:
    clock = Clock(per_client=1e6)
    for number in range(MAX_CLIENTS + 100):
        clock.carrier(b"10.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255))
    assert len(clock.shaper.clients) == MAX_CLIENTS


def test_a_flow_may_enqueue_from_passed() -> None:
    shaper = Shaper(total=1e6, per_client=None, now=0.0)

    class Again(Flow):
        left = 5

        def passed(self, count: int) -> None:
            if self.left:
                self.left -= 1
                shaper.enqueue(self, 10)

    flow = Again(shaper.queue_for(b"", 0.0))
    shaper.enqueue(flow, 10)
    assert shaper.run(0.0) is None
    assert flow.left == 0


@given(
    st.floats(1024, 1e10),
    st.lists(st.tuples(st.floats(0, 100), st.integers(1, 16384)), max_size=20),
)
def test_a_bucket_is_ready_when_it_says(rate: float, steps: list[tuple[float, int]]) -> None:
    now = 1e6
    bucket = Bucket(rate, now)
    for pause, count in steps:
        now += pause
        if not bucket.has(count, now):
            now = max(now, bucket.ready_at(count))
            assert bucket.has(count, now)
        bucket.spend(count)
