"""Tests of the relay between a shared client connection and a possibly hostile agent."""

import asyncio
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.examples import examples
from tests.unit.server.open_websocket import relay_of, websocket
from tests.unit.server.proxy_fixture import ProxyFixture
from tests.unit.server.two_tenants import EVIL, GOOD, Client, TwoTenants
from zerotrust.tunnel.binary import pack_head, pack_reason
from zerotrust.tunnel.codes import (
    END,
    FLAG_ANNOUNCE,
    INTERIM,
    KIND_LENGTH,
    KIND_TUNNEL,
    Code,
    FrameType,
)

pytestmark = pytest.mark.anyio

HEADERS = {
    "type": "headers",
    "config": {
        "response": {"set": {"X-Frame-Options": "DENY"}, "add": {"Via": "x"}, "delete": ["Server"]}
    },
}
CHANGED = {"global_middleware": [HEADERS]}


async def test_final_heads_are_changed_and_interim_ones_are_not() -> None:
    proxy = ProxyFixture(CHANGED)
    assert await proxy.ask("GET /") == b""
    hint = await proxy.answer(b"HTTP/1.1 103 Early Hints\r\nServer: s\r\n", interim=True)
    assert hint == b"HTTP/1.1 103 Early Hints\r\nServer: s\r\n\r\n"
    said = await proxy.answer(
        b"HTTP/1.1 200 OK\r\nServer: s\r\nx-frame-options: A\r\nVia: y\r\n", kind=1, body=b"hi"
    )
    assert (
        said == b"HTTP/1.1 200 OK\r\nVia: y\r\nX-Frame-Options: DENY\r\nVia: x\r\nContent-Length:"
        b" 2\r\n\r\nhi"
    )


async def test_a_switch_of_protocols_keeps_its_upgrade() -> None:
    proxy = ProxyFixture(CHANGED)
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: chat")
    said = await proxy.answer(
        b"HTTP/1.1 101 Switching Protocols\r\nServer: s\r\nUpgrade: chat\r\n", kind=KIND_TUNNEL
    )
    assert b"\r\nUpgrade: chat\r\n" in said
    assert b"\r\nConnection: Upgrade\r\n" in said
    assert b"\r\nX-Frame-Options: DENY\r\n" in said
    assert b"Server" not in said


@pytest.mark.parametrize(
    "field",
    [b"", b"Upgrade: h2c\r\n", b"Upgrade: chat, h2c\r\n", b"Upgrade: chat\r\nupgrade: h2c\r\n"],
)
async def test_a_switch_to_what_was_not_asked_for_is_refused(field: bytes) -> None:
    proxy = ProxyFixture({})
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: chat")
    said = await proxy.answer(b"HTTP/1.1 101 Switching Protocols\r\n" + field, kind=KIND_TUNNEL)
    assert said.startswith(b"HTTP/1.1 502 ")
    assert not proxy.connection.tunnelled


@pytest.mark.parametrize("pieces", [[5, 6], [11], [10, 1]])
async def test_a_body_of_unknown_length_is_counted(pieces: list[int]) -> None:
    proxy = ProxyFixture({"max_request_body": "10"})
    said = await proxy.ask("POST /", "Transfer-Encoding: chunked")
    for size in pieces:
        proxy.connection.data_received(b"%x\r\n%b\r\n" % (size, bytes(size)))
        said += await proxy.hear()
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"X-0Trust-Error: body_too_large\r\n" in said
    assert b"Connection: close\r\n" in said
    (sink,) = proxy.agent.sinks.values()
    assert sink.over is not None and sink.over[0] is Code.CANCELLED
    assert len(sink.body) <= 10


async def test_trailers_behind_a_body_that_is_too_large_change_nothing() -> None:
    proxy = ProxyFixture({"max_request_body": "10"})
    body = b"b\r\n0123456789a\r\n0\r\nDigest: x\r\n\r\n"
    said = await proxy.ask("POST /", "Transfer-Encoding: chunked", body=body)
    assert said.startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_is_just_small_enough() -> None:
    proxy = ProxyFixture({"max_request_body": "10"})
    assert (
        await proxy.ask(
            "POST /", "Transfer-Encoding: chunked", body=b"a\r\n0123456789\r\n0\r\n\r\n"
        )
        == b""
    )
    assert proxy.last[1].body == b"0123456789"
    assert proxy.last[1].ended
    assert (await proxy.answer(b"HTTP/1.1 204 No Content\r\n")).startswith(b"HTTP/1.1 204 ")


async def test_one_that_grows_too_large_after_the_answer_began() -> None:
    proxy = ProxyFixture({"max_request_body": "10"})
    await proxy.ask("POST /", "Transfer-Encoding: chunked")
    stream, sink = proxy.last
    assert b"200 OK" in await proxy.answer(b"HTTP/1.1 200 OK\r\n", kind=2, body=b"part")
    proxy.connection.data_received(b"b\r\n0123456789a\r\n")
    await proxy.hear()
    assert proxy.transport.is_aborted
    assert sink.over is not None
    assert stream.done


async def test_an_announced_body_never_enters_the_tunnel() -> None:
    proxy = ProxyFixture({"max_request_body": "10"})
    said = await proxy.ask("POST /", "Content-Length: 11")
    assert said.startswith(b"HTTP/1.1 413 ")
    assert not proxy.opened


async def test_what_is_said_after_an_upgrade_is_no_body() -> None:
    proxy = ProxyFixture({"max_request_body": "1"})
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: chat", "Content-Length: 0")
    await proxy.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\n", kind=KIND_TUNNEL)
    proxy.connection.data_received(bytes(1000))
    await proxy.hear()
    assert len(proxy.last[1].body) == 1000
    assert KIND_LENGTH == 1


async def test_what_is_no_websocket_departs_without_words() -> None:
    proxy = await websocket(b"hi", protocol="chat")
    relay_of(proxy).depart()
    await proxy.hear()
    assert proxy.transport.is_aborted
    assert not proxy.pair.server.session.streams


async def test_a_request_does_not_depart() -> None:
    proxy = ProxyFixture({})
    await proxy.ask("GET /")
    (stream,) = proxy.pair.server.session.streams.values()
    relay = relay_of(proxy)
    relay.depart()
    assert b"200 OK" in await proxy.answer(b"HTTP/1.1 200 OK\r\n", kind=2, body=b"part")
    relay.depart()
    assert stream in proxy.pair.server.session.streams.values()


# What a hostile agent may say, against a client that knows by itself where an answer ends

HEAD, DATA, TRAILERS, RESET = FrameType.HEAD, FrameType.DATA, FrameType.TRAILERS, FrameType.RESET
Frame = tuple[int, int, bytes]

FORGED = b"HTTP/1.1 200 OK\r\nX-From: evil\r\nContent-Length: 4\r\n\r\nevil"
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "chat"))
REQUESTS: dict[str, tuple[str, tuple[tuple[str, str], ...], bytes | None]] = {
    "GET": ("GET", (), None),
    "HEAD": ("HEAD", (), None),
    "OPTIONS": ("OPTIONS", (), None),
    "POST": ("POST", (), b"body"),
    "POST, unfinished": ("POST", (), b"bo"),
    "GET with Upgrade": ("GET", UPGRADE, None),
    "HEAD with Upgrade": ("HEAD", UPGRADE, None),
}
STATUSES = (100, 101, 103, 199, 200, 204, 205, 206, 304, 404, 502, 999)
LENGTHS = (0, 4, 2**63, 2**64 - 1)


def reset(code: Code = Code.UPSTREAM_FAILED) -> Frame:
    return RESET, 0, pack_reason(code, "so it is")


BODIES: tuple[tuple[Frame, ...], ...] = (
    (),
    ((DATA, END, b""),),
    ((DATA, 0, b"evil"),),
    ((DATA, END, b"evil"),),
    ((DATA, 0, b"ev"), (DATA, 0, b"il")),
    ((DATA, 0, b"ev"), (DATA, END, b"")),
    ((DATA, 0, b"evil" + FORGED),),
    ((DATA, END, b"evil" + FORGED),),
    ((DATA, 0, b"evil"), (DATA, 0, FORGED)),
    ((DATA, 0, FORGED),),
    ((DATA, 0, b"evil"), (TRAILERS, END, b"a: b\r\n")),
    ((TRAILERS, END, b"a: b\r\n"),),
    ((DATA, 0, b"ev"), reset()),
)
LATE: tuple[Frame, ...] = (
    (DATA, 0, FORGED),
    (DATA, END, FORGED),
    (DATA, END, b""),
    (TRAILERS, END, b"a: b\r\n"),
    reset(),
    reset(Code.NO_ERROR),
    (HEAD, 0, pack_head(KIND_LENGTH, 0, 4, b"HTTP/1.1 200 OK\r\nX-From: evil\r\n")),
)


Said = tuple[int, int, int, int]
"""Kind, flags, content length and frame flags of a HEAD."""


def expected(method: str, status: int, *, upgrade: bool) -> set[Said]:
    """All answers to HEAD, by the table of docs/spec/tunnel-v1.md, section 5."""
    if status == 101:
        return {(4, 0, 0, 0)} if upgrade else set()
    if status < 200:
        return {(0, 0, 0, INTERIM)}
    if method != "HEAD" and status not in (204, 304):
        return {(1, 0, 0, 0), (1, 0, 4, 0), (2, 0, 0, 0)}
    announced: set[Said] = {(0, FLAG_ANNOUNCE, 0, END), (0, FLAG_ANNOUNCE, 4, END)}
    return {(0, 0, 0, END)} | (announced if status != 204 else set())


def heads(status: int) -> Iterator[tuple[Said, Frame]]:
    """Each head that frames can express, with this status."""
    field = b"Upgrade: chat\r\n" if status == 101 else b""
    block = b"HTTP/1.1 %d Something\r\nX-From: evil\r\n%b" % (status, field)
    for kind, flags, length, ends in product(
        range(6), (0, FLAG_ANNOUNCE), LENGTHS, (0, END, INTERIM)
    ):
        yield (kind, flags, length, ends), (HEAD, ends, pack_head(kind, flags, length, block))


class Attack:
    """A request to the hostile tenant, its agent's frames, and another client's request."""

    def __init__(self, tenants: TwoTenants, request: str) -> None:
        self.tenants = tenants
        self.client = tenants.connect()
        method, fields, body = REQUESTS[request]
        self.client.send(method, EVIL, "/", *fields, body=body)
        tenants.evil.pair.pump()
        self.stream = tenants.evil.streams[-1]

    async def say(self, *frames: Frame) -> None:
        for kind, flags, payload in frames:
            self.tenants.evil.say(kind, flags, self.stream, payload)
        await self.tenants.settle(self.client)
        self.client.check()

    async def end(self, *late: Frame) -> None:
        """Check that the client does not hang and the other client's request succeeds.

        Args:
            late: frames of the agent during that request.
        """
        client = self.client
        if client.waits:
            await self.say(reset())
        assert not client.waits, "no answer, and nothing that would bring one"
        if client.is_idle:
            client.send("GET", GOOD, "/mine")
            await self.tenants.settle(client)
            await self.say(*late)
            self.tenants.good.answer()
            await self.tenants.settle(client)
            client.check()
            assert (client.status, client.body) == (200, b"/mine")
        assert self.tenants.evil.pair.server.over is None, (
            "the session is over, and with it what else it carries"
        )
        assert client.switched or self.stream not in self.tenants.evil.open


@pytest.mark.large
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("request_", REQUESTS)
async def test_whatever_an_agent_frames_reaches_its_own_client_only(
    request_: str, status: int
) -> None:
    tenants = TwoTenants()
    taken = set()
    for said, head in heads(status):
        attack = Attack(tenants, request_)
        await attack.say(head)
        refused = attack.client.refused
        await attack.end(*LATE)
        if refused:
            continue
        taken.add(said)
        for body, late in product(BODIES, LATE):
            attack = Attack(tenants, request_)
            await attack.say(head, *body)
            await attack.end(late)
    method, fields, _ = REQUESTS[request_]
    assert taken == expected(method, status, upgrade=fields is UPGRADE)


def head(said: Said, status: int) -> Frame:
    field = b"Upgrade: chat\r\n" * (status == 101)
    return (
        HEAD,
        said[3],
        pack_head(*said[:3], b"HTTP/1.1 %d X\r\nX-From: evil\r\n%b" % (status, field)),
    )


PLAUSIBLE: list[Said] = [
    (1, 0, 4, 0),
    (1, 0, 4, 0),
    (2, 0, 0, 0),
    (0, 0, 0, END),
    (0, FLAG_ANNOUNCE, 4, END),
]
OTHERS: list[Said] = [
    (1, 0, 0, 0),
    (4, 0, 0, 0),
    (0, 0, 0, INTERIM),
    (0, 0, 0, 0),
    (0, FLAG_ANNOUNCE, 0, 0),
]
OTHERS += [
    (1, FLAG_ANNOUNCE, 4, 0),
    (2, FLAG_ANNOUNCE, 0, 0),
    (1, 0, 2**63, 0),
    (1, 0, 4, END),
    (2, 0, 0, END),
]
HEADS = st.builds(
    head,
    st.sampled_from(PLAUSIBLE) | st.sampled_from(OTHERS),
    st.sampled_from([200, 200, 200, 204, 304, 101, 103, 999]),
)
SCRIPTS = st.one_of(
    st.tuples(HEADS, st.sampled_from(BODIES)).map(lambda script: (script[0], *script[1])),
    st.tuples(HEADS),
    st.sampled_from(BODIES),
    st.tuples(st.sampled_from(LATE)),
)
SHAPED = {"traffic_shaping": {"download_limit": "1MiB/s", "upload_limit": "1MiB/s"}}


class TenantsMachine(RuleBasedStateMachine):
    """Two tenants on shared connections: each client gets its own answer, an error, or EOF."""

    @initialize(policy=st.sampled_from([None, {}, SHAPED]))
    def begin(self, policy: dict[str, object] | None) -> None:
        self.runner = asyncio.Runner()
        self.tenants = self.runner.run(self._begin(policy))
        self.clients: list[Client] = []

    async def _begin(self, policy: dict[str, object] | None) -> TwoTenants:
        return TwoTenants(policy)

    @rule(
        data=st.data(), request=st.sampled_from(list(REQUESTS)), host=st.sampled_from([EVIL, GOOD])
    )
    def ask(self, data: st.DataObject, request: str, host: str) -> None:
        """A request on a kept connection, as Caddy prefers it, or on a new one."""
        idle = [client for client in self.clients if client.is_idle]
        self.runner.run(
            self._ask(data.draw(st.sampled_from(idle)) if idle else None, request, host)
        )

    async def _ask(self, client: Client | None, request: str, host: str) -> None:
        if client is None:
            client = self.tenants.connect()
            self.clients.append(client)
        method, fields, body = REQUESTS[request if host == EVIL else "GET"]
        client.send(method, host, f"/{len(self.tenants.good.streams)}", *fields, body=body)
        await self.tenants.settle(*self.clients)

    @precondition(lambda self: self.tenants.evil.streams)
    @rule(data=st.data(), script=SCRIPTS)
    def lie(self, data: st.DataObject, script: tuple[Frame, ...]) -> None:
        streams = self.tenants.evil.streams
        stream = data.draw(
            st.sampled_from(self.tenants.evil.open or streams) | st.sampled_from(streams)
        )
        self.runner.run(self._lie(stream, script))

    async def _lie(self, stream: int, script: tuple[Frame, ...]) -> None:
        for kind, flags, payload in script:
            self.tenants.evil.say(kind, flags, stream, payload)
        await self.tenants.settle(*self.clients)

    @rule()
    def answer(self) -> None:
        self.runner.run(self._answer())

    async def _answer(self) -> None:
        self.tenants.good.answer()
        await self.tenants.settle(*self.clients)

    @invariant()
    def own_answers(self) -> None:
        for client in self.clients:
            client.check()

    def teardown(self) -> None:
        self.runner.run(self._answer())
        assert not [client for client in self.clients if client.host == GOOD and client.waits]
        assert self.tenants.evil.pair.server.over is None
        self.runner.close()


TestTenants = pytest.mark.slow(pytest.mark.timeout(120)(TenantsMachine.TestCase))
TestTenants.settings = settings(
    max_examples=examples(150),
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
