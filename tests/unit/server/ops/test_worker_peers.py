"""Tests of zerotrust.server.ops.worker_peers: workers that answer wrongly, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from zerotrust.model.admin import NoParameters
from zerotrust.model.worker_messages import RoundTrips
from zerotrust.net.json_api import CallError
from zerotrust.server.ops import worker_peers
from zerotrust.server.ops.worker_peers import WorkerPeers

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


class Worker:
    """A worker that gives one answer to all; none at all if that is empty."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = b""

    def says(self, body: bytes, status: int = 200) -> None:
        self.answer = HEAD % (status, len(body)) + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        if not self.answer:
            await reader.read()
        writer.close()


@asynccontextmanager
async def worker_with_peers(folder: Path) -> AsyncIterator[tuple[Worker, WorkerPeers]]:
    made, socket = Worker(), folder / "w.sock"
    async with await asyncio.start_unix_server(made.serve, socket):
        yield made, WorkerPeers(lambda: [socket])


async def ask(peers: WorkerPeers) -> list[RoundTrips]:
    return await peers.get("/v1/anything", RoundTrips, NoParameters())


@pytest.mark.slow
async def test_a_worker_that_is_too_slow_is_not_asked_at_once_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_peers, "TIMEOUT", 0.5)
    async with worker_with_peers(tmp_path) as (worker, peers):
        assert await ask(peers) == await ask(peers) == []
        assert (worker.asked, peers.count) == (1, 1)
        monkeypatch.setattr(worker_peers, "monotonic", lambda: float("inf"))
        assert await ask(peers) == []
        assert worker.asked == 2


async def test_an_answer_that_is_none_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with worker_with_peers(tmp_path) as (worker, peers):
        for body in (b'{"slot":7}', b"{", b'{"slot":7,"seconds":["x"]}'):
            worker.says(body)
            assert await ask(peers) == []
        worker.answer = b"nonsense\r\n\r\n"
        assert await ask(peers) == []
        worker.says(b'{"slot":7,"seconds":[0.5,NaN]}')
        (found,) = await ask(peers)
        assert found.seconds[0] == 0.5
        monkeypatch.setattr(worker_peers, "MAX_ANSWER", 20)
        assert await ask(peers) == []


async def test_the_worker_that_a_command_concerns_says_why_it_refuses(tmp_path: Path) -> None:
    async with worker_with_peers(tmp_path) as (worker, peers):
        worker.says(b'{"error":"not open","code":"not_found"}', 404)
        assert await peers.carry_out("/v1/x", RoundTrips, NoParameters()) is None
        worker.says(b'{"error":"captured already","code":"conflict"}', 409)
        with pytest.raises(CallError, match="captured already") as refused:
            await peers.carry_out("/v1/x", RoundTrips, NoParameters())
        assert refused.value.reply == 409


@pytest.mark.slow
async def test_a_worker_that_is_too_slow_may_have_carried_a_command_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_peers, "TIMEOUT", 0.5)
    async with worker_with_peers(tmp_path) as (worker, peers):
        assert await ask(peers) == []
        with pytest.raises(CallError, match="may still do this") as late:
            await peers.carry_out("/v1/x", RoundTrips, NoParameters())
        assert (worker.asked, late.value.reply) == (2, 504)


async def test_a_worker_that_is_away_has_carried_nothing_out(tmp_path: Path) -> None:
    peers = WorkerPeers(lambda: [tmp_path / "w.sock"])
    assert await peers.carry_out("/v1/x", RoundTrips, NoParameters()) is None
