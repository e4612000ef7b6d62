"""Tests of zerotrust.server.proxy.websocket_relay."""

import asyncio
from typing import Any

import pytest

from tests.unit.http.generated_frames import Frame
from tests.unit.server.open_websocket import relay_of, websocket
from tests.unit.server.proxy_fixture import ProxyFixture, lose_link
from zerotrust.http.websocket_frames import close_frame
from zerotrust.http.websocket_meter import WebSocketStats
from zerotrust.http.websocket_pings import ClientPings, Quiet
from zerotrust.server.proxy.shaping import ShapedRelay
from zerotrust.server.proxy.websocket_relay import WebSocketRelay, who_ended
from zerotrust.tunnel.codes import Code
from zerotrust.tunnel.window import DEFAULT_WINDOW

pytestmark = pytest.mark.anyio

RESTART = b"\x88\x02" + (1012).to_bytes(2, "big")
TEXT = Frame(0x81, b"hello", masked=True).data


async def departing(sent: bytes) -> ProxyFixture:
    proxy = await websocket(sent)
    relay_of(proxy).depart()
    return proxy


def ended(proxy: ProxyFixture) -> tuple[str, str]:
    """Return who has ended the only WebSocket, and the label of its code.

    The access log must name the same one.
    """
    ((labels, count),) = proxy.ingress.websockets_closed.items()
    assert count == 1
    proxy.connection.ended(None)
    assert [record.ended_by for record in proxy.records] == [labels[0]]
    return labels


# The server ends it


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (Code.GOING_AWAY, 1012),
        (Code.NOT_ALLOWED, 1008),
        (Code.WITHDRAWN, 1001),
        (Code.UPSTREAM_TIMEOUT, 1001),
    ],
)
async def test_a_websocket_is_told_why_we_end_it(code: Code, told: int) -> None:
    proxy = await websocket(b"\x81\x02hi")
    proxy.agent.session.reset(proxy.last[0], code, "so it is")
    assert await proxy.hear() == b"\x88\x02" + told.to_bytes(2, "big")
    assert proxy.transport.has_eof
    proxy.connection.data_received(b"\x88\x82maskxx")
    assert not proxy.connection.eof_received()


async def test_a_session_that_ends_ends_its_websockets() -> None:
    proxy = await websocket(b"")
    proxy.pair.server.session.close(Code.NOT_ALLOWED, "revoked")
    assert await proxy.hear() == b"\x88\x02\x03\xf0"


@pytest.mark.parametrize(
    ("sent", "protocol", "code"),
    [
        (b"\x81\x03hi", "websocket", Code.GOING_AWAY),
        (b"\x88\x00", "websocket", Code.GOING_AWAY),
        (b"\x81\x02hi", "websocket", Code.UPSTREAM_FAILED),
        (b"\x81\x02hi", "chat", Code.GOING_AWAY),
    ],
    ids=["inside a frame", "after a close", "the backend broke off", "not a websocket"],
)
async def test_where_no_reason_can_be_told_the_connection_ends(
    sent: bytes, protocol: str, code: Code
) -> None:
    proxy = await websocket(sent, protocol=protocol)
    proxy.agent.session.reset(proxy.last[0], code, "so it is")
    assert await proxy.hear() == b""
    assert proxy.transport.is_aborted


async def test_a_websocket_departs_between_two_frames() -> None:
    proxy = await departing(b"\x81\x02hi")
    assert await proxy.hear() == RESTART
    (sink,) = proxy.agent.sinks.values()
    assert sink.over is not None
    assert sink.over[0] is Code.GOING_AWAY
    assert not proxy.pair.server.session.streams


@pytest.mark.parametrize("pieces", [[b"llo\x81\x02yo"], [b"l", b"l", b"o"], [b"llo\x81"]])
async def test_a_websocket_departs_at_the_end_of_its_frame(pieces: list[bytes]) -> None:
    proxy = await departing(b"\x81\x05he")
    heard = await proxy.hear()
    for piece in pieces:
        proxy.agent.session.send_data(proxy.last[0], piece)
        heard += await proxy.hear()
    assert heard == b"llo" + RESTART
    assert not proxy.pair.server.session.streams


async def test_a_websocket_departs_though_only_half_a_header_came() -> None:
    proxy = await departing(b"\x82\x7e\x00")
    proxy.agent.session.send_data(proxy.last[0], b"\x02hi\x82\x01x")
    assert await proxy.hear() == b"\x02hi" + RESTART


async def test_one_that_closes_by_itself_is_left_to_it() -> None:
    proxy = await departing(b"\x88\x02\x03\xe8")
    assert proxy.pair.server.session.streams
    proxy.agent.session.send_data(proxy.last[0], b"", end=True)
    assert await proxy.hear() == b""
    assert proxy.transport.has_eof


async def test_a_restart_does_not_put_off_a_close_that_is_due() -> None:
    proxy = await websocket(b"\x81\x05he")
    relay = relay_of(proxy)
    relay.expire("max_duration", "too long")
    relay.depart()
    async with asyncio.timeout(20):
        while not proxy.transport.is_aborted:
            await asyncio.sleep(0.01)
    assert ended(proxy) == ("server", "1001")


# Who has ended it


@pytest.mark.parametrize(
    ("payload", "label"), [(b"\x03\xe9", "1001"), (b"\x0f\xa1bye", "4xxx"), (b"", "1005")]
)
async def test_the_client_closes(payload: bytes, label: str) -> None:
    proxy = await websocket()
    proxy.connection.data_received(Frame(0x88, payload, masked=True).data)
    await proxy.hear()
    stream, _ = proxy.last
    proxy.agent.session.send_data(stream, close_frame(1000), end=True)
    await proxy.hear()
    assert not proxy.ingress.websockets_closed
    proxy.connection.eof_received()
    await proxy.hear()
    assert ended(proxy) == ("client", label)


async def test_the_client_ends_first_and_the_backend_answers() -> None:
    proxy = await websocket()
    proxy.connection.data_received(Frame(0x88, b"", masked=True).data)
    proxy.connection.eof_received()
    await proxy.hear()
    stream, _ = proxy.last
    assert not proxy.ingress.websockets_closed
    proxy.agent.session.send_data(stream, b"\x88\x00", end=True)
    assert await proxy.hear() == b"\x88\x00"
    assert ended(proxy) == ("client", "1005")


async def test_the_backend_closes() -> None:
    proxy = await websocket(b"\x81\x02hi" + close_frame(1011, "it broke"))
    proxy.agent.session.reset(proxy.last[0], Code.NO_ERROR, "the connection ended")
    await proxy.hear()
    assert ended(proxy) == ("backend", "1011")


async def test_the_backend_ends_without_a_close_frame() -> None:
    proxy = await websocket(b"\x81\x02hi")
    proxy.agent.session.send_data(proxy.last[0], b"", end=True)
    await proxy.hear()
    proxy.connection.eof_received()
    await proxy.hear()
    assert ended(proxy) == ("backend", "1006")


async def test_the_backend_closes_and_the_client_ends() -> None:
    proxy = await websocket(close_frame(1000))
    proxy.connection.eof_received()
    await proxy.hear()
    proxy.agent.session.send_data(proxy.last[0], b"", end=True)
    await proxy.hear()
    assert ended(proxy) == ("backend", "1000")


async def test_the_client_closes_and_the_backend_ends() -> None:
    proxy = await websocket()
    proxy.connection.data_received(Frame(0x88, b"", masked=True).data)
    await proxy.hear()
    proxy.agent.session.send_data(proxy.last[0], b"", end=True)
    await proxy.hear()
    proxy.connection.eof_received()
    await proxy.hear()
    assert ended(proxy) == ("client", "1005")


@pytest.mark.parametrize("lost", [True, False], ids=["reset", "end of file"])
async def test_the_connection_is_lost_without_a_close_frame(lost: bool) -> None:
    proxy = await websocket(b"\x81\x02hi")
    if lost:
        proxy.connection.ended(None)
    else:
        proxy.connection.eof_received()
        await proxy.hear()
        proxy.agent.session.send_data(proxy.last[0], b"", end=True)
    await proxy.hear()
    assert ended(proxy) == ("connection", "1006")


@pytest.mark.parametrize(
    ("code", "by", "label"),
    [
        (Code.UPSTREAM_FAILED, "backend", "1006"),
        (Code.UPSTREAM_TIMEOUT, "agent", "1001"),
        (Code.WITHDRAWN, "agent", "1001"),
        (Code.GOING_AWAY, "agent", "1012"),
        (Code.OVERLOADED, "server", "1006"),
    ],
)
async def test_a_reset_says_who(code: Code, by: str, label: str) -> None:
    proxy = await websocket()
    proxy.agent.session.reset(proxy.last[0], code, "so it is")
    await proxy.hear()
    assert ended(proxy) == (by, label)


async def test_an_agent_that_breaks_the_protocol() -> None:
    proxy = await websocket()
    proxy.agent.session.send_trailers(proxy.last[0], b"a: b\r\n")
    await proxy.hear()
    assert ended(proxy) == ("agent", "1006")


async def test_an_agent_that_ends_its_session() -> None:
    proxy = await websocket()
    proxy.agent.session.close(Code.GOING_AWAY, "the agent is shutting down")
    assert await proxy.hear() == RESTART
    assert ended(proxy) == ("agent", "1012")


async def test_a_tunnel_that_does_not_come_back() -> None:
    proxy = await websocket()
    lose_link(proxy)
    session = proxy.pair.server.session
    assert not proxy.ingress.websockets_closed
    session.tick(1000.0)
    assert await proxy.transport.written() == RESTART
    assert ended(proxy) == ("tunnel", "1012")


@pytest.mark.parametrize(
    ("code", "by"),
    [
        (Code.SUPERSEDED, "agent"),
        (Code.PROTOCOL_ERROR, "agent"),
        (Code.NOT_ALLOWED, "server"),
        (Code.GOING_AWAY, "server"),
        (Code.OVERLOADED, "tunnel"),
    ],
)
async def test_a_session_that_the_server_closes(code: Code, by: str) -> None:
    proxy = await websocket()
    session = proxy.pair.server.session
    session.close(code, "so it is")
    await proxy.hear()
    assert ended(proxy)[0] == by
    assert who_ended(session, Code.GOING_AWAY) == by


@pytest.mark.parametrize("by_agent", [True, False])
async def test_a_restart(by_agent: bool) -> None:
    proxy = await websocket()
    relay_of(proxy).depart(by_agent=by_agent)
    assert await proxy.hear() == RESTART
    assert ended(proxy) == ("agent" if by_agent else "server", "1012")


async def test_a_service_that_is_taken_from_its_agent() -> None:
    proxy = await websocket()
    relay_of(proxy).cut("no grant")
    assert await proxy.hear() == b"\x88\x02\x03\xf0"
    assert ended(proxy) == ("server", "1008")


@pytest.mark.parametrize(
    ("sent", "label"), [(b"\x81\x02hi", "1008"), (b"\x81\x05hi", "1006"), (b"\x88\x00", "1005")]
)
async def test_access_that_ends(sent: bytes, label: str) -> None:
    proxy = await websocket(sent)
    relay_of(proxy).withdraw("signed out")
    await proxy.hear()
    assert ended(proxy) == ("backend" if sent[0] == 0x88 else "server", label)
    assert not proxy.pair.server.session.streams


async def test_a_handshake_that_is_refused_is_no_websocket() -> None:
    proxy = ProxyFixture({})
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: websocket")
    assert isinstance(relay_of(proxy), WebSocketRelay)
    relay_of(proxy).depart()
    proxy.connection.data_received(b"early")
    said = await proxy.answer(b"HTTP/1.1 403 Forbidden\r\n", kind=1, body=b"no")
    assert said.startswith(b"HTTP/1.1 403 ")
    assert not proxy.ingress.websockets_closed


@pytest.mark.parametrize("act", ["withdraw", "cut", "lost"])
async def test_one_that_ends_before_its_handshake_is_not_counted(act: str) -> None:
    proxy = ProxyFixture({})
    proxy.observe()
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: websocket")
    relay = relay_of(proxy)
    if act == "lost":
        proxy.connection.ended(None)
        assert proxy.records[0].ended_by == "client"
    else:
        getattr(relay, act)("so it is")
    await proxy.hear()
    assert not proxy.ingress.websockets_closed
    relay.withdraw("again")
    relay.data(b"", end=True)


# Counts


def inspected(proxy: ProxyFixture) -> WebSocketStats | None:
    relay = relay_of(proxy)
    assert isinstance(relay, WebSocketRelay)
    return relay.inspect()


async def test_counts_for_a_page() -> None:
    lines = b"Sec-WebSocket-Protocol: chat\r\nsec-websocket-extensions: permessage-deflate\r\n"
    proxy = await websocket(b"\x81\x02hi", lines=lines)
    proxy.connection.data_received(TEXT + TEXT)
    stats = inspected(proxy)
    assert stats is not None
    assert (stats.client.messages, stats.backend.messages) == (2, 1)
    assert (stats.subprotocol, stats.extensions) == ("chat", "permessage-deflate")


@pytest.mark.parametrize(("inspection", "shown"), [("never", False), ("metadata", True)])
async def test_a_service_may_forbid_inspection(inspection: str, shown: bool) -> None:
    proxy = await websocket(policy={"access": {"inspection": inspection}})
    assert (inspected(proxy) is not None) is shown


async def test_before_the_handshake_there_are_no_counts() -> None:
    proxy = ProxyFixture({})
    await proxy.ask("GET /", "Connection: Upgrade", "Upgrade: websocket")
    assert inspected(proxy) is None


# Limits

LIMITS = {"max_message": "1KiB", "messages": "50/s", "bytes": "100KB/s"}


async def limited(sent: bytes = b"", **others: Any) -> ProxyFixture:
    return await websocket(sent, policy={"websocket_limits": LIMITS, **others})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (Frame(0x82, bytes(1025), masked=True).data[:8], close_frame(1009, "message too large")),
        (TEXT * 51, close_frame(1008, "too many messages")),
        (Frame(0x82, bytes(1024), masked=True).data * 98, close_frame(1008, "too many")),
    ],
    ids=["size", "messages", "bytes"],
)
async def test_a_client_that_exceeds_a_limit(data: bytes, told: bytes) -> None:
    proxy = await limited()
    proxy.connection.data_received(data)
    said = await proxy.hear()
    assert said[2:4] == told[2:4]
    _, sink = next(iter(proxy.agent.sinks.items()))
    assert bytes(sink.body) == b""
    assert sink.over is not None and sink.over[0] is Code.CANCELLED
    assert ended(proxy) == ("server", str(int.from_bytes(told[2:4], "big")))
    proxy.connection.data_received(TEXT)
    assert not proxy.pair.server.session.streams


async def test_a_client_within_the_limits_loses_nothing() -> None:
    proxy = await limited()
    data = TEXT * 50
    for at in range(0, len(data), 7):
        proxy.connection.data_received(data[at : at + 7])
    await proxy.hear()
    assert bytes(proxy.last[1].body) == data


async def test_the_close_frame_waits_for_the_end_of_a_frame() -> None:
    proxy = await limited(b"\x81\x05he")
    proxy.connection.data_received(TEXT * 51)
    proxy.connection.data_received(TEXT)
    assert await proxy.hear() == b""
    proxy.agent.session.send_data(proxy.last[0], b"llo\x81\x02yo")
    assert await proxy.hear() == b"llo" + close_frame(1008, "too many messages")
    assert ended(proxy) == ("server", "1008")
    assert bytes(next(iter(proxy.agent.sinks.values())).body) == b""


async def test_a_frame_that_does_not_end_is_not_waited_for() -> None:
    proxy = await limited(b"\x81\x05he")
    proxy.connection.data_received(TEXT * 51)
    async with asyncio.timeout(5):
        while not proxy.transport.is_aborted:
            await asyncio.sleep(0.01)
    assert ended(proxy) == ("server", "1008")


async def test_a_client_that_ends_while_its_close_frame_waits() -> None:
    proxy = await limited(b"\x81\x05he")
    proxy.connection.data_received(TEXT * 51)
    proxy.connection.eof_received()
    await proxy.hear()
    assert proxy.last[1].ended
    proxy.agent.session.send_data(proxy.last[0], b"llo", end=True)
    assert await proxy.hear() == b"llo" + close_frame(1008, "too many messages")
    assert ended(proxy) == ("server", "1008")


async def test_a_client_that_exceeds_a_limit_after_the_backend_has_closed() -> None:
    proxy = await limited(close_frame(1000))
    proxy.connection.data_received(TEXT * 51)
    assert await proxy.hear() == b""
    assert ended(proxy) == ("backend", "1000")


async def test_limits_hold_behind_traffic_shaping() -> None:
    proxy = await limited(traffic_shaping={"upload_limit": "10MB/s", "download_limit": "10MB/s"})
    (stream,) = proxy.pair.server.session.streams.values()
    assert isinstance(stream.sink, ShapedRelay)
    stream.sink.depart(by_agent=True)
    assert await proxy.hear() == RESTART
    assert ended(proxy) == ("agent", "1012")


# Pings


async def next_ping(proxy: ProxyFixture) -> bytes:
    """Wait for a Ping; return the Pong of the client."""
    async with asyncio.timeout(5):
        while not (said := await proxy.transport.written()):
            await asyncio.sleep(0.001)
    assert said[:2] == b"\x89\x0c"
    return Frame(0x8A, said[2:], masked=True).data


async def test_a_quiet_client_is_pinged_and_the_backend_does_not_notice() -> None:
    proxy = await websocket(ping=0.01)
    for _ in range(3):
        proxy.connection.data_received(await next_ping(proxy))
    proxy.connection.data_received(TEXT)
    await proxy.hear()
    assert bytes(proxy.last[1].body) == TEXT
    stats = inspected(proxy)
    assert stats is not None and stats.client_round_trip > 0


async def test_a_client_that_does_not_answer_is_gone() -> None:
    proxy = await websocket(ping=0.01)
    await next_ping(proxy)
    async with asyncio.timeout(5):
        while not proxy.transport.is_aborted:
            await asyncio.sleep(0.001)
    await proxy.hear()
    assert ended(proxy) == ("connection", "1006")
    assert next(iter(proxy.agent.sinks.values())).over is not None


async def test_a_client_that_waits_for_its_backend_is_not_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, look = [0], ClientPings.look

    def counted(self: ClientPings, *args: Any, **options: Any) -> Quiet:
        looks[0] += 1
        return look(self, *args, **options)

    monkeypatch.setattr(ClientPings, "look", counted)
    proxy = await websocket(ping=0.01)
    frame, sent = Frame(0x82, bytes(DEFAULT_WINDOW), masked=True).data, b""
    while proxy.connection.is_reading:
        proxy.connection.data_received(frame)
        sent += frame
    before = looks[0]
    async with asyncio.timeout(5):
        while looks[0] < before + 5:
            await asyncio.sleep(0.001)
    assert not proxy.transport.is_aborted
    stream, sink = proxy.last
    taken = 0
    while not proxy.connection.is_reading:
        assert await proxy.hear() == b""
        proxy.agent.session.consumed(stream, len(sink.body) - taken, 0.0)
        taken = len(sink.body)
    await proxy.hear()
    assert bytes(sink.body) == sent
    proxy.connection.data_received(await next_ping(proxy))
    assert not proxy.ingress.websockets_closed


async def test_bytes_that_are_held_back_pass_at_the_end() -> None:
    proxy = await websocket(ping=0.01)
    pong = await next_ping(proxy)
    proxy.connection.data_received(TEXT + pong[:5])
    proxy.connection.eof_received()
    await proxy.hear()
    assert bytes(proxy.last[1].body) == TEXT + pong[:5]


async def test_no_timer_is_left_behind() -> None:
    proxy = await websocket(ping=30)
    proxy.connection.data_received(Frame(0x88, b"", masked=True).data)
    proxy.connection.ended(None)
    await proxy.hear()
    assert ended(proxy) == ("client", "1005")
