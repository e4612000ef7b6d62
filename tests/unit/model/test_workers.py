"""Tests of zerotrust.model.workers."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.model.workers import MAX_WORKERS, processors, share


@given(st.integers(1, 10**6), st.integers(1, MAX_WORKERS))
def test_shares_exceed_the_limit_by_less_than_the_number_of_workers(
    limit: int, workers: int
) -> None:
    one = share(limit, workers)
    assert one >= 1
    assert limit <= one * workers < limit + workers
    assert share(limit, 1) == limit


def test_processors_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert processors() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(200)), raising=False)
    assert processors() == MAX_WORKERS
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors() == 1
