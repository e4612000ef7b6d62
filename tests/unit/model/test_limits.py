"""Tests of zerotrust.model.limits."""

import pytest
from pydantic import ValidationError

from zerotrust.model.limits import Limits
from zerotrust.tunnel.window import MAX_UNCONSUMED_BYTES


def test_sizes_as_numbers() -> None:
    limits = Limits(memory="10MB", memory_per_agent="2MiB")
    assert limits.memory_bytes == 10_000_000
    assert limits.memory_per_agent_bytes == 2 * 1024 * 1024


def test_an_agent_is_refused_new_requests_before_it_loses_those_that_it_has() -> None:
    assert Limits().memory_per_agent_bytes < MAX_UNCONSUMED_BYTES


@pytest.mark.parametrize("size", ["0", "1023KiB", "-1", "much"])
def test_sizes_that_are_too_small(size: str) -> None:
    with pytest.raises(ValidationError):
        Limits(memory=size)


def test_a_worker_has_a_share() -> None:
    limits = Limits(requests=10, requests_per_agent=3, memory="4MiB", memory_per_agent="2MiB")
    assert limits.shared(1) is limits
    half = limits.shared(2)
    assert (half.requests, half.requests_per_agent) == (5, 2)
    assert (half.memory_bytes, half.memory_per_agent_bytes) == (2 * 1024 * 1024, 1024 * 1024)
    assert limits.shared(64).memory_bytes == 1024 * 1024
    assert half.certificates_per_agent == limits.certificates_per_agent
