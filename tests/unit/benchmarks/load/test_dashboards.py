"""Tests of benchmarks.load.dashboards, against a server in this loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.load.background import BackgroundLoad
from benchmarks.load.dashboards import OpenPage
from benchmarks.load.jobs import Endpoint, Job
from zerotrust.errors import BenchError

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = (
    b'20\r\nevent: changed\ndata: {"a": "1", "b": "1"}\n\n\r\n',
    b'20\r\nevent: changed\ndata: {"a": "1", "b": "2"}\n\n\r\n',
)


@asynccontextmanager
async def page(answer: bytes, *, ends: bool = False) -> AsyncIterator[tuple[OpenPage, list[bytes]]]:
    """A page of a server that sends `EVENTS` byte by byte, and `answer` for each fragment."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                if b"text/event-stream" not in heads[-1]:
                    writer.write(answer)
                    continue
                writer.write(STREAM)
                for byte in b"".join(EVENTS):
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0)
                if ends:
                    return
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        endpoint = Endpoint(host="admin.localhost", port=server.sockets[0].getsockname()[1])
        yield OpenPage(endpoint, "/connections", ("Cookie: a=b",)), heads


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not found():
            await asyncio.sleep(0)


async def test_a_page_fetches_each_fragment_that_has_changed() -> None:
    async with page(HEAD) as (opened, heads):
        running = asyncio.create_task(opened.run())
        await until(lambda: opened.fetched == 3)
        running.cancel()
    fragments = [head for head in heads if b"X-Fragment" in head]
    assert [head.split(b"X-Fragment: ")[1][:1] for head in fragments] == [b"a", b"b", b"b"]
    assert all(head.startswith(b"GET /connections HTTP/1.1\r\n") for head in heads)
    assert all(b"\r\nCookie: a=b\r\n" in head for head in heads)


async def test_a_stream_that_ends_is_an_error() -> None:
    async with page(HEAD, ends=True) as (opened, _):
        with pytest.raises(BenchError, match="has ended"):
            await opened.run()


async def test_an_answer_without_a_fragment_is_an_error() -> None:
    async with page(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n") as (opened, _):
        with pytest.raises(BenchError, match=r"a of /connections: HTTP/1\.1 403 No"):
            await opened.run()


async def test_pages_that_show_nothing_new_are_an_error() -> None:
    async with page(HEAD) as (opened, _):
        load = BackgroundLoad()
        job = Job(kind="dashboards", endpoint=opened.endpoint, seconds=0.0, paths=("/a",))
        with pytest.raises(BenchError, match="nothing new: /a"):
            await load.dashboards(job)
