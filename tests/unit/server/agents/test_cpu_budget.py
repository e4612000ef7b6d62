"""Tests of zerotrust.server.agents.cpu_budget: what an agent's wishes may cost the others."""

from hypothesis import given
from hypothesis import strategies as st

from zerotrust.server.agents.cpu_budget import BURST, MOST, SHARE, CpuBudget


def test_what_is_seldom_is_free() -> None:
    budget = CpuBudget()
    assert budget.pay("home", BURST, now=0.0) == 0.0
    assert budget.pay("office", BURST, now=0.0) == 0.0
    assert budget.pay("home", BURST, now=BURST / SHARE) == 0.0


def test_who_goes_on_waits_for_its_share() -> None:
    budget = CpuBudget()
    budget.pay("home", BURST, now=0.0)
    assert budget.pay("home", 0.1, now=0.0) == 0.1 / SHARE
    assert budget.pay("home", 100.0, now=0.0) == MOST
    assert budget.pay("office", 0.1, now=0.0) == 0.0


@given(st.lists(st.floats(0.0, MOST * SHARE), min_size=1, max_size=50))
def test_nobody_gets_more_than_its_share(costs: list[float]) -> None:
    budget, now, worked = CpuBudget(), 0.0, 0.0
    for cost in costs:
        worked += cost
        now += cost + budget.pay("home", cost, now)
        assert worked <= BURST + now * SHARE + 2 * MOST * SHARE
