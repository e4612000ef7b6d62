"""Tests of traffic shaping between a client connection and the tunnel."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.server.proxy_fixture import ProxyFixture
from zerotrust.limits.shaper import burst_of, turn_of
from zerotrust.server.proxy.shaping import ShapedRelay
from zerotrust.tunnel.codes import KIND_CHUNKED, KIND_LENGTH, KIND_TUNNEL, Code

pytestmark = pytest.mark.anyio

RATE = 20_000
BURST = int(burst_of(RATE))
TURN = turn_of(RATE)
OK = b"HTTP/1.1 200 OK\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\n"


class Timer:
    """A call that is due."""

    def __init__(self, at: float, call: Callable[..., None], *words: Any) -> None:
        self.at, self.call, self.words = at, call, words
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Stands for the loop where it is asked for the time and for timers."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[..., None], *words: Any) -> Timer:
        assert at > self.now
        self.timers.append(Timer(at, call, *words))
        return self.timers[-1]

    def due(self, until: float) -> Timer | None:
        live = [timer for timer in self.timers if not timer.cancelled and timer.at <= until]
        return min(live, key=lambda timer: timer.at, default=None)


class Shaped(ProxyFixture):
    """A front whose clock the test moves."""

    def __init__(self, policy: dict[str, Any]) -> None:
        super().__init__(policy)
        self.clock = Clock()
        self.ingress._loop = self.clock  # type: ignore[assignment]

    async def wait(self, seconds: float) -> bytes:
        """Advance the clock; return the bytes that the client gets meanwhile."""
        end, heard = self.clock.now + seconds, b""
        while (timer := self.clock.due(end)) is not None:
            self.clock.timers.remove(timer)
            self.clock.now = max(self.clock.now, timer.at)
            timer.call(*timer.words)
            heard += await self.hear()
        assert len([timer for timer in self.clock.timers if not timer.cancelled]) <= 2
        self.clock.now = end
        return heard + await self.hear()

    async def say(self, data: bytes, *, end: bool = False) -> bytes:
        """The agent sends; what the client gets at once."""
        self.agent.session.send_data(self.last[0], data, end=end)
        return await self.hear()

    async def switch(self) -> None:
        """An upgraded connection."""
        await self.ask("GET /", "Connection: Upgrade", "Upgrade: chat")
        assert (await self.answer(SWITCH, kind=KIND_TUNNEL)).startswith(b"HTTP/1.1 101 ")


def shaped(**limits: str) -> Shaped:
    return Shaped({"traffic_shaping": limits})


def down(**limits: str) -> Shaped:
    return shaped(download_limit="20kB/s", **limits)


def up(**limits: str) -> Shaped:
    return shaped(upload_limit="20kB/s", **limits)


def numbers(size: int) -> bytes:
    return b"".join(b"%06d\n" % number for number in range(size // 7 + 1))[:size]


def body_of(said: bytes) -> bytes:
    return said.partition(b"\r\n\r\n")[2]


# The way down


async def test_an_answer_comes_at_the_rate_and_whole() -> None:
    proxy = down()
    await proxy.ask("GET /")
    content = numbers(100_000)
    said = await proxy.answer(OK, kind=KIND_LENGTH, body=content)
    assert len(body_of(said)) == pytest.approx(BURST, abs=TURN)
    seconds = 0
    while len(body_of(said)) < len(content):
        seconds += 1
        said += await proxy.wait(1)
        assert len(body_of(said)) <= BURST + seconds * RATE + 1
        assert proxy.pair.server.session.unconsumed <= 64 * 1024, (
            "the window is all that waits here"
        )
    assert seconds == pytest.approx((len(content) - BURST) / RATE, abs=1)
    assert body_of(said) == content
    assert proxy.pair.server.session.unconsumed == 0
    assert not proxy.pair.server.session.streams
    assert await proxy.ask("GET /again") == b""
    assert len(proxy.opened) == 2


async def test_small_answers_pass_at_once() -> None:
    proxy = down()
    for _ in range(3):
        await proxy.ask("GET /")
        assert (await proxy.answer(OK, kind=KIND_LENGTH, body=b"hello")).endswith(b"\r\n\r\nhello")
    assert not proxy.clock.timers


async def test_an_answer_without_body_passes_at_once() -> None:
    proxy = down()
    await proxy.ask("GET /")
    assert (await proxy.answer(b"HTTP/1.1 204 No Content\r\n")).startswith(b"HTTP/1.1 204 ")


async def test_trailers_come_behind_the_body() -> None:
    proxy = down()
    await proxy.ask("GET /", "TE: trailers")
    said = await proxy.answer(OK, kind=KIND_CHUNKED, body=bytes(30_000))
    proxy.agent.session.send_trailers(proxy.last[0], b"X-Checksum: 1\r\n")
    said += await proxy.hear()
    assert b"X-Checksum" not in said
    said += await proxy.wait(2)
    assert said.endswith(b"\r\n0\r\nX-Checksum: 1\r\n\r\n")


async def test_an_end_that_waits_survives_the_stream() -> None:
    """The agent stops the upload: a reset that comes first does not cut the answer."""
    proxy = down()
    await proxy.ask("POST /", "Transfer-Encoding: chunked")
    stream, _ = proxy.last
    said = await proxy.answer(OK, kind=KIND_LENGTH, body=numbers(30_000))
    proxy.agent.session.reset(stream, Code.NO_ERROR, "the answer is complete")
    said += await proxy.hear()
    proxy.connection.data_received(b"5\r\nhello\r\n")
    assert not proxy.transport.is_reading(), "what nobody wants is not read either"
    said += await proxy.wait(3)
    assert body_of(said) == numbers(30_000)
    assert not proxy.transport.is_aborted


async def test_a_whole_answer_survives_the_tunnel() -> None:
    proxy = down()
    await proxy.ask("POST /", "Transfer-Encoding: chunked")
    said = await proxy.answer(OK, kind=KIND_LENGTH, body=numbers(30_000))
    proxy.pair.server.session.close(Code.GOING_AWAY, "pulled the plug")
    said += await proxy.wait(3)
    assert body_of(said) == numbers(30_000)


async def test_an_answer_that_breaks_off_does_so_at_once() -> None:
    proxy = down()
    await proxy.ask("GET /")
    stream, _ = proxy.last
    await proxy.answer(OK, kind=KIND_CHUNKED)
    await proxy.say(bytes(30_000))
    proxy.agent.session.reset(stream, Code.UPSTREAM_FAILED, "gone")
    await proxy.hear()
    assert proxy.transport.is_aborted
    assert await proxy.wait(10) == b""


async def test_a_client_that_leaves_uses_nothing_up() -> None:
    proxy = down()
    await proxy.ask("GET /")
    _, sink = proxy.last
    await proxy.answer(OK, kind=KIND_LENGTH, body=bytes(100_000))
    proxy.transport.abort()
    await proxy.hear()
    proxy.pair.pump()
    assert sink.over is not None
    assert sink.over[0] is Code.CANCELLED
    await proxy.wait(1)
    proxy.connect()
    await proxy.ask("GET /")
    said = await proxy.answer(OK, kind=KIND_LENGTH, body=bytes(10_000))
    assert len(body_of(said)) == 10_000


async def test_two_share_and_another_service_does_not() -> None:
    proxy = down()
    heard = []
    transports = []
    for _ in range(2):
        await proxy.ask("GET /")
        heard.append(body_of(await proxy.answer(OK, kind=KIND_LENGTH, body=bytes(60_000))))
        transports.append(proxy.transport)
        proxy.connect()
    await proxy.wait(2)
    more = [len(await transport.written()) for transport in transports]
    assert sum(more) == pytest.approx(2 * RATE, rel=0.1)
    assert max(more) - min(more) <= TURN
    proxy.register({"max_request_body": "1MB"})
    await proxy.ask("GET /")
    assert len(body_of(await proxy.answer(OK, kind=KIND_LENGTH, body=bytes(60_000)))) == 60_000


async def test_each_client_has_a_limit_of_its_own() -> None:
    proxy = shaped(per_ip_limit="20kB/s")
    got: dict[str, list[int]] = {}
    for client in ("203.0.113.7", "203.0.113.8", "203.0.113.7"):
        proxy.connect()
        await proxy.ask("GET /", client=client)
        said = await proxy.answer(OK, kind=KIND_LENGTH, body=bytes(60_000))
        got.setdefault(client, []).append(len(body_of(said)))
    assert got["203.0.113.8"] == [got["203.0.113.7"][0]]
    assert got["203.0.113.7"][1] <= TURN


# The way up


async def test_a_request_goes_at_the_rate_and_whole() -> None:
    proxy = up()
    content = numbers(100_000)
    await proxy.ask("POST /", f"Content-Length: {len(content)}")
    stream, sink = proxy.last
    sent = 0
    seconds = 0.0
    while sent < len(content):
        if proxy.transport.is_reading():
            proxy.connection.data_received(content[sent : sent + 8192])
            sent += 8192
            await proxy.hear()
        else:
            seconds += 0.05
            await proxy.wait(0.05)
        proxy.agent.session.consumed(stream, stream.window.unconsumed, proxy.clock.now)
        assert len(sink.body) <= BURST + seconds * RATE + 1
    await proxy.wait(1)
    assert sink.body == content
    assert sink.ended
    assert seconds == pytest.approx((len(content) - BURST) / RATE, rel=0.15)
    assert proxy.transport.is_reading()
    assert (await proxy.answer(b"HTTP/1.1 204 No Content\r\n")).startswith(b"HTTP/1.1 204 ")


async def test_trailers_go_behind_the_body() -> None:
    proxy = up()
    body = b"7530\r\n" + bytes(30_000) + b"\r\n0\r\nX-Checksum: 1\r\n\r\n"
    await proxy.ask("POST /", "Transfer-Encoding: chunked", "Trailer: X-Checksum", body=body)
    _, sink = proxy.last
    assert not sink.trailer
    await proxy.wait(2)
    assert (len(sink.body), sink.trailer) == (30_000, b"X-Checksum: 1\r\n")
    small = b"1\r\nx\r\n0\r\nX-Checksum: 1\r\n\r\n"
    await proxy.answer(b"HTTP/1.1 204 No Content\r\n")
    await proxy.wait(1)
    await proxy.ask("POST /", "Transfer-Encoding: chunked", body=small)
    assert proxy.last[1].trailer == b"X-Checksum: 1\r\n"


async def test_an_early_answer_ends_the_request_and_the_next_one_goes_on() -> None:
    proxy = up()
    await proxy.ask("POST /", "Content-Length: 60000", body=bytes(60_000))
    assert not proxy.transport.is_reading()
    _, sink = proxy.last
    said = await proxy.answer(OK, kind=KIND_LENGTH, body=b"enough")
    assert said.endswith(b"enough")
    assert b"Connection: close" not in said
    assert await proxy.ask("GET /next") == b""
    await proxy.wait(5)
    assert sink.over is not None
    assert proxy.transport.is_reading()
    assert len(sink.body) < 60_000
    assert (await proxy.answer(b"HTTP/1.1 204 No Content\r\n")).startswith(b"HTTP/1.1 204 ")


async def test_a_body_that_grows_too_large_while_it_waits() -> None:
    proxy = Shaped({"traffic_shaping": {"upload_limit": "20kB/s"}, "max_request_body": "20kB"})
    await proxy.ask(
        "POST /", "Transfer-Encoding: chunked", body=b"7530\r\n" + bytes(30_000) + b"\r\n"
    )
    said = await proxy.wait(2)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert len(proxy.agent.sinks[2].body) <= 20_000


async def test_reading_goes_on_when_the_tunnel_takes_more() -> None:
    proxy = shaped(upload_limit="10MB/s")
    await proxy.ask("POST /", "Content-Length: 1000000")
    stream = proxy.pair.server.session.streams[2]
    for _ in range(5):
        proxy.connection.data_received(
            bytes(65_536)
        )  # the agent's window is 64 KiB, and it consumes nothing
    await proxy.wait(1)
    assert stream.blocked
    assert not proxy.transport.is_reading()
    agent, sink = proxy.last
    proxy.agent.session.consumed(agent, len(sink.body), proxy.clock.now)
    await proxy.hear()
    while stream.blocked:
        proxy.agent.session.consumed(agent, agent.window.unconsumed, proxy.clock.now)
        await proxy.hear()
    assert proxy.transport.is_reading()


async def test_only_one_way_is_limited() -> None:
    proxy = up()
    await proxy.ask("GET /")
    assert len(body_of(await proxy.answer(OK, kind=KIND_LENGTH, body=bytes(60_000)))) == 60_000
    proxy = down()
    await proxy.ask("POST /", "Content-Length: 60000", body=bytes(60_000))
    assert len(proxy.last[1].body) == 60_000
    assert proxy.last[1].ended


# Upgraded connections


async def test_an_upgraded_connection_both_ways() -> None:
    proxy = shaped(upload_limit="20kB/s", download_limit="20kB/s")
    await proxy.switch()
    _, sink = proxy.last
    proxy.connection.data_received(numbers(40_000))
    said = await proxy.say(numbers(40_000))
    assert 0 < len(sink.body) <= BURST
    assert 0 < len(said) <= BURST
    said += await proxy.wait(3)
    assert bytes(sink.body) == said == numbers(40_000)
    assert proxy.transport.is_reading()
    proxy.connection.eof_received()
    await proxy.hear()
    assert sink.ended
    assert await proxy.say(b"bye", end=True) == b"bye"


async def test_halves_close_behind_what_waits() -> None:
    proxy = shaped(upload_limit="20kB/s", download_limit="20kB/s")
    await proxy.switch()
    _, sink = proxy.last
    proxy.connection.data_received(numbers(40_000))
    proxy.connection.eof_received()
    said = await proxy.say(numbers(40_000), end=True)
    assert not sink.ended
    assert not proxy.transport.has_eof
    said += await proxy.wait(3)
    assert bytes(sink.body) == said == numbers(40_000)
    assert sink.ended


async def test_what_the_backend_said_last_arrives() -> None:
    proxy = down()
    await proxy.switch()
    stream, _ = proxy.last
    said = await proxy.say(numbers(40_000))
    proxy.agent.session.reset(stream, Code.NO_ERROR, "closed")
    said += await proxy.hear()
    assert not proxy.transport.is_closing()
    said += await proxy.wait(3)
    assert said == numbers(40_000)
    assert proxy.transport.is_closing()
    assert not proxy.transport.is_aborted


async def test_a_websocket_is_ended_behind_what_waits() -> None:
    proxy = down()
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: websocket")
    await proxy.answer(SWITCH.replace(b"chat", b"websocket"), kind=KIND_TUNNEL)
    message = b"\x82\x7e\x9c\x40" + bytes(40_000)
    said = await proxy.say(message)
    proxy.pair.server.session.close(Code.GOING_AWAY, "pulled the plug")
    proxy.connection.data_received(b"\x81\x80mask")
    said += await proxy.wait(3)
    assert said[: len(message)] == message
    assert said[len(message) :][:1] == b"\x88", "a close frame"


@pytest.mark.parametrize("first", [BURST, BURST + 100])
async def test_a_revoked_agent_sends_nothing_more(first: int) -> None:
    """Queued messages are dropped: the client gets CLOSE after a whole frame, else EOF."""
    proxy = shaped(upload_limit="20kB/s", download_limit="20kB/s")
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: websocket")
    await proxy.answer(SWITCH.replace(b"chat", b"websocket"), kind=KIND_TUNNEL)
    message = b"\x82\x7e" + (first - 4).to_bytes(2, "big") + bytes(first - 4)
    said = await proxy.say(message)
    said += await proxy.say(message)
    assert len(said) == BURST
    proxy.connection.data_received(b"\x82\xfe\x9c\x40mask" + bytes(40_000))
    proxy.pair.server.session.close(Code.NOT_ALLOWED, "revoked")
    said = await proxy.hear()
    if first == BURST:
        assert (said[:1], said[2:4]) == (b"\x88", (1008).to_bytes(2, "big"))
    else:
        assert said == b""
        assert proxy.transport.is_aborted
    assert await proxy.wait(60) == b""


async def test_the_whole_answer_of_a_revoked_agent_breaks_off() -> None:
    proxy = down()
    await proxy.ask("POST /", "Transfer-Encoding: chunked")
    assert len(body_of(await proxy.answer(OK, kind=KIND_LENGTH, body=numbers(30_000)))) < 30_000
    proxy.pair.server.session.close(Code.NOT_ALLOWED, "revoked")
    await proxy.hear()
    assert proxy.transport.is_aborted
    assert await proxy.wait(60) == b""


async def test_who_has_no_limits_has_nothing_in_between() -> None:
    proxy = Shaped({"max_request_body": "1MB"})
    await proxy.ask("GET /")
    (stream,) = proxy.pair.server.session.streams.values()
    assert not isinstance(stream.sink, ShapedRelay)


async def test_a_real_loop_runs_it() -> None:
    proxy = ProxyFixture({"traffic_shaping": {"download_limit": "100kB/s"}})
    await proxy.ask("GET /")
    said = await proxy.answer(OK, kind=KIND_LENGTH, body=bytes(40_000))
    async with asyncio.timeout(10):
        while len(body_of(said)) < 40_000:
            await asyncio.sleep(0.01)
            said += await proxy.hear()
