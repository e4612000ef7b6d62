"""Tests of zerotrust.agent.session."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.examples import examples
from tests.support.transport import FakeTransport
from tests.support.tunnel import WELCOME, message
from zerotrust.agent.server_endpoint import ServerEndpoint
from zerotrust.agent.services import LiveService, ServicePlan, Services, Timeouts
from zerotrust.agent.session import ServerSession
from zerotrust.agent.upstreams import Upstreams
from zerotrust.http.head_block import check_request_block
from zerotrust.model.agent import AgentConfig
from zerotrust.model.policy import ServicePolicy
from zerotrust.net.http_client import BackendConnection, BackendPool, ConnectionSink
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.tunnel.binary import pack_open, pack_reason, unpack_reason
from zerotrust.tunnel.codes import END, FLAG_ANNOUNCE, FLAG_TRAILERS, FLAG_UPGRADE, Code, FrameType
from zerotrust.tunnel.frames import FrameReader, encode
from zerotrust.tunnel.messages import (
    Register,
    Registered,
    Renewed,
    ServiceHealth,
    Unregister,
    decode,
)
from zerotrust.tunnel.session import SessionOptions

LIMIT = {"type": "rate_limit", "config": {"rate": "10/s"}}
NETWORKS = {
    "type": "ip_deny",
    "config": {"denied_ips": [f"2001:db8:{n:x}::/48" for n in range(4000)]},
}
PLAIN: dict[str, Any] = {"hostname": "plain.example", "backend": "x:1"}
LIMITED: dict[str, Any] = {
    "hostname": "limited.example",
    "backend": "x:1",
    "routes": [{"handle": [LIMIT]}],
}
HUGE: dict[str, Any] = {
    "hostname": "huge.example",
    "backend": "x:1",
    "routes": [{"handle": [NETWORKS]}],
}


def live(service: dict[str, Any], *middleware: dict[str, Any]) -> LiveService:
    config = AgentConfig.model_validate(
        {"services": [service], "global_middleware": list(middleware)}
    )
    (found,) = config.services
    policy = ServicePolicy.from_service(found, config.global_middleware)
    return LiveService(found.service_id, found, policy, cast("Upstreams", None), Timeouts.of(found))


class Agent:
    """A session with a server that has these capabilities."""

    def __init__(
        self,
        *services: LiveService,
        capabilities: tuple[str, ...] = ("policy", "listen_on"),
        takes_over: bool = False,
    ) -> None:
        coalescer = WriteCoalescer(asyncio.get_running_loop())
        known = cast(
            "Services",
            SimpleNamespace(
                all=list(services),
                failed=Counter(),
                requests=0,
                tracer=None,
                get={live.id: live for live in services}.get,
            ),
        )
        self.renewals: list[Renewed] = []
        self.lost: list[ServerSession] = []
        self.server_session = ServerSession(
            known,
            coalescer=coalescer,
            options=SessionOptions(),
            endpoint=cast("ServerEndpoint", None),
            renewed=self.renewals.append,
            lost=self.lost.append,
            takes_over=takes_over,
        )
        self.session = self.server_session.link.session
        self.session.data_to_send(1 << 20)
        welcome = WELCOME.model_copy(update={"capabilities": list(capabilities)})
        self.session.receive_data(message(FrameType.WELCOME, welcome), 1.0)

    def frames(self) -> list[int]:
        """Return the types of the frames sent since the last call."""
        return [kind for kind, *_ in FrameReader().feed(self.session.data_to_send(1 << 20))]

    def said(self) -> list[Any]:
        """Return the registrations, and the ids that were unregistered, since the last call."""
        found: list[Any] = []
        for kind, _, _, payload in FrameReader().feed(self.session.data_to_send(1 << 20)):
            if kind == FrameType.REGISTER:
                found.append(decode(Register, bytes(payload)))
            elif kind == FrameType.UNREGISTER:
                found.append(decode(Unregister, bytes(payload)).id)
        return found


def run(check: Callable[[], None]) -> None:
    async def inside() -> None:
        check()

    asyncio.run(inside())


def test_a_policy_goes_to_a_server_that_enforces_it() -> None:
    def check() -> None:
        plain, limited = Agent(live(PLAIN), live(LIMITED)).said()
        assert plain.policy is None
        assert (
            ServicePolicy.from_json(limited.policy).routes
            == AgentConfig(services=[LIMITED]).services[0].routes
        )
        (everywhere,) = Agent(live(PLAIN, LIMIT)).said()
        assert everywhere.policy["global_middleware"] == [LIMIT]

    run(check)


def test_no_policy_goes_to_an_older_server() -> None:
    def check() -> None:
        with capture_logs() as logs:
            agent = Agent(live(PLAIN), live(LIMITED), capabilities=("later",))
        registered, taken_back = agent.said()
        assert registered.id == "plain.example"
        assert taken_back == "limited.example"
        (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
        assert entry["service"] == "limited.example"
        assert "does not enforce" in entry["reason"]

    run(check)


NARROWED = {**PLAIN, "access": {"require": [{"signed_in": True}]}}


@pytest.mark.parametrize("capabilities", [("policy",), ("policy", "access")])
def test_a_service_with_access_goes_only_to_a_server_that_knows_it(
    capabilities: tuple[str, ...],
) -> None:
    def check() -> None:
        with capture_logs() as logs:
            (said,) = Agent(live(NARROWED), capabilities=capabilities).said()
        reasons = [entry["reason"] for entry in logs if entry["log_level"] == "error"]
        if "access" in capabilities:
            assert said.policy["access"] == {"require": [{"signed_in": True}]}
            assert not reasons
        else:
            assert said == "plain.example"
            assert reasons == [
                "this server does not know access, which the service asks for; update it first"
            ]

    run(check)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, ("both", True)),
        ({"listen_on": "both"}, ("both", True)),
        ({"http_redirect": False}, ("both", False)),
        ({"listen_on": "https"}, ("https", False)),
        ({"listen_on": "https", "http_redirect": True}, ("https", True)),
        ({"listen_on": "http"}, ("http", False)),
    ],
)
@pytest.mark.parametrize("capabilities", [("listen_on",), ()])
def test_listen_on_of_a_registration(
    keys: dict[str, Any], told: tuple[str, bool], capabilities: tuple[str, ...]
) -> None:
    def check() -> None:
        with capture_logs() as logs:
            (registered,) = Agent(live({**PLAIN, **keys}), capabilities=capabilities).said()
        assert (registered.listen_on, registered.http_redirect) == told
        warned = any("listen_on" in entry["event"] for entry in logs)
        assert warned == (not capabilities and told != ("both", True))

    run(check)


@pytest.mark.parametrize("change", [LIMITED, HUGE])
def test_a_service_is_unregistered_if_its_policy_cannot_be_enforced(change: dict[str, Any]) -> None:
    """It was registered before, without the policy."""

    def check() -> None:
        agent = Agent(capabilities=("policy",) if change is HUGE else ())
        agent.server_session.announce(live({**PLAIN, "id": "app"}))
        assert [said.id for said in agent.said()] == ["app"]
        agent.server_session.announce(live({**change, "id": "app"}))
        assert agent.said() == ["app"]

    run(check)


def test_an_oversized_registration_affects_one_service() -> None:
    def check() -> None:
        with capture_logs() as logs:
            agent = Agent(live(HUGE), live(PLAIN))
        assert [getattr(said, "id", said) for said in agent.said()] == [
            "huge.example",
            "plain.example",
        ]
        assert "bytes" in next(entry["reason"] for entry in logs if entry["log_level"] == "error")

    run(check)


def test_refused_host_names_are_logged() -> None:
    def check() -> None:
        agent = Agent()
        with capture_logs() as logs:
            agent.server_session.message(
                Registered(id="app", refused={"a.example": "policy: routes.0.x: not known"})
            )
        assert [(entry["log_level"], entry["host"], entry["reason"]) for entry in logs] == [
            ("warning", "a.example", "policy: routes.0.x: not known")
        ]

    run(check)


def healthy(name: str, count: int) -> Any:
    """Return upstreams of which so many are healthy; nothing is known below 0."""
    known = None if count < 0 else ServiceHealth(id=name, healthy=count, upstreams=2)
    return SimpleNamespace(health=known)


def reported(agent: Agent) -> dict[str, int]:
    """Return the health that was sent since the last call, after the next sweep."""
    agent.server_session.sweep(1.0)
    frames = FrameReader().feed(agent.session.data_to_send(1 << 20))
    found = [
        decode(ServiceHealth, bytes(one)) for kind, _, _, one in frames if kind == FrameType.HEALTH
    ]
    return {one.id: one.healthy for one in found}


def test_health_is_reported_after_the_registration_and_each_change() -> None:
    def check() -> None:
        upstreams = healthy("app", 2)
        unknown = replace(live({**PLAIN, "id": "unknown"}), upstreams=healthy("unknown", -1))
        service = replace(live({**PLAIN, "id": "app"}), upstreams=upstreams)
        agent = Agent(service, unknown, capabilities=("health",))
        assert reported(agent) == {}, "the server has not answered"
        agent.server_session.message(Registered(id="app", accepted=["plain.example"]))
        assert reported(agent) == {"app": 2}
        assert reported(agent) == {}
        upstreams.health = healthy("app", 1).health
        assert reported(agent) == {"app": 1}
        agent.server_session.update(ServicePlan([service], ["unknown"]))
        assert reported(agent) == {}
        agent.server_session.message(Registered(id="app", accepted=["plain.example"]))
        assert reported(agent) == {"app": 1}, "the server forgets it with the registration"

    run(check)


def test_health_of_many_services_is_reported_in_turns() -> None:
    def check() -> None:
        names = [f"s{number}" for number in range(100)]
        services = [replace(live({**PLAIN, "id": one}), upstreams=healthy(one, 2)) for one in names]
        agent = Agent(*services, capabilities=("health",))
        for name in names:
            agent.server_session.message(Registered(id=name))
        assert len(reported(agent)) == 64
        assert len(reported(agent)) == 36

    run(check)


def test_an_older_server_is_not_told_of_health() -> None:
    def check() -> None:
        service = replace(live(PLAIN), upstreams=healthy("plain.example", 2))
        agent = Agent(service)
        agent.server_session.message(Registered(id="plain.example"))
        assert reported(agent) == {}

    run(check)


def test_a_renewed_certificate_reaches_the_callback() -> None:
    def check() -> None:
        agent = Agent(capabilities=("renewal",))
        agent.session.receive_data(message(FrameType.RENEWED, Renewed(reason="not now")), 2.0)
        assert agent.renewals == [Renewed(reason="not now")]

    run(check)


def test_a_successor_reports_published_and_sends_no_ready() -> None:
    def check() -> None:
        agent = Agent(live(PLAIN), live(LIMITED), takes_over=True)
        assert FrameType.READY not in agent.frames()
        assert not agent.server_session.published.done()
        agent.server_session.message(
            Registered(id="limited.example", refused={"limited.example": "no"})
        )
        assert not agent.server_session.published.done()
        refused = {"limited.example": {"limited.example": "no"}}
        assert agent.server_session.refused == refused
        agent.server_session.message(Registered(id="plain.example", accepted=["plain.example"]))
        assert agent.server_session.published.result() is True
        assert FrameType.READY in Agent(live(PLAIN)).frames()
        assert Agent(takes_over=True).server_session.published.result() is True, (
            "there is nothing to wait for"
        )

    run(check)


def test_released_after_goaway_or_close() -> None:
    def check() -> None:
        agent, other = Agent(live(PLAIN)), Agent(live(PLAIN))
        assert not agent.server_session.released.done()
        agent.server_session.going_away(Code.GOING_AWAY, "")
        assert agent.server_session.released.done()
        for one in (agent, other):
            one.session.close(Code.GOING_AWAY)
            assert one.server_session.released.done()
            assert one.server_session.published.result() is False

    run(check)


def test_each_combination_of_framing_follows_the_spec() -> None:
    """docs/spec/tunnel-v1.md, section 5.

    Accepted requests name a service that the agent does not have.
    """

    def check() -> None:
        agent = Agent(live(PLAIN))
        agent.frames()
        stream = 0
        asks = [b"", b"Upgrade: chat\r\n", b"Upgrade: chat\r\nupgrade: h2c\r\n"]
        flags = [0, FLAG_TRAILERS, FLAG_UPGRADE, FLAG_ANNOUNCE, FLAG_UPGRADE | FLAG_ANNOUNCE]
        for kind, flag, length, ends, upgrades in product(
            range(6), flags, (0, 4, 2**63), (0, END), range(3)
        ):
            stream += 2
            block = b"POST / HTTP/1.1\r\nHost: a\r\n" + asks[upgrades]
            payload = pack_open(
                kind, length, flags=flag, service=b"none", request_id=b"r", block=block
            )
            agent.session.receive_data(encode(FrameType.OPEN, ends, stream, payload), 1.0)
            ((sent, _, _, reason),) = FrameReader().feed(agent.session.data_to_send(1 << 20))
            assert sent == FrameType.RESET
            asked = flag == FLAG_UPGRADE
            lengths = (0, 4) if kind == 1 else (0,)
            framed = (
                (kind == 0) == (bool(ends) or asked) and not (ends and asked) and kind in (0, 1, 2)
            )
            taken = (
                framed
                and length in lengths
                and not flag & FLAG_ANNOUNCE
                and upgrades == (1 if asked else 0)
            )
            code, said = unpack_reason(reason)
            assert code == (Code.UNKNOWN_SERVICE if taken else Code.PROTOCOL_ERROR), (
                kind,
                flag,
                length,
                ends,
                said,
            )

    run(check)


def opened(agent: Agent, stream: int) -> tuple[Code, str] | None:
    """Return the RESET that answers an OPEN."""
    block = b"GET / HTTP/1.1\r\nHost: a\r\n"
    payload = pack_open(0, 0, flags=0, service=b"plain.example", request_id=b"r", block=block)
    agent.session.receive_data(encode(FrameType.OPEN, END, stream, payload), 1.0)
    for kind, _, found, payload in FrameReader().feed(agent.session.data_to_send(1 << 20)):
        if kind == FrameType.RESET and found == stream:
            return unpack_reason(bytes(payload))
    return None


def test_streams_after_the_answer_to_goaway_are_refused() -> None:
    def check() -> None:
        agent = Agent()
        going_away = encode(FrameType.GOAWAY, 0, 0, pack_reason(Code.GOING_AWAY, ""))
        unknown = (Code.UNKNOWN_SERVICE, "plain.example")
        agent.session.receive_data(going_away, 1.0)
        assert opened(agent, 2) == unknown, (
            "it goes away of its own accord, and gives out what it has"
        )
        agent.server_session.go_away("a newer session takes over")
        assert opened(agent, 4) == unknown, "it may not have heard"
        agent.session.receive_data(going_away, 1.0)
        refusal = opened(agent, 6)
        assert refusal is not None and refusal[0] is Code.REFUSED
        assert not agent.session.streams

    run(check)


def test_streams_are_refused_after_refuse_streams() -> None:
    def check() -> None:
        agent = Agent()
        agent.server_session.go_away("a newer session takes over")
        agent.server_session.refuse_streams()
        refusal = opened(agent, 2)
        assert refusal is not None and refusal[0] is Code.REFUSED

    run(check)


# Requests of a server that is not trusted


class Pool:
    """Connections to a backend that accepts everything."""

    open = 0
    forgive = None

    def __init__(self) -> None:
        self.transports: list[FakeTransport] = []

    def take(self, now: float, *, careful: bool) -> None:
        return None

    def dial(self, owner: ConnectionSink) -> None:
        connection = BackendConnection(
            WriteCoalescer(asyncio.get_running_loop()), cast("BackendPool", self)
        )
        self.transports.append(FakeTransport(connection.as_protocol()))
        owner.connected(connection)

    def connected(self) -> None: ...

    def discard(self, connection: BackendConnection) -> None: ...


def publish(**keys: Any) -> tuple[Agent, Pool]:
    """Return an agent with one service whose backends accept everything."""
    found, pool = live({**PLAIN, "id": "app", **keys}), Pool()
    pools = [cast("BackendPool", pool) for _ in found.service.backends]
    upstreams = Upstreams(found.service, pools, secret=b"s" * 32, rng=random.Random(1), now=0.0)
    return Agent(replace(found, upstreams=upstreams, timeouts=Timeouts())), pool


def open_frame(block: bytes, *, stream: int = 2, upgrade: bool = False) -> bytes:
    payload = pack_open(
        0, 0, flags=FLAG_UPGRADE if upgrade else 0, service=b"app", request_id=b"r", block=block
    )
    return encode(FrameType.OPEN, 0 if upgrade else END, stream, payload)


@pytest.mark.parametrize("host", ["a..b", "-a", "[0]", "[F]", "a" * 300, "Ws.Example:81"])
def test_upgrades_are_logged_with_their_host(host: str) -> None:
    def check() -> None:
        agent, pool = publish()
        block = b"GET / HTTP/1.1\r\nHost: %b\r\nUpgrade: WebSocket\r\n" % host.encode()
        with capture_logs() as logs:
            agent.session.receive_data(open_frame(block, upgrade=True), 1.0)
        assert len(pool.transports) == 1
        (entry,) = [entry for entry in logs if entry["log_level"] == "debug"]
        assert (
            entry["event"]
            == f"Detected WebSocket upgrade request for host: {host.removesuffix(':81')} -"
            " forwarding as regular HTTP"
        )

    run(check)


token = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8).map(str.encode)
hosts = st.one_of(
    st.text("09azAZ._-", min_size=1, max_size=9).map(str.encode),
    st.text("09afAF:.", min_size=1, max_size=9).map(lambda text: b"[%b]" % text.encode()),
)
ports = st.one_of(
    st.just(b""), st.text("0123456789", max_size=5).map(lambda text: b":" + text.encode())
)
names = st.one_of(
    token,
    st.sampled_from(
        b"Cookie cookie Origin Upgrade Expect TE X-Real-IP X-Forwarded-For X-Forwarded-Proto"
        b" X-Forwarded-Host".split()
    ),
)
values = st.one_of(
    st.sampled_from(
        [
            b"",
            b"websocket",
            b"http://a",
            b"https://[",
            b"://",
            b"0trust_affinity=",
            b'0trust_affinity="x.y"; a; =; b=c',
        ]
    ),
    st.binary(max_size=12).map(
        lambda value: bytes(byte for byte in value if byte > 31 and byte != 127).strip()
    ),
)
SERVICES: list[dict[str, Any]] = [
    {},
    {"host_header": "upstream", "origin": "upstream", "load_balancing": {"max_connections": 1}},
    {
        "backend": None,
        "upstreams": [{"address": "10.0.0.1:80"}, {"address": "[::1]:80"}],
        "load_balancing": {"policy": "ip_hash", "session_affinity": True},
        "host_header": "upstream",
    },
]


@pytest.mark.slow
@settings(max_examples=examples(400))
@given(
    st.one_of(st.just(b"GET"), token),
    st.binary(max_size=12),
    st.tuples(hosts, ports),
    st.lists(st.tuples(names, values), max_size=6),
    st.sampled_from(SERVICES),
)
def test_each_valid_block_becomes_a_request(
    method: bytes,
    target: bytes,
    host: tuple[bytes, bytes],
    fields: list[tuple[bytes, bytes]],
    keys: dict[str, Any],
) -> None:
    path = bytes(byte for byte in target if 0x21 <= byte < 0x7F and byte != 0x23)
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    block = b"%b /%b HTTP/1.1\r\nHost: %b%b\r\n%b" % (method, path, *host, lines)
    upgrade = check_request_block(block, upgrade=True)
    if not (upgrade or check_request_block(block)):
        reject()

    async def ask() -> None:
        agent, pool = publish(**keys)
        agent.session.receive_data(open_frame(block, upgrade=upgrade), 1.0)
        (transport,) = pool.transports
        assert (await transport.written()).startswith(method + b" /")
        # The stream is still there, and its link has nothing to complain of.
        assert list(agent.session.streams) == [2]

    with capture_logs():
        asyncio.run(ask())


@pytest.mark.anyio
async def test_a_server_that_knows_no_wildcards_gets_the_other_host_names() -> None:
    keys = {"hostname": None, "hosts": ["*.example", "a.example", "*"], "id": "web"}
    with capture_logs() as logs:
        (old,) = Agent(live({**PLAIN, **keys})).said()
        (new,) = Agent(live({**PLAIN, **keys}), capabilities=("wildcards", "listen_on")).said()
    assert isinstance(old, Register)
    assert isinstance(new, Register)
    assert old.hosts == ["a.example"]
    assert new.hosts == ["*.example", "a.example", "*"]
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "this server does not know wildcard host names: it serves the others"
    ]


@pytest.mark.anyio
async def test_a_service_of_wildcards_alone_is_not_published_there() -> None:
    with capture_logs() as logs:
        assert Agent(live({**PLAIN, "hostname": "*.example"})).said() == ["*.example"]
    assert any("does not know wildcard host names" in str(line.get("reason")) for line in logs)


@pytest.mark.anyio
async def test_an_alias_is_not_published_where_no_policy_is_enforced() -> None:
    alias = live({"hostname": "www.example", "redirect_to": "example"})
    assert Agent(alias, capabilities=()).said() == ["www.example"]
    (published,) = Agent(alias).said()
    assert isinstance(published, Register)
    assert published.policy is not None
