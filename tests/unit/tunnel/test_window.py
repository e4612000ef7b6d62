import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.errors import RemoteProtocolError
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.window import DEFAULT_WINDOW, MAX_WINDOW, MIN_WINDOW, GrowthBudget, ReceiveWindow


def test_more_than_the_credit_is_refused() -> None:
    window = ReceiveWindow(MIN_WINDOW, GrowthBudget(0), 0.0)
    window.received(MIN_WINDOW)
    with pytest.raises(RemoteProtocolError) as caught:
        window.received(1)
    assert caught.value.wire == Code.FLOW_CONTROL
    assert window.held == MIN_WINDOW


def test_credit_comes_back_in_halves() -> None:
    window = ReceiveWindow(100_000, GrowthBudget(0), 0.0)
    window.received(100_000)
    assert window.consumed(49_999, 1.0, None) == 0
    assert window.consumed(1, 1.0, None) == 50_000
    assert window.consumed(50_000, 1.0, None) == 50_000
    assert window.held == 0


def turn(window: ReceiveWindow, now: float, round_trip: float | None, pieces: int = 4) -> None:
    """The sender uses all its credit, the reader hands all of it on."""
    window.received(window.size)
    size = window.size
    for _ in range(pieces):
        window.consumed(size // pieces, now, round_trip)


def test_a_window_that_was_waited_for_grows_up_to_its_limit() -> None:
    budget = GrowthBudget(1 << 30)
    window = ReceiveWindow(DEFAULT_WINDOW, budget, 0.0)
    now = 0.0
    for _ in range(20):
        credit = window._credit
        window.received(credit)
        now += 0.1
        window.consumed(credit, now, 0.1)
    assert window.size == MAX_WINDOW
    assert budget.left == (1 << 30) - (MAX_WINDOW - DEFAULT_WINDOW)


def test_growth_stops_with_the_budget_and_comes_back_at_the_end() -> None:
    budget = GrowthBudget(100_000)
    windows = [ReceiveWindow(DEFAULT_WINDOW, budget, 0.0) for _ in range(3)]
    for step in range(1, 20):
        for window in windows:
            turn(window, step * 0.1, 0.1, pieces=1)
    assert budget.left == 0
    assert sum(window.size for window in windows) == 3 * DEFAULT_WINDOW + 100_000
    for window in windows:
        window.close()
        window.close()
    assert budget.left == 100_000


def test_no_growth_without_a_round_trip_time() -> None:
    window = ReceiveWindow(DEFAULT_WINDOW, GrowthBudget(1 << 30), 0.0)
    for _ in range(20):
        turn(window, 0.0, None)
    assert window.size == DEFAULT_WINDOW


def test_a_slow_reader_who_takes_a_whole_window_at_once_does_not_grow_it() -> None:
    """It empties its buffer in one go every ten seconds: the halves follow on each other, the windows do not."""
    window = ReceiveWindow(DEFAULT_WINDOW, GrowthBudget(1 << 30), 0.0)
    for step in range(1, 20):
        turn(window, step * 10.0, 0.1)
    assert window.size == DEFAULT_WINDOW


def test_a_window_that_begins_above_the_limit_of_growth_stays_as_it_is() -> None:
    budget = GrowthBudget(1 << 30)
    window = ReceiveWindow(2 * MAX_WINDOW, budget, 0.0)
    for step in range(1, 10):
        turn(window, step * 0.01, 0.1)
    assert window.size == 2 * MAX_WINDOW
    assert budget.left == 1 << 30


steps = st.lists(st.tuples(st.integers(0, 1 << 24), st.integers(0, 1 << 24), st.floats(0, 2)), max_size=60)


@given(st.integers(MIN_WINDOW, 16 << 20), st.integers(0, 64 << 20), steps)
def test_credit_arithmetic(initial: int, total: int, steps: list[tuple[int, int, float]]) -> None:
    """At any time: credit + held + handed on and not granted = size; sizes within limits; the budget is conserved."""
    budget = GrowthBudget(total)
    window = ReceiveWindow(initial, budget, 0.0)
    credit = initial
    now = 0.0
    for arriving, leaving, pause in steps:
        now += pause
        size = min(arriving, credit)
        window.received(size)
        credit -= size
        grant = window.consumed(min(leaving, window.held), now, 0.5)
        assert grant >= 0
        credit += grant
        assert credit + window.held <= window.size <= max(MAX_WINDOW, initial)
        assert budget.left >= 0
        assert budget.left + window.size - initial == total
        assert window.held or credit * 2 > window.size, "all was handed on and yet the sender may not go on"
    window.close()
    assert budget.left == total and window.held == 0
