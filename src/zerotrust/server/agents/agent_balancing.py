"""Balancing of requests among agents that serve the same host name, and their sessions.

Each agent uses one of its sessions at a time: its best one, because frames of one session share
writes. Agents that serve the same host name share its requests: by load and weight or, where
clients are to stay with an agent, by a hash of the client.
"""

import math
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from zerotrust.server.agents.session import AgentSession, ServiceRegistration

SLOW_FACTOR: Final = 2.0
SLOW_DIFFERENCE: Final = 0.05
"""A session is slow if its round trip takes so many times as long as the agent's quickest one, and
so many seconds longer."""


def arrange(registrations: list[ServiceRegistration]) -> int:
    """Sort the registrations of a host name by state of the session, agent, and rank.

    Returns:
        The number of agents.
    """
    order: dict[str, int] = {}
    for registration in registrations:
        order.setdefault(registration.session.agent, len(order))
    if len(registrations) > 1:
        registrations.sort(
            key=lambda one: (_state(one.session), order[one.session.agent], one.session.rank)
        )
    return len(order)


class AgentBalancer:
    """Chooses one of the agents that serve a host name."""

    def __init__(self) -> None:
        self._turn = 0

    def choose(
        self, registrations: Sequence[ServiceRegistration], client: bytes
    ) -> ServiceRegistration:
        """Choose among the registrations in the best state, of which each agent has one.

        Args:
            registrations: as `arrange` sorts them; at least one.
            client: IP address of the client; the hash key of sticky services.
        """
        candidates = [registrations[0]]
        state = _state(registrations[0].session)
        for registration in registrations[1:]:
            if _state(registration.session) != state:
                break
            if registration.session.agent != candidates[-1].session.agent:
                candidates.append(registration)
        if len(candidates) == 1:
            return candidates[0]
        if any(one.sticky for one in candidates):
            # Rendezvous hashing (Thaler and Ravishankar, 1998): only the clients of an agent that
            # leaves move.
            return max(
                candidates, key=lambda one: crc32(one.session.agent.encode() + b" " + client)
            )
        chosen = min(candidates, key=_load)
        self._turn += 1
        chosen.turn = self._turn
        return chosen


def update_doubtful(sessions: Sequence[AgentSession]) -> list[AgentSession]:
    """Compare the links of one agent; return the sessions whose `doubtful` has changed."""
    trips = [_round_trip(session) for session in sessions] if len(sessions) > 1 else []
    slow = max(min(trips) * SLOW_FACTOR, min(trips) + SLOW_DIFFERENCE) if trips else math.inf
    changed = []
    for session in sessions:
        doubtful = session.link.doubtful or slow < _round_trip(session) < math.inf
        if doubtful is not session.doubtful:
            session.doubtful = doubtful
            changed.append(session)
    return changed


def _state(session: AgentSession) -> int:
    """Sort key: sessions without a link come last, and those with a doubtful one before them."""
    return 2 if not session.attached else 1 if session.doubtful else 0


def _round_trip(session: AgentSession) -> float:
    """Return the link's round-trip time in seconds; infinite where it is unknown."""
    return session.link.session.keepalive.round_trip or math.inf if session.attached else math.inf


def _load(registration: ServiceRegistration) -> tuple[float, int]:
    """Sort key: open streams for the agent's weight, then the least recently chosen."""
    return registration.session.stream_count / registration.weight, registration.turn
