"""Fair queue: bounded round-robin over agents and, within each, over client networks. Sans-I/O.

The agent at the front gets a turn, in which its client network at the front gets one; both then go
to the back. So an agent waits for at most one turn of each other agent, and a network for at most
one turn of each other network of its agent, however much the others have in the queue.

A full share never costs another party its place: where a client network, an agent or the queue as a
whole has too many items, the party that has most of them loses its newest.
"""

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Entry(NamedTuple, Generic[T]):
    """An item in the queue, and the agent and the client network that it belongs to."""

    agent: str
    network: bytes
    item: T


class _AgentQueue(Generic[T]):
    """Items of one agent, by client network in the order of their turns."""

    __slots__ = ("count", "networks")

    def __init__(self) -> None:
        self.count = 0
        self.networks: OrderedDict[bytes, dict[T, None]] = OrderedDict()


class FairQueue(Generic[T]):
    """Holds each item at most once for each agent and client network.

    Args:
        capacity: items in the queue.
        agent_capacity: items of one agent.
        network_capacity: items of one client network of an agent.
    """

    def __init__(self, *, capacity: int, agent_capacity: int, network_capacity: int) -> None:
        self._capacity = capacity
        self._agent_capacity = agent_capacity
        self._network_capacity = network_capacity
        self._count = 0
        self._agents: OrderedDict[str, _AgentQueue[T]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def push(self, agent: str, network: bytes, item: T) -> Entry[T] | None:
        """Add an item; return the entry that was evicted for it, if any. It may be the new one."""
        queue = self._agents.setdefault(agent, _AgentQueue())
        items = queue.networks.setdefault(network, {})
        if item in items:
            return None
        items[item] = None
        queue.count += 1
        self._count += 1
        if len(items) > self._network_capacity:
            return self._drop_newest(agent, network)
        if queue.count > self._agent_capacity:
            return self._drop_newest(agent, _largest_network(queue, network))
        if self._count > self._capacity:
            largest = max(self._agents, key=lambda name: (self._agents[name].count, name == agent))
            return self._drop_newest(largest, _largest_network(self._agents[largest], network))
        return None

    def pop(self) -> Entry[T] | None:
        """Remove and return the entry whose turn it is; None where the queue is empty."""
        if not self._count:
            return None
        agent, queue = next(iter(self._agents.items()))
        network, items = next(iter(queue.networks.items()))
        entry = Entry(agent, network, next(iter(items)))
        queue.networks.move_to_end(network)
        self._agents.move_to_end(agent)
        self.remove(entry)
        return entry

    def remove(self, entry: Entry[T]) -> None:
        """Remove an entry; nothing happens where it is not in the queue."""
        queue = self._agents.get(entry.agent)
        items = queue.networks.get(entry.network) if queue is not None else None
        if queue is None or items is None or entry.item not in items:
            return
        del items[entry.item]
        queue.count -= 1
        self._count -= 1
        if not items:
            del queue.networks[entry.network]
        if not queue.count:
            del self._agents[entry.agent]

    def _drop_newest(self, agent: str, network: bytes) -> Entry[T]:
        entry = Entry(agent, network, next(reversed(self._agents[agent].networks[network])))
        self.remove(entry)
        return entry


def _largest_network(queue: _AgentQueue[T], newcomer: bytes) -> bytes:
    """Return the client network with most items; of equals the newcomer."""
    return max(
        queue.networks, key=lambda network: (len(queue.networks[network]), network == newcomer)
    )
