"""Tests of zerotrust.server.proxy.fair_queue."""

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zerotrust.server.proxy.fair_queue import Entry, FairQueue

CAPACITY, OF_AGENT, OF_NETWORK = 12, 6, 3
AGENTS = st.sampled_from(["a", "b", "c", "d"])
NETWORKS = st.sampled_from([b"1", b"2", b"3"])
Item = int


def small() -> FairQueue[Item]:
    return FairQueue(capacity=CAPACITY, agent_capacity=OF_AGENT, network_capacity=OF_NETWORK)


def popped(queue: FairQueue[Item]) -> list[Entry[Item]]:
    found = []
    while (entry := queue.pop()) is not None:
        found.append(entry)
    return found


def test_agents_take_turns() -> None:
    queue = small()
    for item in range(3):
        queue.push("loud", b"1", item)
    queue.push("quiet", b"1", 3)
    assert [entry.agent for entry in popped(queue)] == ["loud", "quiet", "loud", "loud"]


def test_client_networks_of_an_agent_take_turns() -> None:
    queue = small()
    for item in range(3):
        queue.push("a", b"guesses", item)
    queue.push("a", b"login", 3)
    assert [entry.item for entry in popped(queue)] == [0, 3, 1, 2]


def test_an_agent_whose_turn_is_over_goes_to_the_back() -> None:
    queue = small()
    queue.push("a", b"1", 0)
    queue.push("b", b"1", 1)
    assert queue.pop() == Entry("a", b"1", 0)
    queue.push("a", b"1", 2)
    assert [entry.agent for entry in popped(queue)] == ["b", "a"]


def test_the_same_item_is_in_the_queue_once_for_each_network() -> None:
    queue = small()
    assert [queue.push("a", network, 7) for network in (b"1", b"1", b"2")] == [None] * 3
    assert popped(queue) == [Entry("a", b"1", 7), Entry("a", b"2", 7)]


def test_a_network_with_too_many_loses_its_newest() -> None:
    queue = small()
    queue.push("a", b"other", 9)
    dropped = [queue.push("a", b"1", item) for item in range(OF_NETWORK + 1)]
    assert dropped == [None] * OF_NETWORK + [Entry("a", b"1", OF_NETWORK)]


def test_the_network_that_has_most_makes_room_for_another_of_its_agent() -> None:
    queue = small()
    for item in range(OF_AGENT):
        queue.push("a", b"1" if item < OF_NETWORK else bytes([item]), item)
    assert queue.push("a", b"new", 7) == Entry("a", b"1", 2)
    for _ in range(2):
        lost = queue.push("a", b"newer", 8)
        assert lost is None or lost.network == b"1"


def test_a_newcomer_takes_no_place_of_its_equals() -> None:
    queue = small()
    for item in range(OF_AGENT):
        queue.push("a", bytes([item]), item)
    assert queue.push("a", b"new", 7) == Entry("a", b"new", 7)


def test_the_agent_that_has_most_makes_room_for_another() -> None:
    queue = small()
    for agent in ("big", "small"):
        for item in range(OF_AGENT):
            queue.push(agent, bytes([item % 2]), item)
    queue.remove(Entry("small", b"\x01", 5))
    queue.push("third", b"1", 0)
    lost = queue.push("fourth", b"1", 0)
    assert lost == Entry("big", b"\x00", 4), "the first of its largest networks"


def test_an_agent_takes_no_place_of_its_equals() -> None:
    queue = small()
    for item in range(CAPACITY):
        queue.push("ab"[item % 2], bytes([item]), item)
    queue.remove(Entry("b", b"\x0b", 11))
    queue.push("c", b"1", 0)
    assert queue.push("b", b"\x0b", 11) == Entry("b", b"\x0b", 11)


class Turns(RuleBasedStateMachine):
    """Pushes, turns and withdrawals in any order, compared with a list of the queue's content."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = small()
        self.waiting: list[Entry[Item]] = []
        self.turns_since: dict[str, Counter[str]] = {}
        """Per waiting agent: the turns of each other agent since its last one, or since it came."""
        self.network_turns_since: dict[tuple[str, bytes], Counter[bytes]] = {}

    def forget(self, entry: Entry[Item]) -> None:
        self.waiting.remove(entry)
        if not any(other.agent == entry.agent for other in self.waiting):
            self.turns_since.pop(entry.agent, None)
        if not any(other[:2] == entry[:2] for other in self.waiting):
            self.network_turns_since.pop(entry[:2], None)

    def counts(self, agent: str) -> Counter[bytes]:
        return Counter(entry.network for entry in self.waiting if entry.agent == agent)

    @rule(agent=AGENTS, network=NETWORKS, item=st.integers(0, 20))
    def push(self, agent: str, network: bytes, item: int) -> None:
        entry = Entry(agent, network, item)
        if entry in self.waiting:
            assert self.queue.push(*entry) is None
            return
        self.waiting.append(entry)
        by_agent, by_network = Counter(each.agent for each in self.waiting), self.counts(agent)
        self.turns_since.setdefault(agent, Counter())
        self.network_turns_since.setdefault(entry[:2], Counter())
        lost = self.queue.push(*entry)
        if by_network[network] > OF_NETWORK:
            assert lost == entry
        elif by_agent[agent] > OF_AGENT:
            assert lost is not None and lost.agent == agent
        elif len(self.waiting) > CAPACITY:
            assert lost is not None and by_agent[lost.agent] == max(by_agent.values())
        else:
            assert lost is None
        if lost is not None:
            of_agent = self.counts(lost.agent)
            assert of_agent[lost.network] == max(of_agent.values()), "who has most loses"
            assert lost == [each for each in self.waiting if each[:2] == lost[:2]][-1], "its newest"
            if lost[:2] != entry[:2]:
                assert of_agent[lost.network] > by_network[network] or lost.agent != agent
                assert by_agent[lost.agent] > by_agent[agent] or lost.agent == agent
            self.forget(lost)

    @rule()
    def pop(self) -> None:
        entry = self.queue.pop()
        assert (entry is None) is (not self.waiting), "never idle while something waits"
        if entry is None:
            return
        assert entry == next(each for each in self.waiting if each[:2] == entry[:2]), (
            "the oldest of its network"
        )
        for agent, turns in self.turns_since.items():
            if agent != entry.agent:
                turns[entry.agent] += 1
                assert turns[entry.agent] == 1, "one turn of each other agent at most"
        for (agent, network), passed in self.network_turns_since.items():
            if agent == entry.agent and network != entry.network:
                passed[entry.network] += 1
                assert passed[entry.network] == 1, "one turn of each other network at most"
        self.turns_since[entry.agent] = Counter()
        self.network_turns_since[entry[:2]] = Counter()
        self.forget(entry)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.waiting))
        self.queue.remove(entry)
        self.queue.remove(entry)
        self.forget(entry)

    @invariant()
    def bounded(self) -> None:
        assert len(self.queue) == len(self.waiting) <= CAPACITY
        assert set(self.queue._agents) == {entry.agent for entry in self.waiting}


TestTurns = Turns.TestCase
