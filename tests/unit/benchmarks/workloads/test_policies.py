"""Tests of benchmarks.workloads.policies."""

import pytest

from benchmarks.workloads.policies import (
    CASES,
    Case,
    held,
    is_accepted,
    largest,
    largest_guard,
    worst_heads,
)
from zerotrust.http.head import MAX_REQUEST_HEAD_BYTES
from zerotrust.middleware.policy import Policy
from zerotrust.model import middleware as model
from zerotrust.routing.query import MAX_QUERY_BYTES


@pytest.mark.large
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_largest_policy_is_at_a_bound(case: Case) -> None:
    guard, number = largest_guard(case), largest(case)
    assert is_accepted(case.policy(number))
    assert not is_accepted(case.policy(number + 1))
    for head in worst_heads(case, 7):
        query = head.target.partition(b"?")[2]
        assert MAX_QUERY_BYTES - 1500 < len(query) <= MAX_QUERY_BYTES
        assert len(head.target) + len(head.fields.lines) < MAX_REQUEST_HEAD_BYTES
        assert held(guard, head, b"203.0.113.9") > 0


@pytest.mark.large
@pytest.mark.slow
def test_each_kind_of_handler_is_measured() -> None:
    """Exempt are middleware without effect, and basic_auth, whose hash a thread computes."""
    kinds: set[type[object]] = set()
    for case in CASES:
        policy: Policy = largest_guard(case).policy
        kinds.update(type(handler) for handler, _ in policy.made)
    expected = {
        model.Headers,
        model.RateLimit,
        model.IpDeny,
        model.Cors,
        model.Jwt,
        model.Redirect,
        model.Rewrite,
    }
    assert kinds == expected


def test_the_queries_of_different_requests_differ() -> None:
    targets = [head.target for number in range(3) for head in worst_heads(CASES[0], number)]
    assert len(set(targets)) == len(targets)
