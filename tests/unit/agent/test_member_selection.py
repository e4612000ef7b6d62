"""Tests of zerotrust.agent.member_selection."""

from collections import Counter

from zerotrust.agent.member_selection import MOST, REVIEW_EACH, MemberSelection
from zerotrust.tunnel.messages import Member


def members(count: int) -> list[Member]:
    return [Member(id=f"{n:032x}", address=f"s{n}.example.com:8443") for n in range(count)]


def ids(chosen: list[Member]) -> list[str]:
    return [one.id for one in chosen]


class Agent:
    """An agent whose file names the first server, with a round trip to each server."""

    def __init__(self, seed: str, edge: list[Member], trips: dict[str, float]) -> None:
        self.selection = MemberSelection(seed)
        self.edge = edge
        self.trips = trips
        self.kept: list[str] = []
        self.now = 0.0

    def look(self, seconds: float = REVIEW_EACH) -> list[str]:
        self.now += seconds
        self.kept = ids(
            self.selection.choose(
                self.edge,
                home=[self.edge[0].id],
                kept=self.kept,
                round_trips={name: self.trips[name] for name in self.kept},
                now=self.now,
            )
        )
        return self.kept


def test_a_small_edge_is_chosen_whole() -> None:
    edge = members(MOST)
    assert Agent("a", edge, dict.fromkeys(ids(edge), 0.1)).look() == ids(edge)[1:]


def test_of_many_servers_the_nearest_are_found_and_kept() -> None:
    edge = members(20)
    trips = {one.id: 0.3 - n / 100 for n, one in enumerate(edge)}
    agent = Agent("a", edge, trips)
    seen = set(agent.look())
    assert len(seen) == MOST - 1
    for _ in range(20):
        before = set(agent.kept)
        assert set(agent.look(1.0)) == before, "for a minute"
        seen |= set(agent.look())
    assert seen == set(ids(edge)[1:]), "each was tried"
    assert max(trips[name] for name in agent.kept) <= sorted(trips.values())[MOST - 2] + 0.02
    settled = agent.look()
    assert set(agent.look()) == set(settled)


def test_one_that_vanishes_is_replaced_at_once() -> None:
    edge = members(20)
    agent = Agent("a", edge, dict.fromkeys(ids(edge), 0.01))
    gone = agent.look()[0]
    agent.edge = [one for one in edge if one.id != gone]
    found = agent.look(1.0)
    assert gone not in found and len(set(found)) == MOST - 1


def test_agents_spread_over_servers_that_are_about_as_near() -> None:
    edge = members(30)
    trips = {one.id: 0.01 + n / 10000 for n, one in enumerate(edge)}
    loads: Counter[str] = Counter()
    for number in range(60):
        agent = Agent(str(number), edge, trips)
        for _ in range(30):
            agent.look()
        loads.update(agent.kept)
    assert set(loads) == set(ids(edge)[1:])
    assert max(loads.values()) < 3 * min(loads.values())


def test_servers_of_the_file_take_places() -> None:
    edge = members(20)
    selection = MemberSelection("a")
    for count in (0, 1, 3, 8):
        found = selection.choose(
            edge, home=ids(edge)[:count], kept=(), round_trips={}, now=count * 1000.0
        )
        assert len(found) == MOST - max(count, 1)
        assert not set(ids(found)) & set(ids(edge)[:count])
