"""Who serves which host name now: claims of connected agents, by generation.

Every session gets a generation, larger than all before. For each host name there is a list of claims. Among claims of
one agent the newest session's wins or, of several that stand beside each other, that with the lowest number; the end of
a session takes only its own away. Agents that claim the same
host name share its requests: each goes to the one that has the least to do for its weight or, where clients are to
stay, to the same as before. A session whose link is gone gets none while another has one, and one whose link is slow to
answer gets none while another's is not (`watch`): so an agent that has several sessions at a time uses one of them,
whose frames share writes, as long as that one is well. A host name whose last agent was lost is remembered
(503), one that was taken back is not (404). A session that retires gives its claims up and lives on for what it has
begun.
"""

import math
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace
from typing import Final
from zlib import crc32

from zerotrust.net.tunnel import TunnelLink
from zerotrust.server.agents.offline_agents import MAX_LOST, RecentlyLostHosts, RetainedPolicies
from zerotrust.server.agents.policy_quota import PolicyQuota
from zerotrust.server.agents.scheme import USUAL, OfferedSchemes
from zerotrust.server.agents.service_policy import CompiledPolicy

MAX_SERVICES: Final = 10_000
"""Of one session: a server's memory is not the agent's to use."""
MAX_NAMES: Final = MAX_LOST
"""Of one session: host names of all its services, granted or not."""
REPLACED: Final = 30.0
"""Seconds for which a process whose sessions were replaced gets no new one: half of what it waits itself."""
SLOW: Final = 2.0
SLOW_BY: Final = 0.05
"""A session is slow whose round trip takes so many times that of the agent's quickest, and so many seconds more."""


@dataclass(slots=True, eq=False)
class Member:
    """One authenticated session of an agent.

    Attributes:
        serial: of the agent's newest certificate, as `pki.identity` writes it.
        former: those of the certificates that it had before in this session.
        since: when it began, in seconds since the epoch; `ends`: when its certificate is no longer good.
        instance: the agent's process, where it has several sessions at a time; `connection`: which of them.
        doubtful: it has a link, but one that other sessions are to be preferred to.
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
    instance: str | None = None
    connection: int = 0
    doubtful: bool = False
    services: dict[str, "ServiceRegistration"] = field(default_factory=dict)
    names: int = 0
    """How many host names its services want."""
    rank: tuple[int, int, int] = (0, 0, 0)
    """Of the agent's sessions, the least is the first choice."""
    retired: bool = False
    """It gets no more requests; those that it has go on."""


@dataclass(slots=True, eq=False)
class ServiceRegistration:
    """A service that an agent registered in a session.

    Attributes:
        hosts: the host names that it may serve, of those that it wants to.
        policy_bytes: what its policy takes as JSON, and `policy_digest` what is in it.
    """

    session: Member
    service: str
    wire_id: bytes
    hosts: tuple[str, ...]
    websocket: bool
    policy: CompiledPolicy | None = None
    """None where every request passes."""
    schemes: OfferedSchemes = USUAL
    wanted: tuple[str, ...] = ()
    policy_bytes: int = 0
    policy_digest: bytes = b""
    weight: int = 100
    """The agent's share, and whether a client is to stay with one of the agents (`sticky`)."""
    sticky: bool = False
    turn: int = 0
    """When it was chosen last, beside others."""

    def with_hosts(self, hosts: tuple[str, ...]) -> "ServiceRegistration":
        """The same service with other host names."""
        return replace(self, hosts=hosts)


class Registry:
    """All claims of this server.

    Args:
        clock: monotonic seconds.

    Attributes:
        policies: what the policies of connected agents take.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._former = RetainedPolicies()
        self._claims: dict[str, list[ServiceRegistration]] = {}
        self._sole: dict[str, ServiceRegistration] = {}
        """The first claim of each host name that only one agent has: most requests need no choice."""
        self.policies = PolicyQuota()
        self._replaced: dict[str, tuple[str, float]] = {}
        self._lost = RecentlyLostHosts()
        self._members: dict[str, list[Member]] = {}
        self._generation = 0
        self._turn = 0
        self._subscribers: list[Callable[[str], None]] = []

    def subscribe(self, served: Callable[[str], None]) -> None:
        """Call `served` from now on with each host name that an agent begins to serve, or serves again."""
        self._subscribers.append(served)

    def _notify(self, host: str) -> None:
        for served in self._subscribers:
            served(host)

    def join(self, agent: str, link: TunnelLink, *, instance: str | None = None, connection: int = 0) -> Member:
        """A new session of an agent; with an `instance` it stands beside others of that, as number `connection`."""
        self._generation += 1
        member = Member(agent, self._generation, link, instance=instance, connection=connection)
        members = self._members.setdefault(agent, [])
        members.append(member)
        begun = next(one for one in members if one is member or (instance and one.instance == instance)).generation
        member.rank = (-begun, connection, -member.generation)
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
                self._notify(host)

    def away_until(self, host: str, timeout: float) -> float:
        """For how many seconds more nobody knows whether an agent comes back to a host name: `timeout` in all.

        0 where there is none that could.
        """
        if host in self._claims:
            return timeout
        lost_at = self._lost.lost_at(host)
        return 0.0 if lost_at is None else max(0.0, lost_at + timeout - self._clock())

    def watch(self) -> None:
        """Look which sessions are well; to be called each second."""
        for members in self._members.values():
            trips = [_round_trip(member) for member in members] if len(members) > 1 else []
            slow = max(min(trips) * SLOW, min(trips) + SLOW_BY) if trips else math.inf
            for member in members:
                doubtful = member.link.doubtful or slow < _round_trip(member) < math.inf
                if doubtful is not member.doubtful:
                    member.doubtful = doubtful
                    self._sort(member)

    def _sort(self, member: Member) -> None:
        for claim in member.services.values():
            for host in claim.hosts:
                self._arrange(host)

    def _arrange(self, host: str) -> None:
        """The claims of a host name have changed: those of one agent stand together, the best first."""
        claims = self._claims.get(host)
        if claims is None:
            return
        order: dict[str, int] = {}
        for claim in claims:
            order.setdefault(claim.session.agent, len(order))
        if len(claims) > 1:
            claims.sort(key=lambda claim: (_standing(claim.session), order[claim.session.agent], claim.session.rank))
        if len(order) == 1:
            self._sole[host] = claims[0]
        else:
            self._sole.pop(host, None)

    def lookup(self, host: str, client: bytes = b"") -> ServiceRegistration | None:
        """Who serves the host name for a client; None where it is known but nobody is connected.

        Raises:
            KeyError: nobody ever served it, or it was taken back.
        """
        sole = self._sole.get(host)
        if sole is not None:
            return sole
        claims = self._claims.get(host)
        if claims is not None:
            return self._choose(claims, client)
        if host not in self._lost:
            raise KeyError(host)
        return None

    def another(self, host: str, client: bytes, tried: Container[ServiceRegistration]) -> ServiceRegistration | None:
        """As `lookup`, of those that a request can be given to now and that it was not given to before."""
        claims = [
            claim for claim in self._claims.get(host, ()) if claim.session.link.session.can_open and claim not in tried
        ]
        return self._choose(claims, client) if claims else None

    def _choose(self, claims: list[ServiceRegistration], client: bytes) -> ServiceRegistration:
        """One of those that serve a host name as well as the first; of each agent only its first counts."""
        candidates = [claims[0]]
        standing = _standing(claims[0].session)
        for claim in claims[1:]:
            if _standing(claim.session) != standing:
                break
            if claim.session.agent != candidates[-1].session.agent:
                candidates.append(claim)
        if len(candidates) == 1:
            return candidates[0]
        if any(claim.sticky for claim in candidates):
            # Rendezvous hashing (Thaler and Ravishankar, 1998): who leaves takes only its own clients along.
            return max(candidates, key=lambda claim: crc32(claim.session.agent.encode() + b" " + client))
        chosen = min(candidates, key=_load)
        self._turn += 1
        chosen.turn = self._turn
        return chosen

    def offers_https(self, host: str) -> bool:
        """The host name is served now, and not over http alone."""
        claims = self._claims.get(host, ())
        return any(claim.schemes.https for claim in claims[:1])

    def agents_of(self, host: str) -> list[str]:
        """The agents that serve the host name now, the best first."""
        return list(dict.fromkeys(claim.session.agent for claim in self._claims.get(host, ())))

    def holds(self, claim: ServiceRegistration, host: str) -> bool:
        """Return True where the claim is what its service says now, and serves the host name."""
        return claim.session.services.get(claim.service) is claim and host in claim.hosts

    def policy_of(self, host: str) -> tuple[str, CompiledPolicy | None]:
        """The agent of a host name and the guard in front of it; for a while also where the agent was lost."""
        claims = self._claims.get(host)
        if claims:
            return claims[0].session.agent, claims[0].policy
        agent, service = self._lost.get(host)
        return agent, self._former.get(agent, service, self._clock())

    def register(self, member: Member, claim: ServiceRegistration) -> dict[str, str]:
        """Add or replace a service; the host names for which the agent only stands by, with the reason."""
        before = member.services.get(claim.service)
        member.services[claim.service] = claim
        self._count(member, claim, before)
        waiting = {}
        for host in claim.hosts:
            holder = self._claim(host, claim, before)
            if holder.service != claim.service:
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
        given_up = before.policy if before is not None else None
        return self.policies.refusal(member.agent, policy_bytes, given_up)

    def same(self, member: Member, service: str, digest: bytes) -> ServiceRegistration | None:
        """The same service with the same policy in another session of the agent, which this one may share."""
        for other in reversed(self._members.get(member.agent, ())):
            claim = other.services.get(service)
            if claim is not None and claim.policy is not None and claim.policy_digest == digest:
                return claim
        return None

    def former(self, member: Member, service: str) -> CompiledPolicy | None:
        """What the guard of this service takes the place of: in this session, an older one, or one that is over."""
        for session in reversed(self._members.get(member.agent, ())):
            if service in session.services:
                return session.services[service].policy
        return self._former.get(member.agent, service, self._clock())

    def unregister(self, member: Member, service: str) -> bool:
        """Take a service back; False where there was none."""
        claim = member.services.pop(service, None)
        if claim is None:
            return False
        self._count(member, None, claim)
        for host in claim.hosts:
            self._release(host, claim, remember=False)
        return True

    def older(self, member: Member) -> list[Member]:
        """Older sessions of the same agent that do not go away."""
        return [
            other
            for other in self._members.get(member.agent, ())
            if other.generation < member.generation and not other.retired
        ]

    def replace(self, member: Member) -> list[Member]:
        """A session is ready: of the older ones, those whose place it takes, and not those that stand beside it."""
        replaced = [
            other
            for other in self.older(member)
            if member.instance is None or other.instance != member.instance or other.connection == member.connection
        ]
        for other in replaced:
            if other.instance is not None and other.instance != member.instance:
                self._replaced[member.agent] = (other.instance, self._clock())
        return replaced

    def was_replaced(self, agent: str, instance: str | None) -> bool:
        """Another process of the agent took this one's place a moment ago, which some of its sessions may not know."""
        replaced, since = self._replaced.get(agent, (None, 0.0))
        return instance is not None and instance == replaced and self._clock() - since < REPLACED

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
        memory = self.policies.memory(member.agent)
        for claim in services.values():
            self.policies.give_up(member.agent, claim.policy)
        if not members:
            self._members.pop(member.agent, None)
            guards = {claim.service: claim.policy for claim in services.values() if claim.policy is not None}
            self._former.keep(member.agent, guards, memory, self._clock())
        for claim in services.values():
            for host in claim.hosts:
                self._release(host, claim, remember=True)

    @property
    def memory_of_former(self) -> int:
        """Bytes that the policies of agents take which are away."""
        return self._former.memory

    @property
    def sessions(self) -> list[Member]:
        """All sessions."""
        return [member for members in self._members.values() for member in members]

    def _claim(self, host: str, claim: ServiceRegistration, before: ServiceRegistration | None) -> ServiceRegistration:
        """Put a claim into its place; which one of its agent has the host name then."""
        self._lost.discard(host)
        claims = self._claims.setdefault(host, [])
        if before in claims:
            claims[claims.index(before)] = claim
        if claim in claims:  # also where the agent names the host twice
            self._arrange(host)
            return _first_of(claim.session.agent, claims)
        claims.append(claim)
        self._arrange(host)
        self._notify(host)
        return _first_of(claim.session.agent, claims)

    def _count(self, member: Member, claim: ServiceRegistration | None, before: ServiceRegistration | None) -> None:
        member.names += len(claim.wanted if claim else ()) - len(before.wanted if before else ())
        if claim is not None:
            self.policies.take(member.agent, claim.policy, claim.policy_bytes)
        if before is not None:
            self.policies.give_up(member.agent, before.policy)

    def _release(self, host: str, claim: ServiceRegistration, *, remember: bool) -> None:
        claims = self._claims.get(host)
        if claims is None or claim not in claims:
            return
        claims.remove(claim)
        if claims:
            self._arrange(host)
            return
        del self._claims[host]
        del self._sole[host]
        if remember:
            self._lost.add(host, claim.session.agent, claim.service, self._clock())
        else:
            self._lost.discard(host)


def _standing(member: Member) -> int:
    """How much speaks against new requests for it."""
    return 2 if not member.link.session.attached else 1 if member.doubtful else 0


def _round_trip(member: Member) -> float:
    """Of its link, in seconds; infinite where that is not known, or there is no link."""
    session = member.link.session
    return session.keepalive.round_trip or math.inf if session.attached else math.inf


def _first_of(agent: str, claims: list[ServiceRegistration]) -> ServiceRegistration:
    return next(claim for claim in claims if claim.session.agent == agent)


def _load(claim: ServiceRegistration) -> tuple[float, int]:
    """How much its agent has to do for its weight; who was chosen longest ago comes first."""
    return len(claim.session.link.session.streams) / claim.weight, claim.turn
