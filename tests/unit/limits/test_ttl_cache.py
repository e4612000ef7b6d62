"""Tests of zerotrust.limits.ttl_cache."""

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.limits.ttl_cache import TtlCache


def test_entries_expire() -> None:
    memory: TtlCache[int] = TtlCache(3)
    memory.put(b"a", 1, until=10)
    assert memory.get(b"a", 9.9) == 1
    assert memory.get(b"a", 10) is None
    assert len(memory) == 0
    assert memory.get(b"b", 0) is None


def test_the_least_recently_used_entry_is_dropped_first() -> None:
    memory: TtlCache[int] = TtlCache(2)
    memory.put(b"a", 1, until=10)
    memory.put(b"b", 2, until=10)
    assert memory.get(b"a", 0) == 1
    memory.put(b"c", 3, until=10)
    assert [memory.get(key, 0) for key in (b"a", b"b", b"c")] == [1, None, 3]
    memory.clear()
    assert len(memory) == 0


@given(st.lists(st.binary(max_size=3)), st.integers(1, 4))
def test_the_cache_never_exceeds_its_maximum(keys: list[bytes], most: int) -> None:
    memory: TtlCache[int] = TtlCache(most)
    for key in keys:
        memory.put(key, 1, until=1)
        assert memory.get(key, 0) == 1
        assert len(memory) <= most


def test_a_forgotten_entry_is_gone() -> None:
    memory: TtlCache[int] = TtlCache(2)
    memory.put(b"a", 1, until=10)
    memory.put(b"b", 2, until=10)
    memory.forget(b"a")
    memory.forget(b"unknown")
    assert [memory.get(key, 0) for key in (b"a", b"b")] == [None, 2]
