"""The registry: the newest session of an agent wins, and the end of an old one takes nothing away."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zerotrust.net.tunnel import TunnelLink
from zerotrust.server.agents import offline_agents
from zerotrust.server.agents.offline_agents import KEPT_FOR
from zerotrust.server.agents.policy_quota import estimate
from zerotrust.server.agents.registry import MAX_NAMES, MAX_SERVICES, REPLACED, Member, Registry, ServiceRegistration
from zerotrust.server.agents.scheme import OfferedSchemes
from zerotrust.server.agents.service_policy import CompiledPolicy, compile_service_policy

PHASES = (
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
    Phase.shrink,
)  # not explain: it traces, which takes longer than the test


def link() -> TunnelLink:
    """What the registry asks of one."""
    session = SimpleNamespace(attached=True, streams={}, id="", keepalive=SimpleNamespace(round_trip=None))
    return cast("TunnelLink", SimpleNamespace(session=session, doubtful=False))


LINK = link()


def claim(
    member: Member, *hosts: str, service: str = "web", guard: CompiledPolicy | None = None
) -> ServiceRegistration:
    return ServiceRegistration(member, service, service.encode(), hosts, True, guard)


def wanting(
    member: Member, *hosts: str, service: str = "web", policy_bytes: int = 0, guard: CompiledPolicy | None = None
) -> ServiceRegistration:
    return ServiceRegistration(
        member, service, service.encode(), hosts, True, guard, wanted=hosts, policy_bytes=policy_bytes
    )


def new_guard() -> CompiledPolicy:
    found = compile_service_policy({"max_websockets": 1}, secret=b"s" * 32, before=None)
    assert found is not None
    return found


def test_a_host_is_unknown_until_it_is_registered() -> None:
    registry = Registry()
    with pytest.raises(KeyError):
        registry.lookup("a.example")
    member = registry.join("home", LINK)
    mine = claim(member, "a.example")
    assert registry.register(member, mine) == {}
    assert registry.lookup("a.example") is mine
    assert registry.offers_https("a.example")


def test_a_lost_agent_is_remembered_a_removed_service_is_not() -> None:
    registry = Registry()
    member = registry.join("home", LINK)
    registry.register(member, claim(member, "lost.example"))
    registry.register(member, claim(member, "gone.example", service="other"))
    assert registry.unregister(member, "other")
    with pytest.raises(KeyError):
        registry.lookup("gone.example")
    registry.leave(member)
    assert registry.lookup("lost.example") is None
    assert not registry.offers_https("lost.example")


def test_https_is_offered_where_the_holder_does() -> None:
    registry = Registry()
    assert not registry.offers_https("a.example")
    member, second = registry.join("home", LINK), registry.join("office", LINK)
    plain = ServiceRegistration(
        member, "web", b"web", ("a.example",), True, schemes=OfferedSchemes(http=True, https=False, redirect=False)
    )
    registry.register(member, plain)
    registry.register(second, claim(second, "a.example"))
    assert not registry.offers_https("a.example")
    registry.leave(member)
    assert registry.offers_https("a.example")


def test_the_end_of_an_old_session_removes_nothing_of_the_new_one() -> None:
    registry = Registry()
    old = registry.join("home", LINK)
    registry.register(old, claim(old, "a.example"))
    new = registry.join("home", LINK)
    fresh = claim(new, "a.example")
    registry.register(new, fresh)
    assert registry.older(new) == [old]
    registry.leave(old)
    assert registry.lookup("a.example") is fresh


def test_the_old_session_serves_until_the_new_one_has_registered() -> None:
    registry = Registry()
    old = registry.join("home", LINK)
    before = claim(old, "a.example")
    registry.register(old, before)
    registry.join("home", LINK)
    assert registry.lookup("a.example") is before


def test_a_session_that_retires_gives_its_names_up_and_is_not_superseded() -> None:
    registry = Registry()
    old, other = registry.join("home", LINK), registry.join("other", LINK)
    guard = new_guard()
    registry.register(old, claim(old, "a.example", "b.example", guard=guard))
    spare = claim(other, "b.example")
    registry.register(other, spare)
    assert registry.retire(old) == [old]
    assert registry.lookup("a.example") is None, "the name is remembered"
    assert registry.lookup("b.example") is spare
    new = registry.join("home", LINK)
    assert registry.older(new) == []
    assert registry.former(new, "web") is guard
    fresh = claim(new, "a.example")
    registry.register(new, fresh)
    registry.leave(old)
    assert registry.lookup("a.example") is fresh


def shared(*weights: int, sticky: bool = False) -> tuple[Registry, list[Member]]:
    """A host name of several agents."""
    registry = Registry()
    members = [registry.join(f"agent-{number}", link()) for number in range(len(weights))]
    for member, weight in zip(members, weights, strict=True):
        own = replace(claim(member, "a.example"), weight=weight, sticky=sticky)
        assert registry.register(member, own) == {}
    return registry, members


def agent_for(registry: Registry, client: bytes = b"") -> str:
    found = registry.lookup("a.example", client)
    assert found is not None
    return found.session.agent


def test_agents_share_a_host_name_and_one_that_leaves_takes_nothing_along() -> None:
    registry, members = shared(100, 100)
    assert [agent_for(registry) for _ in range(4)] == ["agent-0", "agent-1"] * 2
    registry.leave(members[0])
    assert {agent_for(registry) for _ in range(3)} == {"agent-1"}


def test_the_agent_with_the_least_to_do_for_its_weight() -> None:
    registry, members = shared(100, 300)
    for number in range(400):
        found = registry.lookup("a.example")
        assert found is not None
        found.session.link.session.streams[number] = None  # type: ignore[assignment]
    assert [len(member.link.session.streams) for member in members] == [100, 300]


def test_an_agent_without_a_link_gets_nothing_while_another_has_one() -> None:
    registry, members = shared(100, 100)
    for first, second in (members, members[::-1]):
        first.link.session.attached = False
        registry.detached(first)
        assert {agent_for(registry) for _ in range(3)} == {second.agent}
        first.link.session.attached = True
        registry.reattached(first)
    assert {agent_for(registry) for _ in range(4)} == {"agent-0", "agent-1"}


def test_clients_stay_where_they_were_and_only_those_of_a_lost_agent_move() -> None:
    registry, members = shared(100, 100, 100, sticky=True)
    clients = [f"203.0.113.{number}".encode() for number in range(250)]
    before = {client: agent_for(registry, client) for client in clients}
    assert before == {client: agent_for(registry, client) for client in clients}
    assert all(40 < list(before.values()).count(member.agent) < 130 for member in members)
    registry.leave(members[1])
    for client, agent in before.items():
        assert agent == "agent-1" or agent_for(registry, client) == agent


PROCESS, NEXT_PROCESS = "ab" * 16, "cd" * 16


def connections(count: int = 2, agent: str = "home") -> tuple[Registry, list[Member]]:
    """One agent that keeps several sessions; they join in the opposite order of their numbers."""
    registry = Registry()
    members = [registry.join(agent, link(), instance=PROCESS, connection=number) for number in reversed(range(count))]
    for member in members:
        assert registry.register(member, claim(member, "a.example")) == {}
    return registry, members[::-1]


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
        registry.watch()
        assert connection_for(registry) == other.connection
        late.link.doubtful = False
        registry.watch()
    assert connection_for(registry) == 0


@pytest.mark.parametrize(
    ("trips", "chosen"),
    [((0.01, 0.02), 0), ((0.05, 0.01), 0), ((0.07, 0.01), 1), ((0.3, 0.2), 0), ((0.5, 0.2), 1), ((None, 0.01), 0)],
)
def test_a_connection_that_is_much_slower_than_another_gets_nothing_new(
    trips: tuple[float | None, float | None], chosen: int
) -> None:
    registry, members = connections()
    for member, trip in zip(members, trips, strict=True):
        member.link.session.keepalive.round_trip = trip
    registry.watch()
    assert connection_for(registry) == chosen


def test_an_agent_that_answers_late_gets_nothing_new_while_another_does_not() -> None:
    registry, members = shared(100, 100)
    members[0].link.doubtful = True
    registry.watch()
    assert {agent_for(registry) for _ in range(3)} == {"agent-1"}
    members[1].link.doubtful = True
    registry.watch()
    assert {agent_for(registry) for _ in range(4)} == {"agent-0", "agent-1"}, "those that are left share all"


def test_agents_with_several_connections_share_a_host_name_as_others_do() -> None:
    registry, members = connections()
    other = registry.join("office", link())
    registry.register(other, claim(other, "a.example"))
    assert [agent_for(registry) for _ in range(4)] == ["home", "office"] * 2
    for member in members:
        member.link.session.attached = False
        registry.detached(member)
    assert {agent_for(registry) for _ in range(3)} == {"office"}
    members[1].link.session.attached = True
    registry.reattached(members[1])
    assert {agent_for(registry) for _ in range(4)} == {"home", "office"}


def test_a_session_replaces_those_whose_place_it_takes() -> None:
    registry, (first, second) = connections()
    again = registry.join("home", link(), instance=PROCESS, connection=0)
    assert registry.replace(again) == [first]
    assert registry.replace(second) == []
    next_process = registry.join("home", link(), instance=NEXT_PROCESS, connection=0)
    assert set(registry.replace(next_process)) == {first, second, again}
    beside = registry.join("home", link(), instance=NEXT_PROCESS, connection=1)
    assert set(registry.replace(beside)) == {first, second, again}
    of_an_older_program = registry.join("home", link())
    assert len(registry.replace(of_an_older_program)) == 5


def test_a_process_that_was_replaced_is_not_let_in_for_a_while() -> None:
    now = 100.0
    registry = Registry(clock=lambda: now)
    for number in range(2):
        registry.join("home", link(), instance=PROCESS, connection=number)
    registry.replace(registry.join("home", link(), instance=PROCESS, connection=0))
    assert not registry.was_replaced("home", PROCESS), "by itself is another matter"
    registry.replace(registry.join("home", link(), instance=NEXT_PROCESS))
    assert registry.was_replaced("home", PROCESS)
    assert not registry.was_replaced("office", PROCESS)
    assert not registry.was_replaced("home", NEXT_PROCESS) and not registry.was_replaced("home", None)
    now += REPLACED
    assert not registry.was_replaced("home", PROCESS)


def test_a_newer_process_goes_before_an_older_one() -> None:
    registry, _ = connections()
    member = registry.join("home", link(), instance=NEXT_PROCESS, connection=1)
    registry.register(member, claim(member, "a.example"))
    found = registry.lookup("a.example")
    assert found is not None and found.session is member


def test_who_waits_for_a_host_name_is_told() -> None:
    registry, told = Registry(), []
    registry.subscribe(told.append)
    member = registry.join("home", link())
    registry.register(member, claim(member, "a.example", "b.example"))
    assert told == ["a.example", "b.example"]
    registry.detached(member)
    registry.reattached(member)
    assert told == ["a.example", "b.example"] * 2


def test_a_service_registered_again_replaces_itself() -> None:
    registry = Registry()
    member = registry.join("home", LINK)
    registry.register(member, claim(member, "a.example", "b.example"))
    again = claim(member, "b.example", "c.example")
    registry.register(member, again)
    with pytest.raises(KeyError):
        registry.lookup("a.example")
    assert registry.lookup("b.example") is again
    assert registry.lookup("c.example") is again


def test_a_host_that_is_named_twice_is_claimed_once() -> None:
    registry = Registry()
    member, other = registry.join("home", LINK), registry.join("office", LINK)
    registry.register(member, claim(member, "a.example", "a.example"))
    registry.register(member, claim(member, "b.example"))
    with pytest.raises(KeyError):
        registry.lookup("a.example")
    registry.register(member, claim(member, "a.example", "a.example"))
    registry.leave(member)
    theirs = claim(other, "a.example")
    assert registry.register(other, theirs) == {}
    assert registry.lookup("a.example") is theirs


def test_two_services_of_one_agent_do_not_share_a_host() -> None:
    registry = Registry()
    member = registry.join("home", LINK)
    first = claim(member, "a.example")
    registry.register(member, first)
    waiting = registry.register(member, claim(member, "a.example", service="other"))
    assert waiting == {"a.example": "served by service web of the same agent; this one stands by"}
    assert registry.lookup("a.example") is first


def test_what_one_session_may_have_is_bounded() -> None:
    registry = Registry()
    member = registry.join("home", LINK)
    for number in range(MAX_SERVICES):
        assert registry.too_much(member, str(number), 1, 0) is None
        registry.register(member, wanting(member, f"{number}.example", service=str(number)))
    assert registry.too_much(member, "one more", 1, 0) == f"more than {MAX_SERVICES} services"
    assert registry.too_much(member, "7", 1, 0) is None
    assert registry.too_much(member, "7", MAX_NAMES - MAX_SERVICES + 1, 0) is None
    assert registry.too_much(member, "7", MAX_NAMES - MAX_SERVICES + 2, 0)
    registry.unregister(member, "8")
    assert registry.too_much(member, "7", MAX_NAMES - MAX_SERVICES + 2, 0) is None


def test_policies_are_counted_over_all_sessions_of_an_agent() -> None:
    registry = Registry()
    old, new, other = registry.join("home", LINK), registry.join("home", LINK), registry.join("office", LINK)
    registry.policies.most = estimate(1000) + estimate(10)
    registry.register(old, wanting(old, "a.example", policy_bytes=1000, guard=new_guard()))
    assert registry.too_much(new, "web", 1, 10) is None
    assert registry.too_much(new, "web", 1, 11)
    assert registry.too_much(new, "web", 1, 0) is None
    assert registry.too_much(old, "web", 1, 1010) is None, "it takes the place of its own"
    assert registry.too_much(other, "web", 1, 1010) is None
    registry.leave(old)
    assert registry.too_much(new, "web", 1, 1010) is None


def test_what_the_policies_of_an_agent_take_is_counted_also_while_it_is_away() -> None:
    registry = Registry()
    member, second = registry.join("home", LINK), registry.join("home", LINK)
    registry.register(member, wanting(member, "a.example", policy_bytes=1000, guard=new_guard()))
    registry.register(second, wanting(second, "b.example", policy_bytes=500, guard=new_guard()))
    assert (registry.policies.memory("home"), registry.memory_of_former) == (estimate(1000) + estimate(500), 0)
    registry.leave(member)
    assert (registry.policies.memory("home"), registry.memory_of_former) == (estimate(500), 0)
    registry.leave(second)
    assert (registry.policies.memory("home"), registry.memory_of_former) == (0, estimate(500))


def test_an_agent_that_comes_and_goes_with_other_names_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_agents, "MAX_LOST", 3)
    registry = Registry()
    bystander = registry.join("office", LINK)
    registry.register(bystander, claim(bystander, "office.example"))
    registry.leave(bystander)
    for number in range(10):
        member = registry.join("home", LINK)
        registry.register(member, claim(member, f"{number}.example"))
        registry.leave(member)
    assert [registry.lookup(f"{number}.example") for number in (7, 8, 9)] == [None] * 3
    assert registry.lookup("office.example") is None
    with pytest.raises(KeyError):
        registry.lookup("6.example")
    assert not registry._claims


def test_what_a_guard_takes_the_place_of() -> None:
    registry = Registry()
    old, other = registry.join("home", LINK), registry.join("other", LINK)
    before = new_guard()
    registry.register(old, claim(old, "a.example", guard=before))
    new = registry.join("home", LINK)
    assert registry.former(new, "web") is before
    assert registry.former(new, "api") is None
    assert registry.former(other, "web") is None, "another agent's counts are its own"
    fresh = new_guard()
    registry.register(new, claim(new, "a.example", guard=fresh))
    assert registry.former(new, "web") is fresh
    registry.leave(new)
    assert registry.former(old, "web") is before, "the older session still has it"


def test_a_guard_outlives_the_last_session_for_a_while() -> None:
    now = 100.0
    registry = Registry(clock=lambda: now)
    member = registry.join("home", LINK)
    guard = new_guard()
    registry.register(member, claim(member, "a.example", guard=guard))
    registry.leave(member)
    again = registry.join("home", LINK)
    now += KEPT_FOR - 1
    assert registry.former(again, "web") is guard
    assert registry.former(registry.join("other", LINK), "web") is None
    now += 1
    assert registry.former(again, "web") is None


def standing(member: Member) -> tuple[bool, bool]:
    """No link, a doubtful one: the less, the better."""
    attached = member.link.session.attached
    return not attached, attached and member.doubtful


class Schedules(RuleBasedStateMachine):
    """Any order of joins, registrations and ends: a lookup never yields a session that has left."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.live: list[Member] = []

    agents = st.sampled_from(["one", "two"])
    hosts = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)
    services = st.sampled_from(["web", "api"])

    @rule(agent=agents, instance=st.sampled_from([None, PROCESS, NEXT_PROCESS]), number=st.integers(0, 2))
    def join(self, agent: str, instance: str | None, number: int) -> None:
        self.live.append(self.registry.join(agent, link(), instance=instance, connection=number if instance else 0))

    @rule(data=st.data(), hosts=hosts, service=services)
    def register(self, data: Any, hosts: list[str], service: str) -> None:
        if self.live:
            member = data.draw(st.sampled_from(self.live))
            if not member.retired:
                self.registry.register(member, claim(member, *hosts, service=service))

    @rule(data=st.data(), service=services)
    def unregister(self, data: Any, service: str) -> None:
        if self.live:
            self.registry.unregister(data.draw(st.sampled_from(self.live)), service)

    @rule(data=st.data())
    def retire(self, data: Any) -> None:
        if self.live:
            self.registry.retire(data.draw(st.sampled_from(self.live)))

    @rule(data=st.data(), attached=st.booleans())
    def change_link(self, data: Any, attached: bool) -> None:
        if self.live:
            member = data.draw(st.sampled_from(self.live))
            member.link.session.attached = attached
            (self.registry.reattached if attached else self.registry.detached)(member)

    @rule(data=st.data(), doubtful=st.booleans())
    def answer_late(self, data: Any, doubtful: bool) -> None:
        if self.live:
            data.draw(st.sampled_from(self.live)).link.doubtful = doubtful
            self.registry.watch()

    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        if self.live:
            member = data.draw(st.sampled_from(self.live))
            self.live.remove(member)
            self.registry.leave(member)

    @invariant()
    def lookups_are_live(self) -> None:
        for host in "abc":
            working = [m for m in self.live if not m.retired]
            holders = [m for m in working for c in m.services.values() if host in c.hosts]
            try:
                found = self.registry.lookup(host)
            except KeyError:
                assert not holders
                continue
            if found is None:
                assert not holders
            else:
                assert found.session in working
                assert found in found.session.services.values()
                assert host in found.hosts
                assert standing(found.session) == min(map(standing, holders))
                rivals = [
                    m for m in holders if m.agent == found.session.agent and standing(m) == standing(found.session)
                ]
                assert found.session.rank == min(m.rank for m in rivals)


Schedules.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None, phases=PHASES)
TestSchedules = Schedules.TestCase
