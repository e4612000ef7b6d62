"""Load balancing policies: choice of the upstream for the next request.

* `round_robin` and `weighted_round_robin` are the smooth weighted round robin of nginx: in each
  turn every upstream earns its weight as credit; the one with the most credit is chosen and pays
  the sum of all weights. In as many turns as the sum of the weights, each upstream is chosen as
  often as its weight, evenly spread: weights 5, 1, 1 give a a b a c a a.
* `least_conn` chooses the upstream with the fewest active requests per weight; equal ones take
  turns.
* `ip_hash` is weighted rendezvous hashing (Thaler and Ravishankar, 1998): each upstream draws, from
  its name and the client's address, an exponentially distributed time with its weight as the rate;
  the shortest time is chosen. When an upstream is added, removed or gets another weight, only
  clients from or to it move.
* `random_two` draws two upstreams by weight and chooses the less loaded one (Mitzenmacher, "The
  Power of Two Choices in Randomized Load Balancing", 2001).
* `first` chooses the first upstream in the order of the file; the others stand by.

`round_robin` and `first` only distinguish weight 0 from other weights.
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
    """Number of active requests, which several objects may share."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = 0


class Candidate:
    """An upstream as a balancer sees it.

    The owner increments `load.active` for each request that is placed here, and decrements it at
    its end.

    Args:
        key: name for `ip_hash`. With the same key an upstream gets the same clients, also after a
            restart.
        weight: share of requests, relative to the others. An upstream with weight 0 is used only if
            no other can take a request.
        max_connections: maximum concurrent requests; None for no limit.
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
        """Return the number of active requests."""
        return self.load.active

    def scale(self, factor: float) -> None:
        """Set the part of the weight (above 0, at most 1) that counts during slow start."""
        self.factor = factor
        # A balancer gets upstreams with weight 0 only among themselves: they count equally.
        self.share = factor * (self.weight or 1)


C = TypeVar("C", bound=Candidate)


class Balancer:
    """A load balancing policy."""

    def pick(self, candidates: Sequence[C], client: bytes) -> C | None:
        """Return the upstream for a request; None if all have reached their limit.

        Args:
            candidates: upstreams that may be used now, in the order of the file.
            client: address of the client, as text.
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
    """Return the balancer for a policy. `random_two` uses `rng`."""
    if policy == "random_two":
        return _RandomTwo(rng)
    return _DETERMINISTIC[policy]()


_DETERMINISTIC: Final[dict[Policy, type[Balancer]]] = {
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
    """Return a draw from the exponential distribution with rate 1.

    It is always the same for the same pair.
    """
    drawn = int.from_bytes(blake2b(client, digest_size=8, key=seed).digest(), "big")
    return -math.log((drawn + 0.5) / 2**64)
