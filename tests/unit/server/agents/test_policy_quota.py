"""Tests of the policy quota: a policy counts once per agent, whatever the number of services."""

import json
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.server.agents.policy_quota import PolicyQuota, estimate
from zerotrust.server.agents.service_policy import CompiledPolicy, compile_service_policy


def new_guard() -> CompiledPolicy:
    found = compile_service_policy({"max_websockets": 1}, secret=b"s" * 32, before=None)
    assert found is not None
    return found


MOST = 2_000_000
"""About as many bytes of JSON as an agent may have."""
GUARDS = [new_guard() for _ in range(3)]


def left(budget: PolicyQuota, agent: str) -> int:
    """Return the bytes that the agent may still use."""
    low, high = 0, MOST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if budget.refusal(agent, middle, None) is None else (low, middle - 1)
        )
    return low


@given(
    st.lists(
        st.tuples(st.sampled_from(["home", "office"]), st.integers(0, 2), st.booleans()),
        max_size=30,
    )
)
def test_it_adds_up_whatever_the_order(steps: list[tuple[str, int, bool]]) -> None:
    budget = PolicyQuota()
    budget.most = estimate(MOST)
    users: dict[tuple[str, int], int] = {}
    for agent, number, take in steps:
        key = agent, number
        if take:
            budget.take(agent, GUARDS[number], 1000 * (number + 1))
            users[key] = users.get(key, 0) + 1
        elif users.get(key):
            budget.give_up(agent, GUARDS[number])
            users[key] -= 1
        for name in ("home", "office"):
            held = sum(
                estimate(1000 * (n + 1)) for (a, n), count in users.items() if a == name and count
            )
            assert budget.memory(name) == held
            assert (
                estimate(left(budget, name))
                <= budget.most - held
                < estimate(left(budget, name) + 1)
            )
    for (agent, number), count in users.items():
        for _ in range(count):
            budget.give_up(agent, GUARDS[number])
    assert not budget._policies and not budget._sums


def test_what_is_given_up_makes_room_where_nobody_else_uses_it() -> None:
    budget = PolicyQuota()
    budget.most = estimate(MOST)
    budget.take("home", GUARDS[0], MOST)
    assert budget.refusal("home", 1, None)
    assert budget.refusal("home", 1, GUARDS[0]) is None
    budget.take("home", GUARDS[0], MOST)
    assert budget.refusal("home", 1, GUARDS[0]), "another service has it still"
    assert budget.refusal("home", 0, None) is None, "a service without a policy"
    assert budget.refusal("office", MOST, None) is None


def test_the_estimate_is_near_what_a_policy_takes() -> None:
    """The costliest kinds for their size: routes, and a policy that is small."""
    for count, policy in (
        (2, {"routes": [{"match": {"headers": {f"X-{n}": "v"}}} for n in range(900)]}),
        (2, {"routes": [{"match": {"path": f"/a{n}"}} for n in range(900)]}),
        (200, {"traffic_shaping": {"upload_limit": "1MB/s"}}),
        (
            200,
            {
                "global_middleware": [
                    {"type": "headers", "config": {"request": {"set": {"X-A": "b"}}}}
                ]
            },
        ),
    ):
        told = json.dumps(policy, separators=(",", ":"))
        compile_service_policy(json.loads(told), secret=b"s" * 32, before=None)
        tracemalloc.start()
        guards = [
            compile_service_policy(json.loads(told), secret=b"s" * 32, before=None)
            for _ in range(count)
        ]
        taken = tracemalloc.get_traced_memory()[0] / len(guards)
        tracemalloc.stop()
        assert 0.3 < taken / estimate(len(told)) < 1.25, told[:60]
