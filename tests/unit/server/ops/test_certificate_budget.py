"""Tests of zerotrust.server.ops.certificate_budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.model.limits import Limits
from zerotrust.server.ops.certificate_budget import HOUR, WEEK, CertificateBudget

FEW = Limits(certificates_per_agent=3, certificates_per_domain=5)
DOMAINS = ("a.example", "b.example")


def names(budget: CertificateBudget, agent: str, domain: str, count: int, now: float) -> int:
    """Ask for new names; how many are permitted."""
    limits = [
        budget.exceeded(agent, domain, f"{agent}{i}-{now}.{domain}", now) for i in range(count)
    ]
    return limits.count(None)


def test_an_agent_gets_so_many_in_an_hour_whatever_their_domain() -> None:
    budget = CertificateBudget(FEW)
    assert names(budget, "home", "a.example", 2, 0) == 2
    assert names(budget, "home", "b.example", 2, 1) == 1
    assert budget.exceeded("home", "c.example", "x.c.example", 2) == "certificates_per_agent"
    assert names(budget, "home", "c.example", 3, HOUR) == 2, "the first two are an hour old"


def test_a_domain_gets_so_many_in_a_week() -> None:
    budget = CertificateBudget(FEW)
    assert [names(budget, "home", "a.example", 9, hour * HOUR) for hour in range(4)] == [3, 2, 0, 0]
    assert (
        budget.exceeded("home", "a.example", "x.a.example", 4 * HOUR) == "certificates_per_domain"
    )
    assert names(budget, "home", "b.example", 9, 4 * HOUR) == 3
    assert names(budget, "home", "a.example", 9, WEEK) == 3


def test_one_agent_leaves_the_others_theirs() -> None:
    budget = CertificateBudget(FEW)
    assert names(budget, "mallory", "a.example", 1000, 0) == 3
    assert names(budget, "home", "a.example", 3, 0) == 3
    assert budget.permitted == {"mallory": 3, "home": 3}


def test_a_wildcard_gets_so_many_in_an_hour_whichever_agent_serves_it() -> None:
    budget = CertificateBudget(Limits(certificates_per_wildcard=2))

    def ask(agent: str, name: str, domain: str | None, now: float) -> str | None:
        return budget.exceeded(agent, domain, name, now, wildcard="*.a.example")

    assert ask("home", "1.a.example", "a.example", 0) is None
    assert ask("work", "2.a.example", None, 1) is None
    assert ask("home", "3.a.example", "a.example", 2) == "certificates_per_wildcard"
    assert ask("work", "4.a.example", None, 2) == "certificates_per_wildcard"
    assert budget.exceeded("home", "a.example", "5.a.example", 2) is None
    assert ask("home", "6.a.example", "a.example", HOUR) is None, "the first one is an hour old"


def test_what_one_limit_refuses_counts_towards_no_other() -> None:
    budget = CertificateBudget(Limits(certificates_per_wildcard=5, certificates_per_domain=1))
    for number in range(9):
        budget.exceeded("home", "a.example", f"{number}.a.example", 0, wildcard="*.a.example")
    assert [
        budget.exceeded("home", None, f"x{number}", 0, wildcard="*.a.example")
        for number in range(5)
    ] == [None] * 4 + ["certificates_per_wildcard"]


def test_a_permitted_name_is_known_for_good() -> None:
    budget = CertificateBudget(FEW)
    assert not budget.knows("x.a.example", 0)
    assert budget.exceeded("home", "a.example", "x.a.example", 0) is None
    names(budget, "home", "a.example", 1000, 0)
    assert budget.knows("x.a.example", 10 * WEEK)


def test_other_limits_hold_at_once_and_forget_nothing() -> None:
    budget = CertificateBudget(FEW)
    names(budget, "home", "a.example", 9, 0)
    budget.reconfigure(Limits(certificates_per_agent=7, certificates_per_domain=5))
    assert names(budget, "home", "a.example", 9, 1) == 2


def test_refusals_are_counted_and_logged_once_an_hour() -> None:
    budget = CertificateBudget(FEW)
    asked = [
        ("home", "certificates_per_agent", 0.0),
        ("home", "certificates_per_domain", 1.0),
        ("work", "", 1.0),
    ]
    assert [budget.refuse(*one) for one in asked * 2] == [True] * 3 + [False] * 3
    assert budget.refuse("home", "certificates_per_agent", HOUR)
    assert budget.refused == {"home": 5, "work": 2}


# Whole seconds: at the very edge of a window, sums and differences of fractions round differently.
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("home", "work")), st.sampled_from(DOMAINS), st.integers(0, int(HOUR))
        ),
        max_size=60,
    )
)
def test_in_no_hour_and_no_week_more_than_the_limits(asked: list[tuple[str, str, int]]) -> None:
    budget, now = CertificateBudget(FEW), 0.0
    permitted: list[tuple[str, str, float]] = []
    for number, (agent, domain, later) in enumerate(asked):
        now += later
        hour = [t for a, _, t in permitted if a == agent and t > now - HOUR]
        week = [t for a, d, t in permitted if (a, d) == (agent, domain) and t > now - WEEK]
        room = len(hour) < 3 and len(week) < 5
        assert (budget.exceeded(agent, domain, f"{number}.{domain}", now) is None) is room
        if room:
            permitted.append((agent, domain, now))


@pytest.mark.parametrize(
    "key", ["certificates_per_agent", "certificates_per_domain", "certificates_per_wildcard"]
)
def test_a_limit_of_nothing_is_no_limit(key: str) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Limits.model_validate({key: 0})
