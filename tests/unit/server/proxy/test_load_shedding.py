"""Tests of zerotrust.server.proxy.load_shedding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from zerotrust.errors import Overloaded
from zerotrust.model.limits import Limits
from zerotrust.server.proxy.load_shedding import CALM, LATE, LOW, LoadShedding, Threshold
from zerotrust.tunnel.session_stats import SessionStats

MIB = 1024 * 1024
LIMITS = Limits(
    requests=100, requests_per_agent=60, memory="10MiB", memory_per_agent="6MiB", event_loop_lag=0.5
)


def usage(streams: int = 0, size: int = 0) -> SessionStats:
    found = SessionStats()
    found.sessions, found.streams, found.unconsumed = 1, streams, size
    return found


def refused(overload: LoadShedding, agent: str = "home") -> str | None:
    """Return the reason why a request for the agent is refused; None if it is accepted."""
    if not overload.on:
        return None
    try:
        overload.check(agent)
    except Overloaded as error:
        assert error.status == 503
        assert error.retryable
        return str(error)
    return None


def sample(
    overload: LoadShedding,
    times: int = 1,
    *,
    pending: int = 0,
    lag: float = 0.0,
    **agents: SessionStats,
) -> None:
    for _ in range(times):
        overload.sample(agents, pending=pending, lag=lag)


@given(st.lists(st.floats(0, 200)), st.integers(1, 5))
def test_a_mark_changes_only_after_a_run_and_never_in_between(
    values: list[float], after: int
) -> None:
    mark = Threshold(100.0, after=after)
    for index, value in enumerate(values):
        before = mark.over
        changed = mark.note(value)
        assert changed == (mark.over != before)
        if changed and mark.over:
            assert all(one >= 100 for one in values[index + 1 - after : index + 1])
            assert index + 1 >= after
        elif changed:
            assert all(one <= 100 * LOW for one in values[index + 1 - CALM : index + 1])
        if 100 * LOW < value < 100:
            assert not changed


@given(st.lists(st.floats(0, 200)))
def test_a_mark_always_comes_back(values: list[float]) -> None:
    mark = Threshold(100.0)
    for value in values:
        mark.note(value)
    for _ in range(CALM):
        mark.note(0.0)
    assert not mark.over


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from("abc"), st.tuples(st.integers(0, 90), st.integers(0, 9 * MIB))
            ),
            st.integers(0, 120),
            st.floats(0, 2),
        ),
        max_size=40,
    )
)
def test_whatever_comes_it_is_on_exactly_when_somebody_is_refused_and_it_ends(
    samples: list[tuple[dict[str, tuple[int, int]], int, float]],
) -> None:
    overload = LoadShedding(LIMITS)
    for agents, pending, lag in samples:
        overload.sample(
            {name: usage(*said) for name, said in agents.items()}, pending=pending, lag=lag
        )
        assert overload.on == any(refused(overload, name) for name in "abc")
        assert overload.agents <= len(agents)
    sample(overload, CALM)
    assert not overload.on
    assert refused(overload) is None


@pytest.mark.parametrize(
    ("agents", "pending", "lag", "reason"),
    [
        ({"a": usage(50), "b": usage(50)}, 0, 0.0, "the server is over its limit of requests"),
        ({"a": usage(50)}, 50, 0.0, "the server is over its limit of requests"),
        (
            {"a": usage(0, 5 * MIB), "b": usage(0, 5 * MIB)},
            0,
            0.0,
            "the server is over its limit of memory",
        ),
        ({}, 0, 0.5, "the server is over its limit of event_loop_lag"),
    ],
)
def test_budgets_of_the_server(
    agents: dict[str, SessionStats], pending: int, lag: float, reason: str
) -> None:
    overload = LoadShedding(LIMITS)
    sample(overload, LATE, pending=pending, lag=lag, **agents)
    assert refused(overload, "a") == reason
    assert refused(overload, "of another") == reason
    assert sum(overload.server.values()) == 1
    assert overload.count == 1
    sample(overload, CALM - 1)
    assert refused(overload, "a") == reason
    sample(overload)
    assert not overload.on


def test_a_single_long_turn_of_the_loop_is_no_overload() -> None:
    overload = LoadShedding(LIMITS)
    for _ in range(20):
        sample(overload, LATE - 1, lag=30.0)
        sample(overload, lag=0.4)
        assert not overload.on


@pytest.mark.parametrize(("much", "name"), [(usage(60), "requests"), (usage(0, 6 * MIB), "memory")])
def test_an_agent_over_its_budget_keeps_out_its_own_clients_only(
    much: SessionStats, name: str
) -> None:
    overload = LoadShedding(LIMITS)
    sample(overload, home=much, other=usage(1, 1))
    assert refused(overload, "home") == f"the agent is over its limit of {name}"
    assert refused(overload, "other") is None
    assert overload.agents == 1
    assert not any(overload.server.values())
    sample(overload, CALM, home=usage(), other=usage(1, 1))
    assert not overload.on


def test_an_agent_counts_for_the_others_with_its_own_budget_at_most() -> None:
    overload = LoadShedding(LIMITS)
    sample(overload, home=usage(16384, 128 * MIB), other=usage(39, 3 * MIB))
    assert refused(overload, "other") is None
    sample(overload, home=usage(16384, 128 * MIB), other=usage(40, 3 * MIB))
    assert refused(overload, "other") == "the server is over its limit of requests"


def test_an_agent_that_is_gone_is_forgotten() -> None:
    overload = LoadShedding(LIMITS)
    sample(overload, home=usage(60))
    assert overload.on
    sample(overload)
    assert not overload.on
    sample(overload, home=usage(59))
    assert not overload.on


def test_other_limits_count_at_once() -> None:
    overload = LoadShedding(LIMITS)
    sample(overload, home=usage(60), other=usage(60))
    overload.reconfigure(Limits())
    assert not overload.on
    sample(overload, home=usage(60), other=usage(60))
    assert not overload.on


def test_only_changes_are_told() -> None:
    overload = LoadShedding(LIMITS)
    with capture_logs() as lines:
        sample(overload, 30, pending=100, home=usage(60))
        sample(overload, 30, home=usage(1))
    told = [(line["log_level"], line["limit"], line.get("agent")) for line in lines]
    assert sorted(told) == [
        ("info", "requests", None),
        ("info", "requests_per_agent", "home"),
        ("warning", "requests", None),
        ("warning", "requests_per_agent", "home"),
    ]
