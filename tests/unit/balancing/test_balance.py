"""Tests of zerotrust.balancing.balance."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from zerotrust.balancing.balance import Balancer, Candidate, make_balancer
from zerotrust.model.upstream import Policy

POLICIES: tuple[Policy, ...] = get_args(Policy)
WEIGHTS = st.lists(st.integers(1, 30), min_size=1, max_size=8)
CLIENTS = [f"192.0.2.{i}".encode() for i in range(250)]


def make(policy: Policy, seed: int = 0) -> Balancer:
    return make_balancer(policy, random.Random(seed))


def upstreams(weights: Sequence[int]) -> list[Candidate]:
    return [Candidate(f"10.0.0.{i}:80", weight=weight) for i, weight in enumerate(weights)]


def picks(balancer: Balancer, candidates: Sequence[Candidate], count: int) -> list[str]:
    chosen = [balancer.pick(candidates, b"c") for _ in range(count)]
    return [c.key for c in chosen if c is not None]


def places(candidates: Sequence[Candidate]) -> dict[bytes, Candidate | None]:
    balancer = make("ip_hash")
    return {client: balancer.pick(candidates, client) for client in CLIENTS}


# ---- any policy


@pytest.mark.parametrize("policy", POLICIES)
@given(data=st.data())
def test_pick_returns_an_upstream_with_room_if_there_is_one(
    policy: Policy, data: st.DataObject
) -> None:
    candidates = []
    for index in range(data.draw(st.integers(0, 5))):
        bound = data.draw(st.none() | st.integers(1, 3))
        candidate = Candidate(
            str(index), weight=data.draw(st.integers(0, 3)), max_connections=bound
        )
        candidate.load.active = data.draw(st.integers(0, 4))
        candidates.append(candidate)
    balancer = make(policy, data.draw(st.integers(0, 9)))
    room = [c for c in candidates if c.active < c.max_connections]
    for client in (b"", b"192.0.2.1", b"2001:db8::1"):
        chosen = balancer.pick(candidates, client)
        assert chosen in room if room else chosen is None
        assert chosen is None or chosen.weight or not any(c.weight for c in room)


@pytest.mark.parametrize("policy", POLICIES)
def test_upstreams_without_weight_share_requests_that_no_other_takes(policy: Policy) -> None:
    standby, main = upstreams([0, 0]), Candidate("main", max_connections=1)
    balancer = make(policy)
    assert balancer.pick([*standby, main], b"c") is main
    main.load.active = 1
    found = {balancer.pick([*standby, main], client) for client in CLIENTS}
    assert found == ({standby[0]} if policy == "first" else set(standby))


@pytest.mark.parametrize("policy", POLICIES)
def test_pick_returns_none_without_candidates(policy: Policy) -> None:
    assert make(policy).pick([], b"c") is None


def test_first_picks_the_first_upstream_until_it_is_full() -> None:
    one, two = Candidate("z", max_connections=2), Candidate("a", weight=9)
    balancer = make("first")
    found = []
    for _ in range(3):
        chosen = balancer.pick([one, two], b"c")
        assert chosen is not None
        chosen.load.active += 1
        found.append(chosen.key)
    assert found == ["z", "z", "a"]


# ---- round robin


@given(WEIGHTS, st.integers(0, 100))
def test_each_cycle_follows_the_weights(weights: list[int], start: int) -> None:
    candidates = upstreams(weights)
    balancer = make("weighted_round_robin")
    # A window of one cycle that begins anywhere: the order repeats, so it holds there too.
    picks(balancer, candidates, start)
    counted = Counter(picks(balancer, candidates, sum(weights)))
    assert [counted[c.key] for c in candidates] == weights


@given(WEIGHTS)
def test_weighted_round_robin_is_smooth(weights: list[int]) -> None:
    """Picks never differ from the exact share by more than the number of upstreams."""
    candidates = upstreams(weights)
    balancer = make("weighted_round_robin")
    counted: Counter[str] = Counter()
    for turn in range(1, sum(weights) + 1):
        counted.update(picks(balancer, candidates, 1))
        for candidate in candidates:
            assert abs(counted[candidate.key] - turn * candidate.weight / sum(weights)) < len(
                weights
            )


def test_weighted_round_robin_has_the_order_of_nginx() -> None:
    a, b, c = Candidate("a", weight=5), Candidate("b", weight=1), Candidate("c", weight=1)
    assert "".join(picks(make("weighted_round_robin"), [a, b, c], 14)) == "aabacaa" * 2


@given(WEIGHTS)
def test_round_robin_takes_turns_whatever_the_weights(weights: list[int]) -> None:
    candidates = upstreams(weights)
    assert (
        picks(make("round_robin"), candidates, 2 * len(weights)) == [c.key for c in candidates] * 2
    )


@pytest.mark.parametrize(("policy", "share"), [("round_robin", 20), ("weighted_round_robin", 60)])
def test_slow_start_reduces_the_share(policy: Policy, share: int) -> None:
    warm, cold = Candidate("warm", weight=1), Candidate("cold", weight=6)
    cold.scale(0.25)
    counted = Counter(picks(make(policy), [warm, cold], 100))
    assert abs(counted["cold"] - share) <= 1


@given(st.lists(st.sets(st.integers(0, 3), min_size=1), max_size=60))
def test_added_and_removed_upstreams_leave_no_lasting_credit(present: list[set[int]]) -> None:
    """Whatever happened before, the next cycles of a stable set follow the weights."""
    candidates = upstreams([1, 2, 3, 4])
    balancer = make("weighted_round_robin")
    for members in present:
        balancer.pick([candidates[i] for i in sorted(members)], b"c")
    counted = Counter(picks(balancer, candidates, 100))
    for candidate in candidates:
        assert abs(counted[candidate.key] - 10 * candidate.weight) <= 10


# ---- least_conn


@given(st.lists(st.tuples(st.integers(1, 1_000_000), st.integers(0, 50)), min_size=1, max_size=8))
def test_least_conn_picks_the_lowest_load_per_weight(loads: list[tuple[int, int]]) -> None:
    candidates = upstreams([weight for weight, _ in loads])
    for candidate, (_, active) in zip(candidates, loads, strict=True):
        candidate.load.active = active
    chosen = make("least_conn").pick(candidates, b"c")
    assert chosen is not None
    assert all(chosen.active * c.weight <= c.active * chosen.weight for c in candidates)


@given(WEIGHTS)
def test_least_conn_lets_idle_upstreams_take_turns_by_weight(weights: list[int]) -> None:
    candidates = upstreams(weights)
    counted = Counter(picks(make("least_conn"), candidates, sum(weights)))
    assert [counted[c.key] for c in candidates] == weights


@given(WEIGHTS)
def test_least_conn_spreads_lasting_requests_by_weight(weights: list[int]) -> None:
    candidates = upstreams(weights)
    balancer = make("least_conn")
    for _ in range(sum(weights)):
        chosen = balancer.pick(candidates, b"c")
        assert chosen is not None
        chosen.load.active += 1
    assert [c.active for c in candidates] == weights


# ---- ip_hash


@given(st.lists(st.integers(1, 100), min_size=2, max_size=6), st.data())
@settings(max_examples=examples(40))
def test_ip_hash_moves_only_clients_of_a_removed_upstream(
    weights: list[int], data: st.DataObject
) -> None:
    candidates = upstreams(weights)
    leaver = data.draw(st.sampled_from(candidates))
    before = places(candidates)
    without = places([c for c in candidates if c is not leaver])
    for client, place in before.items():
        assert without[client] is not leaver
        assert place in (leaver, without[client])
    order = data.draw(st.permutations(candidates))
    assert places(order) == before
    # A restart: other objects, the same keys.
    again = places(upstreams(weights))
    assert {client: place and place.key for client, place in again.items()} == {
        client: place and place.key for client, place in before.items()
    }


@given(st.lists(st.integers(1, 100), min_size=2, max_size=6), st.integers(2, 50))
@settings(max_examples=examples(40))
def test_ip_hash_with_more_weight_takes_no_client_away(weights: list[int], times: int) -> None:
    before = places(upstreams(weights))
    heavier = upstreams([weights[0] * times, *weights[1:]])
    for client, place in places(heavier).items():
        old = before[client]
        assert place is not None
        assert old is not None
        assert place is heavier[0] or place.key == old.key


def test_ip_hash_spreads_clients_by_weight() -> None:
    one, three = Candidate("10.0.0.1:80", weight=1), Candidate("10.0.0.2:80", weight=3)
    balancer = make("ip_hash")
    found = Counter(
        balancer.pick([one, three], b"10.1.%d.%d" % (i // 256, i % 256)) for i in range(4000)
    )
    # 750 of 1000 expected in each thousand; 4 standard deviations of a fair draw are 110.
    assert abs(found[three] - 3000) < 110


def test_ip_hash_moves_only_clients_of_a_full_upstream() -> None:
    candidates = [Candidate(str(i), max_connections=1) for i in range(4)]
    before = places(candidates)
    candidates[2].load.active = 1
    for client, place in places(candidates).items():
        assert place is before[client] or before[client] is candidates[2]


# ---- random_two


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=2, max_size=6),
    st.integers(0, 1000),
)
def test_random_two_never_picks_the_most_loaded(loads: list[tuple[int, int]], seed: int) -> None:
    candidates = upstreams([weight for weight, _ in loads])
    for candidate, (_, active) in zip(candidates, loads, strict=True):
        candidate.load.active = active
    ranked = sorted(candidates, key=lambda c: c.active / c.share)
    assume(ranked[-1].active / ranked[-1].share > ranked[-2].active / ranked[-2].share)
    balancer = make("random_two", seed)
    assert all(balancer.pick(candidates, b"c") is not ranked[-1] for _ in range(20))


class Script(random.Random):
    """Random source with given results."""

    def __init__(self, *values: float) -> None:
        super().__init__(0)
        self.values = list(values)

    def random(self) -> float:
        return self.values.pop(0)


ALMOST_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    ("draws", "active", "chosen"),
    [
        # Weights 1, 2, 3. The first draw is over 6, the second over what is left.
        ((0.0, 0.0), (5, 1, 0), 1),
        ((0.0, 0.0), (0, 1, 0), 0),
        ((0.0, ALMOST_ONE), (5, 0, 0), 2),
        ((0.4, 0.0), (1, 0, 0), 1),
        ((0.4, 0.3), (0, 2, 1), 2),
        ((ALMOST_ONE, ALMOST_ONE), (0, 0, 1), 1),
        ((0.5, 0.0), (0, 9, 3), 0),
        ((0.4, 0.3), (0, 2, 3), 1),
    ],
)
def test_random_two_draws_by_weight_and_compares_loads(
    draws: tuple[float, float], active: tuple[int, ...], chosen: int
) -> None:
    candidates = upstreams([1, 2, 3])
    for candidate, count in zip(candidates, active, strict=True):
        candidate.load.active = count
    assert make_balancer("random_two", Script(*draws)).pick(candidates, b"c") is candidates[chosen]


def test_random_two_draws_idle_upstreams_by_weight() -> None:
    counted = Counter(picks(make("random_two"), upstreams([1, 1, 8]), 2000))
    assert 1450 < counted["10.0.0.2:80"] < 1750  # the first draw, 0.8, ties with every second one


def test_rounding_never_leaves_a_draw_without_upstream() -> None:
    """0.3 and 0.7 add up to more than what is left after both are subtracted."""

    class Highest(random.Random):
        def random(self) -> float:
            return 1 - 2**-53

    candidates = upstreams([1, 1])
    for candidate, factor in zip(candidates, (0.3, 0.7), strict=True):
        candidate.scale(factor)
    candidates[1].load.active = 9
    assert make_balancer("random_two", Highest()).pick(candidates, b"c") is candidates[0]
