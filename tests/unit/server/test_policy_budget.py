"""The budget of policies: each guard counts once for its agent, however many of its services use it."""

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.server.guard import Guard, compile_guard
from zerotrust.server.policy_budget import MAX_POLICY_BYTES, PolicyBudget


def new_guard() -> Guard:
    found = compile_guard({"max_websockets": 1}, secret=b"s" * 32, before=None)
    assert found is not None
    return found


GUARDS = [new_guard() for _ in range(3)]


def left(budget: PolicyBudget, agent: str) -> int:
    """How much more the agent may have, to the byte."""
    low, high = 0, MAX_POLICY_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if budget.refusal(agent, middle, None) is None else (low, middle - 1)
    return low


@given(st.lists(st.tuples(st.sampled_from(["home", "office"]), st.integers(0, 2), st.booleans()), max_size=30))
def test_it_adds_up_whatever_the_order(steps: list[tuple[str, int, bool]]) -> None:
    budget = PolicyBudget()
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
            held = sum(1000 * (n + 1) for (a, n), count in users.items() if a == name and count)
            assert left(budget, name) == MAX_POLICY_BYTES - held
    for (agent, number), count in users.items():
        for _ in range(count):
            budget.give_up(agent, GUARDS[number])
    assert not budget._held and not budget._sums


def test_what_is_given_up_makes_room_where_nobody_else_uses_it() -> None:
    budget = PolicyBudget()
    budget.take("home", GUARDS[0], MAX_POLICY_BYTES)
    assert budget.refusal("home", 1, None)
    assert budget.refusal("home", 1, GUARDS[0]) is None
    budget.take("home", GUARDS[0], MAX_POLICY_BYTES)
    assert budget.refusal("home", 1, GUARDS[0]), "another service has it still"
    assert budget.refusal("home", 0, None) is None, "a service without a policy"
    assert budget.refusal("office", MAX_POLICY_BYTES, None) is None
