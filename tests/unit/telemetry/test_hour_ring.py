"""Tests of the ring of the last hour, against a dictionary."""

import math

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.telemetry.hour_ring import SLOT, SLOTS, HourRing, slot_of

STEPS = st.lists(st.tuples(st.integers(0, 2 * SLOTS), st.integers(0, 2**20)), max_size=60)


def numbers(column: list[float]) -> dict[int, float]:
    """Return the numbers of a column by their place."""
    assert len(column) == SLOTS
    return {at: one for at, one in enumerate(column) if not math.isnan(one)}


@given(STEPS, st.integers(0, 10**9), st.integers(1, SLOTS))
def test_a_column_has_what_was_written_in_the_hour(
    steps: list[tuple[int, int]], first: int, later: int
) -> None:
    ring, model, slot = HourRing(2), dict[int, int](), first
    for step, number in steps:
        slot += step
        ring.write(slot, (number, -number))
        model[slot] = number
    kept = {number for number in model if number > slot - SLOTS}
    hour = range(slot + later - SLOTS, slot + later)
    wanted = {number - hour[0]: model[number] for number in hour if number in kept}
    assert numbers(ring.column(0, slot + later)) == wanted
    assert numbers(ring.column(1, slot + later)) == {at: -one for at, one in wanted.items()}
    assert ring.is_over(slot + later) == (not wanted)


def test_an_older_row_changes_nothing() -> None:
    ring = HourRing(1)
    ring.write(10, (1.0,))
    ring.write(9, (2.0,))
    assert numbers(ring.column(0, 11)) == {SLOTS - 1: 1.0}


def test_the_memory_is_fixed() -> None:
    ring = HourRing(3)
    for slot in range(3 * SLOTS):
        ring.write(slot, (1, 2, 3))
    assert ring.size == SLOTS * 3 * 4
    assert SLOTS * SLOT == 3600


def test_slots_are_counted_from_the_clocks_zero() -> None:
    assert slot_of(0.0) == 0
    assert slot_of(SLOT - 0.001) == 0
    assert slot_of(SLOT) == 1
