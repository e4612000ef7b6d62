"""Which upstream gets the next request: six policies over the upstreams that can take one.

* `round_robin` and `weighted_round_robin` are the smooth weighted round robin of nginx: in each turn every upstream
  earns its weight, the richest one is chosen and pays what all have earned together. In as many turns as the weights
  add up to, each is chosen exactly as often as its weight says, and spread out: weights 5, 1, 1 give a a b a c a a.
* `least_conn` takes the one with the fewest active requests for its weight; those that tie take turns.
* `ip_hash` is rendezvous hashing (Thaler and Ravishankar, 1998) with weights: each upstream draws, from its own name
  and the client's address, an exponentially distributed time with its weight as the rate, and the first one is chosen.
  An upstream that leaves, comes, or changes its weight moves only clients from or to itself.
* `random_two` draws two by their weights and takes the less loaded one (Mitzenmacher, "The Power of Two Choices in
  Randomized Load Balancing", 2001).
* `first` takes the first one in the order of the file: the others stand by.

`round_robin` and `first` look at weights only to see who has none.
"""

import math
import random
import sys
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeVar

from zerotrust.model.upstream import Policy

_RECENT_DRAWS: Final = 4096


class ActiveRequests:
    """How many requests run: a count that several may share."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = 0


class Candidate:
    """An upstream as a balancer sees it.

    The owner counts `load.active` up and down, once for each request that was placed here.

    Args:
        key: names the upstream for `ip_hash`: with the same key it gets the same clients, after a restart too.
        weight: its share, relative to the others; with 0 it gets requests only where all that can take one have 0.
        max_connections: it takes no more requests than these at a time; None is no bound.
    """

    __slots__ = ("credit", "factor", "key", "load", "max_connections", "seed", "share", "weight")

    def __init__(self, key: str, *, weight: int = 1, max_connections: int | None = None) -> None:
        self.key = key
        self.weight = weight
        self.max_connections = sys.maxsize if max_connections is None else max_connections
        self.load = ActiveRequests()
        self.credit = 0.0
        self.seed = blake2b(key.encode(), digest_size=16).digest()
        self.scale(1.0)

    @property
    def active(self) -> int:
        """How many requests it has now."""
        return self.load.active

    def scale(self, factor: float) -> None:
        """Count with this part (above 0, at most 1) of the weight from now on: slow start."""
        self.factor = factor
        # No balancer sees a weight of 0 beside another one, so among themselves those count alike.
        self.share = factor * (self.weight or 1)


C = TypeVar("C", bound=Candidate)


class Balancer:
    """A policy. `pick` is called for each request."""

    def pick(self, candidates: Sequence[C], client: bytes) -> C | None:
        """The upstream for a request of the client at this address; None where none has room for it.

        Args:
            candidates: the upstreams that may be used now, in the order of the file.
            client: the client's address, as text.
        """
        free = [c for c in candidates if c.weight and c.load.active < c.max_connections]
        if not free:
            free = [c for c in candidates if c.load.active < c.max_connections]
        if len(free) < 2:
            return free[0] if free else None
        return self._choose(free, client)

    def _choose(self, candidates: list[C], client: bytes) -> C:
        raise NotImplementedError


class _RoundRobin(Balancer):
    def _choose(self, candidates: list[C], client: bytes) -> C:
        return _next_in_turn(candidates, [c.factor for c in candidates])


class _WeightedRoundRobin(Balancer):
    def _choose(self, candidates: list[C], client: bytes) -> C:
        return _next_in_turn(candidates, [c.share for c in candidates])


class _LeastConn(Balancer):
    def _choose(self, candidates: list[C], client: bytes) -> C:
        loads = [c.load.active / c.share for c in candidates]
        least = min(loads)
        tied = [c for c, load in zip(candidates, loads, strict=True) if load == least]
        return tied[0] if len(tied) == 1 else _next_in_turn(tied, [c.share for c in tied])


class _IpHash(Balancer):
    def _choose(self, candidates: list[C], client: bytes) -> C:
        return min(candidates, key=lambda c: _exponential(c.seed, client) / c.share)


class _RandomTwo(Balancer):
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def _choose(self, candidates: list[C], client: bytes) -> C:
        one = self._draw(candidates)
        other = self._draw([c for c in candidates if c is not one])
        return other if other.load.active / other.share < one.load.active / one.share else one

    def _draw(self, candidates: list[C]) -> C:
        point = self._rng.random() * sum([c.share for c in candidates])
        for candidate in candidates:
            point -= candidate.share
            if point < 0:
                return candidate
        return candidates[-1]


class _First(Balancer):
    def _choose(self, candidates: list[C], client: bytes) -> C:
        return candidates[0]


def make_balancer(policy: Policy, rng: random.Random) -> Balancer:
    """The balancer of a service; `rng` is drawn from by `random_two`."""
    if policy == "random_two":
        return _RandomTwo(rng)
    return _WITHOUT_CHANCE[policy]()


_WITHOUT_CHANCE: Final[dict[Policy, type[Balancer]]] = {
    "round_robin": _RoundRobin,
    "weighted_round_robin": _WeightedRoundRobin,
    "least_conn": _LeastConn,
    "ip_hash": _IpHash,
    "first": _First,
}


def _next_in_turn(candidates: list[C], weights: list[float]) -> C:
    chosen = candidates[0]
    for candidate, weight in zip(candidates, weights, strict=True):
        candidate.credit += weight
        if candidate.credit > chosen.credit:
            chosen = candidate
    chosen.credit -= sum(weights)
    return chosen


@lru_cache(maxsize=_RECENT_DRAWS)
def _exponential(seed: bytes, client: bytes) -> float:
    """A draw from the exponential distribution with rate 1, always the same one for the same pair."""
    drawn = int.from_bytes(blake2b(client, digest_size=8, key=seed).digest(), "big")
    return -math.log((drawn + 0.5) / 2**64)
