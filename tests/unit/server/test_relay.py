"""What a service's policy changes in answers, and how it counts what a request brings."""

import pytest

from tests.unit.server.front import Front
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
