"""A backend's connection without a network: when it is used again, and what its end means."""

import asyncio
import socket

import pytest

from tests.kits.transport import FakeTransport
from zerotrust.errors import ForwardError
from zerotrust.http.body import Kind
from zerotrust.http.head import ResponseHead
from zerotrust.model.upstream import Endpoint
from zerotrust.net.flush import Flusher
from zerotrust.net.http_client import CAREFUL_IDLE, HASTY, IDLE_TIMEOUT, BackendConnection, BackendPool, Reach
from zerotrust.net.tasks import Tasks

pytestmark = pytest.mark.anyio

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n"


class Owner:
    """Sends one request after the other; takes nothing more than it has after each piece of a body."""

    def __init__(self, *, tls: bool = False) -> None:
        flusher = Flusher(asyncio.get_running_loop())
        self.pool = BackendPool(Reach(Endpoint("a", 1, False)), flusher=flusher, tasks=Tasks())
        self.connection = BackendConnection(flusher, self.pool)
        self.transport = FakeTransport(self.connection, tls=tls)
        self.said = b""
        self.ends = 0
        self.error: ForwardError | None = None

    def ask(self) -> None:
        self.connection.begin(self, b"GET")
        self.connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    def take(self, after: float = 0.0) -> BackendConnection | None:
        return self.pool.take(asyncio.get_running_loop().time() + after, careful=False)

    def response_interim(self, head: ResponseHead) -> None: ...

    def response(self, head: ResponseHead, framing: tuple[Kind, int]) -> None:
        self.tunnelled = framing[0] is Kind.TUNNEL

    def body(self, data: bytes, *, end: bool) -> None:
        self.said += data
        self.connection.pause_reading()
        self.ends += end
        if end and not self.tunnelled:
            self.connection.release()

    def body_trailers(self, fields: bytes) -> None:
        self.ends += 1
        self.connection.release()

    def failed(self, error: ForwardError, *, untouched: bool) -> None:
        self.error = error
        self.untouched = untouched

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
    """There is no such thing over TLS here."""
    owner = Owner(tls=True)
    owner.ask()
    owner.connection.data_received(SWITCH)
    owner.connection.send(b"last")
    owner.connection.send_eof()
    assert (await owner.transport.written()).endswith(b"last")
    assert owner.transport.is_closing()
    assert owner.ends == 1


async def test_relay_over_tls_that_ends_without_a_word_has_ended() -> None:
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
    ("before", "untouched"), [(b"", True), (b"H", False), (b"HTTP/1.1 103 Early Hints\r\n\r\n", False)]
)
async def test_whether_a_byte_of_an_answer_came(before: bytes, untouched: bool) -> None:
    owner = Owner()
    owner.ask()
    if before:
        owner.connection.data_received(before)
    owner.connection.connection_lost(ConnectionResetError())
    assert owner.error is not None
    assert owner.untouched is untouched


async def test_whether_a_byte_came_is_asked_for_each_request() -> None:
    owner = Owner()
    owner.ask()
    owner.connection.data_received(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert owner.take() is owner.connection
    owner.ask()
    owner.connection.connection_lost(None)
    assert owner.untouched and owner.connection.reused


async def test_end_that_the_loop_has_not_told_of_yet_is_seen_by_who_is_careful() -> None:
    loop, flusher = asyncio.get_running_loop(), Flusher(asyncio.get_running_loop())
    listener = socket.create_server(("127.0.0.1", 0))
    reach = Reach(Endpoint("127.0.0.1", listener.getsockname()[1], secured=False))
    pool = BackendPool(reach, flusher=flusher, tasks=Tasks())
    dialled: asyncio.Future[BackendConnection] = loop.create_future()
    pool.dial(dialled.set_result, dialled.set_exception)
    connection = await dialled
    backend, _ = listener.accept()
    pool.put(connection)
    assert pool.take(loop.time(), careful=True) is connection
    pool.put(connection)
    backend.close()
    assert pool.take(loop.time(), careful=True) is None
    listener.close()
    while connection.transport is not None:
        await asyncio.sleep(0)


async def test_backend_that_closes_idle_connections_gets_new_ones_for_what_cannot_be_sent_twice() -> None:
    owner, now = Owner(), asyncio.get_running_loop().time()
    kept = [BackendConnection(owner.connection._flusher, owner.pool) for _ in range(2)]
    for connection in kept:
        FakeTransport(connection.as_protocol())
        owner.pool.put(connection)
    kept[0].connection_lost(None)
    assert owner.pool.take(now + HASTY - 1, careful=True) is None
    assert owner.take() is kept[1], "what can be sent again takes the risk"


async def test_connections_that_we_close_say_nothing_about_the_backend() -> None:
    owner, now = Owner(), asyncio.get_running_loop().time()
    FakeTransport(owner.connection.as_protocol())
    owner.pool.put(owner.connection)
    owner.pool.sweep(now + IDLE_TIMEOUT + 1)
    await asyncio.sleep(0)
    assert owner.connection.transport is None
    assert owner.pool._hasty_until < now


async def test_what_cannot_be_sent_twice_gets_only_a_connection_that_was_just_used() -> None:
    """The first time that a backend closes an idle connection nobody was warned."""
    owner, now = Owner(), asyncio.get_running_loop().time()
    FakeTransport(owner.connection.as_protocol())
    owner.pool.put(owner.connection)
    assert owner.pool.take(now + CAREFUL_IDLE + 0.1, careful=True) is None
    assert owner.take(CAREFUL_IDLE + 0.1) is owner.connection, "it stays for what can be sent again"


async def test_backend_that_closes_what_we_were_about_to_close_is_not_hasty() -> None:
    """We look once a second: a backend that waits for five seconds is sometimes faster."""
    owner, loop = Owner(), asyncio.get_running_loop()
    FakeTransport(owner.connection.as_protocol())
    owner.pool.put(owner.connection)
    owner.connection.idle_since = loop.time() - IDLE_TIMEOUT - 0.9
    owner.connection.connection_lost(None)
    assert owner.pool._hasty_until < loop.time()
