"""Tests of zerotrust.agent.exchange: selection, retries and timeouts of one request."""

import asyncio
import itertools
import math
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any, Final

import aiofastnet
import pytest
import uvloop

from tests.support.raw_backend import RawBackend
from tests.support.transport import FakeTransport
from tests.support.waiting import eventually
from zerotrust.agent.exchange import Exchange
from zerotrust.agent.services import Timeouts
from zerotrust.agent.upstreams import Upstreams
from zerotrust.errors import ForwardError, UpstreamsBusy, UpstreamUnreachable
from zerotrust.model.service import Service
from zerotrust.model.upstream import UpstreamEndpoint
from zerotrust.net.http_client import (
    BackendConnection,
    BackendPool,
    ConnectionSink,
    ConnectOptions,
    DescriptorBudget,
)
from zerotrust.net.tasks import Tasks
from zerotrust.net.uvloop_fix import WatchingLoop
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.tunnel.binary import MAX_HEAD_PAYLOAD_BYTES, RequestOpen, unpack_head
from zerotrust.tunnel.codes import FLAG_UPGRADE, KIND_CHUNKED, KIND_NONE, UNTOUCHED, Code
from zerotrust.tunnel.stream import StreamState

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAILED = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n"
OURS = (
    b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\nX-Real-IP:"
    b" 192.0.2.7\r\n"
)


class Loop:
    """An event loop with a clock that the test sets."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Pool:
    """Connections to nowhere.

    Attributes:
        down: new ones are refused.
        slow: new ones are opened when the test says so: they are `dialling`, or `waiting` while it
            is `full`.
    """

    forgive = None

    def __init__(self) -> None:
        self.idle: list[BackendConnection] = []
        self.open = 0
        self.made: list[tuple[BackendConnection, FakeTransport]] = []
        self.down = self.slow = self.full = False
        self.dialling: list[ConnectionSink] = []
        self.waiting: list[ConnectionSink] = []

    def take(self, now: float, *, careful: bool) -> BackendConnection | None:
        if not self.idle:
            return None
        connection = self.idle.pop()
        connection.reused = True
        return connection

    def dial(self, owner: ConnectionSink) -> None:
        if self.slow:
            (self.waiting if self.full else self.dialling).append(owner)
        elif self.down:
            owner.unreachable(UpstreamUnreachable("connection refused"))
        else:
            owner.connected(self.make())

    def withdraw(self, owner: ConnectionSink) -> bool:
        if owner not in self.waiting:
            return False
        self.waiting.remove(owner)
        return True

    def connected(self) -> None:
        self.open += 1

    def make(self) -> BackendConnection:
        connection = BackendConnection(WriteCoalescer(asyncio.get_running_loop()), self)  # type: ignore[arg-type]
        self.made.append((connection, FakeTransport(connection.as_protocol())))
        return connection

    def put(self, connection: BackendConnection) -> None:
        self.idle.append(connection)

    def discard(self, connection: BackendConnection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)

    def mark_hasty(self) -> None: ...

    def sweep(self, now: float) -> None: ...

    def close(self) -> None: ...


class Tunnel:
    """A session that records its calls."""

    max_head = MAX_HEAD_PAYLOAD_BYTES

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.body = b""
        self.resets: list[tuple[Code, str]] = []

    def send_head(
        self, stream: Any, payload: bytes, *, end: bool = False, interim: bool = False
    ) -> None:
        self.heads.append(unpack_head(payload)[3])

    def send_data(self, stream: Any, data: bytes, *, end: bool) -> bool:
        self.body += data
        return True

    def send_trailers(self, stream: Any, fields: bytes) -> None: ...

    def consumed(self, stream: Any, count: int, now: float) -> None: ...

    def reset(self, stream: Any, code: Code, reason: str) -> None:
        self.resets.append((code, reason))


class Harness:
    """A service with its upstreams, and the requests of its clients."""

    def __init__(
        self, upstreams: int = 1, /, *, timeouts: Timeouts | None = None, **keys: Any
    ) -> None:
        config = {
            "hostname": "a",
            "upstreams": [{"address": f"10.0.0.{n}:80"} for n in range(upstreams)],
            **keys,
        }
        self.service = Service.model_validate(config)
        self.loop = Loop()
        self.clock: Loop | asyncio.AbstractEventLoop = self.loop
        self.pools = [Pool() for _ in self.service.backends]
        rng: Any = SimpleNamespace(random=lambda: 0.5, uniform=lambda a, b: a)
        made: Any = self.pools
        self.upstreams = Upstreams(self.service, made, secret=b"s" * 32, rng=rng, now=self.loop.now)
        live: Any = SimpleNamespace(
            id="a", upstreams=self.upstreams, timeouts=timeouts or Timeouts.of(self.service)
        )
        self.live = live
        self.running: set[Exchange] = set()

    def use(self, pool: BackendPool) -> None:
        """Use real connections and real time."""
        self.clock = asyncio.get_running_loop()
        self.upstreams.all[0].pool = pool

    def ask(
        self, method: bytes = b"GET", kind: int = KIND_NONE, *, flags: int = 0, fields: bytes = b""
    ) -> "Asked":
        return Asked(
            self,
            RequestOpen(
                kind, flags, 0, ("a", "r"), method + b" / HTTP/1.1\r\nHost: a\r\n" + fields + OURS
            ),
        )

    def connections(self) -> list[int]:
        return [len(pool.made) for pool in self.pools]

    def active(self) -> list[int]:
        return [backend.member.active for backend in self.upstreams.all]


class Asked:
    """One request of a client."""

    def __init__(self, harness: Harness, request: RequestOpen) -> None:
        self.harness = harness
        self.tunnel = Tunnel()
        stream: Any = SimpleNamespace(receiving=StreamState.DONE)
        tunnel: Any = self.tunnel
        loop: Any = harness.clock
        self.exchange = Exchange(
            stream,
            request,
            harness.live,
            session=tunnel,
            loop=loop,
            running=harness.running,
            failures=Counter(),
        )
        self.exchange.start()

    @property
    def connection(self) -> BackendConnection:
        found = self.exchange.connection
        assert found is not None
        return found

    @property
    def at(self) -> int | None:
        """Return the upstream that has the request."""
        for index, pool in enumerate(self.harness.pools):
            if any(connection is self.exchange.connection for connection, _ in pool.made):
                return index
        return None

    @property
    def code(self) -> Code | None:
        return self.tunnel.resets[-1][0] if self.tunnel.resets else None

    def answer(self, data: bytes = OK) -> None:
        self.connection.flush()
        self.connection.data_received(data)

    def break_off(self) -> None:
        self.connection.connection_lost(ConnectionResetError())


async def test_a_connection_is_used_again() -> None:
    harness = Harness()
    for _ in range(3):
        asked = harness.ask()
        asked.answer()
        assert asked.tunnel.body == b"ok"
    assert harness.connections() == [1]
    assert not harness.running


@pytest.mark.parametrize(
    ("hints", "size", "passes"),
    [(31, 10, True), (32, 10, False), (2, 29_000, True), (3, 29_000, False)],
)
async def test_a_backend_sends_a_bounded_number_of_interim_answers(
    hints: int, size: int, passes: bool
) -> None:
    harness = Harness()
    asked = harness.ask()
    connection = asked.connection
    for _ in range(hints):
        connection.data_received(b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * size + b"\r\n\r\n")
    if passes:
        asked.answer()
        assert len(asked.tunnel.heads) == hints + 1
        assert asked.tunnel.body == b"ok"
    else:
        assert asked.code is Code.UPSTREAM_FAILED
        assert len(asked.tunnel.heads) == hints - 1
        assert connection.transport is None or connection.transport.is_closing()


async def test_a_head_that_the_server_does_not_take_fails() -> None:
    harness = Harness()
    asked = harness.ask()
    asked.tunnel.max_head = 1000
    asked.connection.data_received(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000 + b"\r\n\r\n")
    assert asked.code is Code.UPSTREAM_FAILED
    assert not asked.tunnel.heads


async def test_an_interim_head_that_takes_more_than_a_frame_fails() -> None:
    harness = Harness()
    asked = harness.ask()
    asked.connection.data_received(b"HTTP/1.1 103 X\r\nX: " + b"x" * 41_000 + b"\r\n\r\n")
    assert asked.code is Code.UPSTREAM_FAILED
    assert not asked.tunnel.heads


async def test_data_after_the_end_is_a_protocol_error() -> None:
    harness = Harness()
    asked = harness.ask(b"POST", KIND_CHUNKED)
    asked.exchange.data(b"body", end=True)
    (_, transport), *_ = harness.pools[0].made
    asked.answer()
    asked.exchange.data(b"", end=True)
    assert not asked.tunnel.resets
    sent = await transport.written()
    asked.exchange.data(b"GET /evil HTTP/1.1\r\n\r\n", end=False)
    assert asked.code is Code.PROTOCOL_ERROR
    assert await transport.written() == b""
    assert sent.endswith(b"4\r\nbody\r\n0\r\n\r\n")


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"])
@pytest.mark.parametrize("upstreams", [1, 2])
async def test_request_that_crossed_the_end_of_an_idle_connection_is_sent_again(
    method: bytes, upstreams: int
) -> None:
    harness = Harness(upstreams, load_balancing={"policy": "first"})
    harness.ask().answer()
    asked = harness.ask(method)
    assert asked.connection.reused
    asked.break_off()
    assert not asked.connection.reused
    asked.answer(FAILED)
    assert asked.tunnel.heads and asked.code is None
    assert harness.connections() == [2, 0][:upstreams]


@pytest.mark.parametrize(
    ("method", "kind"), [(b"POST", KIND_NONE), (b"PATCH", KIND_NONE), (b"PUT", KIND_CHUNKED)]
)
@pytest.mark.parametrize("reused", [True, False])
async def test_requests_that_are_not_idempotent_are_not_retried(
    method: bytes, kind: int, reused: bool
) -> None:
    harness = Harness(2, load_balancing={"policy": "first"})
    if reused:
        harness.ask().answer()
    asked = harness.ask(method, kind)
    asked.break_off()
    assert asked.code is Code.UPSTREAM_FAILED
    assert harness.connections() == [1, 0]
    assert harness.active() == [0, 0]


POSTED: Final = b"POST / HTTP/1.1\r\nHost: %b\r\n" + OURS + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("event", ["unread", "bytes", "end"])
async def test_request_that_was_not_written_goes_to_a_new_connection(event: str) -> None:
    """The idle connection ends after the agent chose it and before it sends the request."""
    harness = Harness()
    (pool,) = harness.pools
    harness.ask().answer()
    (_, first), *_ = pool.made
    await first.written()
    pool.slow = True
    asked = harness.ask(b"POST", KIND_CHUNKED)
    asked.exchange.data(b"one", end=False)
    asked.exchange.data(b"two", end=False)
    if event == "unread":
        first.unread = True
    elif event == "bytes":
        asked.connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    else:
        asked.connection.eof_received()
    if event != "bytes":
        asked.connection.flush()
    assert await first.written() == b""
    assert first.is_aborted
    asked.exchange.data(b"three", end=False)
    asked.exchange.trailers(b"X-T: 1\r\n")
    pool.dialling.pop().connected(pool.make())
    asked.answer()
    assert (asked.tunnel.body, asked.code) == (b"ok", None)
    body = b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\nX-T: 1\r\n\r\n"
    assert await pool.made[1][1].written() == POSTED % b"a" + body


async def test_request_that_was_not_written_goes_to_another_upstream_with_its_body() -> None:
    harness = Harness(2, host_header="upstream", load_balancing={"policy": "first"})
    harness.ask().answer()
    (_, first), *_ = harness.pools[0].made
    await first.written()
    asked = harness.ask(b"POST", KIND_CHUNKED)
    asked.exchange.data(b"body", end=True)
    harness.pools[0].down = first.unread = True
    asked.connection.flush()
    assert asked.at == 1
    asked.answer()
    assert (asked.tunnel.body, asked.code) == (b"ok", None)
    assert await first.written() == b""
    sent = await harness.pools[1].made[0][1].written()
    assert sent == POSTED % b"10.0.0.1" + b"4\r\nbody\r\n0\r\n\r\n"


async def test_request_that_was_written_in_part_is_not_sent_again() -> None:
    harness = Harness(2, load_balancing={"policy": "first"})
    harness.ask().answer()
    (_, transport), *_ = harness.pools[0].made
    asked = harness.ask(b"POST", KIND_CHUNKED)
    asked.exchange.data(b"one", end=False)
    transport.unwritten = 100
    asked.connection.flush()
    asked.exchange.data(b"two", end=True)
    asked.connection.data_received(OK)
    assert asked.code is Code.UPSTREAM_FAILED
    assert harness.connections() == [1, 0]


async def test_unsent_requests_are_retried_with_their_body() -> None:
    harness = Harness(3, load_balancing={"policy": "first"})
    harness.pools[0].down = harness.pools[1].down = True
    asked = harness.ask(b"POST", KIND_CHUNKED)
    assert asked.at == 2
    asked.exchange.data(b"body", end=True)
    asked.answer()
    assert asked.tunnel.body == b"ok"
    assert b"body" in await harness.pools[2].made[0][1].written()
    assert harness.active() == [0, 0, 0]


async def test_a_reset_before_the_answer_is_retried() -> None:
    harness = Harness(2, load_balancing={"policy": "first"})
    asked = harness.ask()
    asked.break_off()
    assert (asked.at, harness.active()) == (1, [0, 1])
    asked.answer()
    assert asked.tunnel.body == b"ok"


@pytest.mark.parametrize(
    "said",
    [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nh"],
)
async def test_request_that_was_answered_in_part_is_not_sent_again(said: bytes) -> None:
    harness = Harness(2)
    asked = harness.ask()
    asked.answer(said)
    asked.break_off()
    assert asked.code is Code.UPSTREAM_FAILED
    assert sum(harness.connections()) == 1


async def test_three_upstreams_are_tried_at_most() -> None:
    harness = Harness(5)
    asked = harness.ask()
    for _ in range(3):
        assert asked.code is None
        asked.break_off()
    assert asked.code is Code.UPSTREAM_FAILED
    assert sorted(harness.connections()) == [0, 0, 1, 1, 1]


async def test_failing_upstream_is_ejected_and_returns() -> None:
    harness = Harness(2, load_balancing={"policy": "first"})
    harness.pools[0].down = True
    for _ in range(3):
        harness.ask().answer()
    harness.pools[0].down = False
    asked = harness.ask()
    assert asked.at == 1
    harness.loop.now += 11
    harness.upstreams.sweep(harness.loop.now)
    assert harness.ask().at == 0


async def test_answers_of_5xx_are_passed_on_and_counted() -> None:
    harness = Harness(2, load_balancing={"policy": "first"})
    for _ in range(5):
        asked = harness.ask()
        asked.answer(FAILED)
        assert asked.tunnel.heads[0].startswith(b"HTTP/1.1 500")
    assert harness.ask().at == 1


async def test_no_healthy_upstream_with_health_check_required() -> None:
    harness = Harness(2, load_balancing={"health_check_required": True})
    for pool in harness.pools:
        pool.down = True
    for _ in range(4):
        harness.ask()
    asked = harness.ask()
    assert asked.code is Code.UPSTREAMS_DOWN
    assert asked.tunnel.resets[0][1].startswith("10 ")


async def test_requests_wait_in_order_for_a_free_connection() -> None:
    harness = Harness(1, load_balancing={"max_connections": 1, "queue": 2, "queue_timeout": "5s"})
    first, second, third, fourth = (harness.ask() for _ in range(4))
    assert (fourth.code, fourth.tunnel.resets[0][1][:2]) == (Code.UPSTREAMS_BUSY, "5 ")
    assert (first.at, second.at, third.at) == (0, None, None)
    first.answer()
    assert (second.at, third.at) == (0, None)
    assert harness.connections() == [1], (
        "the connection was back in its pool before the next request began"
    )
    harness.loop.now += 6
    harness.upstreams.sweep(harness.loop.now)
    assert third.code is Code.UPSTREAMS_BUSY
    second.answer()
    assert harness.active() == [0]


async def test_aborted_request_leaves_the_queue() -> None:
    harness = Harness(1, load_balancing={"max_connections": 1})
    first, second, third = (harness.ask() for _ in range(3))
    second.exchange.reset(Code.CANCELLED, "gone")
    first.exchange.reset(Code.CANCELLED, "gone")
    assert (third.at, harness.active()) == (0, [1])


# Requests that are given up while their connection is opened


def ask_slowly(harness: Harness, *, full: bool = False) -> Asked:
    """Send requests before the backend accepts a connection, or before the pool's turn comes."""
    pool = harness.pools[0]
    pool.slow, pool.full = True, full
    asked = harness.ask()
    assert asked.exchange in (pool.waiting if full else pool.dialling)
    return asked


async def test_request_that_is_given_up_keeps_its_place_until_its_dial_has_ended() -> None:
    harness = Harness(1, load_balancing={"max_connections": 1})
    (pool,) = harness.pools
    first = ask_slowly(harness)
    first.exchange.reset(Code.CANCELLED, "gone")
    second = harness.ask()
    assert (second.at, harness.active(), len(pool.dialling)) == (None, [1], 1)
    pool.dialling.pop().connected(pool.make())
    assert (second.at, harness.active()) == (0, [1])
    assert harness.connections() == [1], (
        "the next request has the connection of the one that was given up"
    )
    second.answer()
    assert (second.tunnel.body, harness.active()) == (b"ok", [0])


@pytest.mark.parametrize(
    ("error", "counts"),
    [(UpstreamUnreachable("connection refused"), True), (UpstreamsBusy("no descriptors"), False)],
)
async def test_failed_dial_of_an_aborted_request_counts(error: ForwardError, counts: bool) -> None:
    harness = Harness(
        2, load_balancing={"policy": "first", "outlier_detection": {"consecutive_failures": 1}}
    )
    asked = ask_slowly(harness)
    asked.exchange.reset(Code.CANCELLED, "gone")
    assert harness.active() == [1, 0]
    harness.pools[0].dialling.pop().unreachable(error)
    assert harness.active() == [0, 0]
    assert (asked.tunnel.heads, asked.tunnel.resets) == ([], [])
    harness.pools[0].slow = False
    assert harness.ask().at == (1 if counts else 0)


async def test_aborted_request_withdraws_its_dial() -> None:
    harness = Harness(1, load_balancing={"max_connections": 1})
    asked = ask_slowly(harness, full=True)
    asked.exchange.reset(Code.CANCELLED, "gone")
    assert (harness.pools[0].waiting, harness.active()) == ([], [0])


async def test_lack_of_descriptors_is_not_an_upstream_failure() -> None:
    harness = Harness(
        2, load_balancing={"policy": "first", "outlier_detection": {"consecutive_failures": 1}}
    )
    asked = ask_slowly(harness)
    harness.pools[0].dialling.pop().unreachable(UpstreamsBusy("no descriptors are left"))
    assert asked.tunnel.resets == [(Code.UPSTREAMS_BUSY, "no descriptors are left")]
    harness.pools[0].slow = False
    assert harness.ask().at == 0


@pytest.mark.parametrize("limit", ["upstream", "service"])
@pytest.mark.parametrize("seed", range(8))
async def test_max_connections_is_never_exceeded(seed: int, limit: str) -> None:
    dice, most = random.Random(seed), 3
    options = {"outlier_detection": {"consecutive_failures": 0}, "queue": 5}
    if limit == "upstream":
        upstreams = [{"address": f"10.0.0.{n}:80", "max_connections": most} for n in range(2)]
        harness = Harness(upstreams=upstreams, load_balancing=options)
    else:
        harness = Harness(load_balancing={**options, "max_connections": most})
    asked: list[Asked] = []
    for _ in range(300):
        for pool in harness.pools:
            pool.slow, pool.full = True, len(pool.dialling) >= 2
            while pool.waiting and not pool.full:
                pool.dialling.append(pool.waiting.pop(0))
                pool.full = len(pool.dialling) >= 2
        if dice.random() < 0.6:
            asked.append(harness.ask())
        if harness.running and dice.random() < 0.5:
            exchange = dice.choice(sorted(harness.running, key=id))
            exchange.reset(Code.CANCELLED, "gone")
        pool = dice.choice(harness.pools)
        if pool.dialling and dice.random() < 0.6:
            owner = pool.dialling.pop(0)
            if dice.random() < 0.8:
                owner.connected(pool.make())
            else:
                owner.unreachable(UpstreamUnreachable("connection refused"))
        for one in asked:
            if one.exchange.connection is not None and one.code is None and dice.random() < 0.2:
                one.answer()
        await asyncio.sleep(0)  # what was closed is gone
        for pool, active in zip(harness.pools, harness.active(), strict=True):
            assert pool.open + len(pool.dialling) <= most
            assert pool.open - len(pool.idle) + len(pool.dialling) <= active
    for exchange in list(harness.running):
        exchange.reset(Code.CANCELLED, "gone")
    for pool in harness.pools:
        while pool.dialling:
            pool.dialling.pop().connected(pool.make())
    assert not any(harness.active())


async def test_buffered_body_has_little_memory_overhead() -> None:
    harness = Harness()
    (pool,) = harness.pools
    pool.slow = True
    asked = harness.ask(b"POST", KIND_CHUNKED)
    frames = [b"%02x" % (number & 255) for number in range(32 * 1024)]
    tracemalloc.start()
    try:
        for number, frame in enumerate(frames):
            asked.exchange.data(bytes(bytearray(frame)), end=number == len(frames) - 1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * 64 * 1024
    pool.dialling.pop().connected(pool.make())
    _, _, body = (await pool.made[0][1].written()).partition(b"\r\n\r\n")
    assert body == b"10000\r\n" + b"".join(frames) + b"\r\n0\r\n\r\n"


async def test_queue_time_does_not_count_for_the_response_timeout() -> None:
    harness = Harness(1, timeout="3s", load_balancing={"max_connections": 1, "queue_timeout": "1m"})
    first, second = harness.ask(), harness.ask()
    harness.loop.now += 2
    first.answer()
    harness.loop.now += 2
    second.exchange.expire(harness.loop.now)
    assert second.code is None
    harness.loop.now += 2
    second.exchange.expire(harness.loop.now)
    assert second.code is Code.UPSTREAM_TIMEOUT


async def test_cookie_keeps_a_client_with_its_upstream() -> None:
    harness = Harness(3, load_balancing={"session_affinity": True})
    asked = harness.ask()
    home = asked.at
    asked.answer()
    line = next(
        line for line in asked.tunnel.heads[0].split(b"\r\n") if line.startswith(b"Set-Cookie: ")
    )
    assert line.endswith(b"; Secure")
    cookie = b"Cookie: a=1; %b; b=2\r\n" % line.removeprefix(b"Set-Cookie: ").partition(b";")[0]
    for _ in range(4):
        again = harness.ask(fields=cookie)
        assert again.at == home is not None
        assert b"Cookie: a=1; b=2\r\n" in await harness.pools[home].made[-1][1].written()
        again.answer()
        assert b"Set-Cookie" not in again.tunnel.heads[0]
    assert home is not None
    harness.pools[home].down = True
    harness.pools[home].idle.clear()
    moved = harness.ask(fields=cookie)
    assert moved.at != home
    moved.answer()
    assert b"Set-Cookie" in moved.tunnel.heads[0]


async def test_a_cookie_that_is_used_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(3, load_balancing={"session_affinity": True, "affinity_duration": "1h"})
    asked = harness.ask()
    home = asked.at
    asked.answer()
    began_at = time.time()

    def renewed(fields: bytes, age: float) -> bytes | None:
        monkeypatch.setattr(time, "time", lambda: began_at + age)
        again = harness.ask(fields=fields)
        assert again.at == home is not None
        again.answer()
        return cookie_of(again.tunnel.heads[0])

    first = cookie_of(asked.tunnel.heads[0])
    assert first is not None
    assert renewed(first, 1790) is None
    second = renewed(first, 1810)
    assert second not in (None, first)
    assert second is not None
    assert renewed(second, 3700) is not None


def cookie_of(head: bytes) -> bytes | None:
    """Return the Cookie line that a browser sends after this answer."""
    for line in head.split(b"\r\n"):
        if line.startswith(b"Set-Cookie: "):
            return b"Cookie: %b\r\n" % line.removeprefix(b"Set-Cookie: ").partition(b";")[0]
    return None


async def test_same_address_same_upstream() -> None:
    harness = Harness(4, load_balancing={"policy": "ip_hash"})
    places = set()
    for _ in range(5):
        asked = harness.ask()
        places.add(asked.at)
        asked.answer()
    assert len(places) == 1


async def test_host_of_each_upstream_that_is_tried() -> None:
    harness = Harness(2, host_header="upstream", load_balancing={"policy": "first"})
    asked = harness.ask()
    assert b"\r\nHost: 10.0.0.0\r\n" in await harness.pools[0].made[0][1].written()
    asked.break_off()
    assert b"\r\nHost: 10.0.0.1\r\n" in await harness.pools[1].made[0][1].written()


@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [
        (Timeouts(response=5), 5),
        (Timeouts(idle=7), 7),
        (Timeouts(total=9), 9),
        (Timeouts(response=math.inf), math.inf),
    ],
)
async def test_timeouts(timeouts: Timeouts, seconds: float) -> None:
    harness = Harness(timeouts=timeouts)
    asked = harness.ask()
    for _ in range(20):
        asked.exchange.expire(harness.loop.now)
        if asked.code is not None:
            break
        harness.loop.now += 1
    assert harness.loop.now - 1000 == min(seconds, 20)
    assert asked.code is (Code.UPSTREAM_TIMEOUT if seconds < 20 else None)


async def test_progress_restarts_the_idle_timeout_only() -> None:
    harness = Harness(timeouts=Timeouts(response=2, idle=3, total=10))
    asked = harness.ask()
    asked.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
    while asked.code is None:
        asked.answer(b"x")
        harness.loop.now += 1
        asked.exchange.expire(harness.loop.now)
    assert harness.loop.now == 1010


async def test_the_agent_does_not_end_upgraded_connections_by_the_clock() -> None:
    harness = Harness(timeouts=Timeouts(1, 2, 3))
    asked = harness.ask(flags=FLAG_UPGRADE)
    asked.answer(SWITCH)
    harness.loop.now += 1e6
    asked.exchange.expire(harness.loop.now)
    assert asked.code is None


@pytest.mark.parametrize("upgraded", [False, True])
async def test_requests_of_a_removed_upstream_end_in_time(upgraded: bool) -> None:
    harness = Harness(2, timeouts=Timeouts(1000), load_balancing={"policy": "first"})
    asked = [harness.ask(flags=FLAG_UPGRADE if upgraded else 0) for _ in range(2)]
    if upgraded:
        asked[0].answer(SWITCH)
    _, other = harness.upstreams.all
    harness.upstreams.drain({other.endpoint}, harness.loop.now + 30)
    asked[1].break_off()
    for seconds in (29, 1):
        assert [one.code for one in asked] == [None, None]
        harness.loop.now += seconds
        for one in asked:
            one.exchange.expire(harness.loop.now)
    assert [one.code for one in asked] == [
        Code.WITHDRAWN,
        None,
    ], "the other has moved to the one that stays"


async def test_queued_requests_of_a_removed_service_fail() -> None:
    harness = Harness(1, load_balancing={"max_connections": 1, "queue_timeout": "1h"})
    running, waiting = harness.ask(), harness.ask()
    harness.upstreams.drain(set(), harness.loop.now + 30)
    harness.upstreams.sweep(harness.loop.now + 29)
    assert [waiting.code] == [None]
    harness.upstreams.sweep(harness.loop.now + 30)
    assert [running.code, waiting.code] == [None, Code.WITHDRAWN]


async def test_a_stalled_upload_does_not_run_the_response_timeout() -> None:
    harness = Harness(2, timeouts=Timeouts(response=5), load_balancing={"policy": "first"})
    for _ in range(6):
        asked = harness.ask(b"POST", KIND_CHUNKED)
        asked.exchange.data(b"some of it", end=False)
        harness.loop.now += 100
        asked.exchange.expire(harness.loop.now)
        assert asked.code is None
    assert harness.ask().at == 0, "it is not left out"
    asked.exchange.data(b"the rest", end=True)
    harness.loop.now += 4
    asked.exchange.expire(harness.loop.now)
    assert asked.code is None
    harness.loop.now += 1
    asked.exchange.expire(harness.loop.now)
    assert asked.code is Code.UPSTREAM_TIMEOUT


@pytest.mark.parametrize(
    "fields", [b"X-Original-URL: /\r\n", b"x_forwarded_user: root\r\n", b"Host: a\r\n", b"a:b\r\n"]
)
async def test_trailers_that_a_server_may_not_send_end_the_request(fields: bytes) -> None:
    asked = Harness().ask(b"POST", KIND_CHUNKED)
    asked.exchange.trailers(fields)
    assert asked.code is Code.PROTOCOL_ERROR


async def test_trailers_and_an_empty_end_complete_a_request() -> None:
    harness = Harness(timeouts=Timeouts(response=5))
    for end in ("data", "trailers"):
        asked = harness.ask(b"POST", KIND_CHUNKED)
        harness.loop.now += 100
        if end == "data":
            asked.exchange.data(b"", end=True)
        else:
            asked.exchange.trailers(b"X-Sum: 1\r\n")
        asked.exchange.expire(harness.loop.now + 4)
        assert asked.code is None
        asked.exchange.expire(harness.loop.now + 5)
        assert asked.code is Code.UPSTREAM_TIMEOUT


async def test_a_stalled_backend_runs_the_response_timeout() -> None:
    harness = Harness(timeouts=Timeouts(response=5))
    asked = harness.ask(b"POST", KIND_CHUNKED)
    asked.connection.pause_writing()
    for _ in range(5):
        asked.exchange.expire(harness.loop.now)
        assert asked.code is None
        asked.exchange.data(b"more", end=False)
        harness.loop.now += 1
    asked.exchange.expire(harness.loop.now)
    assert asked.code is Code.UPSTREAM_TIMEOUT
    asked = harness.ask(b"POST", KIND_CHUNKED)
    asked.connection.pause_writing()
    asked.exchange.data(b"more", end=False)
    asked.connection.resume_writing()
    asked.exchange.expire(harness.loop.now + 100)
    assert asked.code is None, "it has taken what there was"


async def test_expect_100_runs_the_response_timeout() -> None:
    harness = Harness(timeouts=Timeouts(response=5))
    asked = harness.ask(b"PUT", KIND_CHUNKED, fields=b"Expect: 100-continue\r\n")
    asked.exchange.expire(harness.loop.now + 5)
    assert asked.code is Code.UPSTREAM_TIMEOUT
    asked = harness.ask(b"PUT", KIND_CHUNKED, fields=b"Expect: 100-continue\r\n")
    asked.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
    asked.exchange.expire(harness.loop.now + 100)
    assert asked.code is None


async def test_incomplete_answers_count_as_failures() -> None:
    harness = Harness(2, load_balancing={"policy": "first"})
    for _ in range(3):
        asked = harness.ask(b"POST")
        assert asked.at == 0
        asked.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nh")
        asked.break_off()
        assert asked.code is Code.UPSTREAM_FAILED
    assert harness.ask().at == 1


async def test_complete_and_aborted_answers_reset_the_failure_count() -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nh"
    for well in ("ended", "left", "upgraded"):
        harness = Harness(2, load_balancing={"policy": "first"})
        for number in range(5):
            asked = harness.ask(b"POST")
            asked.answer(begun)
            asked.break_off()
            if number % 2:
                good = harness.ask(flags=FLAG_UPGRADE if well == "upgraded" else 0)
                good.answer({"ended": OK, "left": begun, "upgraded": SWITCH}[well])
                if well == "left":
                    good.exchange.reset(Code.CANCELLED, "gone")
        assert harness.ask().at == 0


async def test_the_end_of_an_upgraded_connection_is_no_failure() -> None:
    harness = Harness(2, load_balancing={"policy": "first"})
    for _ in range(6):
        asked = harness.ask(flags=FLAG_UPGRADE)
        asked.answer(SWITCH)
        asked.break_off()
    assert harness.ask().at == 0


async def test_idle_time_does_not_run_in_the_queue() -> None:
    harness = Harness(
        1, timeouts=Timeouts(idle=3), load_balancing={"max_connections": 1, "queue_timeout": "1m"}
    )
    first, second = harness.ask(), harness.ask()
    harness.loop.now += 10
    second.exchange.expire(harness.loop.now)
    assert second.code is None
    first.answer()
    assert second.at == 0
    harness.loop.now += 2
    second.exchange.expire(harness.loop.now)
    assert second.code is None
    harness.loop.now += 1
    second.exchange.expire(harness.loop.now)
    assert second.code is Code.UPSTREAM_TIMEOUT


REQUIRED = {"health_check_required": True, "max_connections": 2, "queue_timeout": "1h"}


async def test_queued_requests_fail_when_the_last_upstream_is_ejected() -> None:
    harness = Harness(
        1, load_balancing={**REQUIRED, "outlier_detection": {"consecutive_failures": 2}}
    )
    first, second, third, fourth = (harness.ask(b"POST") for _ in range(4))
    first.break_off()
    assert (first.code, third.code) == (Code.UPSTREAM_FAILED, None)
    second.break_off()
    assert fourth.code is Code.UPSTREAMS_DOWN
    assert fourth.tunnel.resets[0][1].startswith("10 ")


async def test_queued_requests_fail_when_the_last_check_fails() -> None:
    check = {"unhealthy_threshold": 1}
    harness = Harness(
        1, upstreams=[{"address": "10.0.0.0:80", "health_check": check}], load_balancing=REQUIRED
    )
    asked = [harness.ask() for _ in range(4)]
    (backend,) = harness.upstreams.due(harness.loop.now + 3)
    harness.upstreams.probed(backend, "no answer", harness.loop.now)
    assert [one.code for one in asked] == [None, None, Code.UPSTREAMS_DOWN, Code.UPSTREAMS_DOWN]
    assert harness.active() == [2]


@pytest.mark.parametrize("seed", range(40))
async def test_retryable_codes_mean_that_nothing_was_sent(seed: int) -> None:
    """After these codes, no backend has received a request that it must not see twice."""
    dice = random.Random(seed)
    harness = Harness(3, load_balancing={"max_connections": 2, "queue": 1, "queue_timeout": "5s"})
    asked: list[Asked] = []
    for _ in range(30):
        for pool in harness.pools:
            pool.down = dice.random() < 0.5
        asked.append(
            harness.ask(
                b"POST", dice.choice([KIND_NONE, KIND_CHUNKED]), fields=b"X-N: %d\r\n" % len(asked)
            )
        )
        for one in asked:
            if one.exchange.connection is not None and one.code is None and dice.random() < 0.3:
                dice.choice([one.answer, one.break_off])()
        if dice.random() < 0.1:
            harness.upstreams.drain(set(), harness.loop.now + 1)
        harness.loop.now += dice.choice([0, 0, 1, 3])
        for exchange in list(harness.running):
            exchange.expire(harness.loop.now)
        harness.upstreams.sweep(harness.loop.now)
    written = b"".join(
        [await transport.written() for pool in harness.pools for _, transport in pool.made]
    )
    for number, one in enumerate(asked):
        if one.code in UNTOUCHED:
            assert b"X-N: %d\r\n" % number not in written
    assert {one.code for one in asked} & UNTOUCHED


# Two clients of one backend that sends more than it was asked for


class Moment(Enum):
    """Moments at which the backend sends bytes behind its answer to the first client."""

    SAME_SEGMENT = 1
    IDLE = 2
    """The connection is in the pool, and the loop reads them."""
    UNREAD = 3
    """As before, but the loop has not read them when the second request begins."""
    WRITING = 4
    """The second request has begun, and is written next."""
    LATE = 5
    """The backend has the second request."""


METHODS: Final = (b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"DELETE")
STATUSES: Final = (200, 204, 206, 304, 404, 500)
FRAMINGS: Final = (
    b"",
    b"Content-Length: 0\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
)
BODIES: Final = (b"", b"", b"1st", b"3\r\n1st\r\n0\r\n\r\n")
SURPLUS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n1st",
    b"1st",
    b"3\r\n1st\r\n0\r\n\r\n",
)
LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "plain": aiofastnet.loop_factory(WatchingLoop),
    "uvloop": uvloop.new_event_loop,  # which carries TLS to backends
}


@pytest.mark.large
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("method", METHODS)
def test_no_client_gets_bytes_of_the_answer_to_another(
    method: bytes, moment: Moment, loop: str
) -> None:
    async def every() -> None:
        cases = itertools.product(
            STATUSES, zip(FRAMINGS, BODIES, strict=True), SURPLUS, (b"GET", b"POST")
        )
        for status, (framing, body), surplus, second in cases:
            bodiless = method == b"HEAD" or status in (204, 304)
            if framing or bodiless:  # else the answer ends with its connection
                answer = b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, framing, b"" if bodiless else body)
                can_end = b": 0" in framing or (not framing and status in (204, 304))
                await cross(method, answer, moment, surplus, second, kept=can_end or not bodiless)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(every())


async def cross(
    method: bytes, answer: bytes, moment: Moment, surplus: bytes, second: bytes, *, kept: bool
) -> None:
    """Two requests, one after the other.

    Args:
        kept: nothing can follow the answer to the first one, so its connection is used again. What
            comes LATE all the same is, by all that HTTP/1.1 has, the answer to the second one; it
            is not sent.
    """
    case = (answer, surplus, second)
    with RawBackend() as backend:
        harness = Harness()
        pool = BackendPool(
            ConnectOptions(UpstreamEndpoint("127.0.0.1", backend.port, secured=False)),
            coalescer=WriteCoalescer(asyncio.get_running_loop()),
            tasks=Tasks(),
            budget=DescriptorBudget.of_process(),
        )
        harness.use(pool)
        a = harness.ask(method)
        first = await backend.request()
        first.send(answer + surplus if moment is Moment.SAME_SEGMENT else answer)
        await eventually(
            lambda: not harness.running, f"the first one is answered: {case}", interval=0
        )
        assert (len(a.tunnel.heads), a.code) == (1, None), case
        if moment is Moment.IDLE:
            first.send(surplus)
            await eventually(lambda: not pool.idle, f"the connection is closed: {case}", interval=0)
        elif moment is Moment.UNREAD:
            first.send(surplus)
        b = harness.ask(second, KIND_NONE if second == b"GET" else KIND_CHUNKED)
        if second == b"POST":
            b.exchange.data(b"2nd", end=True)
        if moment is Moment.WRITING:
            first.send(surplus)
        then = await backend.request()
        if not kept and moment is Moment.LATE:
            first.send(surplus)
        then.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n2nd")
        await eventually(
            lambda: not harness.running, f"the second one is answered: {case}", interval=0
        )
        assert (len(b.tunnel.heads), b.tunnel.body, b.code) == (1, b"2nd", None), case
        assert (then is first) is (kept and moment is Moment.LATE), case
        pool.close()
        await eventually(lambda: not pool.open, "all connections are closed", interval=0)
