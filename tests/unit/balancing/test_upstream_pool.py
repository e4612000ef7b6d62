"""Tests of zerotrust.balancing.upstream_pool."""

import math
import random
from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from zerotrust.balancing.health import HealthState
from zerotrust.balancing.passive_health import Failure
from zerotrust.balancing.upstream_pool import MAX_RETRY_AFTER, PooledUpstream, UpstreamPool
from zerotrust.model.upstream import HealthCheck, LoadBalancing, Policy, Upstream

CONNECT, RESET, ERROR = Failure.CONNECT, Failure.RESET, Failure.SERVER_ERROR
CHECK = HealthCheck(unhealthy_threshold=1, healthy_threshold=1)


def make(count: int = 3, *, outlier: dict[str, Any] | None = None, **options: Any) -> UpstreamPool:
    upstreams = [Upstream(address=f"10.0.0.{i}:80", health_check=CHECK) for i in range(count)]
    balancing = LoadBalancing(outlier_detection=outlier or {}, **options)
    return UpstreamPool(upstreams, balancing, rng=random.Random(0), now=0.0)


def take(pool: UpstreamPool, now: float = 0.0, **rest: Any) -> int | None:
    """Return the index of the member that gets a request, which ends at once."""
    member = pool.take(b"192.0.2.1", now, **rest)
    if member is None:
        return None
    pool.give_back(member)
    return pool.members.index(member)


def used(pool: UpstreamPool, now: float = 0.0) -> set[int | None]:
    return {take(pool, now) for _ in range(60)}


def break_down(
    pool: UpstreamPool, index: int, now: float = 0.0, failure: Failure = CONNECT
) -> bool:
    """Fail requests in a row. Return True if the member is ejected."""
    return any([pool.failed(pool.members[index], failure, now) is not None for _ in range(5)])  # noqa: C419 - all five


# ---- upstreams in use


def test_all_healthy_upstreams_are_used() -> None:
    pool = make()
    assert [take(pool) for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    assert pool.up(0.0)


def test_without_upstreams_no_request_is_placed() -> None:
    pool = make(0)
    assert take(pool) is None
    assert not pool.up(0.0)
    assert not pool.has_room(0.0)
    assert pool.retry_after(0.0) == 1
    assert pool.sweep(1.0) == []


def test_only_healthy_upstreams_are_used() -> None:
    pool = make(policy="first")
    assert pool.probed(pool.members[0], False, 1.0) is not None
    assert used(pool, 1.0) == {1}
    assert break_down(pool, 1, 1.0)
    assert used(pool, 1.0) == {2}
    assert used(pool, 11.0) == {1}
    pool.probed(pool.members[0], True, 11.0)
    assert used(pool, 11.0) == {0}


def test_an_ejected_upstream_returns_after_its_time() -> None:
    pool = make(2)
    break_down(pool, 0, 5.0)
    assert used(pool, 14.9) == {1}
    assert used(pool, 15.0) == {0, 1}


def test_health_check_required_uses_no_unhealthy_upstream() -> None:
    pool = make(2, health_check_required=True)
    for member in pool.members:
        pool.probed(member, False, 0.0)
    assert take(pool) is None
    assert take(pool, preferred="10.0.0.1:80") is None
    assert not pool.up(0.0)
    assert not pool.has_room(0.0)
    pool.probed(pool.members[1], True, 1.0)
    assert used(pool, 1.0) == {1}
    assert pool.up(1.0)
    assert pool.has_room(1.0)


def test_without_healthy_upstreams_the_least_bad_is_used() -> None:
    pool = make(3)
    break_down(pool, 0)
    for member in pool.members:
        pool.probed(member, False, 0.0)
    assert used(pool) == {1, 2}
    assert pool.up(0.0)


def test_failing_probes_of_all_upstreams_change_nothing() -> None:
    pool = make(3)
    for member in pool.members:
        pool.probed(member, False, 0.0)
    assert [take(pool) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


# ---- ejection is bounded


@pytest.mark.parametrize(
    ("count", "percent", "most"),
    [
        (1, 100, 0),
        (2, 50, 1),
        (2, 100, 1),
        (3, 50, 2),
        (3, 33, 1),
        (4, 50, 2),
        (5, 100, 4),
        (5, 0, 0),
        (10, 11, 2),
    ],
)
@pytest.mark.parametrize("failure", list(Failure))
def test_at_most_max_ejection_percent_are_ejected(
    count: int, percent: int, most: int, failure: Failure
) -> None:
    pool = make(count, outlier={"max_ejection_percent": percent})
    assert [break_down(pool, index, failure=failure) for index in range(count)] == [
        i < most for i in range(count)
    ]
    assert len(used(pool)) == count - most


def test_unhealthy_upstreams_count_as_ejected() -> None:
    pool = make(2)
    pool.probed(pool.members[0], False, 0.0)
    assert not break_down(pool, 1)
    assert used(pool) == {1}


def test_an_upstream_with_failing_probes_and_requests_is_used_last() -> None:
    pool = make(2)
    pool.probed(pool.members[0], False, 0.0)
    break_down(pool, 0)
    pool.probed(pool.members[1], False, 0.0)
    assert used(pool) == {1}


def test_the_next_failure_uses_room_for_an_ejection() -> None:
    pool = make(2)
    break_down(pool, 0)
    assert not break_down(pool, 1, 9.9)
    assert pool.failed(pool.members[1], CONNECT, 10.0) is not None


@pytest.mark.parametrize(("failure", "left"), [(CONNECT, {None}), (RESET, {None}), (ERROR, {1})])
def test_health_check_required_ejects_all_for_connections_but_not_for_5xx(
    failure: Failure, left: set[int | None]
) -> None:
    pool = make(2, health_check_required=True)
    for index in range(2):
        break_down(pool, index, failure=failure)
    assert used(pool) == left


def test_a_success_ends_a_series_of_failures() -> None:
    pool = make(2)
    for _ in range(20):
        pool.failed(pool.members[0], CONNECT, 0.0)
        pool.failed(pool.members[0], CONNECT, 0.0)
        pool.succeeded(pool.members[0])
    assert used(pool) == {0, 1}


# ---- limits


def test_the_limit_of_the_service() -> None:
    pool = make(2, max_connections=3)
    taken = [pool.take(b"c", 0.0) for _ in range(4)]
    assert taken[3] is None
    assert not pool.has_room(0.0)
    assert pool.up(0.0)
    assert taken[0] is not None
    pool.give_back(taken[0])
    assert pool.has_room(0.0)
    assert take(pool) is not None


def test_the_limits_of_the_upstreams() -> None:
    upstreams = [
        Upstream(address="a:1", max_connections=1),
        Upstream(address="b:1", max_connections=2),
    ]
    pool = UpstreamPool(upstreams, LoadBalancing(), rng=random.Random(0), now=0.0)
    taken = [pool.take(b"c", 0.0) for _ in range(4)]
    assert Counter(member and member.key for member in taken) == {"a:1": 1, "b:1": 2, None: 1}
    assert pool.up(0.0)
    assert not pool.has_room(0.0)
    assert pool.load.active == 3


# ---- preferred and tried


def test_the_preferred_upstream_is_chosen_while_it_is_used() -> None:
    pool = make(3, policy="first")
    assert take(pool, preferred="10.0.0.2:80") == 2
    assert take(pool, preferred="10.0.0.9:80") == 0
    break_down(pool, 2)
    assert take(pool, preferred="10.0.0.2:80") == 0


def test_a_full_upstream_is_not_preferred_and_one_without_weight_is() -> None:
    upstreams = [Upstream(address="a:1"), Upstream(address="b:1", weight=0, max_connections=1)]
    pool = UpstreamPool(upstreams, LoadBalancing(), rng=random.Random(0), now=0.0)
    assert used(pool) == {0}
    member = pool.take(b"c", 0.0, preferred="b:1")
    assert member is pool.members[1]
    assert take(pool, preferred="b:1") == 0


def test_an_upstream_that_failed_the_request_is_not_tried_again() -> None:
    pool = make(3, policy="first")
    tried: list[PooledUpstream] = []
    for expected in (0, 1, 2):
        assert take(pool, tried=tried, preferred="10.0.0.0:80") == expected
        tried.append(pool.members[expected])
    assert pool.take(b"c", 0.0, tried=tried) is None


# ---- slow start


def test_slow_start_of_a_recovered_upstream() -> None:
    pool = make(2, slow_start=20)
    break_down(pool, 0)
    shares = []
    for now in (10.0, 15.0, 20.0, 30.0):
        counted = Counter(take(pool, now) for _ in range(300))
        shares.append(counted[0] / counted[1])
    assert shares == [pytest.approx(share, abs=0.05) for share in (0.1, 0.25, 0.5, 1)]


# ---- probes, sweeps, retry_after


def test_each_upstream_has_one_probe_at_a_time() -> None:
    pool = make(3)
    due = pool.probes_due(2.0)
    assert set(due) == set(pool.members)
    assert pool.probes_due(1e9) == []
    pool.probed(due[0], True, 3.0)
    assert pool.probes_due(3.0) == []
    assert pool.probes_due(40.0) == [due[0]]


def test_sweep_returns_each_change_once() -> None:
    pool = make(2)
    break_down(pool, 1)
    assert pool.sweep(9.9) == []
    take(pool, 10.5)  # a request that sees the change first does not hide it
    ((member, change),) = pool.sweep(11.0)
    assert member is pool.members[1]
    assert change.after is HealthState.HEALTHY
    assert pool.sweep(11.0) == []


def test_retry_after_is_whole_seconds_until_one_may_be_back() -> None:
    pool = make(2, health_check_required=True)
    assert pool.retry_after(0.0) == 1
    break_down(pool, 0)
    break_down(pool, 1, 4.5)
    assert [pool.retry_after(now) for now in (4.5, 8.9, 9.5, 10.0)] == [6, 2, 1, 1]
    for member in pool.members:
        pool.probed(member, False, 5.0)
    assert 27 - 5 <= pool.retry_after(5.0) <= 33


def test_retry_after_is_bounded() -> None:
    pool = make(
        1,
        health_check_required=True,
        outlier={"base_ejection_time": "1h", "max_ejection_time": "1h"},
    )
    break_down(pool, 0)
    assert pool.retry_after(0.0) == MAX_RETRY_AFTER


# ---- any sequence

EVENTS = st.tuples(
    st.sampled_from(["take", "take", "end", "up", "down", *Failure, "ok", "sweep"]),
    st.integers(0, 3),
    st.floats(0, 8),
)


@pytest.mark.parametrize("policy", get_args(Policy))
@given(
    weights=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    required=st.booleans(),
    slow_start=st.sampled_from([0, 5]),
    bound=st.sampled_from([None, 4]),
    events=st.lists(EVENTS, max_size=60),
)
@settings(max_examples=examples(60))
def test_any_sequence_of_events_keeps_the_pool_consistent(
    policy: Policy,
    weights: list[int],
    required: bool,
    slow_start: float,
    bound: int | None,
    events: list[Any],
) -> None:
    upstreams = [
        Upstream(address=f"{i}:1", weight=w, max_connections=2) for i, w in enumerate(weights)
    ]
    upstreams = [upstream.model_copy(update={"health_check": CHECK}) for upstream in upstreams]
    options = LoadBalancing(
        policy=policy, health_check_required=required, slow_start=slow_start, max_connections=bound
    )
    pool = UpstreamPool(upstreams, options, rng=random.Random(0), now=0.0)
    taken: list[PooledUpstream] = []
    now = 0.0
    for event, index, seconds in events:
        now += seconds
        member = pool.members[index % len(pool.members)]
        badness = {m: m.health.badness(now) for m in pool.members}
        if event == "take":
            allowed = [m for m in pool.members if badness[m] == min(badness.values())]
            if required and min(badness.values()):
                allowed = []
            room = [m for m in allowed if m.active < 2] if len(taken) < (bound or math.inf) else []
            assert pool.up(now) is bool(allowed)
            assert pool.has_room(now) is bool(room)
            chosen = pool.take(b"c", now)
            assert chosen in room if room else chosen is None
            taken += [chosen] if chosen is not None else []
        elif event == "end" and taken:
            pool.give_back(taken.pop(index % len(taken)))
        elif event in ("up", "down"):
            pool.probed(member, event == "up", now)
        elif isinstance(event, Failure):
            change = pool.failed(member, event, now)
            if change is not None and (not required or event is ERROR):
                assert any(m.health.usable(now) for m in pool.members)
        elif event == "ok":
            pool.succeeded(member)
        elif event == "sweep":
            pool.sweep(now)
            assert all(
                (m.health.state is HealthState.HEALTHY) is (badness[m] == 0) for m in pool.members
            )
        assert pool.load.active == sum(m.active for m in pool.members) == len(taken)
        assert 1 <= pool.retry_after(now) <= MAX_RETRY_AFTER


# ---- inherit


def inherited(before: UpstreamPool, *, health: bool = True, **options: Any) -> UpstreamPool:
    after = make(2, **options)
    after.inherit(before, [(after.members[0], before.members[1])], health=health)
    return after


def test_running_requests_count_in_the_new_pool() -> None:
    before = make(max_connections=2)
    running = [before.take(b"", 0.0), before.take(b"", 0.0)]
    after = inherited(before, max_connections=2)
    assert [member.active for member in after.members] == [1, 0]
    assert after.take(b"", 1.0) is None
    assert running[0] is not None
    before.give_back(running[0])
    assert after.has_room(1.0)
    assert after.take(b"", 1.0) is not None
    assert before.take(b"", 1.0) is None, (
        "who waited for the former one competes for the same places"
    )


def test_the_health_of_a_member_moves_to_the_new_pool() -> None:
    before = make(policy="first", outlier={"base_ejection_time": 5})
    before.probed(before.members[1], False, 0.0)
    after = inherited(before, outlier={"base_ejection_time": 5})
    assert used(after, 1.0) == {1}
    before.probed(before.members[1], True, 1.0)
    after.sweep(2.0)
    assert used(after, 2.0) == {0, 1}, "a probe that was under way told the former pool"


@pytest.mark.parametrize("changed", ["health", "check", "outlier", "slow_start"])
def test_changed_checks_start_with_fresh_health(changed: str) -> None:
    before = make(
        outlier={} if changed == "outlier" else {"base_ejection_time": 5},
        slow_start=float(changed == "slow_start"),
    )
    before.probed(before.members[1], False, 0.0)
    after = make(2, outlier={"base_ejection_time": 5})
    if changed == "check":
        upstreams = [
            Upstream(address=f"10.0.0.{i}:80", health_check=HealthCheck(path="/x"))
            for i in range(2)
        ]
        options = LoadBalancing(outlier_detection={"base_ejection_time": 5})
        after = UpstreamPool(upstreams, options, rng=random.Random(0), now=0.0)
    after.inherit(before, [(after.members[0], before.members[1])], health=changed != "health")
    assert used(after, 1.0) == {0, 1}
