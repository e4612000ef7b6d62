"""Choice of the servers that an agent keeps sessions with, beside those in its own file.

Where there are more than an agent may have, it tries one after the other and keeps the nearest.
Among servers that are about as near, different agents choose different ones.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from zerotrust.tunnel.messages import Member

MOST: Final = 8
"""Servers that an agent has sessions with, those in its file too."""
REVIEW_EACH: Final = 60.0
"""Seconds between two attempts to replace a server by a nearer one."""
ABOUT_AS_NEAR: Final = 0.02
"""Difference of two round trips, in seconds, that does not matter."""


class MemberSelection:
    """Chooses members.

    Args:
        seed: decides among servers that are about as near; differs from agent to agent.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._nearest: dict[str, float] = {}
        self._review_at = 0.0

    def choose(
        self,
        members: Sequence[Member],
        *,
        home: Collection[str],
        kept: Collection[str],
        round_trips: Mapping[str, float],
        now: float,
    ) -> list[Member]:
        """Return the members to keep sessions with.

        Args:
            home: ids of the servers in the agent's file.
            kept: ids of the members that it has connections to.
            round_trips: times that were measured, in seconds, by id.
        """
        others = {one.id: one for one in members if one.id not in home}
        room = MOST - max(len(home), 1)
        if len(others) <= room:
            return list(others.values())
        self._note(round_trips, others)
        stay = [name for name in others if name in kept]
        if now < self._review_at and len(stay) >= room:
            chosen = stay[:room]
        else:
            self._review_at = now + REVIEW_EACH
            chosen = self._best(others, room)
        return [others[name] for name in chosen]

    def _note(self, round_trips: Mapping[str, float], others: Collection[str]) -> None:
        """Keep the shortest round trip to each member that there is."""
        known = {name: trip for name, trip in self._nearest.items() if name in others}
        for name, trip in round_trips.items():
            if name in others:
                known[name] = min(trip, known.get(name, trip))
        self._nearest = known

    def _best(self, others: Collection[str], room: int) -> list[str]:
        """Return the nearest members, and one that was never tried as long as there is one."""
        known = self._nearest
        tried = sorted(known, key=lambda name: (known[name] // ABOUT_AS_NEAR, self._lot(name)))
        untried = sorted((name for name in others if name not in known), key=self._lot)
        stay = tried[: room - 1 if untried else room]
        return [*stay, *untried[: room - len(stay)]]

    def _lot(self, name: str) -> bytes:
        return hashlib.sha256(f"{self._seed} {name}".encode()).digest()
