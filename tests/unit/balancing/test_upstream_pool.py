"""Tests of zerotrust.balancing.upstream_pool."""

import math
import random
from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def take(group: UpstreamPool, now: float = 0.0, **rest: Any) -> int | None:
    """The index of the member that gets the request, which ends at once."""
    member = group.take(b"192.0.2.1", now, **rest)
    if member is None:
        return None
    group.give_back(member)
    return group.members.index(member)


def used(group: UpstreamPool, now: float = 0.0) -> set[int | None]:
    return {take(group, now) for _ in range(60)}


def break_down(group: UpstreamPool, index: int, now: float = 0.0, failure: Failure = CONNECT) -> bool:
    """A run of failures; True where it is ejected for that."""
    return any([group.failed(group.members[index], failure, now) is not None for _ in range(5)])  # noqa: C419 - all five


# ---- who is used


def test_all_are_used_where_all_is_well() -> None:
    group = make()
    assert [take(group) for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    assert group.up(0.0)


def test_only_those_with_nothing_against_them_are_used() -> None:
    group = make(policy="first")
    assert group.probed(group.members[0], False, 1.0) is not None
    assert used(group, 1.0) == {1}
    assert break_down(group, 1, 1.0)
    assert used(group, 1.0) == {2}
    assert used(group, 11.0) == {1}
    group.probed(group.members[0], True, 11.0)
    assert used(group, 11.0) == {0}


def test_the_return_of_an_ejected_one_needs_nothing_but_time() -> None:
    group = make(2)
    break_down(group, 0, 5.0)
    assert used(group, 14.9) == {1}
    assert used(group, 15.0) == {0, 1}


def test_all_down_and_health_required_is_none() -> None:
    group = make(2, health_check_required=True)
    for member in group.members:
        group.probed(member, False, 0.0)
    assert take(group) is None
    assert take(group, preferred="10.0.0.1:80") is None
    assert not group.up(0.0)
    assert not group.has_room(0.0)
    group.probed(group.members[1], True, 1.0)
    assert used(group, 1.0) == {1}
    assert group.up(1.0)
    assert group.has_room(1.0)


def test_all_down_and_health_not_required_is_the_least_bad() -> None:
    group = make(3)
    break_down(group, 0)
    for member in group.members:
        group.probed(member, False, 0.0)
    assert used(group) == {1, 2}
    assert group.up(0.0)


def test_a_wrong_health_path_alone_changes_nothing() -> None:
    group = make(3)
    for member in group.members:
        group.probed(member, False, 0.0)
    assert [take(group) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


# ---- ejection is bounded


@pytest.mark.parametrize(
    ("count", "percent", "most"),
    [(1, 100, 0), (2, 50, 1), (2, 100, 1), (3, 50, 2), (3, 33, 1), (4, 50, 2), (5, 100, 4), (5, 0, 0), (10, 11, 2)],
)
@pytest.mark.parametrize("failure", list(Failure))
def test_not_more_than_their_share_are_out(count: int, percent: int, most: int, failure: Failure) -> None:
    group = make(count, outlier={"max_ejection_percent": percent})
    assert [break_down(group, index, failure=failure) for index in range(count)] == [i < most for i in range(count)]
    assert len(used(group)) == count - most


def test_those_that_fail_their_probes_count_as_out() -> None:
    group = make(2)
    group.probed(group.members[0], False, 0.0)
    assert not break_down(group, 1)
    assert used(group) == {1}


def test_one_that_fails_its_probes_and_its_requests_is_the_worst() -> None:
    group = make(2)
    group.probed(group.members[0], False, 0.0)
    break_down(group, 0)
    group.probed(group.members[1], False, 0.0)
    assert used(group) == {1}


def test_room_for_an_ejection_that_comes_later_is_used_by_the_next_failure() -> None:
    group = make(2)
    break_down(group, 0)
    assert not break_down(group, 1, 9.9)
    assert group.failed(group.members[1], CONNECT, 10.0) is not None


@pytest.mark.parametrize(("failure", "left"), [(CONNECT, {None}), (RESET, {None}), (ERROR, {1})])
def test_where_health_is_required_broken_connections_take_all_out_but_5xx_do_not(
    failure: Failure, left: set[int | None]
) -> None:
    group = make(2, health_check_required=True)
    for index in range(2):
        break_down(group, index, failure=failure)
    assert used(group) == left


def test_success_ends_a_run() -> None:
    group = make(2)
    for _ in range(20):
        group.failed(group.members[0], CONNECT, 0.0)
        group.failed(group.members[0], CONNECT, 0.0)
        group.succeeded(group.members[0])
    assert used(group) == {0, 1}


# ---- limits


def test_the_limit_of_the_service() -> None:
    group = make(2, max_connections=3)
    taken = [group.take(b"c", 0.0) for _ in range(4)]
    assert taken[3] is None
    assert not group.has_room(0.0)
    assert group.up(0.0)
    assert taken[0] is not None
    group.give_back(taken[0])
    assert group.has_room(0.0)
    assert take(group) is not None


def test_the_limits_of_the_upstreams() -> None:
    upstreams = [Upstream(address="a:1", max_connections=1), Upstream(address="b:1", max_connections=2)]
    group = UpstreamPool(upstreams, LoadBalancing(), rng=random.Random(0), now=0.0)
    taken = [group.take(b"c", 0.0) for _ in range(4)]
    assert Counter(member and member.key for member in taken) == {"a:1": 1, "b:1": 2, None: 1}
    assert group.up(0.0)
    assert not group.has_room(0.0)
    assert group._load.active == 3


# ---- preferred and tried


def test_a_client_stays_where_it_was_while_that_can_be() -> None:
    group = make(3, policy="first")
    assert take(group, preferred="10.0.0.2:80") == 2
    assert take(group, preferred="10.0.0.9:80") == 0
    break_down(group, 2)
    assert take(group, preferred="10.0.0.2:80") == 0


def test_a_full_one_loses_its_clients_and_one_without_weight_keeps_them() -> None:
    upstreams = [Upstream(address="a:1"), Upstream(address="b:1", weight=0, max_connections=1)]
    group = UpstreamPool(upstreams, LoadBalancing(), rng=random.Random(0), now=0.0)
    assert used(group) == {0}
    member = group.take(b"c", 0.0, preferred="b:1")
    assert member is group.members[1]
    assert take(group, preferred="b:1") == 0


def test_one_that_has_failed_this_request_is_not_tried_again() -> None:
    group = make(3, policy="first")
    tried: list[PooledUpstream] = []
    for expected in (0, 1, 2):
        assert take(group, tried=tried, preferred="10.0.0.0:80") == expected
        tried.append(group.members[expected])
    assert group.take(b"c", 0.0, tried=tried) is None


# ---- slow start


def test_one_that_returns_gets_its_share_little_by_little() -> None:
    group = make(2, slow_start=20)
    break_down(group, 0)
    shares = []
    for now in (10.0, 15.0, 20.0, 30.0):
        counted = Counter(take(group, now) for _ in range(300))
        shares.append(counted[0] / counted[1])
    assert shares == [pytest.approx(share, abs=0.05) for share in (0.1, 0.25, 0.5, 1)]


# ---- probes, sweeps, retry_after


def test_each_is_probed_once_at_a_time() -> None:
    group = make(3)
    due = group.probes_due(2.0)
    assert set(due) == set(group.members)
    assert group.probes_due(1e9) == []
    group.probed(due[0], True, 3.0)
    assert group.probes_due(3.0) == []
    assert group.probes_due(40.0) == [due[0]]


def test_a_sweep_says_what_time_has_changed_and_says_it_once() -> None:
    group = make(2)
    break_down(group, 1)
    assert group.sweep(9.9) == []
    take(group, 10.5)  # a request that sees the change first does not hide it
    ((member, change),) = group.sweep(11.0)
    assert member is group.members[1]
    assert change.after is HealthState.HEALTHY
    assert group.sweep(11.0) == []


def test_retry_after_is_whole_seconds_until_one_may_be_back() -> None:
    group = make(2, health_check_required=True)
    assert group.retry_after(0.0) == 1
    break_down(group, 0)
    break_down(group, 1, 4.5)
    assert [group.retry_after(now) for now in (4.5, 8.9, 9.5, 10.0)] == [6, 2, 1, 1]
    for member in group.members:
        group.probed(member, False, 5.0)
    assert 27 - 5 <= group.retry_after(5.0) <= 33


def test_retry_after_is_bounded() -> None:
    group = make(1, health_check_required=True, outlier={"base_ejection_time": "1h", "max_ejection_time": "1h"})
    break_down(group, 0)
    assert group.retry_after(0.0) == MAX_RETRY_AFTER


# ---- whatever happens

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
@settings(max_examples=60, deadline=None)
def test_whatever_happens(
    policy: Policy, weights: list[int], required: bool, slow_start: float, bound: int | None, events: list[Any]
) -> None:
    upstreams = [Upstream(address=f"{i}:1", weight=w, max_connections=2) for i, w in enumerate(weights)]
    upstreams = [upstream.model_copy(update={"health_check": CHECK}) for upstream in upstreams]
    options = LoadBalancing(policy=policy, health_check_required=required, slow_start=slow_start, max_connections=bound)
    group = UpstreamPool(upstreams, options, rng=random.Random(0), now=0.0)
    taken: list[PooledUpstream] = []
    now = 0.0
    for event, index, seconds in events:
        now += seconds
        member = group.members[index % len(group.members)]
        badness = {m: m.health.badness(now) for m in group.members}
        if event == "take":
            allowed = [m for m in group.members if badness[m] == min(badness.values())]
            if required and min(badness.values()):
                allowed = []
            room = [m for m in allowed if m.active < 2] if len(taken) < (bound or math.inf) else []
            assert group.up(now) is bool(allowed)
            assert group.has_room(now) is bool(room)
            chosen = group.take(b"c", now)
            assert chosen in (room or [None])
            taken += [chosen] if chosen is not None else []
        elif event == "end" and taken:
            group.give_back(taken.pop(index % len(taken)))
        elif event in ("up", "down"):
            group.probed(member, event == "up", now)
        elif isinstance(event, Failure):
            change = group.failed(member, event, now)
            if change is not None and (not required or event is ERROR):
                assert any(m.health.usable(now) for m in group.members)
        elif event == "ok":
            group.succeeded(member)
        elif event == "sweep":
            group.sweep(now)
            assert all((m.health.state is HealthState.HEALTHY) is (badness[m] == 0) for m in group.members)
        assert group._load.active == sum(m.active for m in group.members) == len(taken)
        assert 1 <= group.retry_after(now) <= MAX_RETRY_AFTER


# ---- a group that takes the place of another


def inherited(before: UpstreamPool, *, health: bool = True, **options: Any) -> UpstreamPool:
    after = make(2, **options)
    after.inherit(before, [(after.members[0], before.members[1])], health=health)
    return after


def test_what_still_runs_counts_in_the_group_that_takes_over() -> None:
    before = make(max_connections=2)
    running = [before.take(b"", 0.0), before.take(b"", 0.0)]
    after = inherited(before, max_connections=2)
    assert [member.active for member in after.members] == [1, 0]
    assert after.take(b"", 1.0) is None
    assert running[0] is not None
    before.give_back(running[0])
    assert after.has_room(1.0)
    assert after.take(b"", 1.0) is not None
    assert before.take(b"", 1.0) is None, "who waited for the former one competes for the same places"


def test_what_is_known_of_a_member_outlives_its_group() -> None:
    before = make(policy="first", outlier={"base_ejection_time": 5})
    before.probed(before.members[1], False, 0.0)
    after = inherited(before, outlier={"base_ejection_time": 5})
    assert used(after, 1.0) == {1}
    before.probed(before.members[1], True, 1.0)
    after.sweep(2.0)
    assert used(after, 2.0) == {0, 1}, "a probe that was under way told the former group"


@pytest.mark.parametrize("changed", ["health", "check", "outlier", "slow_start"])
def test_what_is_judged_otherwise_begins_anew(changed: str) -> None:
    before = make(
        outlier={} if changed == "outlier" else {"base_ejection_time": 5}, slow_start=float(changed == "slow_start")
    )
    before.probed(before.members[1], False, 0.0)
    after = make(2, outlier={"base_ejection_time": 5})
    if changed == "check":
        upstreams = [Upstream(address=f"10.0.0.{i}:80", health_check=HealthCheck(path="/x")) for i in range(2)]
        options = LoadBalancing(outlier_detection={"base_ejection_time": 5})
        after = UpstreamPool(upstreams, options, rng=random.Random(0), now=0.0)
    after.inherit(before, [(after.members[0], before.members[1])], health=changed != "health")
    assert used(after, 1.0) == {0, 1}
