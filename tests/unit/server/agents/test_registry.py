"""Tests of the registry: the newest session of an agent wins; an old one ends without effect."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.agent_sessions import join
from tests.support.examples import examples
from zerotrust.enrollment.grant_table import GrantTable
from zerotrust.server.agents import offline_agents
from zerotrust.server.agents.offline_agents import KEPT_FOR
from zerotrust.server.agents.policy_quota import estimate
from zerotrust.server.agents.registry import MAX_NAMES, MAX_SERVICES, REPLACED, Registry
from zerotrust.server.agents.scheme import OfferedSchemes
from zerotrust.server.agents.service_policy import CompiledPolicy, compile_service_policy
from zerotrust.server.agents.session import AgentSession, ServiceRegistration

PHASES = (
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
    Phase.shrink,
)  # not explain: it traces, which takes longer than the test


def tunnel() -> SimpleNamespace:
    """Return the parts of a tunnel session that the registry uses."""
    return SimpleNamespace(
        attached=True, streams={}, id="", keepalive=SimpleNamespace(round_trip=None)
    )


TUNNEL = tunnel()


def claim(
    session: AgentSession, *hosts: str, service: str = "web", guard: CompiledPolicy | None = None
) -> ServiceRegistration:
    return ServiceRegistration(session, service, service.encode(), hosts, True, guard)


def wanting(
    session: AgentSession,
    *hosts: str,
    service: str = "web",
    policy_bytes: int = 0,
    guard: CompiledPolicy | None = None,
) -> ServiceRegistration:
    return ServiceRegistration(
        session,
        service,
        service.encode(),
        hosts,
        True,
        guard,
        requested=hosts,
        policy_bytes=policy_bytes,
    )


def new_guard() -> CompiledPolicy:
    found = compile_service_policy({"max_websockets": 1}, secret=b"s" * 32, before=None)
    assert found is not None
    return found


def test_a_host_is_unknown_until_it_is_registered() -> None:
    registry = Registry()
    with pytest.raises(KeyError):
        registry.lookup("a.example")
    session = join(registry, "home", TUNNEL)
    mine = claim(session, "a.example")
    assert registry.register(mine) == {}
    assert registry.lookup("a.example") is mine
    assert registry.offers_https("a.example")


def test_a_lost_agent_is_remembered_a_removed_service_is_not() -> None:
    registry = Registry()
    session = join(registry, "home", TUNNEL)
    registry.register(claim(session, "lost.example"))
    registry.register(claim(session, "gone.example", service="other"))
    assert registry.unregister(session, "other")
    with pytest.raises(KeyError):
        registry.lookup("gone.example")
    registry.remove(session)
    assert registry.lookup("lost.example") is None
    assert not registry.offers_https("lost.example")


def test_https_is_offered_where_the_holder_does() -> None:
    registry = Registry()
    assert not registry.offers_https("a.example")
    session, second = join(registry, "home", TUNNEL), join(registry, "office", TUNNEL)
    plain = ServiceRegistration(
        session,
        "web",
        b"web",
        ("a.example",),
        True,
        schemes=OfferedSchemes(http=True, https=False, redirect=False),
    )
    registry.register(plain)
    registry.register(claim(second, "a.example"))
    assert not registry.offers_https("a.example")
    registry.remove(session)
    assert registry.offers_https("a.example")


def test_the_end_of_an_old_session_removes_nothing_of_the_new_one() -> None:
    registry = Registry()
    old = join(registry, "home", TUNNEL)
    registry.register(claim(old, "a.example"))
    new = join(registry, "home", TUNNEL)
    fresh = claim(new, "a.example")
    registry.register(fresh)
    assert registry.older(new) == [old]
    registry.remove(old)
    assert registry.lookup("a.example") is fresh


def test_the_old_session_serves_until_the_new_one_has_registered() -> None:
    registry = Registry()
    old = join(registry, "home", TUNNEL)
    before = claim(old, "a.example")
    registry.register(before)
    join(registry, "home", TUNNEL)
    assert registry.lookup("a.example") is before


def test_a_session_that_retires_gives_its_names_up_and_is_not_superseded() -> None:
    registry = Registry()
    old, other = join(registry, "home", TUNNEL), join(registry, "other", TUNNEL)
    guard = new_guard()
    registry.register(claim(old, "a.example", "b.example", guard=guard))
    spare = claim(other, "b.example")
    registry.register(spare)
    assert registry.retire(old) == [old]
    assert registry.lookup("a.example") is None, "the name is remembered"
    assert registry.lookup("b.example") is spare
    new = join(registry, "home", TUNNEL)
    assert registry.older(new) == []
    assert registry.former_policy(new, "web") is guard
    fresh = claim(new, "a.example")
    registry.register(fresh)
    registry.remove(old)
    assert registry.lookup("a.example") is fresh


def shared(*weights: int, sticky: bool = False) -> tuple[Registry, list[AgentSession]]:
    """A host name of several agents."""
    registry = Registry()
    sessions = [join(registry, f"agent-{number}", tunnel()) for number in range(len(weights))]
    for session, weight in zip(sessions, weights, strict=True):
        own = replace(claim(session, "a.example"), weight=weight, sticky=sticky)
        assert registry.register(own) == {}
    return registry, sessions


def agent_for(registry: Registry, client: bytes = b"") -> str:
    found = registry.lookup("a.example", client)
    assert found is not None
    return found.session.agent


def test_agents_share_a_host_name_and_one_that_leaves_takes_nothing_along() -> None:
    registry, sessions = shared(100, 100)
    assert [agent_for(registry) for _ in range(4)] == ["agent-0", "agent-1"] * 2
    registry.remove(sessions[0])
    assert {agent_for(registry) for _ in range(3)} == {"agent-1"}


def test_the_agent_with_the_least_to_do_for_its_weight() -> None:
    registry, sessions = shared(100, 300)
    for number in range(400):
        found = registry.lookup("a.example")
        assert found is not None
        found.session.link.session.streams[number] = None  # type: ignore[assignment]
    assert [len(session.link.session.streams) for session in sessions] == [100, 300]


def test_an_agent_without_a_link_gets_nothing_while_another_has_one() -> None:
    registry, sessions = shared(100, 100)
    for first, second in (sessions, sessions[::-1]):
        first.link.session.attached = False
        registry.detached(first)
        assert {agent_for(registry) for _ in range(3)} == {second.agent}
        first.link.session.attached = True
        registry.reattached(first)
    assert {agent_for(registry) for _ in range(4)} == {"agent-0", "agent-1"}


def test_clients_stay_where_they_were_and_only_those_of_a_lost_agent_move() -> None:
    registry, sessions = shared(100, 100, 100, sticky=True)
    clients = [f"203.0.113.{number}".encode() for number in range(250)]
    before = {client: agent_for(registry, client) for client in clients}
    assert before == {client: agent_for(registry, client) for client in clients}
    assert all(40 < list(before.values()).count(session.agent) < 130 for session in sessions)
    registry.remove(sessions[1])
    for client, agent in before.items():
        assert agent == "agent-1" or agent_for(registry, client) == agent


PROCESS, NEXT_PROCESS = "ab" * 16, "cd" * 16


def connections(count: int = 2, agent: str = "home") -> tuple[Registry, list[AgentSession]]:
    """One agent that keeps several sessions; they join in the opposite order of their numbers."""
    registry = Registry()
    sessions = [
        join(registry, agent, tunnel(), instance=PROCESS, connection=number)
        for number in reversed(range(count))
    ]
    for session in sessions:
        assert registry.register(claim(session, "a.example")) == {}
    return registry, sessions[::-1]


def connection_for(registry: Registry) -> int:
    found = registry.lookup("a.example")
    assert found is not None
    return found.session.connection


def test_the_first_connection_carries_all_while_it_is_well() -> None:
    registry, (first, _) = connections()
    assert connection_for(registry) == 0
    first.link.session.attached = False
    registry.detached(first)
    assert connection_for(registry) == 1
    first.link.session.attached = True
    registry.reattached(first)
    assert connection_for(registry) == 0


def test_a_connection_that_answers_late_gets_nothing_new() -> None:
    registry, (first, second) = connections()
    for late, other in ((first, second), (second, first)):
        late.link.doubtful = True
        registry.check_links()
        assert connection_for(registry) == other.connection
        late.link.doubtful = False
        registry.check_links()
    assert connection_for(registry) == 0


@pytest.mark.parametrize(
    ("trips", "chosen"),
    [
        ((0.01, 0.02), 0),
        ((0.05, 0.01), 0),
        ((0.07, 0.01), 1),
        ((0.3, 0.2), 0),
        ((0.5, 0.2), 1),
        ((None, 0.01), 0),
    ],
)
def test_a_connection_that_is_much_slower_than_another_gets_nothing_new(
    trips: tuple[float | None, float | None], chosen: int
) -> None:
    registry, sessions = connections()
    for session, trip in zip(sessions, trips, strict=True):
        session.link.session.keepalive.round_trip = trip
    registry.check_links()
    assert connection_for(registry) == chosen


def test_an_agent_that_answers_late_gets_nothing_new_while_another_does_not() -> None:
    registry, sessions = shared(100, 100)
    sessions[0].link.doubtful = True
    registry.check_links()
    assert {agent_for(registry) for _ in range(3)} == {"agent-1"}
    sessions[1].link.doubtful = True
    registry.check_links()
    assert {agent_for(registry) for _ in range(4)} == {"agent-0", "agent-1"}, (
        "those that are left share all"
    )


def test_agents_with_several_connections_share_a_host_name_as_others_do() -> None:
    registry, sessions = connections()
    other = join(registry, "office", tunnel())
    registry.register(claim(other, "a.example"))
    assert [agent_for(registry) for _ in range(4)] == ["home", "office"] * 2
    for session in sessions:
        session.link.session.attached = False
        registry.detached(session)
    assert {agent_for(registry) for _ in range(3)} == {"office"}
    sessions[1].link.session.attached = True
    registry.reattached(sessions[1])
    assert {agent_for(registry) for _ in range(4)} == {"home", "office"}


def test_a_session_replaces_those_whose_place_it_takes() -> None:
    registry, (first, second) = connections()
    again = join(registry, "home", tunnel(), instance=PROCESS, connection=0)
    assert registry.supersede(again) == [first]
    assert registry.supersede(second) == []
    next_process = join(registry, "home", tunnel(), instance=NEXT_PROCESS, connection=0)
    assert set(registry.supersede(next_process)) == {first, second, again}
    beside = join(registry, "home", tunnel(), instance=NEXT_PROCESS, connection=1)
    assert set(registry.supersede(beside)) == {first, second, again}
    of_an_older_program = join(registry, "home", tunnel())
    assert len(registry.supersede(of_an_older_program)) == 5


def test_a_process_that_was_replaced_is_not_let_in_for_a_while() -> None:
    now = 100.0
    registry = Registry(clock=lambda: now)
    for number in range(2):
        join(registry, "home", tunnel(), instance=PROCESS, connection=number)
    registry.supersede(join(registry, "home", tunnel(), instance=PROCESS, connection=0))
    assert not registry.was_replaced("home", PROCESS), "by itself is another matter"
    registry.supersede(join(registry, "home", tunnel(), instance=NEXT_PROCESS))
    assert registry.contested == {}, "a restart looks the same"
    assert registry.was_replaced("home", PROCESS)
    assert registry.contested == {"home": now}
    assert not registry.was_replaced("office", PROCESS)
    assert not registry.was_replaced("home", NEXT_PROCESS) and not registry.was_replaced(
        "home", None
    )
    now += REPLACED
    assert not registry.was_replaced("home", PROCESS)
    registry.supersede(join(registry, "home", tunnel(), instance=PROCESS))
    assert registry.contested == {"home": now}


def test_a_newer_process_goes_before_an_older_one() -> None:
    registry, _ = connections()
    session = join(registry, "home", tunnel(), instance=NEXT_PROCESS, connection=1)
    registry.register(claim(session, "a.example"))
    found = registry.lookup("a.example")
    assert found is not None and found.session is session


def test_who_waits_for_a_host_name_is_told() -> None:
    registry, told = Registry(), list[str]()
    registry.subscribe(told.append)
    session = join(registry, "home", tunnel())
    registry.register(claim(session, "a.example", "b.example"))
    assert told == ["a.example", "b.example"]
    registry.detached(session)
    registry.reattached(session)
    assert told == ["a.example", "b.example"] * 2


def test_a_service_registered_again_replaces_itself() -> None:
    registry = Registry()
    session = join(registry, "home", TUNNEL)
    registry.register(claim(session, "a.example", "b.example"))
    again = claim(session, "b.example", "c.example")
    registry.register(again)
    with pytest.raises(KeyError):
        registry.lookup("a.example")
    assert registry.lookup("b.example") is again
    assert registry.lookup("c.example") is again


def test_a_host_that_is_named_twice_is_claimed_once() -> None:
    registry = Registry()
    session, other = join(registry, "home", TUNNEL), join(registry, "office", TUNNEL)
    registry.register(claim(session, "a.example", "a.example"))
    registry.register(claim(session, "b.example"))
    with pytest.raises(KeyError):
        registry.lookup("a.example")
    registry.register(claim(session, "a.example", "a.example"))
    registry.remove(session)
    theirs = claim(other, "a.example")
    assert registry.register(theirs) == {}
    assert registry.lookup("a.example") is theirs


def test_two_services_of_one_agent_do_not_share_a_host() -> None:
    registry = Registry()
    session = join(registry, "home", TUNNEL)
    first = claim(session, "a.example")
    registry.register(first)
    waiting = registry.register(claim(session, "a.example", service="other"))
    assert waiting == {"a.example": "served by service web of the same agent; this one stands by"}
    assert registry.lookup("a.example") is first


def test_what_one_session_may_have_is_bounded() -> None:
    registry = Registry()
    session = join(registry, "home", TUNNEL)
    for number in range(MAX_SERVICES):
        assert registry.over_limit(session, str(number), 1, 0) is None
        registry.register(wanting(session, f"{number}.example", service=str(number)))
    assert registry.over_limit(session, "one more", 1, 0) == f"more than {MAX_SERVICES} services"
    assert registry.over_limit(session, "7", 1, 0) is None
    assert registry.over_limit(session, "7", MAX_NAMES - MAX_SERVICES + 1, 0) is None
    assert registry.over_limit(session, "7", MAX_NAMES - MAX_SERVICES + 2, 0)
    registry.unregister(session, "8")
    assert registry.over_limit(session, "7", MAX_NAMES - MAX_SERVICES + 2, 0) is None


def test_policies_are_counted_over_all_sessions_of_an_agent() -> None:
    registry = Registry()
    old, new, other = (
        join(registry, "home", TUNNEL),
        join(registry, "home", TUNNEL),
        join(registry, "office", TUNNEL),
    )
    registry.policies.most = estimate(1000) + estimate(10)
    registry.register(wanting(old, "a.example", policy_bytes=1000, guard=new_guard()))
    assert registry.over_limit(new, "web", 1, 10) is None
    assert registry.over_limit(new, "web", 1, 11)
    assert registry.over_limit(new, "web", 1, 0) is None
    assert registry.over_limit(old, "web", 1, 1010) is None, "it takes the place of its own"
    assert registry.over_limit(other, "web", 1, 1010) is None
    registry.remove(old)
    assert registry.over_limit(new, "web", 1, 1010) is None


def test_what_the_policies_of_an_agent_take_is_counted_also_while_it_is_away() -> None:
    registry = Registry()
    session, second = join(registry, "home", TUNNEL), join(registry, "home", TUNNEL)
    registry.register(wanting(session, "a.example", policy_bytes=1000, guard=new_guard()))
    registry.register(wanting(second, "b.example", policy_bytes=500, guard=new_guard()))
    assert (registry.policies.memory("home"), registry.retained_policy_memory) == (
        estimate(1000) + estimate(500),
        0,
    )
    registry.remove(session)
    assert (registry.policies.memory("home"), registry.retained_policy_memory) == (estimate(500), 0)
    registry.remove(second)
    assert (registry.policies.memory("home"), registry.retained_policy_memory) == (0, estimate(500))


def test_an_agent_that_comes_and_goes_with_other_names_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offline_agents, "MAX_LOST", 3)
    registry = Registry()
    bystander = join(registry, "office", TUNNEL)
    registry.register(claim(bystander, "office.example"))
    registry.remove(bystander)
    for number in range(10):
        session = join(registry, "home", TUNNEL)
        registry.register(claim(session, f"{number}.example"))
        registry.remove(session)
    assert [registry.lookup(f"{number}.example") for number in (7, 8, 9)] == [None] * 3
    assert registry.lookup("office.example") is None
    with pytest.raises(KeyError):
        registry.lookup("6.example")
    assert not registry.by_host


def test_what_a_guard_takes_the_place_of() -> None:
    registry = Registry()
    old, other = join(registry, "home", TUNNEL), join(registry, "other", TUNNEL)
    before = new_guard()
    registry.register(claim(old, "a.example", guard=before))
    new = join(registry, "home", TUNNEL)
    assert registry.former_policy(new, "web") is before
    assert registry.former_policy(new, "api") is None
    assert registry.former_policy(other, "web") is None, "another agent's counts are its own"
    fresh = new_guard()
    registry.register(claim(new, "a.example", guard=fresh))
    assert registry.former_policy(new, "web") is fresh
    registry.remove(new)
    assert registry.former_policy(old, "web") is before, "the older session still has it"


def test_a_guard_outlives_the_last_session_for_a_while() -> None:
    now = 100.0
    registry = Registry(clock=lambda: now)
    session = join(registry, "home", TUNNEL)
    guard = new_guard()
    registry.register(claim(session, "a.example", guard=guard))
    registry.remove(session)
    again = join(registry, "home", TUNNEL)
    now += KEPT_FOR - 1
    assert registry.former_policy(again, "web") is guard
    assert registry.former_policy(join(registry, "other", TUNNEL), "web") is None
    now += 1
    assert registry.former_policy(again, "web") is None


def standing(session: AgentSession) -> tuple[bool, bool]:
    """No link, a doubtful one: the less, the better."""
    attached = session.link.session.attached
    return not attached, attached and session.doubtful


APPS, REST = "*.apps.example.com", "*"


def three_services(registry: Registry) -> list[ServiceRegistration]:
    """Return a service with a host name, one with the wildcard above it, and one with the rest."""
    names = ["a.apps.example.com", APPS, REST]
    agents = ["exact", "wild", "rest"]
    found = [
        claim(join(registry, agent, tunnel()), name)
        for agent, name in zip(agents, names, strict=True)
    ]
    for one in reversed(found):
        registry.register(one)
    return found


def test_the_most_specific_name_gets_the_request() -> None:
    registry = Registry()
    exact, wild, rest = three_services(registry)
    assert registry.lookup("a.apps.example.com") is exact
    assert registry.lookup("b.apps.example.com") is wild
    for host in ("x.b.apps.example.com", "apps.example.com", "example.com", "nas", "192.0.2.7"):
        assert registry.lookup(host) is rest
        assert registry.agents_of(host) == ["rest"]
    assert registry.lookup("[2001:db8::1]") is rest
    assert wild.registered_host("b.apps.example.com") == APPS


def test_a_wildcard_gets_no_requests_of_an_agent_that_is_away() -> None:
    registry = Registry()
    exact, wild, rest = three_services(registry)
    registry.remove(exact.session)
    assert registry.lookup("a.apps.example.com") is None
    assert registry.away_until("a.apps.example.com", 10) > 0
    assert not registry.offers_https("a.apps.example.com")
    assert registry.policy_of("a.apps.example.com") == ("exact", None)
    registry.remove(wild.session)
    assert registry.lookup("b.apps.example.com") is None
    assert registry.policy_of("b.apps.example.com") == ("wild", None)
    assert registry.lookup("example.com") is rest


def test_a_wildcard_gets_the_requests_of_a_service_that_was_removed() -> None:
    registry = Registry()
    exact, wild, rest = three_services(registry)
    registry.unregister(exact.session, "web")
    assert registry.lookup("a.apps.example.com") is wild
    registry.unregister(wild.session, "web")
    assert registry.lookup("a.apps.example.com") is rest
    registry.unregister(rest.session, "web")
    with pytest.raises(KeyError):
        registry.lookup("a.apps.example.com")


def test_a_name_that_an_agent_lost_while_it_was_away_belongs_to_the_wildcard() -> None:
    registry = Registry()
    exact, wild, _ = three_services(registry)
    registry.remove(exact.session)
    registry.forget_lost(lambda agent, host: True)
    assert registry.lookup("a.apps.example.com") is None
    registry.forget_lost(lambda agent, host: (agent, host) != ("exact", "a.apps.example.com"))
    assert registry.lookup("a.apps.example.com") is wild


def test_a_service_of_a_wildcard_is_current_until_the_name_has_its_own() -> None:
    registry = Registry()
    wild = claim(join(registry, "wild", tunnel()), APPS)
    registry.register(wild)
    assert registry.is_current(wild, "a.apps.example.com")
    registry.register(claim(join(registry, "exact", tunnel()), "a.apps.example.com"))
    assert not registry.is_current(wild, "a.apps.example.com")
    assert registry.is_current(wild, "b.apps.example.com")


def test_agents_share_the_requests_of_a_wildcard() -> None:
    registry = Registry()
    ends = [tunnel(), tunnel()]
    agents = [claim(join(registry, str(id(end)), end), APPS) for end in ends]
    for end, one in zip(ends, agents, strict=True):
        end.can_open = True
        registry.register(one)
    hosts = [f"{number}.apps.example.com" for number in range(4)]
    assert [registry.lookup(host) in agents for host in hosts] == [True] * 4
    chosen = registry.lookup(hosts[0])
    assert chosen is not None
    (other,) = [one for one in agents if one is not chosen]
    assert registry.another(hosts[0], b"", [chosen]) is other


def test_a_wildcard_takes_no_requests_for_names_granted_to_another_agent() -> None:
    grants = GrantTable()
    grants.replace("file", [("one", "*.x"), ("two", "a.x"), ("one", "b.x"), ("two", "b.x")])
    grants.replace("database", [("three", "*")])
    registry = Registry(holders=grants.holders)
    wildcard = claim(join(registry, "one", tunnel()), "*.x")
    rest = claim(join(registry, "three", tunnel()), "*")
    for registration in (wildcard, rest):
        registry.register(registration)
    with pytest.raises(KeyError):
        registry.lookup("a.x")
    assert registry.lookup("b.x") is wildcard, "granted to it by name, too"
    assert registry.lookup("c.x") is wildcard
    assert registry.lookup("y") is rest
    registry.unregister(wildcard.session, wildcard.service)
    with pytest.raises(KeyError):
        registry.lookup("c.x")
    registry.expect("*.x", "one", "web")
    assert registry.lookup("c.x") is None
    with pytest.raises(KeyError):
        registry.lookup("a.x")


MATCHES = {
    "a.x": ["a.x", "*.x", "*"],
    "b.x": ["b.x", "*.x", "*"],
    "c.b.x": ["c.b.x", "*"],
    "x": ["x", "*"],
}
"""Names that a request's host may be registered under, the most specific one first."""


class Schedules(RuleBasedStateMachine):
    """Joins, registrations and ends in any order: a lookup never returns an ended session, and
    always the most specific registration."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.live: list[AgentSession] = []
        self.lost: dict[str, str] = {}
        """Names whose last agent left, with that agent."""

    agents = st.sampled_from(["one", "two"])
    hosts = st.lists(st.sampled_from(["a.x", "b.x", "x", "*.x", "*"]), min_size=1, max_size=4)
    services = st.sampled_from(["web", "api"])

    def holders(self, name: str) -> list[AgentSession]:
        working = [m for m in self.live if not m.retired]
        return [m for m in working for c in m.services.values() if name in c.hosts]

    def served(self) -> set[str]:
        return {name for names in MATCHES.values() for name in names if self.holders(name)}

    def note(self, before: set[str], *, left: str | None = None) -> None:
        """Note the names that are served no more, because an agent left or has other services."""
        served = self.served()
        gone = before - served
        self.lost |= dict.fromkeys(gone, left) if left is not None else {}
        for name in served if left is not None else served | gone:
            self.lost.pop(name, None)

    @rule(
        agent=agents,
        instance=st.sampled_from([None, PROCESS, NEXT_PROCESS]),
        number=st.integers(0, 2),
    )
    def join(self, agent: str, instance: str | None, number: int) -> None:
        self.live.append(
            join(
                self.registry,
                agent,
                tunnel(),
                instance=instance,
                connection=number if instance else 0,
            )
        )

    @rule(data=st.data(), hosts=hosts, service=services)
    def register(self, data: Any, hosts: list[str], service: str) -> None:
        if self.live:
            session = data.draw(st.sampled_from(self.live))
            if not session.retired:
                before = self.served()
                self.registry.register(claim(session, *hosts, service=service))
                self.note(before)

    @rule(data=st.data(), service=services)
    def unregister(self, data: Any, service: str) -> None:
        if self.live:
            before = self.served()
            self.registry.unregister(data.draw(st.sampled_from(self.live)), service)
            self.note(before)

    @rule(data=st.data())
    def retire(self, data: Any) -> None:
        if self.live:
            before = self.served()
            session = data.draw(st.sampled_from(self.live))
            self.registry.retire(session)
            self.note(before, left=session.agent)

    @rule(agent=agents)
    def take_grants(self, agent: str) -> None:
        self.registry.forget_lost(lambda owner, name: owner != agent or name == "*")
        self.lost = {
            name: owner for name, owner in self.lost.items() if owner != agent or name == "*"
        }

    @rule(data=st.data(), attached=st.booleans())
    def change_link(self, data: Any, attached: bool) -> None:
        if self.live:
            session = data.draw(st.sampled_from(self.live))
            session.link.session.attached = attached
            (self.registry.reattached if attached else self.registry.detached)(session)

    @rule(data=st.data(), doubtful=st.booleans())
    def answer_late(self, data: Any, doubtful: bool) -> None:
        if self.live:
            data.draw(st.sampled_from(self.live)).link.doubtful = doubtful
            self.registry.check_links()

    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        if self.live:
            before = self.served()
            session = data.draw(st.sampled_from(self.live))
            self.live.remove(session)
            self.registry.remove(session)
            self.note(before, left=session.agent)

    @invariant()
    def lookups_are_live(self) -> None:
        for host, names in MATCHES.items():
            known = [name for name in names if name in self.lost or self.holders(name)]
            try:
                found = self.registry.lookup(host)
            except KeyError:
                assert not known
                continue
            holders = self.holders(known[0])
            assert self.registry.resolve(host) == known[0]
            if found is None:
                assert not holders
            else:
                assert found.session in self.live
                assert not found.session.retired
                assert found in found.session.services.values()
                assert known[0] in found.hosts
                assert self.registry.is_current(found, host)
                assert standing(found.session) == min(map(standing, holders))
                rivals = [
                    m
                    for m in holders
                    if m.agent == found.session.agent and standing(m) == standing(found.session)
                ]
                assert found.session.rank == min(m.rank for m in rivals)


Schedules.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=20, phases=PHASES
)
TestSchedules = Schedules.TestCase
