"""Tests of zerotrust.server.proxy.policy_time."""

import pytest
from structlog.testing import capture_logs

from zerotrust.server.agents.cpu_budget import SHARE
from zerotrust.server.proxy.policy_time import BURST, FREE, PoliciesTooSlow, PolicyTime


def taken(policies: PolicyTime, agent: str, now: float) -> bool:
    try:
        policies.check(agent, now)
    except PoliciesTooSlow as refusal:
        assert refusal.status == 503
        assert refusal.retry_after in (1, 2, 3)
        return False
    return True


def test_an_agent_over_its_share_waits_and_others_do_not() -> None:
    policies = PolicyTime()
    policies.charge("home", BURST + FREE, now=0.0)
    assert taken(policies, "home", 0.0)
    policies.charge("home", 0.005, now=0.0)
    assert not taken(policies, "home", 0.0)
    assert policies.is_over("home", 0.0)
    assert taken(policies, "office", 0.0)
    assert taken(policies, "home", 0.005 / SHARE)


@pytest.mark.parametrize(("rate", "cost"), [(5000, FREE), (1000, 0.000_25)])
def test_an_agent_with_many_clients_is_never_refused(rate: int, cost: float) -> None:
    """The rate is what the server can take, or a fifth of its time for a costly policy."""
    policies = PolicyTime()
    for number in range(60 * rate):
        policies.check("home", number / rate)
        policies.charge("home", cost, number / rate)


def test_a_flood_gets_its_share_of_the_time() -> None:
    """400 requests a second at 5 ms each, twice what the loop could do."""
    policies, worked, now = PolicyTime(), 0.0, 0.0
    for number in range(24_000):
        now = number / 400
        if taken(policies, "home", now):
            policies.charge("home", 0.005, now)
            worked += 0.005
    assert worked == pytest.approx(BURST + now * SHARE, rel=0.05)


def test_the_log_says_when_it_begins_and_when_it_is_over() -> None:
    policies = PolicyTime()
    policies.charge("home", 1.0, now=0.0)
    with capture_logs() as lines:
        for now in (0.0, 1.0, 2.5, 4.0, 4.9, 5.0, 6.0):
            taken(policies, "home", now)
    assert [line["event"] for line in lines] == [
        "policies take too much time: new requests get 503",
        "policies no longer take too much time",
    ]
