"""Tests of zerotrust.caddy.admin, with a server that answers as the test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from zerotrust.caddy.admin import AdminApi, socket_path
from zerotrust.errors import CaddyError

pytestmark = pytest.mark.anyio


class Answers:
    """Gives the same answer to each request; keeps the heads, and how many were open at once.

    Attributes:
        drops: connections that it closes without an answer, before any other.
        reads_dropped: it has read the request by then; else the client gets a reset.
    """

    def __init__(self, status: int = 200, body: str = "") -> None:
        self.status, self.body = status, body
        self.heads: list[str] = []
        self.open = self.most_open = 0
        self.drops = 0
        self.reads_dropped = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.drops:
            self.drops -= 1
            if self.reads_dropped:
                await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            return
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await asyncio.sleep(0)
        writer.write(
            f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(self.body)}\r\n\r\n{self.body}".encode()
        )
        self.open -= 1
        writer.close()


@asynccontextmanager
async def caddy(
    folder: Path, status: int = 200, body: str = ""
) -> AsyncIterator[tuple[AdminApi, Answers]]:
    answers = Answers(status, body)
    path = folder / "a.sock"
    async with (
        await asyncio.start_unix_server(answers.serve, path),
        AdminApi(f"unix/{path}|0600") as admin,
    ):
        yield admin, answers


@pytest.mark.parametrize("document", [{}, {"apps": {}}, {"apps": None}, {"admin": {"listen": "x"}}])
async def test_an_empty_configuration_is_never_sent(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    async with caddy(tmp_path) as (admin, answers):
        with pytest.raises(CaddyError, match="without apps"):
            await admin.load(document)
        assert answers.heads == []


async def test_caddys_reason_is_reported(tmp_path: Path) -> None:
    async with caddy(tmp_path, 400, '{"error":"loading config: no"}') as (admin, _):
        with pytest.raises(CaddyError, match="Caddy refused POST /load: loading config: no"):
            await admin.load({"apps": {"http": {}}})


@pytest.mark.parametrize("body", ["<html>", "[]", "{}"])
async def test_an_answer_without_a_reason(tmp_path: Path, body: str) -> None:
    async with caddy(tmp_path, 502, body) as (admin, _):
        with pytest.raises(CaddyError, match="status 502"):
            await admin.config()


async def test_other_servers_are_reported(tmp_path: Path) -> None:
    async with caddy(tmp_path, 200, "<html>") as (admin, _):
        with pytest.raises(CaddyError, match="is not Caddy's admin API"):
            await admin.config()
        assert not await admin.ready()


@pytest.mark.parametrize(("body", "ready"), [("null", False), ("{}", False), ('{"apps":{}}', True)])
async def test_ready_when_a_configuration_runs(tmp_path: Path, body: str, ready: bool) -> None:
    async with caddy(tmp_path, 200, body) as (admin, _):
        assert await admin.ready() is ready


async def test_one_change_at_a_time(tmp_path: Path) -> None:
    async with caddy(tmp_path) as (admin, answers):
        await asyncio.gather(*(admin.load({"apps": {"n": n}}) for n in range(8)))
        assert (len(answers.heads), answers.most_open) == (8, 1)


async def test_stop(tmp_path: Path) -> None:
    async with caddy(tmp_path) as (admin, answers):
        await admin.stop()
        assert answers.heads[0].startswith("POST /stop HTTP/1.1\r\nHost: localhost\r\n")


@pytest.mark.parametrize("has_read", [True, False])
@pytest.mark.parametrize(
    ("change", "line"),
    [(False, "GET /config/ HTTP/1.1"), (True, "POST /load HTTP/1.1")],
)
async def test_a_connection_that_caddy_drops_is_opened_once_more(
    tmp_path: Path, change: bool, line: str, has_read: bool
) -> None:
    """Caddy closes its old listener after a change, with the connections that wait there."""
    async with caddy(tmp_path, 200, '{"apps":{}}') as (admin, answers):
        answers.drops, answers.reads_dropped = 1, has_read
        await (admin.load({"apps": {"http": {}}}) if change else admin.config())
        assert (answers.drops, [head.split("\r\n")[0] for head in answers.heads]) == (0, [line])
        answers.drops = 2
        with pytest.raises(CaddyError, match="does not answer"):
            await (admin.load({"apps": {"http": {}}}) if change else admin.config())
        assert answers.drops == 0


async def test_a_stop_is_not_sent_twice(tmp_path: Path) -> None:
    async with caddy(tmp_path) as (admin, answers):
        answers.drops = 2
        with pytest.raises(CaddyError, match="does not answer"):
            await admin.stop()
        assert answers.drops == 1


async def test_an_unreachable_admin_api_raises(tmp_path: Path) -> None:
    async with AdminApi(f"unix/{tmp_path}/none.sock") as admin:
        assert not await admin.ready()
        with pytest.raises(CaddyError, match="does not answer"):
            await admin.stop()


async def test_over_tcp() -> None:
    answers = Answers(200, '{"apps":{}}')
    server = await asyncio.start_server(answers.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    write: Callable[[str], AdminApi] = AdminApi
    async with server:
        for address in (
            f"127.0.0.1:{port}",
            f"http://127.0.0.1:{port}",
            f"http://127.0.0.1:{port}/",
        ):
            async with write(address) as admin:
                assert await admin.ready()


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("unix//run/a.sock|0600", "/run/a.sock"),
        ("unix//run/a.sock", "/run/a.sock"),
        ("unix:/run/a.sock", "/run/a.sock"),
        ("unix:///run/a.sock", "/run/a.sock"),
        ("unix/relative/a.sock", "relative/a.sock"),
        ("localhost:2019", None),
        ("http://localhost:2019", None),
    ],
)
async def test_addresses(address: str, path: str | None) -> None:
    assert socket_path(address) == path
