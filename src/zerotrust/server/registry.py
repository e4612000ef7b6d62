"""Who serves which host name now: claims of connected agents, by generation.

Every session gets a generation, larger than all before. For each host name there is a list of claims. Among claims of
one agent the newest session's wins, and the end of an old session takes only its own away. Agents that claim the same
host name share its requests: each goes to the one that has the least to do for its weight or, where clients are to
stay, to the same as before. One whose link is gone gets none while another has one. A host name whose last agent was
lost is remembered (503), one that was taken back is not (404). A session that retires gives its claims up and lives on
for what it has begun.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from zlib import crc32

from zerotrust.net.tunnel import TunnelLink
from zerotrust.server.binding import USUAL, Binding
from zerotrust.server.former import MAX_LOST, FormerGuards, LostNames
from zerotrust.server.guard import Guard

MAX_SERVICES: Final = 10_000
"""Of one session: a server's memory is not the agent's to use."""
MAX_NAMES: Final = MAX_LOST
"""Of one session: host names of all its services, granted or not."""
MAX_POLICY_BYTES: Final = 16 * 1024 * 1024
"""Of all sessions of an agent, as JSON."""


@dataclass(slots=True, eq=False)
class Member:
    """One authenticated session of an agent.

    Attributes:
        serial: of the agent's newest certificate, as `pki.identity` writes it.
        former: those of the certificates that it had before in this session.
        since: when it began, in seconds since the epoch; `ends`: when its certificate is no longer good.
    """

    agent: str
    generation: int
    link: TunnelLink
    serial: str = ""
    former: set[str] = field(default_factory=set)
    since: float = 0.0
    ends: float = math.inf
    peer: str = ""
    software: str = ""
    services: dict[str, "Claim"] = field(default_factory=dict)
    names: int = 0
    """How many host names its services want; `policy_bytes` is the sum of theirs."""
    policy_bytes: int = 0
    retired: bool = False
    """It gets no more requests; those that it has go on."""


@dataclass(slots=True, eq=False)
class Claim:
    """A service of a member.

    Attributes:
        hosts: the host names that it may serve, of those that it wants to.
        policy_bytes: what its policy takes as JSON.
    """

    member: Member
    service: str
    wire_id: bytes
    hosts: tuple[str, ...]
    websocket: bool
    guard: Guard | None = None
    """None where every request passes."""
    binding: Binding = USUAL
    wanted: tuple[str, ...] = ()
    policy_bytes: int = 0
    weight: int = 100
    """The agent's share, and whether a client is to stay with one of the agents (`sticky`)."""
    sticky: bool = False
    turn: int = 0
    """When it was chosen last, beside others."""

    def with_hosts(self, hosts: tuple[str, ...]) -> "Claim":
        """The same service with other host names."""
        return replace(self, hosts=hosts)


class Registry:
    """All claims of this server.

    Args:
        clock: monotonic seconds.

    Attributes:
        served: called with a host name that an agent serves now, and did not before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._former = FormerGuards()
        self._claims: dict[str, list[Claim]] = {}
        self._lost = LostNames()
        self._members: dict[str, list[Member]] = {}
        self._generation = 0
        self._turn = 0
        self.served: Callable[[str], None] = lambda host: None

    def join(self, agent: str, link: TunnelLink) -> Member:
        """A new session of an agent."""
        self._generation += 1
        member = Member(agent, self._generation, link)
        self._members.setdefault(agent, []).append(member)
        return member

    def find(self, agent: str, session: str) -> Member | None:
        """A session of an agent by the id that the tunnel knows it by."""
        for member in self._members.get(agent, ()):
            if member.link.session.id == session:
                return member
        return None

    def detached(self, member: Member) -> None:
        """A session is without a link: who else has its host names takes requests before it."""
        self._sort(member)

    def reattached(self, member: Member) -> None:
        """It has one again."""
        self._sort(member)
        for claim in member.services.values():
            for host in claim.hosts:
                self.served(host)

    def away_until(self, host: str, timeout: float) -> float:
        """For how many seconds more nobody knows whether an agent comes back to a host name: `timeout` in all.

        0 where there is none that could.
        """
        if host in self._claims:
            return timeout
        lost_at = self._lost.lost_at(host)
        return 0.0 if lost_at is None else max(0.0, lost_at + timeout - self._clock())

    def _sort(self, member: Member) -> None:
        for claim in member.services.values():
            for host in claim.hosts:
                claims = self._claims.get(host, [])
                if len(claims) > 1:
                    claims.sort(key=_is_detached)

    def lookup(self, host: str, client: bytes = b"") -> Claim | None:
        """Who serves the host name for a client; None where it is known but nobody is connected.

        Raises:
            KeyError: nobody ever served it, or it was taken back.
        """
        claims = self._claims.get(host)
        if claims is not None:
            return claims[0] if len(claims) == 1 else self._choose(claims, client)
        if host not in self._lost:
            raise KeyError(host)
        return None

    def _choose(self, claims: list[Claim], client: bytes) -> Claim:
        """One of those that serve a host name; of each agent only the first counts."""
        candidates = [claims[0]]
        for claim in claims[1:]:
            if _is_detached(claim):
                break
            if claim.member.agent != candidates[-1].member.agent:
                candidates.append(claim)
        if len(candidates) == 1:
            return candidates[0]
        if any(claim.sticky for claim in candidates):
            # Rendezvous hashing (Thaler and Ravishankar, 1998): who leaves takes only its own clients along.
            return max(candidates, key=lambda claim: crc32(claim.member.agent.encode() + b" " + client))
        chosen = min(candidates, key=_load)
        self._turn += 1
        chosen.turn = self._turn
        return chosen

    def offers_https(self, host: str) -> bool:
        """The host name is served now, and not over http alone."""
        claims = self._claims.get(host, ())
        return any(claim.binding.https for claim in claims[:1])

    def guard_of(self, host: str) -> Guard | None:
        """The guard in front of a host name; for a while also that of one whose agent was lost."""
        claims = self._claims.get(host)
        if claims:
            return claims[0].guard
        agent, service = self._lost.get(host)
        return self._former.get(agent, service, self._clock())

    def register(self, member: Member, claim: Claim) -> dict[str, str]:
        """Add or replace a service; the host names for which the agent only stands by, with the reason."""
        before = member.services.get(claim.service)
        member.services[claim.service] = claim
        _count(member, claim, before)
        waiting = {}
        for host in claim.hosts:
            holder = self._claim(host, claim, before)
            if holder is not claim:
                waiting[host] = f"served by service {holder.service} of the same agent; this one stands by"
        if before is not None:
            for host in set(before.hosts) - set(claim.hosts):
                self._release(host, before, remember=False)
        return waiting

    def too_much(self, member: Member, service: str, names: int, policy_bytes: int) -> str | None:
        """Why a session may not have this service as well, or in place of the one that it has; None where it may."""
        before = member.services.get(service)
        if before is None and len(member.services) >= MAX_SERVICES:
            return f"more than {MAX_SERVICES} services"
        if member.names + names - (len(before.wanted) if before is not None else 0) > MAX_NAMES:
            return f"more than {MAX_NAMES} host names in one session"
        if policy_bytes:
            held = sum(other.policy_bytes for other in self._members.get(member.agent, ()))
            if held + policy_bytes - (before.policy_bytes if before is not None else 0) > MAX_POLICY_BYTES:
                return f"more than {MAX_POLICY_BYTES} bytes of policies in all sessions of this agent"
        return None

    def former(self, member: Member, service: str) -> Guard | None:
        """What the guard of this service takes the place of: in this session, an older one, or one that is over."""
        for session in reversed(self._members.get(member.agent, ())):
            if service in session.services:
                return session.services[service].guard
        return self._former.get(member.agent, service, self._clock())

    def unregister(self, member: Member, service: str) -> bool:
        """Take a service back; False where there was none."""
        claim = member.services.pop(service, None)
        if claim is None:
            return False
        _count(member, None, claim)
        for host in claim.hosts:
            self._release(host, claim, remember=False)
        return True

    def older(self, member: Member) -> list[Member]:
        """Sessions of the same agent that a newer one replaces."""
        return [
            other
            for other in self._members.get(member.agent, ())
            if other.generation < member.generation and not other.retired
        ]

    def retire(self, member: Member) -> list[Member]:
        """Give a session no more requests; all sessions of its agent that are retired, the oldest first."""
        member.retired = True
        for claim in member.services.values():
            for host in claim.hosts:
                self._release(host, claim, remember=True)
        return [other for other in self._members.get(member.agent, ()) if other.retired]

    def renewed(self, member: Member, serial: str, ends: float) -> None:
        """The agent has a new certificate, good until `ends` (seconds since the epoch): so are all its sessions."""
        before = member.serial
        for other in self._members.get(member.agent, ()):
            other.ends = max(other.ends, ends)
            if other.serial == before:
                other.former.add(before)
                other.serial = serial

    def leave(self, member: Member) -> None:
        """A session is over."""
        members = self._members.get(member.agent, [])
        if member in members:
            members.remove(member)
        services, member.services = member.services, {}
        if not members:
            self._members.pop(member.agent, None)
            guards = {claim.service: claim.guard for claim in services.values() if claim.guard is not None}
            self._former.keep(member.agent, guards, self._clock())
        for claim in services.values():
            for host in claim.hosts:
                self._release(host, claim, remember=True)

    @property
    def members(self) -> list[Member]:
        """All sessions."""
        return [member for members in self._members.values() for member in members]

    def _claim(self, host: str, claim: Claim, before: Claim | None) -> Claim:
        """Put a claim into its place; which one of its agent has the host name then.

        Claims of one agent stand together, those of its newest session first; those without a link stand behind.
        """
        self._lost.discard(host)
        claims = self._claims.setdefault(host, [])
        if before in claims:
            claims[claims.index(before)] = claim
        if claim in claims:  # also where the agent names the host twice
            return _first_of(claim.member.agent, claims)
        place = len(claims)
        for index, other in enumerate(claims):
            if other.member.agent == claim.member.agent:
                place = index
                if other.member.generation < claim.member.generation:
                    break
                place += 1
        claims.insert(place, claim)
        if place:
            claims.sort(key=_is_detached)
        self.served(host)
        return _first_of(claim.member.agent, claims)

    def _release(self, host: str, claim: Claim, *, remember: bool) -> None:
        claims = self._claims.get(host)
        if claims is None or claim not in claims:
            return
        claims.remove(claim)
        if claims:
            return
        del self._claims[host]
        if remember:
            self._lost.add(host, claim.member.agent, claim.service, self._clock())
        else:
            self._lost.discard(host)


def _is_detached(claim: Claim) -> bool:
    return not claim.member.link.session.attached


def _first_of(agent: str, claims: list[Claim]) -> Claim:
    return next(claim for claim in claims if claim.member.agent == agent)


def _load(claim: Claim) -> tuple[float, int]:
    """How much its agent has to do for its weight; who was chosen longest ago comes first."""
    return len(claim.member.link.session.streams) / claim.weight, claim.turn


def _count(member: Member, claim: Claim | None, before: Claim | None) -> None:
    member.names += len(claim.wanted if claim else ()) - len(before.wanted if before else ())
    member.policy_bytes += (claim.policy_bytes if claim else 0) - (before.policy_bytes if before else 0)
