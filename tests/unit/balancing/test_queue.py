"""Tests of zerotrust.balancing.queue."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zerotrust.balancing.queue import Queue

LIMIT, TIMEOUT = 4, 10.0


class QueueMachine(RuleBasedStateMachine):
    """Compares the queue with a list of (waiter, deadline)."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue[int] = Queue(limit=LIMIT, timeout=TIMEOUT)
        self.model: list[tuple[int, float]] = []
        self.now = 0.0
        self.next = 0

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def enter(self) -> None:
        self.next += 1
        assert self.queue.enter(self.next, self.now) is (len(self.model) < LIMIT)
        if len(self.model) < LIMIT:
            self.model.append((self.next, self.now + TIMEOUT))

    @precondition(lambda self: self.model)
    @rule(index=st.integers(0, LIMIT - 1))
    def enter_again(self, index: int) -> None:
        assert self.queue.enter(self.model[index % len(self.model)][0], self.now)

    @rule(waiter=st.integers(0, 20))
    def leave(self, waiter: int) -> None:
        self.queue.leave(waiter)
        self.model = [(w, until) for w, until in self.model if w != waiter]

    @rule()
    def release(self) -> None:
        expected = self.model.pop(0)[0] if self.model else None
        assert self.queue.release() == expected

    @rule()
    def expire(self) -> None:
        assert self.queue.expired(self.now) == [w for w, until in self.model if until <= self.now]
        self.model = [(w, until) for w, until in self.model if until > self.now]

    @invariant()
    def the_same(self) -> None:
        assert len(self.queue) == len(self.model)
        assert self.queue.deadline() == (self.model[0][1] if self.model else math.inf)


TestQueue = QueueMachine.TestCase


def test_a_limit_of_0_disables_the_queue() -> None:
    queue: Queue[int] = Queue(limit=0, timeout=TIMEOUT)
    assert not queue.enter(1, 0.0)
    assert queue.release() is None
    assert queue.expired(1e9) == []


def test_a_falsy_item_is_released_too() -> None:
    queue: Queue[int] = Queue(limit=1, timeout=TIMEOUT)
    assert queue.enter(0, 0.0)
    assert queue.release() == 0


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (30.0, 30)]
)
def test_retry_after_is_whole_seconds(timeout: float, seconds: int) -> None:
    assert Queue[int](limit=1, timeout=timeout).retry_after == seconds


@given(st.floats(0, 1e6))
def test_a_timeout_of_0_expires_all_items_at_once(now: float) -> None:
    queue: Queue[int] = Queue(limit=2, timeout=0.0)
    queue.enter(1, now)
    assert queue.expired(now) == [1]
