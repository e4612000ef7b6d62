"""Guards of agents that are away."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotrust.server.agents import offline_agents as module
from zerotrust.server.agents.offline_agents import (
    KEPT_FOR,
    MAX_KEPT,
    MAX_MEMORY,
    RecentlyLostHosts,
    RetainedPolicies,
)
from zerotrust.server.agents.service_policy import CompiledPolicy

GUARD, OTHER = cast("CompiledPolicy", object()), cast("CompiledPolicy", object())


def test_what_an_agent_leaves_behind_is_kept_for_a_while() -> None:
    former = RetainedPolicies()
    former.keep("home", {"web": GUARD}, 1, 10.0)
    assert former.get("home", "web", 10.0) is GUARD
    assert former.get("home", "api", 10.0) is None
    assert former.get("other", "web", 10.0) is None
    assert former.get("home", "web", 10.0 + KEPT_FOR) is None


def test_the_last_time_counts() -> None:
    former = RetainedPolicies()
    former.keep("home", {"web": GUARD}, 1, 0.0)
    former.keep("home", {"web": OTHER}, 1, 200.0)
    assert former.get("home", "web", KEPT_FOR + 1) is OTHER
    former.keep("home", {}, 1, 300.0)
    assert former.get("home", "web", 300.0) is None


def test_it_forgets_without_being_asked() -> None:
    former = RetainedPolicies()
    former.keep("gone", {"web": GUARD}, 1, 0.0)
    former.keep("home", {"web": GUARD}, 1, KEPT_FOR)
    assert former.memory == 1, "of the policy of home alone"


def test_where_there_are_too_many_those_of_the_agent_that_is_away_longest_go() -> None:
    former = RetainedPolicies()
    former.keep("first", {"web": GUARD}, 1, 0.0)
    former.keep("second", {"web": GUARD}, 1, 1.0)
    former.keep("big", {str(number): GUARD for number in range(MAX_KEPT - 1)}, 1, 2.0)
    assert [former.get(name, "web", 3.0) for name in ("first", "second")] == [None, GUARD]
    assert former.get("big", "0", 3.0) is GUARD


def test_where_they_take_too_much_memory_those_of_the_agent_that_is_away_longest_go() -> None:
    former = RetainedPolicies()
    for number, name in enumerate(("first", "second", "third")):
        former.keep(name, {"web": GUARD}, MAX_MEMORY // 2, number)
    assert former.memory == MAX_MEMORY // 2 * 2
    assert [former.get(name, "web", 3.0) for name in ("first", "second", "third")] == [
        None,
        GUARD,
        GUARD,
    ]
    former.keep("third", {}, 0, 4.0)
    assert former.memory == MAX_MEMORY // 2


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["home", "office", ""])), max_size=40
    )
)
def test_names_are_bounded_for_each_agent(steps: list[tuple[str, str]]) -> None:
    names, expected = RecentlyLostHosts(), dict[str, str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_LOST", 2)
        for name, agent in steps:
            expected.pop(name, None)
            if not agent:
                names.discard(name)
                continue
            names.add(name, agent, "web", 0.0)
            expected[name] = agent
            mine = [other for other, whose in expected.items() if whose == agent]
            for other in mine[:-2]:
                del expected[other]
    assert {name: names.get(name) for name in "abcdef" if name in names} == {
        name: (agent, "web") for name, agent in expected.items()
    }
