"""Tests of zerotrust.limits.gcra."""

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.limits.gcra import CellRate, Pace


def passes(rate: CellRate, key: bytes, now: float) -> bool:
    return rate.wait(rate.take(key, now)) == 0


def test_each_key_has_its_own_burst_and_then_the_rate() -> None:
    rate = CellRate(6, 60, burst=2)
    assert [passes(rate, b"a", 5) for _ in range(3)] == [True, True, False]
    assert [passes(rate, b"b", 5) for _ in range(3)] == [True, True, False]
    assert rate.wait(rate.take(b"a", 6)) == 9
    assert not passes(rate, b"a", 14.9)
    assert passes(rate, b"a", 15)


def test_how_many_are_left() -> None:
    rate = CellRate(3, 60)
    assert [rate.left(rate.take(b"", 0)) for _ in range(3)] == [2, 1, 0]


@given(st.lists(st.floats(0, 100), max_size=60).map(sorted), st.integers(1, 10), st.integers(1, 10))
def test_never_more_than_the_burst_and_the_rate(times: list[float], count: int, burst: int) -> None:
    rate = CellRate(count, 10, burst)
    passed = [now for now in times if passes(rate, b"", now)]
    for first, begin in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            assert last - first + 1 <= burst + (end - begin) * count / 10 + 1e-6


@given(st.lists(st.floats(0, 20), max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_waiting_as_told_is_enough_and_needed(pauses: list[float], count: int, burst: int) -> None:
    rate, now = CellRate(count, 7, burst), 0.0
    for pause in pauses:
        now += pause
        wait = rate.wait(rate.take(b"", now))
        if wait:
            assert wait == 1 or not passes(rate, b"", now + wait - 1.001), (
                "it was told to wait for longer than it had to"
            )
            now += wait
            assert passes(rate, b"", now)


def test_a_single_key_has_a_burst_and_then_the_rate() -> None:
    pace = Pace(2, burst=3)
    assert [pace.take(1, 10) for _ in range(4)] == [True, True, True, False]
    assert not pace.take(1, 10.5)
    assert pace.take(1, 12)
    assert pace.take(3, 20)
    assert not pace.take(4, 30)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 9)), max_size=60).map(sorted),
    st.integers(1, 10),
    st.integers(1, 30),
)
def test_a_single_key_never_gets_more(
    taken: list[tuple[float, int]], rate: int, burst: int
) -> None:
    pace, passed = Pace(rate, burst), list[tuple[float, int]]()
    for now, count in taken:
        if not pace.take(count, now):
            break
        passed.append((now, count))
    for first, (begin, _) in enumerate(passed):
        for last in range(first, len(passed)):
            total = sum(count for _, count in passed[first : last + 1])
            assert total <= burst + (passed[last][0] - begin) * rate + 1e-5
