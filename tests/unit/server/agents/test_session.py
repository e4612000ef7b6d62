"""Tests of zerotrust.server.agents.session and service_registrar."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import bcrypt
import pytest
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from tests.support.agent_sessions import join
from tests.support.authorities import ForeignCertificate
from tests.support.tunnel import Pair, message
from tests.support.waiting import eventually
from tests.unit.middleware.policy_runner import SECRET
from zerotrust.enrollment.join import IssuedCertificate
from zerotrust.errors import PkiError
from zerotrust.model.password_hash import REFERENCE_SPEED, HashSpeed
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.agents import policy_quota, registration_queue, registry, session
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_registrar import MAX_UNENFORCED_BYTES, ServiceRegistrar
from zerotrust.server.agents.session import MAX_RETIRED, RenewCertificate, ServiceRegistration
from zerotrust.server.agents.session_acceptor import SessionAcceptor
from zerotrust.server.identity.authorization import Authorization
from zerotrust.tunnel.binary import pack_reason
from zerotrust.tunnel.codes import HEALTH, RENEWAL, Code, FrameType
from zerotrust.tunnel.frames import FrameReader, encode
from zerotrust.tunnel.messages import (
    Hello,
    Register,
    Registered,
    Renew,
    Renewed,
    ServiceHealth,
    Unregister,
    decode,
)
from zerotrust.tunnel.session import Phase
from zerotrust.tunnel.window import DEFAULT_WINDOW

LIMIT = {"global_middleware": [{"type": "rate_limit", "config": {"rate": "1/hour"}}]}
HELLO = message(
    FrameType.HELLO,
    Hello(versions=[1], capabilities=[RENEWAL, HEALTH], window=DEFAULT_WINDOW, max_streams=100),
)
BROKEN: dict[str, Any] = {"routes": [{"match": {"moon": "full"}}]}


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do all work at once: on a busy machine it may take longer than an agent's time slice."""
    monkeypatch.setattr(registration_queue, "SLICE", 60.0)


@cache
def certificate() -> bytes:
    return (
        ForeignCertificate.root().issue("home").certificate.public_bytes(serialization.Encoding.DER)
    )


class Agent:
    """A session of the agent "home" on the server."""

    def __init__(
        self,
        registry: Registry,
        *,
        offers_http: bool = True,
        renewal: RenewCertificate | None = None,
        tasks: Tasks | None = None,
        hash_speed: HashSpeed = REFERENCE_SPEED,
    ) -> None:
        authorization = Authorization(any_host=True)
        registrar = ServiceRegistrar(registry, authorization, secret=SECRET, hash_speed=hash_speed)
        acceptor = SessionAcceptor(
            registry,
            registrar,
            authorization,
            coalescer=WriteCoalescer(asyncio.get_running_loop()),
            tasks=tasks or Tasks(),
            renew_certificate=renewal,
            offers_http=offers_http,
        )
        self.link = acceptor.accept()
        self.link.peer_certificate = certificate()
        self.link.session.receive_data(HELLO, 1.0)
        self.link.session.data_to_send(1 << 20)
        self.session = registry.sessions[-1]

    def is_closed(self) -> bool:
        return self.link.session.phase is Phase.CLOSED

    def register(
        self,
        policy: dict[str, Any] | None,
        *,
        hosts: tuple[str, ...] = ("app.example",),
        **keys: Any,
    ) -> Registered:
        content = Register(id="app", hosts=list(hosts), policy=policy, **keys)
        self.link.session.receive_data(message(FrameType.REGISTER, content), 1.0)
        (frame,) = FrameReader().feed(self.link.session.data_to_send(1 << 20))
        return decode(Registered, bytes(frame[3]))

    def go_away(self) -> list[int]:
        """Send GOAWAY; return the types of the frames that answer it."""
        self.link.session.receive_data(
            encode(FrameType.GOAWAY, 0, 0, pack_reason(Code.GOING_AWAY, "moved")), 1.0
        )
        return [kind for kind, *_ in FrameReader().feed(self.link.session.data_to_send(1 << 20))]


def run(check: Callable[[Registry], None]) -> None:
    async def inside() -> None:
        check(Registry())

    asyncio.run(inside())


def claimed(registry: Registry) -> ServiceRegistration:
    claim = registry.lookup("app.example")
    assert claim is not None
    return claim


def test_health_is_kept_while_its_service_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_HEALTH", 1)

    def check(registry: Registry) -> None:
        agent = Agent(registry)

        def report(service: str, healthy: int) -> dict[str, int]:
            content = ServiceHealth(id=service, healthy=healthy, upstreams=2)
            agent.link.session.receive_data(message(FrameType.HEALTH, content), 1.0)
            assert not agent.is_closed()
            return {name: one.healthy for name, one in agent.session.health.items()}

        assert report("app", 1) == {}
        agent.register(None)
        assert report("app", 1) == {"app": 1}
        assert report("app", 2) == {"app": 2}
        changes = agent.session.health_changes
        other = Register(id="other", hosts=["other.example"])
        agent.link.session.receive_data(message(FrameType.REGISTER, other), 1.0)
        assert report("other", 0) == {"app": 2}
        assert agent.session.health_changes == changes
        agent.link.session.data_to_send(1 << 20)
        agent.register(None)
        assert report("other", 0) == {"other": 0}
        gone = message(FrameType.UNREGISTER, Unregister(id="other"))
        agent.link.session.receive_data(gone, 1.0)
        assert agent.session.health == {}

    run(check)


def test_a_service_and_its_guard_come_in_one_step() -> None:
    def check(registry: Registry) -> None:
        agent = Agent(registry)
        assert agent.register(None).accepted == ["app.example"]
        assert claimed(registry).policy is None
        agent.register(LIMIT)
        guard = claimed(registry).policy
        assert guard is not None
        agent.register({**LIMIT, "routes": [{}]})
        after = claimed(registry).policy
        assert after is not None and after is not guard
        assert after.policy.made[0][1] is guard.policy.made[0][1], "what it counted is kept"

    run(check)


def test_sessions_of_one_agent_share_the_guard_of_a_policy_that_is_the_same() -> None:
    def check(registry: Registry) -> None:
        first, second, third = (Agent(registry) for _ in range(3))
        first.register(LIMIT)
        guard = claimed(registry).policy
        assert second.register({**LIMIT}).accepted == ["app.example"]
        assert claimed(registry).session is second.session
        assert claimed(registry).policy is guard
        third.register({**LIMIT, "routes": [{}]})
        assert claimed(registry).policy is not guard

    run(check)


@pytest.mark.parametrize("before", [None, LIMIT])
def test_a_policy_that_cannot_be_enforced_publishes_nothing(before: dict[str, Any] | None) -> None:
    def check(registry: Registry) -> None:
        agent = Agent(registry)
        agent.register(before)
        with capture_logs() as logs:
            answer = agent.register(BROKEN)
        assert answer.accepted == []
        assert "routes.0.match.moon" in answer.refused["app.example"]
        assert "routes.0.match.moon" in logs[0]["reason"]
        with pytest.raises(KeyError):
            registry.lookup("app.example")
        assert agent.link.session.phase is Phase.OPEN
        assert agent.register(LIMIT).accepted == ["app.example"]

    run(check)


def test_a_password_hash_that_takes_this_server_too_long() -> None:
    hashed = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
    policy = {"security": {"auth": {"type": "basic_auth", "config": {"users": {"ann": hashed}}}}}

    def check(registry: Registry) -> None:
        assert Agent(registry).register(policy).accepted == ["app.example"]
        slow = Agent(Registry(), hash_speed=HashSpeed(argon2_block=0.0, bcrypt_round=0.1))
        (reason,) = slow.register(policy).refused.values()
        assert reason.startswith(
            'its policy cannot be enforced: basic_auth: user "ann": bcrypt of cost 4 takes 1600 ms'
            " on this server, at most 500 ms is allowed; create a hash with caddy hash-password"
        )

    run(check)


def test_a_session_that_takes_over_forgives_nobody() -> None:
    def check(registry: Registry) -> None:
        Agent(registry).register(LIMIT)
        before = claimed(registry).policy
        Agent(registry).register(LIMIT)
        after = claimed(registry).policy
        assert before is not None and after is not None
        assert after.policy.made[0][1] is before.policy.made[0][1]

    run(check)


def test_an_agent_that_goes_away_is_told_that_it_gets_nothing_more() -> None:
    def check(registry: Registry) -> None:
        agent = Agent(registry)
        agent.register(None)
        assert agent.go_away() == [FrameType.GOAWAY]
        assert registry.lookup("app.example") is None
        assert agent.go_away() == []
        assert agent.register(None).refused == {"app.example": "this session is going away"}
        assert agent.link.session.phase is Phase.OPEN
        Agent(registry).link.session.receive_data(encode(FrameType.READY, 0, 0, b""), 1.0)
        assert agent.link.session.phase is Phase.OPEN, "it ends what it has begun"

    run(check)


def test_a_session_that_is_not_going_away_is_superseded() -> None:
    def check(registry: Registry) -> None:
        agent = Agent(registry)
        Agent(registry).link.session.receive_data(encode(FrameType.READY, 0, 0, b""), 1.0)
        assert agent.link.session.phase is Phase.CLOSED

    run(check)


def test_sessions_that_go_away_are_bounded() -> None:
    def check(registry: Registry) -> None:
        agents = []
        for _ in range(MAX_RETIRED + 1):
            agents.append(Agent(registry))
            agents[-1].go_away()
        phases = [agent.link.session.phase for agent in agents]
        assert phases == [Phase.CLOSED] + [Phase.OPEN] * MAX_RETIRED

    run(check)


def test_a_refusal_of_many_host_names_fits_into_a_frame() -> None:
    def check(registry: Registry) -> None:
        agent = Agent(registry)
        hosts = tuple(f"{'h' * 60}.{n}.example" for n in range(256))
        answer = agent.register({"routes": [{"m\x1b[31m" + "x" * 1000: 1}]}, hosts=hosts)
        assert len(answer.refused) == 256
        assert all(reason.isprintable() for reason in answer.refused.values())
        assert agent.link.session.phase is Phase.OPEN

    run(check)


@pytest.mark.parametrize("listen_on", ["http", "https", "both"])
@pytest.mark.parametrize("offers_http", [True, False])
def test_a_service_that_nobody_could_reach_is_refused(listen_on: str, offers_http: bool) -> None:
    def check(registry: Registry) -> None:
        agent = Agent(registry, offers_http=offers_http)
        answer = agent.register(None, listen_on=listen_on, http_redirect=False)
        if listen_on == "http" and not offers_http:
            assert "caddy.http_port" in answer.refused["app.example"]
            with pytest.raises(KeyError):
                registry.lookup("app.example")
        else:
            assert answer.accepted == ["app.example"]
            binding = claimed(registry).schemes
            assert (binding.http, binding.https) == (listen_on != "https", listen_on != "http")

    run(check)


ISSUED = IssuedCertificate(
    agent_id="home",
    chain_pem=b"-----BEGIN",
    serial="2b",
    not_after=datetime(2026, 7, 8, tzinfo=UTC),
    patterns=[],
)


class Issuing:
    """Issue certificates when told to, or refuse."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.asked: list[tuple[str, str, bytes]] = []
        self.may = asyncio.Event()

    async def __call__(self, agent: str, serial: str, csr: bytes) -> IssuedCertificate:
        self.asked.append((agent, serial, csr))
        await self.may.wait()
        if self.refusal:
            raise PkiError(self.refusal)
        return ISSUED


def asks(agent: Agent, csr: str = "csr") -> None:
    agent.link.session.receive_data(message(FrameType.RENEW, Renew(csr=csr)), 1.0)


def told(agent: Agent) -> list[Renewed]:
    frames = FrameReader().feed(agent.link.session.data_to_send(1 << 20))
    return [decode(Renewed, bytes(frame[3])) for frame in frames if frame[0] == FrameType.RENEWED]


@pytest.mark.anyio
async def test_a_renewal_reaches_all_sessions_of_its_agent() -> None:
    registry, tasks, issuing = Registry(), Tasks(), Issuing()
    agent = Agent(registry, renewal=issuing, tasks=tasks)
    older, newer = join(registry, "home", agent.link.session), agent.session
    older.serial, older.certificate_ends, newer.serial, newer.certificate_ends = (
        "1a",
        10.0,
        "2a",
        20.0,
    )
    asks(agent)
    await eventually(lambda: issuing.asked, "a certificate is asked for")
    assert issuing.asked == [("home", "2a", b"csr")]
    asks(agent)
    assert told(agent) == [Renewed(reason="one request at a time, and in 5 s")]
    issuing.may.set()
    await asyncio.gather(*tasks.running)
    assert told(agent) == [Renewed(chain="-----BEGIN")]
    ends = ISSUED.not_after.timestamp()
    assert (newer.serial, newer.former_serials, newer.certificate_ends) == ("2b", {"2a"}, ends)
    assert (older.serial, older.former_serials, older.certificate_ends) == ("1a", set(), ends)


@pytest.mark.anyio
async def test_a_renewal_that_is_refused_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "RENEWAL_INTERVAL", 0.0)
    tasks, issuing = Tasks(), Issuing("the agent was revoked " + "x" * 200)
    agent = Agent(Registry(), renewal=issuing, tasks=tasks)
    issuing.may.set()
    for _ in range(2):
        asks(agent)
        await asyncio.gather(*tasks.running)
        (answer,) = told(agent)
        assert answer.chain == ""
        assert answer.reason.startswith("the agent was revoked")
        assert len(answer.reason) == 128


@pytest.mark.anyio
async def test_who_asks_again_and_again_is_told_so_and_nobody_else() -> None:
    tasks, issuing = Tasks(), Issuing("no")
    agent = Agent(Registry(), renewal=issuing, tasks=tasks)
    issuing.may.set()
    with capture_logs() as logs:
        for _ in range(50):
            asks(agent)
            await asyncio.gather(*tasks.running)
    assert len(told(agent)) == 50
    assert len(issuing.asked) == len(logs) == 1


@pytest.mark.anyio
async def test_what_waits_keeps_its_order_and_is_forgotten_with_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry()
    older, agent, third = (Agent(registry) for _ in range(3))
    session = agent.link.session
    assert agent.register(None).accepted == ["app.example"]
    monkeypatch.setattr(registration_queue, "SLICE", 0.0)
    frames = [
        message(FrameType.REGISTER, Register(id="app", hosts=["b.example"])),
        message(FrameType.UNREGISTER, Unregister(id="app")),
        encode(FrameType.READY, 0, 0, b""),
        encode(FrameType.GOAWAY, 0, 0, pack_reason(Code.GOING_AWAY, "moved")),
        message(FrameType.REGISTER, Register(id="app", hosts=["c.example"])),
    ]
    session.receive_data(b"".join(frames), 1.0)
    assert claimed(registry).hosts == ("app.example",), (
        "all wait: something was done in this turn already"
    )
    assert not older.is_closed()
    await eventually(older.is_closed, "it was superseded")
    await eventually(lambda: agent.session.retired, "it has gone away")
    reader, kinds = FrameReader(), list[int]()

    def answered() -> bool:
        kinds.extend(frame[0] for frame in reader.feed(session.data_to_send(1 << 20)))
        return len(kinds) >= 3

    await eventually(answered, "each has been answered")
    assert kinds == [FrameType.REGISTERED, FrameType.GOAWAY, FrameType.REGISTERED]
    assert not registry.by_host
    third.link.session.receive_data(frames[0] * 3, 1.0)
    third.link.session.lost("the end", 0.0)
    await eventually(lambda: third.session.queue.timer is None, "the queue has had its next turn")
    assert not registry.by_host


@pytest.mark.anyio
async def test_a_service_that_is_too_much_is_refused_before_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claims = Registry()
    agent = Agent(claims)
    claims.policies.most = policy_quota.estimate(300)
    assert agent.register(LIMIT).accepted == ["app.example"]
    (reason,) = agent.register({**BROKEN, "xxx": "x" * 300}).refused.values()
    assert "limits.memory_per_agent" in reason
    with pytest.raises(KeyError):
        claims.lookup("app.example")
    monkeypatch.setattr(registry, "MAX_NAMES", 2)
    assert agent.register(None, hosts=("a.example", "b.example")).accepted
    assert agent.register(None, hosts=("a.example", "b.example", "c.example")).refused


@pytest.mark.anyio
async def test_where_nobody_issues_certificates_renewal_is_not_offered() -> None:
    agent = Agent(Registry())
    assert RENEWAL not in agent.link.session.capabilities
    assert RENEWAL in Agent(Registry(), renewal=Issuing()).link.session.capabilities
    agent.link.session.receive_data(message(FrameType.RENEW, Renew(csr="csr")), 1.0)
    assert agent.link.session.phase is Phase.CLOSED


@pytest.mark.anyio
async def test_each_registration_is_told_with_the_names_that_were_granted_and_refused() -> None:
    registry, authorization = Registry(), Authorization()
    authorization.grants.replace("file", [("home", "a.example")])
    checked: list[object] = []
    registrar = ServiceRegistrar(
        registry, authorization, secret=SECRET, hosts_checked=lambda *hosts: checked.append(hosts)
    )
    session = join(registry, "home", Pair().server.session)
    registrar.register(session, Register(id="app", hosts=["a.example", "b.example"]))
    registrar.reauthorize(session)
    assert checked == [("home", ["a.example"], ["b.example"])]


NEEDS_ACCESS: dict[str, Any] = {"access": {"require": [{"signed_in": True}]}}


def needing_access(service: str = "app", **policy: Any) -> Register:
    return Register(id=service, hosts=[f"{service}.example"], policy={**NEEDS_ACCESS, **policy})


@pytest.mark.anyio
@pytest.mark.parametrize("then", ["nothing", "removed", "replaced", "retired"])
async def test_a_service_refused_for_lack_of_access_is_registered_when_it_comes(then: str) -> None:
    registry, authorization = Registry(), Authorization(any_host=True)
    registrar = ServiceRegistrar(registry, authorization, secret=SECRET)
    session = join(registry, "home", Pair().server.session)
    registrar.register(session, needing_access())
    assert not session.services
    match then:
        case "removed":
            registrar.unregister(session, "app")
        case "replaced":
            registrar.register(session, Register(id="app", hosts=["app.example"], policy=BROKEN))
        case "retired":
            session.retired = True
    registrar.reconfigure(signs_in=True, country_of=None)
    assert list(session.services) == (["app"] if then == "nothing" else [])
    registrar.reconfigure(signs_in=True, country_of=lambda _address: None)
    assert session.unenforced.keys() == ({"app"} if then == "replaced" else set())


@pytest.mark.anyio
async def test_refused_services_that_wait_for_access_are_bounded() -> None:
    registry, authorization = Registry(), Authorization(any_host=True)
    registrar = ServiceRegistrar(registry, authorization, secret=SECRET)
    session = join(registry, "home", Pair().server.session)
    for number in range(1000):
        registrar.register(session, needing_access(f"app{number}", unknown="x" * 2000))
    kept = session.unenforced.values()
    assert 0 < sum(len(message.encode()) for message in kept) <= MAX_UNENFORCED_BYTES
