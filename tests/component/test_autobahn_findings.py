"""Regression tests of the review of the byte paths, through real processes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.backends import Origin
from tests.support.client import Client
from tests.support.pattern import pattern_bytes
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("autobahn_findings"),
]

TLS, APP, SLOW = "tls.localhost", "app.localhost", "slow.localhost"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n"
LAST = pattern_bytes(1_000_000)


class TlsBackend:
    """TLS backend: answers a megabyte, or upgrades and echoes; "talk" sends a megabyte."""

    def __init__(self) -> None:
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Upgrade:" in head:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + LAST)
            writer.write(SWITCH)
            while piece := await reader.read(65536):
                writer.write(LAST if piece == b"talk" else piece)
                if piece == b"talk":
                    break
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def listening(backend: TlsBackend, authority: Authority) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.server())
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture(scope="module")
def backend() -> TlsBackend:
    return TlsBackend()


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, backend: TlsBackend
) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("findings")
    async with Origin(folder) as origin, listening(backend, authority) as port:
        secured = service(TLS, port, tls={"ca_file": str(authority.root)})
        secured["upstreams"] = [{"address": f"https://localhost:{port}"}]
        services = [secured, service(APP, origin.port), service(SLOW, origin.port, timeout="1s")]
        async with Stack(
            folder / "stack", authority, agents={"agent-1": services}, with_caddy=False
        ) as stack:
            yield stack


async def upgraded(stack: Stack, host: str, target: str = "/upgrade") -> Client:
    client = await stack.api.open(host)
    assert (await client.upgrade(target)).status == 101
    return client


async def test_relay_to_a_tls_backend_ends_with_the_client(
    stack: Stack, backend: TlsBackend
) -> None:
    async with await upgraded(stack, TLS) as neighbour:
        async with await upgraded(stack, TLS) as client:
            await client.send(b"hello")
            assert await client.read_exactly(5) == b"hello"
            client.write_eof()
            assert await client.read_to_end() == b""
        await eventually(lambda: backend.open == 1, "the backend hears that the client is done")
        await neighbour.send(b"still here")
        assert await neighbour.read_exactly(10) == b"still here"
    await eventually(lambda: backend.open == 0, "the backend hears that the neighbour is gone")


async def test_last_words_of_a_tls_backend_arrive(stack: Stack) -> None:
    """It closes while most of what it said still waits for the client to read."""
    for pause in (0, 0.1, 0.2, 0.4):
        async with await upgraded(stack, TLS) as client:
            await client.send(b"talk")
            await asyncio.sleep(pause)
            assert await client.read_to_end() == LAST


async def test_large_answers_of_a_tls_backend_arrive(stack: Stack) -> None:
    """Reading from it is paused and goes on many times, and the connection stays open."""
    async with await stack.api.open(TLS) as client:
        for _ in range(20):
            assert (await client.get("/")).body == LAST


async def test_relay_that_the_backend_ended_first_leaves_nothing(stack: Stack) -> None:
    before = stack.server.open_files()
    for _ in range(20):
        async with await upgraded(stack, APP, "/upgrade-server-half-close") as client:
            assert await client.read_to_end() == b"done"
            client.write_eof()
            await asyncio.sleep(0.01)
    await eventually(
        lambda: stack.server.open_files() <= before + 2, "the server has closed its ends", 5
    )


async def test_upload_that_takes_longer_than_the_backend_may_think(stack: Stack) -> None:
    """`timeout` limits the wait for the answer, which starts after the request's end."""
    async with await stack.api.open(SLOW) as client:
        await client.send_head("POST", "/upload", [("Content-Length", "30")])
        for _ in range(6):
            await asyncio.sleep(0.4)
            await client.send(b"12345")
        response = await client.read_response("POST")
    assert (response.status, response.json()["length"]) == (200, 30)


async def test_requests_behind_one_that_is_refused(stack: Stack) -> None:
    async with await stack.api.open(APP) as client:
        refused = b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n"
        await client.send(refused + b"GET /bytes/3 HTTP/1.1\r\nHost: app.localhost\r\n\r\n")
        assert (await client.read_response()).status == 404
        assert len((await client.read_response()).body) == 3


@pytest.mark.parametrize("size", [130_000, 200_000, 260_000, 400_000])
async def test_backend_connection_is_read_after_a_large_answer(stack: Stack, size: int) -> None:
    """The answer ends while the agent has told the backend to wait."""
    async with await stack.api.open(APP) as client:
        for _ in range(20):
            assert len((await client.get(f"/bytes/{size}")).body) == size
