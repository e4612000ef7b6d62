"""Tests of zerotrust.net.http_server, without a network."""

import asyncio

import pytest

from tests.support.transport import FakeTransport
from zerotrust.errors import LocalProtocolError
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.net.http_server import (
    DRAIN_TIMEOUT,
    HEAD_TIMEOUT,
    IDLE_TIMEOUT,
    MAX_AHEAD_BYTES,
    MAX_DRAIN_BYTES,
    HttpServerConnection,
    RequestSink,
)
from zerotrust.net.write_coalescer import READ_BYTES, WriteCoalescer

pytestmark = pytest.mark.anyio

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat/1\r\n"
GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n%b\r\n"


class Owner:
    """Answers 404 to /no at once; the test answers all other requests."""

    def __init__(self) -> None:
        self.connection = HttpServerConnection(
            WriteCoalescer(asyncio.get_running_loop()), self, set()
        )
        self.transport = FakeTransport(self.connection.as_protocol())
        self.targets: list[bytes] = []
        self.framing: tuple[Kind, int] | None = None
        self.said = self.trailers = b""
        self.ended = self.is_aborted = False

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        self.targets.append(head.target)
        self.framing = framing
        if head.target == b"/no":
            connection.reply(NOT_FOUND, close=not connection.reusable())
            return None
        return self

    def body(self, data: bytes, *, end: bool) -> None:
        assert not self.ended
        self.said += data
        self.ended = end

    def body_trailers(self, fields: bytes) -> None:
        self.trailers = fields
        self.ended = True

    def aborted(self) -> None:
        self.is_aborted = True

    def drained(self) -> None:
        pass

    async def hear(self, data: bytes) -> bytes:
        """Return the answer to these bytes."""
        self.connection.data_received(data)
        return await self.transport.written()


async def test_pipelined_request_after_one_that_was_refused() -> None:
    owner = Owner()
    assert await owner.hear(GET % b"no" + GET % b"no" + GET % b"yes") == NOT_FOUND * 2
    assert owner.targets == [b"/no", b"/no", b"/yes"]


async def test_announced_close_is_honoured() -> None:
    """The answer starts before the request's end, so it announces close; both complete."""
    owner = Owner()
    await owner.hear(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    owner.connection.respond(OK, 200, Kind.LENGTH, 2, announce=False)
    assert b"Connection: close\r\n" in await owner.hear(b"cd")
    owner.connection.respond_data(b"ok", end=True)
    assert owner.transport.is_closing()


async def test_upgrade_with_a_length_of_0() -> None:
    owner = Owner()
    await owner.hear(UPGRADE % b"Content-Length: 0\r\n")
    assert owner.framing == (Kind.NONE, 0)


async def test_upgrade_is_not_granted_to_a_client_that_has_half_closed() -> None:
    owner = Owner()
    await owner.hear(UPGRADE % b"")
    assert owner.connection.eof_received()
    owner.connection.respond(OK, 200, Kind.LENGTH, 2, announce=False)
    owner.connection.respond_data(b"ok", end=True)
    assert (await owner.transport.written()).endswith(
        b"Connection: close\r\nContent-Length: 2\r\n\r\nok"
    )
    assert owner.transport.is_closing()


@pytest.mark.parametrize("first", ["client", "backend"])
async def test_a_relay_ends_with_both_directions(first: str) -> None:
    owner = Owner()
    await owner.hear(UPGRADE % b"" + b"ahead")
    owner.connection.respond(SWITCH, 101, Kind.TUNNEL, 0, announce=False)
    await owner.hear(b" and behind")
    if first == "client":
        assert owner.connection.eof_received()
        owner.connection.respond_data(b"bye", end=True)
        assert owner.transport.is_closing()
    else:
        owner.connection.respond_data(b"bye", end=True)
        assert not owner.transport.is_closing()
        assert not owner.connection.eof_received(), "the transport has to close"
    assert (await owner.transport.written()).endswith(b"bye")
    owner.connection.connection_lost(None)
    assert owner.said == b"ahead and behind"
    assert owner.ended and not owner.is_aborted


def read_ahead(owner: Owner, first: bytes) -> int:
    """Let the connection read until it pauses; return the number of buffered bytes."""
    owner.connection.data_received(first + bytes(READ_BYTES - len(first)))
    while owner.transport.is_reading():
        owner.connection.data_received(bytes(READ_BYTES))
    return len(owner.connection.buffer)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(GET % b"yes", id="behind a request"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", id="behind a body"
        ),
        pytest.param(UPGRADE % b"", id="behind an upgrade"),
    ],
)
async def test_bytes_ahead_are_bounded_and_read_later(first: bytes) -> None:
    owner = Owner()
    assert read_ahead(owner, first) <= MAX_AHEAD_BYTES
    if b"Upgrade" in first:
        owner.connection.respond(SWITCH, 101, Kind.TUNNEL, 0, announce=False)
        assert owner.transport.is_reading()


async def test_bytes_ahead_of_many_requests_are_bounded_at_each() -> None:
    owner = Owner()
    owner.connection.data_received((GET % b"yes") * (READ_BYTES // len(GET % b"yes")))
    for _ in range(100):
        await owner.transport.written()
        while owner.transport.is_reading():
            owner.connection.data_received((GET % b"yes") * (READ_BYTES // len(GET % b"yes")))
        assert len(owner.connection.buffer) <= MAX_AHEAD_BYTES
        owner.connection.respond(OK, 200, Kind.LENGTH, 0, announce=False)
    before, answered = len(owner.targets), 100
    while len(owner.connection.buffer) > 64 * 1024:
        await owner.transport.written()
        owner.connection.respond(OK, 200, Kind.LENGTH, 0, announce=False)
        answered += 1
    await owner.transport.written()
    assert owner.transport.is_reading(), "room again"
    assert len(owner.targets) == before + answered - 100 + 1


async def test_bytes_before_the_end_of_a_relay_arrive() -> None:
    owner = Owner()
    await owner.hear(UPGRADE % b"")
    owner.connection.respond(SWITCH, 101, Kind.TUNNEL, 0, announce=False)
    owner.connection.respond_data(b"bye")
    owner.connection.break_off()
    assert owner.transport.output.endswith(b"bye")
    assert owner.transport.is_aborted


async def test_body_that_ends_with_the_connection_breaks_off_with_a_reset() -> None:
    owner = Owner()
    await owner.hear(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    owner.connection.respond(OK, 200, Kind.CHUNKED, 0, announce=False)
    owner.connection.respond_data(b"half")
    owner.connection.break_off()
    assert owner.transport.resets


async def test_an_interim_response_is_only_for_http_1_1() -> None:
    for minor, line in ((0, b""), (1, b"HTTP/1.1 103 Early Hints\r\n\r\n")):
        owner = Owner()
        await owner.hear(b"GET / HTTP/1.%d\r\nHost: a\r\n\r\n" % minor)
        owner.connection.respond_interim(b"HTTP/1.1 103 Early Hints\r\n")
        assert await owner.transport.written() == line


async def test_a_response_that_the_client_would_misread_is_not_sent() -> None:
    owner = Owner()
    await owner.hear(GET % b"yes")
    for status, kind, message in (
        (204, Kind.LENGTH, "status 204 to GET with a body"),
        (101, Kind.TUNNEL, "status 101 to a request without Upgrade"),
    ):
        with pytest.raises(LocalProtocolError, match=message):
            owner.connection.respond(OK, status, kind, 0, announce=False)
    assert await owner.transport.written() == b""
    assert not owner.connection.responded


async def test_a_relay_of_a_client_that_has_half_closed_ends_its_direction() -> None:
    owner = Owner()
    await owner.hear(UPGRADE % b"" + b"all")
    assert owner.connection.eof_received()
    owner.connection.respond(SWITCH, 101, Kind.TUNNEL, 0, announce=False)
    assert (owner.said, owner.ended) == (b"all", True)


async def test_what_comes_after_the_end_of_a_relay_is_ignored() -> None:
    owner = Owner()
    await owner.hear(UPGRADE % b"")
    owner.connection.respond(SWITCH, 101, Kind.TUNNEL, 0, announce=False)
    owner.connection.finish()
    owner.connection.data_received(b"late")
    owner.connection.eof_received()
    owner.connection.resume_writing()
    owner.connection.connection_lost(None)
    assert owner.said == b""
    assert not owner.ended and not owner.is_aborted


async def test_a_head_that_does_not_end_is_answered_with_408() -> None:
    owner = Owner()
    now = asyncio.get_running_loop().time()
    await owner.hear(b"GET / HTTP/1.1\r\n")
    owner.connection.sweep(now + HEAD_TIMEOUT - 1)
    assert await owner.transport.written() == b""
    owner.connection.sweep(now + HEAD_TIMEOUT + 1)
    assert (await owner.transport.written()).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_is_closed() -> None:
    owner = Owner()
    now = asyncio.get_running_loop().time()
    owner.connection.sweep(now + IDLE_TIMEOUT - 1)
    assert not owner.transport.is_closing()
    owner.connection.sweep(now + IDLE_TIMEOUT + 1)
    assert owner.transport.is_closing()
    assert await owner.transport.written() == b""


async def test_a_client_that_does_not_close_after_the_last_answer_is_cut_off() -> None:
    late, talkative = Owner(), Owner()
    for owner in (late, talkative):
        await owner.hear(b"POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        assert not owner.transport.is_aborted
    late.connection.sweep(asyncio.get_running_loop().time() + DRAIN_TIMEOUT + 1)
    assert late.transport.is_aborted
    talkative.connection.data_received(bytes(MAX_DRAIN_BYTES))
    assert not talkative.transport.is_aborted
    talkative.connection.data_received(b"x")
    assert talkative.transport.is_aborted


async def test_a_request_in_progress_hears_that_the_client_is_gone() -> None:
    owner = Owner()
    await owner.hear(GET % b"yes")
    owner.connection.connection_lost(ConnectionResetError())
    assert owner.is_aborted


@pytest.mark.parametrize("responded", [False, True])
async def test_a_body_that_breaks_its_framing_ends_the_request(responded: bool) -> None:
    owner = Owner()
    await owner.hear(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    if responded:
        owner.connection.respond(OK, 200, Kind.LENGTH, 2, announce=False)
        await owner.transport.written()
    answer = await owner.hear(b"no chunk\r\n")
    assert owner.is_aborted and not owner.ended
    assert owner.transport.is_aborted is responded
    assert answer[:13] == (b"" if responded else b"HTTP/1.1 400 ")


async def test_trailers_of_a_request_reach_the_sink_after_the_body() -> None:
    owner = Owner()
    await owner.hear(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n0\r\nA: b\r\n\r\n"
    )
    assert (owner.said, owner.trailers, owner.ended) == (b"ab", b"A: b\r\n", True)
