"""Random schedules of agent events: a lookup always finds a session that may serve the host.

Agents connect, register, become ready, die with or without CLOSE (half-open), go away, gain and
lose grants, are revoked and restored, in any order and concurrently.
"""

import random
from collections.abc import Callable
from functools import cache

from cryptography.hazmat.primitives import serialization

from tests.support.authorities import ForeignCertificate
from tests.support.tunnel import message
from tests.unit.middleware.policy_runner import SECRET
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki.identity import identity
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_registrar import ServiceRegistrar
from zerotrust.server.agents.session_acceptor import SessionAcceptor
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.authorization import Authorization
from zerotrust.tunnel.binary import pack_reason
from zerotrust.tunnel.codes import Code, FrameType
from zerotrust.tunnel.frames import encode
from zerotrust.tunnel.messages import Hello, Register, Unregister
from zerotrust.tunnel.session import Phase
from zerotrust.tunnel.window import DEFAULT_WINDOW

STEPS = 24
AGENTS = ("home", "work", "thief")
HOSTS = ("a.example", "b.example", "c.lab.example", "d.lab.example")
PATTERNS = (*HOSTS, "*.lab.example")
HELLO = message(FrameType.HELLO, Hello(versions=[1], window=DEFAULT_WINDOW, max_streams=100))


@cache
def authority() -> ForeignCertificate:
    return ForeignCertificate.root()


@cache
def certificate(agent: str, _number: int) -> bytes:
    """Return one of an agent's certificates; the number only makes them differ."""
    made = authority().issue(agent)
    return made.certificate.public_bytes(serialization.Encoding.DER)


class Revoked:
    def __init__(self) -> None:
        self.agents: set[str] = set()
        self.serials: set[str] = set()

    def refuses(self, agent: str, serial: str) -> bool:
        return agent in self.agents or serial in self.serials


class Peer:
    """A session as its agent sees it, and the model's state of it."""

    def __init__(self, schedule: "Schedule", agent: str, number: int) -> None:
        self.agent = agent
        self.serial = identity(certificate(agent, number)).serial
        self.link = schedule.acceptor.accept()
        self.link.peer_certificate = certificate(agent, number)
        self.order = schedule.next_order()
        self.ready = self.away = False
        self.services: dict[str, tuple[str, ...]] = {}
        self.say(HELLO)

    @property
    def alive(self) -> bool:
        return self.link.session.phase is Phase.OPEN

    def say(self, data: bytes) -> None:
        self.link.session.receive_data(data, 1.0)
        self.link.session.data_to_send(1 << 20)


class Schedule:
    """One random schedule with the server's registry and its agents."""

    def __init__(self, seed: int, coalescer: WriteCoalescer) -> None:
        self.random = random.Random(seed)
        self.registry = Registry(clock=lambda: 0.0)
        self.authorization = Authorization()
        self.revoked = self.authorization.revoked = Revoked()
        registrar = ServiceRegistrar(self.registry, self.authorization, secret=SECRET)
        self.acceptor = SessionAcceptor(
            self.registry, registrar, self.authorization, coalescer=coalescer, tasks=Tasks()
        )
        self.sessions = SessionControl(self.registry, registrar, self.authorization)
        self.grants: set[tuple[str, str]] = {
            ("home", "a.example"),
            ("work", "a.example"),
            ("home", "*.lab.example"),
        }
        self.peers: list[Peer] = []
        self._order = 0
        self._grant()

    def next_order(self) -> int:
        self._order += 1
        return self._order

    def run(self) -> None:
        steps = (
            [self.connect] * 3
            + [self.register] * 5
            + [self.unregister, self.ready, self.ready, self.silence]
        )
        steps += [
            self.word,
            self.go_away,
            self.change_grant,
            self.change_grant,
            self.revoke,
            self.restore,
        ]
        done: list[str] = []
        for _ in range(STEPS):
            step: Callable[[], None] = self.random.choice(steps)
            done.append(step.__name__)
            step()
            self.peers = [peer for peer in self.peers if peer.alive]
            self.check(done)

    # ---- what happens

    def connect(self) -> None:
        self.peers.append(Peer(self, self.random.choice(AGENTS), self.random.randrange(2)))

    def _any(self) -> Peer | None:
        return self.random.choice(self.peers) if self.peers else None

    def register(self) -> None:
        if (peer := self._any()) is not None:
            hosts = tuple(
                self.random.choices(HOSTS, k=self.random.randint(1, 3))
            )  # an agent may say one twice
            service = self.random.choice(("one", "two"))
            peer.say(message(FrameType.REGISTER, Register(id=service, hosts=list(hosts))))
            if not peer.away:
                peer.services[service] = hosts

    def unregister(self) -> None:
        if (peer := self._any()) is not None:
            peer.services.pop("one", None)
            peer.say(message(FrameType.UNREGISTER, Unregister(id="one")))

    def ready(self) -> None:
        if (peer := self._any()) is not None:
            peer.say(encode(FrameType.READY, 0, 0))

    def silence(self) -> None:
        """Lose a link that has been silent for long."""
        if (peer := self._any()) is not None:
            peer.link.session.lost("silence", 0.0)

    def word(self) -> None:
        if (peer := self._any()) is not None:
            peer.say(encode(FrameType.CLOSE, 0, 0, pack_reason(Code.GOING_AWAY, "bye")))

    def go_away(self) -> None:
        if (peer := self._any()) is not None:
            peer.away = True
            peer.say(encode(FrameType.GOAWAY, 0, 0, pack_reason(Code.GOING_AWAY, "moved")))

    def change_grant(self) -> None:
        self.grants ^= {(self.random.choice(AGENTS[:2]), self.random.choice(PATTERNS))}
        self._grant()

    def _grant(self) -> None:
        self.authorization.grants.replace("database", self.grants)
        self.sessions.reauthorize()

    def revoke(self) -> None:
        agent = self.random.choice(AGENTS)
        serial = None if self.random.random() < 0.5 else identity(certificate(agent, 0)).serial
        if serial is None:
            self.revoked.agents.add(agent)
        else:
            self.revoked.serials.add(serial)
        self.sessions.revoke(agent, serial, "revoked")

    def restore(self) -> None:
        self.revoked.agents.clear()
        self.revoked.serials.clear()

    # ---- what must be so

    def check(self, done: list[str]) -> None:
        for peer in self.peers:
            assert not self.revoked.refuses(peer.agent, peer.serial), done
        for host in HOSTS:
            able = {peer.order: peer for peer in self.peers if self._offers(peer, host)}
            found = self._lookup(host)
            if found is None:
                assert not able, (host, done)
                continue
            holder = next((peer for peer in self.peers if peer.link is found), None)
            assert holder is not None, ("a dead session is found", host, done)
            assert holder.order in able, ("a session is found that may not serve", host, done)
            newer = [
                peer
                for peer in able.values()
                if peer.agent == holder.agent and peer.order > holder.order
            ]
            assert not newer, ("an older session is found", host, done)

    def _offers(self, peer: Peer, host: str) -> bool:
        wildcard = f"*.{host.partition('.')[2]}"
        granted = (peer.agent, host) in self.grants or (peer.agent, wildcard) in self.grants
        return granted and not peer.away and any(host in hosts for hosts in peer.services.values())

    def _lookup(self, host: str) -> object | None:
        try:
            claim = self.registry.lookup(host)
        except KeyError:
            return None
        return claim.session.link if claim is not None else None
