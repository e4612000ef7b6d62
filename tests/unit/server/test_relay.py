"""What a service's policy changes in answers, and how it counts what a request brings."""

import pytest

from tests.unit.server.front import Front
from zerotrust.server.relay import Relay
from zerotrust.tunnel.codes import KIND_LENGTH, KIND_TUNNEL, Code

pytestmark = pytest.mark.anyio

HEADERS = {
    "type": "headers",
    "config": {"response": {"set": {"X-Frame-Options": "DENY"}, "add": {"Via": "x"}, "delete": ["Server"]}},
}
CHANGED = {"global_middleware": [HEADERS]}


async def test_final_heads_are_changed_and_interim_ones_are_not() -> None:
    front = Front(CHANGED)
    assert await front.ask("GET /") == b""
    hint = await front.answer(b"HTTP/1.1 103 Early Hints\r\nServer: s\r\n", interim=True)
    assert hint == b"HTTP/1.1 103 Early Hints\r\nServer: s\r\n\r\n"
    said = await front.answer(b"HTTP/1.1 200 OK\r\nServer: s\r\nx-frame-options: A\r\nVia: y\r\n", kind=1, body=b"hi")
    assert said == (b"HTTP/1.1 200 OK\r\nVia: y\r\nX-Frame-Options: DENY\r\nVia: x\r\nContent-Length: 2\r\n\r\nhi")


async def test_a_switch_of_protocols_keeps_its_upgrade() -> None:
    front = Front(CHANGED)
    await front.ask("GET /", "Connection: Upgrade", "Upgrade: chat")
    said = await front.answer(b"HTTP/1.1 101 Switching Protocols\r\nServer: s\r\nUpgrade: chat\r\n", kind=KIND_TUNNEL)
    assert b"\r\nUpgrade: chat\r\n" in said
    assert b"\r\nConnection: Upgrade\r\n" in said
    assert b"\r\nX-Frame-Options: DENY\r\n" in said
    assert b"Server" not in said


@pytest.mark.parametrize("pieces", [[5, 6], [11], [10, 1]])
async def test_a_body_of_unknown_length_is_counted(pieces: list[int]) -> None:
    front = Front({"max_request_body": "10"})
    said = await front.ask("POST /", "Transfer-Encoding: chunked")
    for size in pieces:
        front.connection.data_received(b"%x\r\n%b\r\n" % (size, bytes(size)))
        said += await front.hear()
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"X-0Trust-Error: body_too_large\r\n" in said
    assert b"Connection: close\r\n" in said
    (ear,) = front.agent.ears.values()
    assert ear.over is not None and ear.over[0] is Code.CANCELLED
    assert len(ear.body) <= 10


async def test_a_body_that_is_just_small_enough() -> None:
    front = Front({"max_request_body": "10"})
    assert await front.ask("POST /", "Transfer-Encoding: chunked", body=b"a\r\n0123456789\r\n0\r\n\r\n") == b""
    assert front.last[1].body == b"0123456789"
    assert front.last[1].ended
    assert (await front.answer(b"HTTP/1.1 204 No Content\r\n")).startswith(b"HTTP/1.1 204 ")


async def test_one_that_grows_too_large_after_the_answer_began() -> None:
    front = Front({"max_request_body": "10"})
    await front.ask("POST /", "Transfer-Encoding: chunked")
    stream, ear = front.last
    assert b"200 OK" in await front.answer(b"HTTP/1.1 200 OK\r\n", kind=2, body=b"part")
    front.connection.data_received(b"b\r\n0123456789a\r\n")
    await front.hear()
    assert front.transport.is_aborted
    assert ear.over is not None
    assert stream.done


async def test_an_announced_body_never_enters_the_tunnel() -> None:
    front = Front({"max_request_body": "10"})
    said = await front.ask("POST /", "Content-Length: 11")
    assert said.startswith(b"HTTP/1.1 413 ")
    assert not front.opened


async def test_what_is_said_after_an_upgrade_is_no_body() -> None:
    front = Front({"max_request_body": "1"})
    await front.ask("GET /", "Connection: Upgrade", "Upgrade: chat", "Content-Length: 0")
    await front.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\n", kind=KIND_TUNNEL)
    front.connection.data_received(bytes(1000))
    await front.hear()
    assert len(front.last[1].body) == 1000
    assert KIND_LENGTH == 1


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"


async def websocket(sent: bytes, *, protocol: str = "websocket") -> Front:
    """A WebSocket through which the backend has sent these bytes."""
    front = Front({})
    await front.ask("GET /", "Connection: Upgrade", f"Upgrade: {protocol}")
    await front.answer(SWITCHED.replace(b"websocket", protocol.encode()), kind=KIND_TUNNEL)
    front.agent.session.send_data(front.last[0], sent)
    assert await front.hear() == sent
    return front


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
    front = await websocket(b"\x81\x02hi")
    front.agent.session.reset(front.last[0], code, "so it is")
    assert await front.hear() == b"\x88\x02" + told.to_bytes(2, "big")
    assert front.transport.has_eof
    front.connection.data_received(b"\x88\x82maskxx")
    assert not front.connection.eof_received()


async def test_a_session_that_ends_ends_its_websockets() -> None:
    front = await websocket(b"")
    front.pair.server.session.close(Code.NOT_ALLOWED, "revoked")
    assert await front.hear() == b"\x88\x02\x03\xf0"


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
async def test_where_no_reason_can_be_told_the_connection_ends(sent: bytes, protocol: str, code: Code) -> None:
    front = await websocket(sent, protocol=protocol)
    front.agent.session.reset(front.last[0], code, "so it is")
    assert await front.hear() == b""
    assert front.transport.is_aborted


RESTART = b"\x88\x02" + (1012).to_bytes(2, "big")


async def departing(sent: bytes, protocol: str = "websocket") -> Front:
    front = await websocket(sent, protocol=protocol)
    (stream,) = front.pair.server.session.streams.values()
    relay = stream.sink
    assert isinstance(relay, Relay)
    relay.depart()
    return front


async def test_a_websocket_departs_between_two_frames() -> None:
    front = await departing(b"\x81\x02hi")
    assert await front.hear() == RESTART
    (ear,) = front.agent.ears.values()
    assert ear.over is not None
    assert ear.over[0] is Code.GOING_AWAY
    assert not front.pair.server.session.streams


@pytest.mark.parametrize("pieces", [[b"llo\x81\x02yo"], [b"l", b"l", b"o"], [b"llo\x81"]])
async def test_a_websocket_departs_at_the_end_of_its_frame(pieces: list[bytes]) -> None:
    front = await departing(b"\x81\x05he")
    heard = await front.hear()
    for piece in pieces:
        front.agent.session.send_data(front.last[0], piece)
        heard += await front.hear()
    assert heard == b"llo" + RESTART
    assert not front.pair.server.session.streams


async def test_a_websocket_departs_though_only_half_a_header_came() -> None:
    front = await departing(b"\x82\x7e\x00")
    front.agent.session.send_data(front.last[0], b"\x02hi\x82\x01x")
    assert await front.hear() == b"\x02hi" + RESTART


async def test_one_that_closes_by_itself_is_left_to_it() -> None:
    front = await departing(b"\x88\x02\x03\xe8")
    assert front.pair.server.session.streams
    front.agent.session.send_data(front.last[0], b"", end=True)
    assert await front.hear() == b""
    assert front.transport.has_eof


async def test_what_is_no_websocket_departs_without_words() -> None:
    front = await departing(b"hi", "chat")
    await front.hear()
    assert front.transport.is_aborted
    assert not front.pair.server.session.streams


async def test_a_request_does_not_depart() -> None:
    front = Front({})
    await front.ask("GET /")
    (stream,) = front.pair.server.session.streams.values()
    relay = stream.sink
    assert isinstance(relay, Relay)
    relay.depart()
    assert b"200 OK" in await front.answer(b"HTTP/1.1 200 OK\r\n", kind=2, body=b"part")
    relay.depart()
    assert stream in front.pair.server.session.streams.values()
