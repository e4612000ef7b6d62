"""Tests of zerotrust.net.http_client, without a network."""

import asyncio
import itertools
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.backends import UnresponsivePort
from tests.support.transport import FakeTransport
from tests.support.waiting import eventually
from zerotrust.errors import (
    ConnectTimeout,
    ForwardError,
    UpstreamFailed,
    UpstreamsBusy,
    UpstreamUnreachable,
)
from zerotrust.http.body import Kind
from zerotrust.http.deviations import Deviation, Forgive
from zerotrust.http.head import ResponseHead
from zerotrust.model.upstream import UpstreamEndpoint
from zerotrust.net.channel import Chunk
from zerotrust.net.http_client import (
    CAREFUL_IDLE,
    HASTY,
    IDLE_TIMEOUT,
    MAX_DIALS,
    RESERVED_DESCRIPTORS,
    BackendConnection,
    BackendPool,
    ConnectOptions,
    DescriptorBudget,
)
from zerotrust.net.loop import run
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n"


def pool_of(options: ConnectOptions, budget: DescriptorBudget | None = None) -> BackendPool:
    return BackendPool(
        options,
        coalescer=WriteCoalescer(asyncio.get_running_loop()),
        tasks=Tasks(),
        budget=budget or DescriptorBudget.of_process(),
    )


class Waiting:
    """A ConnectionSink that waits for its connection."""

    def __init__(self) -> None:
        self.dialled: asyncio.Future[BackendConnection] = asyncio.get_running_loop().create_future()

    def connected(self, connection: BackendConnection) -> None:
        self.dialled.set_result(connection)

    def unreachable(self, error: ForwardError) -> None:
        self.dialled.set_exception(error)


class Owner:
    """Sends one request after the other, and pauses reading after each piece of a body."""

    def __init__(self, *, tls: bool = False, forgive: Forgive | None = None) -> None:
        self.coalescer = WriteCoalescer(asyncio.get_running_loop())
        self.pool = pool_of(ConnectOptions(UpstreamEndpoint("a", 1, False), forgive=forgive))
        self.connection = BackendConnection(self.coalescer, self.pool)
        self.transport = FakeTransport(self.connection.as_protocol(), tls=tls)
        self.said = b""
        self.ends = 0
        self.error: ForwardError | None = None

    def ask(self, method: bytes = b"GET") -> None:
        self.begin(method)
        self.connection.flush()

    def begin(self, method: bytes = b"GET") -> None:
        """Send a request, but leave it unwritten."""
        self.connection.begin(self, method)
        self.connection.send(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method)

    def reuse(self) -> None:
        """Return a connection that has answered one request, taken from the pool again."""
        self.ask()
        self.connection.data_received(OK)
        assert self.take() is self.connection
        self.said, self.ends = b"", 0

    def take(self, after: float = 0.0) -> BackendConnection | None:
        return self.pool.take(asyncio.get_running_loop().time() + after, careful=False)

    def response_interim(self, head: ResponseHead) -> None: ...

    def response(self, head: ResponseHead, framing: tuple[Kind, int]) -> None:
        self.tunnelled = framing[0] is Kind.TUNNEL
        if framing[0] is Kind.NONE:
            self.ends += 1
            self.connection.release()

    def body(self, data: bytes, *, end: bool) -> None:
        self.said += data
        self.connection.pause_reading()
        self.ends += end
        if end and not self.tunnelled:
            self.connection.release()

    def body_trailers(self, fields: bytes) -> None:
        self.ends += 1
        self.connection.release()

    def failed(self, error: ForwardError, *, untouched: bool, unsent: list[Chunk]) -> None:
        self.error = error
        self.untouched = untouched
        self.unsent = unsent

    def drained(self) -> None: ...


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
    ],
)
async def test_connection_is_read_again_when_it_is_used_again(answer: bytes) -> None:
    owner = Owner()
    owner.ask()
    owner.connection.data_received(answer)
    assert owner.take() is owner.connection
    assert owner.transport.is_reading()


async def test_body_until_the_end_of_the_connection_is_the_last() -> None:
    owner = Owner()
    owner.ask()
    owner.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nok")
    owner.connection.eof_received()
    assert (owner.said, owner.ends) == (b"ok", 1)
    assert owner.take() is None


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        CHUNKED,
        CHUNKED + b"0\r\n",
        CHUNKED + b"0\r\nA: b\r\n",
        CHUNKED + b"x\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"2\r\nok!\r\n0\r\n\r\n",
        CHUNKED + b"0\r\nno colon\r\n\r\n",
    ],
)
async def test_a_broken_body_never_ends(answer: bytes, strict: bool) -> None:
    owner = Owner(forgive=None if strict else lambda deviation, name: None)
    owner.ask()
    owner.connection.data_received(answer)
    if not owner.error:
        owner.connection.eof_received()
    assert isinstance(owner.error, UpstreamFailed)
    assert owner.ends == 0
    assert owner.transport.is_closing() and owner.take() is None


async def test_a_body_until_the_end_of_the_connection_breaks_with_a_reset() -> None:
    owner = Owner()
    owner.ask()
    owner.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nok")
    owner.connection.connection_lost(ConnectionResetError())
    assert isinstance(owner.error, UpstreamFailed)
    assert owner.ends == 0


@pytest.mark.parametrize(
    ("answer", "expected", "keeps"),
    [
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Deviation.BARE_LF, True),
        (CHUNKED + b"0  \r\n\r\n", Deviation.PADDED_CHUNK_SIZE, True),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Deviation.TWO_FRAMINGS,
            False,
        ),
    ],
)
async def test_deviations_are_forgiven_unless_the_pool_is_strict(
    answer: bytes, expected: Deviation, keeps: bool
) -> None:
    forgiven = []
    owner = Owner(forgive=lambda deviation, name: forgiven.append(deviation))
    owner.ask()
    owner.connection.data_received(answer)
    assert (owner.said, owner.ends, forgiven) == (b"ok", 1, [expected])
    assert (owner.take() is not None) is keeps
    strict = Owner()
    strict.ask()
    strict.connection.data_received(answer)
    assert isinstance(strict.error, UpstreamFailed)


async def test_idle_connection_that_has_ended_is_not_used_again() -> None:
    owner = Owner()
    owner.ask()
    owner.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    owner.connection.eof_received()
    assert owner.take() is None


async def test_connection_of_a_service_that_was_replaced_is_closed_after_its_request() -> None:
    owner = Owner()
    owner.ask()
    owner.pool.close()
    owner.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert owner.transport.is_closing()


async def test_half_close_of_a_relay_over_tcp() -> None:
    owner = Owner()
    owner.ask()
    owner.connection.data_received(SWITCH)
    owner.connection.send(b"last")
    owner.connection.send_eof()
    assert owner.transport.output.endswith(b"last") and owner.transport.has_eof
    owner.connection.data_received(b"answer")
    assert owner.connection.eof_received(), "the other direction goes on"
    assert (owner.said, owner.ends, owner.error) == (b"answer", 1, None)


async def test_half_close_of_a_relay_over_tls_ends_both_directions() -> None:
    """TLS has no half-close here."""
    owner = Owner(tls=True)
    owner.ask()
    owner.connection.data_received(SWITCH)
    owner.connection.send(b"last")
    owner.connection.send_eof()
    assert (await owner.transport.written()).endswith(b"last")
    assert owner.transport.is_closing()
    assert owner.ends == 1


async def test_relay_over_tls_ends_with_its_connection() -> None:
    owner = Owner(tls=True)
    owner.ask()
    owner.connection.data_received(SWITCH + b"bye")
    owner.connection.connection_lost(None)
    assert (owner.said, owner.ends) == (b"bye", 1)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_connection_that_was_idle_for_long_is_closed_not_used() -> None:
    """A backend that keeps connections for five seconds is about to close it."""
    owner = Owner()
    owner.ask()
    owner.connection.data_received(OK)
    assert owner.take(IDLE_TIMEOUT) is None
    assert owner.transport.is_closing()


@pytest.mark.parametrize(
    ("before", "untouched"),
    [(b"", True), (b"H", False), (b"HTTP/1.1 103 Early Hints\r\n\r\n", False)],
)
async def test_untouched_means_no_byte_of_an_answer(before: bytes, untouched: bool) -> None:
    owner = Owner()
    owner.ask()
    if before:
        owner.connection.data_received(before)
    owner.connection.connection_lost(ConnectionResetError())
    assert owner.error is not None
    assert owner.untouched is untouched


async def test_untouched_is_reset_for_each_request() -> None:
    owner = Owner()
    owner.ask()
    owner.connection.data_received(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert owner.take() is owner.connection
    owner.ask()
    owner.connection.connection_lost(None)
    assert owner.untouched and owner.connection.reused


async def test_careful_take_sees_an_unread_end() -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    options = ConnectOptions(
        UpstreamEndpoint("127.0.0.1", listener.getsockname()[1], secured=False)
    )
    pool = pool_of(options)
    owner = Waiting()
    pool.dial(owner)
    connection = await owner.dialled
    backend, _ = listener.accept()
    pool.put(connection)
    assert pool.take(loop.time(), careful=True) is connection
    pool.put(connection)
    backend.close()
    assert pool.take(loop.time(), careful=True) is None
    listener.close()
    while connection.transport is not None:
        await asyncio.sleep(0)


async def test_backend_that_closes_idle_connections_gets_new_ones_for_what_cannot_be_sent_twice() -> (
    None
):
    owner, now = Owner(), asyncio.get_running_loop().time()
    kept = [BackendConnection(owner.coalescer, owner.pool) for _ in range(2)]
    for connection in kept:
        FakeTransport(connection.as_protocol())
        owner.pool.put(connection)
    kept[0].connection_lost(None)
    assert owner.pool.take(now + HASTY - 1, careful=True) is None
    assert owner.take() is kept[1], "what can be sent again takes the risk"


@pytest.mark.parametrize("reused", [False, True])
async def test_close_that_crosses_a_request_marks_the_backend_of_a_kept_connection(
    reused: bool,
) -> None:
    owner, now = Owner(), asyncio.get_running_loop().time()
    if reused:
        owner.ask()
        owner.connection.data_received(OK)
        assert owner.take() is owner.connection
    owner.ask()
    owner.connection.connection_lost(None)
    assert owner.untouched
    assert (owner.pool.hasty_until > now) is reused


async def test_closing_connections_ourselves_marks_no_backend() -> None:
    owner, now = Owner(), asyncio.get_running_loop().time()
    FakeTransport(owner.connection.as_protocol())
    owner.pool.put(owner.connection)
    owner.pool.sweep(now + IDLE_TIMEOUT + 1)
    await asyncio.sleep(0)
    assert owner.connection.transport is None
    assert owner.pool.hasty_until < now


async def test_what_cannot_be_sent_twice_gets_only_a_connection_that_was_just_used() -> None:
    """The first early close of an idle connection comes without a warning."""
    owner, now = Owner(), asyncio.get_running_loop().time()
    FakeTransport(owner.connection.as_protocol())
    owner.pool.put(owner.connection)
    assert owner.pool.take(now + CAREFUL_IDLE + 0.1, careful=True) is None
    assert owner.take(CAREFUL_IDLE + 0.1) is owner.connection, "it stays for what can be sent again"


async def test_backend_that_closes_what_we_were_about_to_close_is_not_hasty() -> None:
    """The sweep runs once per second, so a backend with a timeout of five seconds may be faster."""
    owner, loop = Owner(), asyncio.get_running_loop()
    FakeTransport(owner.connection.as_protocol())
    owner.pool.put(owner.connection)
    owner.connection.idle_since = loop.time() - IDLE_TIMEOUT - 0.9
    owner.connection.connection_lost(None)
    assert owner.pool.hasty_until < loop.time()


# Answers that could be followed by something, and bytes that no request has asked for

NOTHING, ZERO, LENGTH, CHUNKED = (
    b"",
    b"Content-Length: 0\r\n",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
)
BODILESS = [
    (method, status)
    for method, status in itertools.product((b"GET", b"HEAD", b"POST"), (200, 204, 304, 404))
    if method == b"HEAD" or status in (204, 304)
]


@pytest.mark.parametrize("framing", [NOTHING, ZERO, LENGTH, CHUNKED])
@pytest.mark.parametrize(("method", "status"), BODILESS)
async def test_connection_is_kept_only_if_no_body_could_follow(
    method: bytes, status: int, framing: bytes
) -> None:
    """A faulty backend may answer HEAD with a body, as it answers GET."""
    owner = Owner()
    owner.ask(method)
    owner.connection.data_received(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, framing))
    kept = framing == ZERO or (framing == NOTHING and status in (204, 304))
    assert owner.ends == 1
    assert (owner.take() is owner.connection) is kept
    assert owner.transport.is_closing() is not kept
    await asyncio.sleep(0)
    assert owner.pool.hasty_until < asyncio.get_running_loop().time(), (
        "we closed it, not the backend"
    )


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
async def test_interim_answer_that_announces_a_body_is_not_trusted(framing: bytes) -> None:
    """The body could look like the final answer."""
    owner = Owner()
    owner.ask()
    owner.connection.data_received(b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % framing + OK)
    assert (owner.said, owner.ends) == (b"ok", 1)
    assert owner.take() is None
    assert owner.transport.is_closing()


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_bytes_behind_an_answer_close_the_connection(answer: bytes, at_once: bool) -> None:
    for cut in range(1, len(answer) + 1):
        owner = Owner()
        owner.ask()
        owner.connection.data_received(answer[:cut])
        if at_once:
            owner.connection.data_received(answer[cut:] + b"X")
        else:
            if cut < len(answer):
                owner.connection.data_received(answer[cut:])
            owner.connection.data_received(b"X")
        assert (owner.ends, owner.error) == (1, None)
        assert b"X" not in owner.said
        assert owner.transport.is_closing()
        assert owner.take() is None


async def test_bytes_that_are_read_before_the_request_is_written_are_no_answer() -> None:
    owner = Owner()
    owner.reuse()
    written = await owner.transport.written()
    owner.begin()
    owner.connection.data_received(OK)
    assert owner.error is not None and owner.untouched
    assert owner.unsent == [REQUEST]
    assert (owner.said, owner.ends) == (b"", 0)
    assert owner.transport.is_aborted
    assert written and not await owner.transport.written(), "the request was not written"


async def test_bytes_that_wait_when_the_request_is_written_are_no_answer() -> None:
    owner = Owner()
    owner.reuse()
    await owner.transport.written()
    owner.begin()
    owner.connection.send(b"body")
    owner.transport.unread = True
    owner.connection.flush()
    assert owner.error is not None and owner.untouched
    assert owner.unsent == [REQUEST, b"body"]
    assert owner.transport.is_aborted
    assert not await owner.transport.written(), "the request was not written"
    assert owner.pool.hasty_until > asyncio.get_running_loop().time()


@pytest.mark.parametrize(("unwritten", "accepted"), [(5, True), (6, False), (30, False)])
@pytest.mark.parametrize("later", [True, False])
async def test_bytes_that_arrive_while_the_head_is_being_written_are_no_answer(
    unwritten: int, accepted: bool, later: bool
) -> None:
    """The transport still has the end of the head, so the bytes cannot be an answer to it."""
    owner = Owner()
    owner.reuse()
    owner.begin(b"POST")
    if not later:
        owner.connection.send(b"12345")
    owner.transport.unwritten = unwritten - 5 if later else unwritten
    owner.connection.flush()
    if later:
        owner.transport.unwritten = unwritten
        owner.connection.send(b"12345")
        owner.connection.flush()
    owner.connection.data_received(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    assert (owner.error is None) is accepted
    assert owner.said == (b"no" if accepted else b"")
    if not accepted:
        assert owner.unsent == [], "the kernel may have taken bytes of the request"


async def test_head_that_took_several_turns_to_write_is_answered() -> None:
    owner = Owner()
    owner.reuse()
    owner.begin()
    owner.transport.unwritten = 9
    owner.connection.flush()
    owner.transport.unwritten = 0
    owner.connection.data_received(OK)
    assert (owner.said, owner.ends, owner.error) == (b"ok", 1, None)
    assert owner.take() is owner.connection


@pytest.mark.parametrize("held_by", ["connection", "transport"])
async def test_connection_whose_request_is_not_all_written_is_not_used_again(held_by: str) -> None:
    """A backend that does not read the rest takes it for the next request."""
    owner = Owner()
    owner.ask(b"POST")
    if held_by == "connection":
        owner.connection.send(b"GET /evil HTTP/1.1\r\n")
    else:
        owner.transport.unwritten = 1
    owner.connection.data_received(OK)
    assert owner.ends == 1
    assert owner.take() is None
    assert owner.transport.is_aborted


async def test_connection_that_ends_before_the_request_is_written_was_untouched() -> None:
    owner = Owner()
    owner.reuse()
    owner.begin()
    owner.connection.connection_lost(ConnectionResetError())
    assert owner.error is not None and owner.untouched
    owner.connection.flush()


async def test_request_is_not_written_behind_the_end_of_its_connection() -> None:
    owner = Owner()
    owner.reuse()
    await owner.transport.written()
    owner.begin()
    owner.connection.eof_received()
    owner.connection.flush()
    assert owner.error is not None and owner.untouched
    assert owner.unsent == [REQUEST]
    assert not await owner.transport.written()


@pytest.mark.parametrize("careful", [True, False])
async def test_backend_that_sends_bytes_on_an_idle_connection(careful: bool) -> None:
    """Requests that cannot be repeated get new connections, as if the backend closes idle ones."""
    owner, now = Owner(), asyncio.get_running_loop().time()
    other = BackendConnection(owner.coalescer, owner.pool)
    FakeTransport(other.as_protocol())
    owner.pool.put(other)
    FakeTransport(owner.connection.as_protocol())
    owner.pool.put(owner.connection)
    owner.connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    await asyncio.sleep(0)
    assert owner.connection.transport is None
    assert owner.pool.take(now, careful=careful) is (None if careful else other)


# Connections that are being opened


@pytest.fixture
def clogged() -> Iterator[ConnectOptions]:
    """A backend whose machine accepts nothing."""
    backend = UnresponsivePort()
    yield ConnectOptions(
        UpstreamEndpoint("127.0.0.1", backend.port, secured=False), connect_timeout=0.3
    )
    backend.close()


@pytest.fixture
def listening() -> Iterator[ConnectOptions]:
    """A backend whose machine accepts everything."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield ConnectOptions(
            UpstreamEndpoint("127.0.0.1", listener.getsockname()[1], secured=False)
        )


async def ended(pool: BackendPool, connections: list[BackendConnection]) -> None:
    for connection in connections:
        connection.abort()
    await eventually(lambda: not pool.open, "the connections are closed", interval=0)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_dials_of_a_pool_are_bounded(clogged: ConnectOptions) -> None:
    pool, before = pool_of(clogged), descriptors()
    owners = [Waiting() for _ in range(2 * MAX_DIALS + 10)]
    began_at = asyncio.get_running_loop().time()
    for owner in owners:
        pool.dial(owner)
    await asyncio.sleep(0)
    assert pool.dialling == MAX_DIALS
    assert not pool.withdraw(owners[0]), "its dial is under way, and it hears of that"
    assert pool.withdraw(owners[-1])
    assert not pool.withdraw(owners[-1])
    for turn in range(3):
        some = owners[turn * MAX_DIALS : (turn + 1) * MAX_DIALS]
        errors = await asyncio.gather(
            *(owner.dialled for owner in some if owner is not owners[-1]), return_exceptions=True
        )
        assert {type(error) for error in errors} == {ConnectTimeout}
        # Each had its own time, from when it was dialled.
        assert asyncio.get_running_loop().time() - began_at >= (turn + 1) * 0.3 - 0.05
        assert descriptors() - before <= MAX_DIALS + 4, "and a few of the loop"
        assert pool.dialling <= MAX_DIALS
    assert not owners[-1].dialled.done()
    assert pool.dialling == 0


async def test_a_standstill_of_this_process_is_no_connect_timeout(
    listening: ConnectOptions,
) -> None:
    pool, owner = pool_of(replace(listening, connect_timeout=0.3)), Waiting()
    pool.dial(owner)
    await asyncio.sleep(0)  # the dial has begun
    time.sleep(0.5)
    connection = await owner.dialled
    assert connection.usable
    connection.close()


async def test_unneeded_connection_serves_the_next_request(listening: ConnectOptions) -> None:
    pool, owner = pool_of(listening), Waiting()
    pool.dial(owner)
    (await owner.dialled).release()
    assert pool.take(asyncio.get_running_loop().time(), careful=True) is owner.dialled.result()
    await ended(pool, [owner.dialled.result()])


async def test_backend_may_have_as_many_connections_as_are_left_for_all(
    listening: ConnectOptions,
) -> None:
    budget = DescriptorBudget(6)
    pools = [pool_of(listening, budget) for _ in range(2)]

    async def dial(pool: BackendPool) -> BackendConnection:
        owner = Waiting()
        pool.dial(owner)
        return await owner.dialled

    connections = [await dial(pools[0]) for _ in range(3)]
    for _ in range(2):
        with pytest.raises(UpstreamsBusy, match="3 connections"):
            await dial(pools[0])
    connections.append(await dial(pools[1]))
    assert budget.used == 4, "what was refused takes no descriptor"
    probe = Waiting()
    pools[0].dial(probe, probe=True)
    connections.append(await probe.dialled)
    for pool in pools:
        await ended(pool, connections)
    assert budget.used == 0
    await ended(pools[0], [await dial(pools[0])])


async def test_lack_of_descriptors_is_not_a_backend_failure(listening: ConnectOptions) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    pool, owner = pool_of(listening), Waiting()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        pool.dial(owner)
        with pytest.raises(UpstreamsBusy, match="descriptors"):
            await owner.dialled
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_budget_of_a_process_leaves_descriptors_for_everything_else() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert DescriptorBudget.of_process().limit == limit - RESERVED_DESCRIPTORS


async def test_name_that_cannot_be_looked_up_fails_the_dial() -> None:
    pool, owner = (
        pool_of(ConnectOptions(UpstreamEndpoint("a" * 64 + ".example", 80, secured=False))),
        Waiting(),
    )
    pool.dial(owner)
    with pytest.raises(UpstreamUnreachable):
        await owner.dialled
    assert pool.dialling == 0


class TlsBackend:
    """A backend with TLS for a name, whose first address accepts nothing.

    Attributes:
        resolves: set when the name has an address.
    """

    NAME = "backend.example"

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = ForeignCertificate.root()
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(*root.issue(self.NAME, dns=(self.NAME,)).store(folder, "b"))
        self.client_tls = ssl.create_default_context(cadata=root.pem.decode())
        self.resolves = threading.Event()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, *others: Any) -> list[Any]:
        if host != self.NAME:
            return self._real(host, port, *others)
        if others[-1] & socket.AI_NUMERICHOST:
            raise socket.gaierror
        self.resolves.wait(60)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]

    async def dial(self, port: int, tls: ssl.SSLContext, connect_timeout: float) -> None:
        """Connect to it and close the connection."""
        endpoint = UpstreamEndpoint(self.NAME, port, secured=True)
        options = ConnectOptions(endpoint, tls=tls, connect_timeout=connect_timeout)
        pool, owner = pool_of(options), Waiting()
        pool.dial(owner)
        await ended(pool, [await owner.dialled])


@pytest.fixture
def tls_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsBackend]:
    made = TlsBackend(tmp_path, monkeypatch)
    yield made
    made.resolves.set()


def test_tls_backend_with_a_name_is_reached_at_an_address_that_accepts(
    tls_backend: TlsBackend,
) -> None:
    tls_backend.resolves.set()

    async def main() -> None:
        async with await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls_backend.tls
        ) as server:
            port = server.sockets[0].getsockname()[1]
            await tls_backend.dial(port, tls_backend.client_tls, 20)
            with pytest.raises(UpstreamUnreachable, match="certificate not trusted"):
                await tls_backend.dial(port, ssl.create_default_context(), 20)
        with pytest.raises(UpstreamUnreachable, match="connection refused"):
            await tls_backend.dial(port, tls_backend.client_tls, 20)

    run(main())


def test_component_ends_while_the_name_of_a_tls_backend_is_looked_up(
    tls_backend: TlsBackend,
) -> None:
    async def main() -> None:
        with pytest.raises(ConnectTimeout):
            await tls_backend.dial(443, tls_backend.client_tls, 0.05)

    run(main())
