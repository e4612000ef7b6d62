"""Tests of WebSockets and other upgrades: complete transfer, correct ends."""

import asyncio
import hashlib
import random
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from tests.component.conftest import APP, MORTAL, PLAIN, WS, Parts
from tests.component.test_chaos import FULL
from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.entrypoint import Entrypoint
from tests.support.h2_socket import H2
from tests.support.half_close import say_and_listen
from tests.support.pattern import pattern_bytes, pattern_digest
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("websocket"),
]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
CLOSES = [(1000, "done"), (1001, "going away"), (1011, "it broke"), (4001, "our own: grüße")]
MIB = 1 << 20
SECONDS = 60 if FULL else 20
"""Seconds for which two hundred WebSockets talk."""


# Messages


@pytest.mark.parametrize(
    "message", ["hello", "", "grüße ☃ 𝄞", "x" * 70_000, b"", b"\x00\xff" * 40_000]
)
async def test_messages_come_back(entrypoint: Entrypoint, message: str | bytes) -> None:
    async with entrypoint.websocket(WS) as socket:
        await socket.send(message)
        assert await socket.recv() == message


async def test_sixteen_mebibytes_in_one_message(entrypoint: Entrypoint) -> None:
    message = pattern_bytes(16 * MIB)
    async with entrypoint.websocket(WS, compression=None) as socket:
        await socket.send(message)
        assert await socket.recv() == message


async def test_fragments_stay_fragments(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(WS) as socket:
        await socket.send(["one ", "two ", "three"])
        assert await socket.recv() == "one two three"
        await socket.send("!fragments 3")
        fragments = [fragment async for fragment in socket.recv_streaming()]
    assert fragments[:3] == ["fragment 0 ", "fragment 1 ", "fragment 2 "]


async def test_ping_and_pong_both_ways(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(WS) as socket:
        async with asyncio.timeout(5):
            assert await (await socket.ping(b"are you there")) < 5
        await socket.send("!ping")
        assert await socket.recv() == "pong"


async def test_many_small_messages_keep_their_order(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(WS) as socket:
        for number in range(2000):
            await socket.send(str(number))
        assert [await socket.recv() for _ in range(2000)] == [str(number) for number in range(2000)]


# Handshake


async def test_subprotocol_is_chosen_by_the_backend(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(
        WS, subprotocols=[Subprotocol("soap"), Subprotocol("chat")]
    ) as socket:
        assert socket.subprotocol == "chat"
        await socket.send("!subprotocol")
        assert await socket.recv() == "chat"


async def test_no_subprotocol_is_made_up(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(WS) as socket:
        assert socket.subprotocol is None
        await socket.send("!subprotocol")
        assert await socket.recv() == "None"


async def test_compression_is_negotiated_end_to_end(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(WS) as socket:
        assert [type(one).__name__ for one in socket.protocol.extensions] == ["PerMessageDeflate"]
        await socket.send("!extensions")
        assert await socket.recv() == "PerMessageDeflate"
        for message in ("a" * 100_000, "b" * 100_000):  # the second uses the first one's dictionary
            await socket.send(message)
            assert await socket.recv() == message


async def test_no_compression_where_none_was_asked_for(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(WS, compression=None) as socket:
        await socket.send("!extensions")
        assert await socket.recv() == ""


async def test_server_speaks_first(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(WS, "/greet") as socket:
        assert await socket.recv() == "hello"


async def test_first_frame_in_the_segment_of_the_101(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(APP, "/websocket-greeting", compression=None) as socket:
        assert await socket.recv() == "hello first"


async def test_first_frame_in_the_segment_of_the_request(entrypoint: Entrypoint) -> None:
    frame = Frame(Opcode.TEXT, b"early bird").serialize(mask=True)
    head = (
        f"GET / HTTP/1.1\r\nHost: {WS}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with await entrypoint.open(WS) as client:
        await client.send(head.encode() + frame)
        response = await client.read_head()
        assert (response.status, response.get("sec-websocket-accept")) == (101, ACCEPT)
        assert await client.read_exactly(12) == b"\x81\x0aearly bird"


@pytest.mark.parametrize(
    ("connection", "upgrade"),
    [
        ("Upgrade", "websocket"),
        ("keep-alive, UPGRADE", "WebSocket"),
        ("upgrade,keep-alive", "WEBSOCKET"),
    ],
)
async def test_tokens_are_compared_without_case(
    entrypoint: Entrypoint, connection: str, upgrade: str
) -> None:
    async with await entrypoint.open(WS) as client:
        await client.send_head(
            "GET",
            "/",
            [
                ("Connection", connection),
                ("Upgrade", upgrade),
                ("Sec-WebSocket-Key", KEY),
                ("Sec-WebSocket-Version", "13"),
            ],
        )
        response = await client.read_head()
        assert response.status == 101
        assert response.get("sec-websocket-accept") == ACCEPT
        assert [value.lower() for value in response.all("upgrade")] == ["websocket"]
        assert [value.lower() for value in response.all("connection")] == ["upgrade"]


async def test_the_curl_test_of_the_documents(stack: Stack) -> None:
    entrypoint = stack.caddy
    command: list[str | Path] = [
        "curl",
        "-sv",
        "--http1.1",
        "--max-time",
        "2",
        "-o",
        "/dev/null",
        "--cacert",
        stack.caddy_root,
    ]
    for field in (
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ):
        command += ["-H", field]
    command += ["--resolve", f"{WS}:{entrypoint.port}:127.0.0.1", entrypoint.url(WS)]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )
    assert "HTTP/1.1 101 Switching Protocols" in done.stderr, done.stderr


async def test_the_agent_says_that_it_forwards(entrypoint: Entrypoint, stack: Stack) -> None:
    agent = stack.agents["agent-1"].process
    since = agent.position()
    async with entrypoint.websocket(WS):
        await agent.wait_line(
            f"Detected WebSocket upgrade request for host: {WS} - forwarding as regular HTTP",
            since=since,
        )


# The end


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_backend_closes(entrypoint: Entrypoint, code: int, reason: str) -> None:
    async with entrypoint.websocket(WS) as socket:
        await socket.send(f"!close {code} {reason}")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (code, reason)


async def how_it_ended(entrypoint: Entrypoint, token: str) -> str:
    async with entrypoint.websocket(WS) as socket:
        await socket.send(f"!closed {token}")
        async with asyncio.timeout(5):
            return str(await socket.recv())


async def named(socket: ClientConnection) -> str:
    """Name the connection at the backend."""
    token = uuid.uuid4().hex
    await socket.send(f"!token {token}")
    await socket.recv()
    return token


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_client_closes(entrypoint: Entrypoint, code: int, reason: str) -> None:
    async with entrypoint.websocket(WS) as socket:
        token = await named(socket)
        await socket.close(code, reason)
    assert await how_it_ended(entrypoint, token) == f"{code} {reason}"


async def test_client_that_vanishes_is_gone_at_the_backend_too(entrypoint: Entrypoint) -> None:
    async with entrypoint.websocket(WS) as socket:
        token = await named(socket)
        socket.transport.abort()
        begun_at = time.monotonic()
        assert (await how_it_ended(entrypoint, token)).split()[0] == "1006"
    assert time.monotonic() - begun_at < 2


async def test_backend_that_dies_ends_the_client(
    entrypoint: Entrypoint, parts: Parts, tmp_path: Path
) -> None:
    backend = WsEcho(tmp_path, port=parts.mortal_port)
    async with backend, entrypoint.websocket(MORTAL) as socket:
        await socket.send("still here")
        assert await socket.recv() == "still here"
        backend.kill()
        async with asyncio.timeout(2):
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == 1006


async def test_backend_that_resets_ends_the_client(entrypoint: Entrypoint) -> None:
    async with await entrypoint.open(APP) as client:
        assert (await client.upgrade("/upgrade-reset")).status == 101
        await client.send(b"now")
        assert await client.wait_end() < 2


async def test_client_half_closes_and_is_answered(entrypoint: Entrypoint) -> None:
    head = (
        f"GET /upgrade-half-close HTTP/1.1\r\nHost: {APP}\r\nConnection: Upgrade\r\nUpgrade:"
        " chat/1\r\n\r\n"
    )
    said = pattern_bytes(300_000)
    heard = await say_and_listen(entrypoint, APP, head.encode(), said)
    assert heard.endswith(f"300000 {hashlib.sha256(said).hexdigest()}".encode())


async def test_backend_half_closes_and_still_listens(stack: Stack, origin: Origin) -> None:
    async with await stack.api.open(APP) as client:
        assert (await client.upgrade("/upgrade-server-half-close")).status == 101
        assert await client.read_to_end() == b"done"
        await client.send(b"x" * 4321)
        client.write_eof()

        async def has_read() -> bool:
            return "after-half-close-4321" in (await origin.stats())["served"]

        await eventually(has_read, "the backend has read what came after its own end")


# Other protocols, and no


async def test_any_protocol_can_be_upgraded_to(entrypoint: Entrypoint) -> None:
    async with await entrypoint.open(APP) as client:
        response = await client.upgrade("/upgrade", after=b"with the request")
        assert (response.status, response.get("upgrade")) == (101, "chat/1")
        assert await client.read_exactly(16) == b"with the request"
        sending = asyncio.create_task(client.send_pieces([pattern_bytes(4 * MIB)]))
        assert hashlib.sha256(await client.read_exactly(4 * MIB)).hexdigest() == pattern_digest(
            4 * MIB
        )
        await sending


async def test_server_speaks_first_in_any_protocol(entrypoint: Entrypoint) -> None:
    async with await entrypoint.open(APP) as client:
        assert (await client.upgrade("/upgrade-greeting")).status == 101
        assert await client.read_exactly(12) == b"hello first\n"


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [("/upgrade-refused", 403, b"no upgrade here"), ("/upgrade-ignored", 200, b"plain answer")],
)
async def test_upgrade_that_is_not_granted_keeps_the_connection(
    entrypoint: Entrypoint, target: str, status: int, body: bytes
) -> None:
    async with await entrypoint.open(APP) as client:
        for _ in range(3):
            response = await client.upgrade(target)
            assert (response.status, response.body, response.error_code) == (status, body, None)
            assert len((await client.get("/bytes/100")).body) == 100


async def test_websocket_false_refuses_upgrades_only(entrypoint: Entrypoint) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await entrypoint.websocket(PLAIN, "/upgrade")
    assert refused.value.response.status_code == 403
    async with await entrypoint.open(PLAIN) as client:
        response = await client.upgrade("/upgrade")
        assert (response.status, response.error_code) == (403, "upgrade_refused")
        assert (await client.get("/bytes/10")).status == 200


# Over HTTP/2


async def test_h2_several_sockets_on_one_connection(stack: Stack) -> None:
    async with H2(stack.caddy, WS) as h2:
        assert h2.allows_websockets
        sockets = [await h2.connect("/") for _ in range(5)]
        assert [socket.status for socket in sockets] == [200] * 5
        for number, socket in enumerate(sockets):
            await socket.send(f"text {number}")
        for number, socket in enumerate(sockets):
            assert await socket.recv() == f"text {number}"
        await sockets[0].ping(b"h2")
        async with asyncio.timeout(5):
            assert await sockets[0].pongs.get() == b"h2"


async def test_h2_sixteen_mebibytes(stack: Stack) -> None:
    message = pattern_bytes(16 * MIB)
    async with H2(stack.caddy, WS) as h2:
        socket = await h2.connect("/")
        await socket.send(message)
        assert await socket.recv() == message


async def test_h2_subprotocol_and_greeting(stack: Stack) -> None:
    async with H2(stack.caddy, WS) as h2:
        socket = await h2.connect("/greet", ("sec-websocket-protocol", "chat"))
        assert socket.fields["sec-websocket-protocol"] == "chat"
        assert await socket.recv() == "hello"


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_h2_closes_both_ways(stack: Stack, code: int, reason: str) -> None:
    async with H2(stack.caddy, WS) as h2:
        theirs = await h2.connect("/")
        await theirs.send(f"!close {code} {reason}")
        assert await theirs.recv() is None
        assert (theirs.close_code, theirs.close_reason) == (code, reason)
        ours = await h2.connect("/")
        token = uuid.uuid4().hex
        await ours.send(f"!token {token}")
        await ours.recv()
        await ours.close(code, reason)
        assert await how_it_ended(stack.caddy, token) == f"{code} {reason}"


async def test_h2_client_that_vanishes_is_gone_at_the_backend_too(stack: Stack) -> None:
    token = uuid.uuid4().hex
    async with H2(stack.caddy, WS) as h2:
        socket = await h2.connect("/")
        await socket.send(f"!token {token}")
        await socket.recv()
    assert (await how_it_ended(stack.caddy, token)).split()[0] == "1006"


async def test_h2_refuses_like_h1(stack: Stack) -> None:
    async with H2(stack.caddy, PLAIN) as h2:
        assert (await h2.connect("/upgrade")).status == 403


# Many


async def converse(entrypoint: Entrypoint, number: int, end_at: float) -> int:
    """Send messages of all sizes for a minute, awaited or not; both ends' hashes must agree."""
    rng = random.Random(number)
    sent, received, count = hashlib.sha256(), hashlib.sha256(), 0
    async with entrypoint.websocket(WS, "/hash", compression=None) as socket:
        while time.monotonic() < end_at:
            burst = [
                rng.randbytes(int(rng.paretovariate(0.9) * 20) % 40_000)
                for _ in range(rng.randint(1, 6))
            ]
            for message in burst:
                sent.update(message)
                await socket.send(message)
            for _ in burst:
                received.update(await socket.recv())  # type: ignore[arg-type]
            count += len(burst)
            await asyncio.sleep(rng.uniform(0.2, 0.8))  # a person's pace, not a wait for anything
        await socket.send("!digest")
        assert await socket.recv() == f"{count} {sent.hexdigest()}"
    assert received.digest() == sent.digest()
    return count


@pytest.mark.timeout(150)
async def test_two_hundred_lose_nothing(stack: Stack, measured: Measured) -> None:
    end_at = time.monotonic() + SECONDS
    counts = await asyncio.gather(*(converse(stack.caddy, number, end_at) for number in range(200)))
    measured(
        f"200 WebSockets, {SECONDS} s: {sum(counts)} messages each way, none lost, none out of order"
    )
    assert min(counts) > SECONDS / 3


async def test_nothing_is_left_open(stack: Stack) -> None:
    """Runs last: idle processes hold few descriptors, so no connection leaked."""

    async def few() -> bool:
        return stack.server.open_files() < 80 and stack.agents["agent-1"].process.open_files() < 80

    await eventually(few, "connections of the tests before are closed", 20)
