"""Tests of retries: a failed request goes to another agent, but to no backend twice."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.server.multi_agent_proxy import HOST, Agent, MultiAgentProxy
from zerotrust.server.proxy.relay import MAX_REPLAY_BYTES
from zerotrust.server.proxy.retry import MAX_TRIES
from zerotrust.tunnel.codes import FLAG_UPGRADE, KIND_LENGTH, KIND_TUNNEL, UNTOUCHED, Code
from zerotrust.tunnel.session import Phase
from zerotrust.tunnel.stream import StreamState

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
SOCKET = ("Connection: Upgrade", "Upgrade: websocket")
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
OTHERS = sorted(set(Code) - UNTOUCHED - {Code.NO_ERROR})
RARE: dict[str, Any] = {"global_middleware": [{"type": "rate_limit", "config": {"rate": "1/hour"}}]}
SHUT: dict[str, Any] = {
    "global_middleware": [{"type": "ip_deny", "config": {"denied_ips": ["0.0.0.0/0"]}}]
}


def head_of(said: bytes) -> bytes:
    return said.partition(b"\r\n")[0]


# What no backend has


@pytest.mark.parametrize("code", sorted(UNTOUCHED))
async def test_a_request_that_was_not_begun_goes_to_another_agent(code: Code) -> None:
    proxy = MultiAgentProxy(None, None)
    first, second = proxy.agents
    assert await proxy.ask("POST /x%2Fy", "Content-Length: 0", "Accept: a") == b""
    first.refuse(code)
    assert await proxy.hear() == b""
    (before,), (after,) = first.opened, second.opened
    assert (after.block, after.request_id) == (before.block, before.request_id)
    assert (before.service, after.service) == ("app-a", "app-b")
    second.say(OK, kind=KIND_LENGTH, body=b"hi")
    assert (await proxy.hear()).endswith(b"\r\n\r\nhi")
    assert await proxy.ask("GET /") == b"", "the connection goes on"


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_one_that_may_have_been_begun_does_not(code: Code, method: str) -> None:
    proxy = MultiAgentProxy(None, None)
    await proxy.ask(f"{method} /")
    proxy.agents[0].refuse(code)
    assert head_of(await proxy.hear())[9:12] in (b"502", b"503", b"504")
    assert proxy.counts == [1, 0]


async def test_a_request_that_never_left_goes_to_another_agent() -> None:
    """This includes requests with a body, of any method; the lost agent gets no more of them."""
    proxy = MultiAgentProxy(None, None)
    first, second = proxy.agents
    proxy.send("POST /", "Content-Length: 9", body=b"body")
    first.lose()
    await proxy.hear()
    proxy.connection.data_received(b"s end")
    await proxy.hear()
    assert proxy.counts == [0, 1]
    assert (bytes(second.last[1].body), second.last[1].ended) == (b"bodys end", True)
    assert first.pair.agent.over is not None
    assert first.pair.agent.over[0] is Code.SUPERSEDED


@pytest.mark.parametrize("code", [Code.SUPERSEDED, Code.SILENCE, Code.NOT_ALLOWED])
@pytest.mark.parametrize("method", [*IDEMPOTENT, "POST", "PATCH", "LOCK"])
async def test_of_those_that_had_left_only_idempotent_ones_go_on(method: str, code: Code) -> None:
    proxy = MultiAgentProxy(None, None)
    await proxy.ask(f"{method} /")
    proxy.agents[0].lose(code)
    said = await proxy.hear()
    if method in IDEMPOTENT:
        assert (said, proxy.counts) == (b"", [1, 1])
    else:
        assert b"502" in head_of(said)
        assert b"X-0Trust-Error: agent_lost\r\n" in said
        assert proxy.counts == [1, 0]


async def test_idempotent_ones_with_a_body_do_not() -> None:
    proxy = MultiAgentProxy(None, None)
    await proxy.ask("PUT /", "Content-Length: 4", body=b"body")
    proxy.agents[0].lose()
    assert b"agent_lost" in await proxy.hear()
    assert proxy.counts == [1, 0]


@pytest.mark.parametrize(
    "end", [lambda agent: agent.lose(), lambda agent: agent.refuse(Code.UPSTREAM_UNREACHABLE)]
)
@pytest.mark.parametrize("interim", [True, False])
async def test_nothing_goes_on_whose_answer_has_begun(interim: bool, end: Any) -> None:
    proxy = MultiAgentProxy(None, None)
    await proxy.ask("GET /")
    proxy.agents[0].say(HINT if interim else OK, kind=0 if interim else 2, interim=interim)
    await proxy.hear()
    end(proxy.agents[0])
    said = await proxy.hear()
    assert b" 502 " in said if interim else proxy.transport.is_aborted
    assert proxy.counts == [1, 0]


# Bodies


@pytest.mark.parametrize("when", range(4))
async def test_a_body_is_given_again(when: int) -> None:
    proxy = MultiAgentProxy(None, None)
    first, second = proxy.agents
    pieces = [b"5\r\n01234\r\n", b"3\r\n567\r\n", b"0\r\n\r\n"]
    await proxy.ask("POST /", "Transfer-Encoding: chunked")
    for number, piece in enumerate([*pieces, b""]):
        if number == when:
            first.refuse(Code.UPSTREAM_UNREACHABLE)
            await proxy.hear()
        if piece:
            proxy.connection.data_received(piece)
            await proxy.hear()
    assert (bytes(second.last[1].body), second.last[1].ended) == (b"01234567", True)
    second.say(OK, kind=KIND_LENGTH, body=b"done")
    assert (await proxy.hear()).endswith(b"done")


@pytest.mark.parametrize(
    ("size", "goes_on"), [(MAX_REPLAY_BYTES - 64, True), (MAX_REPLAY_BYTES - 63, False)]
)
async def test_as_much_is_kept_and_no_more(size: int, goes_on: bool) -> None:
    proxy = MultiAgentProxy(None, None)
    body = bytes(size)
    await proxy.ask("POST /", f"Content-Length: {size}", body=body)
    proxy.agents[0].refuse(Code.UPSTREAM_UNREACHABLE, "connection refused")
    said = await proxy.hear()
    if goes_on:
        agent, sink = proxy.agents[1].last
        proxy.agents[1].pair.agent.session.consumed(agent, len(sink.body), 0.0)
        await proxy.hear()
        assert bytes(sink.body) == body
    else:
        assert b"X-0Trust-Error: upstream_unreachable\r\n" in said
        assert proxy.counts == [1, 0]


async def test_trailers_are_not_kept() -> None:
    proxy = MultiAgentProxy(None, None)
    await proxy.ask(
        "POST /",
        "Transfer-Encoding: chunked",
        "Trailer: x-a",
        body=b"1\r\nx\r\n0\r\nX-A: 1\r\n\r\n",
    )
    proxy.agents[0].refuse(Code.UPSTREAM_UNREACHABLE)
    assert b"502" in head_of(await proxy.hear())


async def test_what_waits_for_its_turn_is_not_kept() -> None:
    slow: dict[str, Any] = {"traffic_shaping": {"upload_limit": "20kB/s"}}
    proxy = MultiAgentProxy(slow, slow)
    await proxy.ask("POST /", "Content-Length: 50000", body=bytes(40_000))
    proxy.agents[0].refuse(Code.UPSTREAM_UNREACHABLE)
    assert b"502" in head_of(await proxy.hear())
    proxy = MultiAgentProxy(slow, slow)
    await proxy.ask("POST /", "Content-Length: 4", body=b"body")
    proxy.agents[0].refuse(Code.UPSTREAM_UNREACHABLE)
    await proxy.hear()
    assert bytes(proxy.agents[1].last[1].body) == b"body"


# How often, and what is said at last


async def test_each_agent_is_tried_once_and_three_at_most() -> None:
    proxy = MultiAgentProxy(None, None, None, None)
    await proxy.ask("GET /")
    tried: list[int] = []
    for number in range(MAX_TRIES):
        (at,) = (index for index, count in enumerate(proxy.counts) if count and index not in tried)
        tried.append(at)
        proxy.agents[at].refuse(Code.UPSTREAMS_BUSY, f"{number + 5} busy")
        said = await proxy.hear()
        assert bool(said) == (number == MAX_TRIES - 1)
    assert b"X-0Trust-Error: upstreams_busy\r\n" in said
    assert b"Retry-After: 7\r\n" in said, "the last of them"
    assert sum(proxy.counts) == MAX_TRIES


async def test_where_nobody_else_is_the_error_is_what_it_was() -> None:
    proxy = MultiAgentProxy(None, hold_timeout=30)
    await proxy.ask("POST /", "Content-Length: 0")
    proxy.agents[0].refuse(Code.UPSTREAM_UNREACHABLE, "connection refused")
    said = await proxy.hear()
    assert b"X-0Trust-Error: upstream_unreachable\r\n" in said
    assert proxy.counts == [1]


async def test_the_same_agents_other_sessions_know_no_better() -> None:
    proxy = MultiAgentProxy(None, None, names="aa")
    await proxy.ask("GET /")
    busy = proxy.agents[0] if proxy.agents[0].opened else proxy.agents[1]
    busy.refuse(Code.UPSTREAM_UNREACHABLE)
    assert b"502" in head_of(await proxy.hear())
    assert sum(proxy.counts) == 1


@pytest.mark.parametrize(("code", "goes_on"), [(Code.SUPERSEDED, True), (Code.NOT_ALLOWED, False)])
async def test_another_session_of_an_agent_that_was_not_revoked(code: Code, goes_on: bool) -> None:
    proxy = MultiAgentProxy(None, None, names="aa")
    await proxy.ask("GET /")
    busy = proxy.agents[0] if proxy.agents[0].opened else proxy.agents[1]
    busy.lose(code)
    assert bool(await proxy.hear()) != goes_on
    assert sum(proxy.counts) == 1 + goes_on


@pytest.mark.parametrize("guarded", [True, False])
async def test_who_can_be_given_nothing_now_is_passed_over(guarded: bool) -> None:
    policy: dict[str, Any] | None = {"max_request_body": "1MB"} if guarded else None
    proxy = MultiAgentProxy(policy, policy)
    proxy.agents[0].pair.server.session.going_away = True
    for _ in range(2):
        assert await proxy.ask("GET /") == b""
        proxy.agents[1].say(OK, kind=KIND_LENGTH, body=b"x")
        await proxy.hear()
    assert proxy.counts == [0, 2]
    proxy.agents[1].pair.server.session.going_away = True
    assert b"X-0Trust-Error: overloaded\r\n" in await proxy.ask("GET /")


async def test_a_request_that_never_left_waits_where_nobody_else_is() -> None:
    proxy = MultiAgentProxy(None, hold_timeout=30)
    proxy.send("POST /", "Content-Length: 8", body=b"body")
    proxy.agents[0].lose()
    assert await proxy.hear() == b""
    assert not proxy.transport.is_reading(), "nothing more is read for it"
    proxy.agents.append(Agent(proxy, "a", None))
    await proxy.hear()
    proxy.connection.data_received(b"more")
    await proxy.hear()
    assert proxy.counts == [0, 1]
    assert bytes(proxy.agents[1].last[1].body) == b"bodymore"


async def test_one_that_had_left_does_not_wait() -> None:
    proxy = MultiAgentProxy(None, hold_timeout=30)
    await proxy.ask("GET /")
    proxy.agents[0].lose()
    assert b"X-0Trust-Error: agent_lost\r\n" in await proxy.hear()


async def test_a_client_that_has_gone_is_not_served_elsewhere() -> None:
    proxy = MultiAgentProxy(None, None)
    await proxy.ask("GET /")
    proxy.transport.abort()
    await proxy.hear()
    proxy.agents[0].lose()
    await proxy.hear()
    assert proxy.counts == [1, 0]


# Upgrades


@pytest.mark.parametrize("policy", [None, {"max_websockets": 1}])
async def test_an_upgrade_goes_on(policy: dict[str, Any] | None) -> None:
    proxy = MultiAgentProxy(policy, policy)
    first, second = proxy.agents
    await proxy.ask("GET /", *SOCKET)
    first.refuse(Code.UPSTREAM_UNREACHABLE)
    await proxy.hear()
    assert second.opened[0].flags & FLAG_UPGRADE
    second.say(SWITCHED, kind=KIND_TUNNEL)
    assert b"101" in head_of(await proxy.hear())
    proxy.connection.data_received(b"ping")
    await proxy.hear()
    assert bytes(second.last[1].body) == b"ping"
    second.lose()
    assert await proxy.hear() == b"\x88\x02" + (1012).to_bytes(2, "big"), "one that has begun ends"


# Policies


async def test_the_policy_of_the_agent_that_takes_it_holds() -> None:
    proxy = MultiAgentProxy(None, SHUT)
    await proxy.ask("GET /")
    proxy.agents[0].refuse(Code.UPSTREAM_UNREACHABLE)
    assert b"X-0Trust-Error: ip_refused\r\n" in await proxy.hear()
    assert proxy.counts == [1, 0]
    said = [
        {
            "type": "headers",
            "config": {"request": {"set": {"X-B": "b"}}, "response": {"set": {"X-C": "c"}}},
        }
    ]
    proxy = MultiAgentProxy(
        {"max_request_body": "3"}, {"global_middleware": said, "max_request_body": "4"}
    )
    await proxy.ask("POST /", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n")
    proxy.agents[0].refuse(Code.UPSTREAM_UNREACHABLE)
    await proxy.hear()
    assert b"\r\nX-B: b\r\n" in proxy.agents[1].opened[0].block
    proxy.connection.data_received(b"1\r\nd\r\n0\r\n\r\n")
    await proxy.hear()
    assert bytes(proxy.agents[1].last[1].body) == b"abcd"
    proxy.agents[1].say(OK, kind=KIND_LENGTH, body=b"x")
    assert b"\r\nX-C: c\r\n" in await proxy.hear()


@pytest.mark.parametrize("names", ["ab", "aa"])
async def test_no_limit_counts_a_request_twice(names: str) -> None:
    """Two agents have limits of their own; sessions of one agent share theirs."""
    proxy = MultiAgentProxy(RARE, RARE, names=names)
    await proxy.ask("GET /")
    busy, idle = proxy.agents if proxy.agents[0].opened else reversed(proxy.agents)
    busy.refuse(Code.REFUSED)
    assert await proxy.hear() == b""
    idle.say(OK, kind=KIND_LENGTH, body=b"x")
    said = await proxy.hear()
    assert b"200" in head_of(said)
    assert said.count(b"RateLimit: ") == 1
    assert b"429" in head_of(await proxy.ask("GET /"))


async def test_no_limit_counts_a_request_twice_that_waits() -> None:
    proxy = MultiAgentProxy(RARE, hold_timeout=30)
    proxy.send("GET /")
    proxy.agents[0].lose()
    await proxy.hear()
    proxy.agents.append(Agent(proxy, "a", RARE))
    await proxy.hear()
    proxy.agents[1].say(OK, kind=KIND_LENGTH, body=b"x")
    assert b"200" in head_of(await proxy.hear())


# All of it


class Backends:
    """The agents' backends; each agent does with a request what its reset code says."""

    def __init__(self, proxy: MultiAgentProxy, draw: Any, *, repeatable: bool) -> None:
        self.proxy = proxy
        self.seen = 0
        self._draw = draw
        self._repeatable = repeatable

    def act(self) -> None:
        """Let the present holder of the request act on it."""
        for agent in self.proxy.agents:
            session = agent.pair.agent.session
            if session.phase is Phase.OPEN and any(
                s.sending is StreamState.HEAD for s in session.streams.values()
            ):
                self._have(agent)
                return

    def _have(self, agent: Agent) -> None:
        if self._draw(st.booleans(), label="lost before the backend"):
            agent.lose()
        elif not self._draw(st.booleans(), label="to the backend"):
            agent.refuse(self._draw(st.sampled_from(sorted(UNTOUCHED))))
        else:
            self.seen += 1
            self._begun(agent)

    def _begun(self, agent: Agent) -> None:
        deed = self._draw(st.sampled_from(["answer", "fail", "lose", "hint"]))
        if deed == "answer":
            agent.say(OK, kind=KIND_LENGTH, body=b"x")
        elif deed == "fail":
            agent.refuse(
                self._draw(st.sampled_from([*OTHERS, *(UNTOUCHED if self._repeatable else ())]))
            )
        elif deed == "lose":
            agent.lose()
        else:
            agent.say(HINT, interim=True)
            agent.pair.pump()
            agent.lose()


def pieces_of(body: bytes, draw: Any) -> Iterator[bytes]:
    while body:
        size = draw(st.integers(1, len(body)))
        yield body[:size]
        body = body[size:]


@given(st.data())
def test_a_backend_never_sees_a_request_twice_that_it_may_not(data: st.DataObject) -> None:
    draw = data.draw
    method = draw(st.sampled_from(["GET", "PUT", "POST", "PATCH"]))
    size = draw(st.sampled_from([None, 0, 10, 70_000]))
    repeatable = method in IDEMPOTENT and size is None

    async def run() -> None:
        proxy = MultiAgentProxy(
            *[draw(st.sampled_from([None, RARE])) for _ in range(draw(st.integers(1, 4)))]
        )
        backends = Backends(proxy, draw, repeatable=repeatable)
        fields = [] if size is None else [f"Content-Length: {size}"]
        proxy.send(f"{method} /", *fields)
        rest = list(pieces_of(bytes(size or 0), draw)) if (size or 0) < 100 else [bytes(size or 0)]
        said = b""
        for _ in range(40):
            step = draw(st.sampled_from(["cut", "move", "act", "body"]))
            if step == "cut":
                alive = [
                    agent for agent in proxy.agents if agent.pair.server.session.phase is Phase.OPEN
                ]
                if alive:
                    draw(st.sampled_from(alive)).lose()
            elif step == "act":
                backends.act()
            elif step == "body" and rest and not proxy.transport.is_closing():
                proxy.connection.data_received(rest.pop(0))
            said += await proxy.hear() if step == "move" else await proxy.transport.written()
            if b"HTTP/1.1 200" in said or b"HTTP/1.1 5" in said:
                break
        for agent in proxy.agents:
            agent.lose()
        said += await proxy.hear()
        assert backends.seen <= 1 or repeatable, "seen twice"
        finals = sum(said.count(b"HTTP/1.1 %d" % kind) for kind in (2, 4, 5))
        assert finals == 1, (said, HOST)
        assert sum(proxy.counts) <= MAX_TRIES

    asyncio.run(run())
