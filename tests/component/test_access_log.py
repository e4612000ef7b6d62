"""Tests of the access log through the whole chain: one line for each end of a request."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import Origin, WsEcho
from tests.support.ports import closed_port
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("access_log"),
]

APP = "app.localhost"
WS = "ws.localhost"
DOWN = "down.localhost"

Line = dict[str, Any]


@dataclass
class Logged:
    """A running chain and its access log."""

    stack: Stack
    path: Path

    async def line(self, fits: Callable[[Line], bool]) -> Line:
        """Wait for a line; return it."""
        return await eventually(lambda: self._find(fits), "the line is written")

    def _find(self, fits: Callable[[Line], bool]) -> Line | None:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return next((line for line in lines if fits(line)), None)


@pytest.fixture(scope="module")
async def logged(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Logged]:
    folder = tmp_path_factory.mktemp("access_log")
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        services = [
            service(APP, origin.port),
            service(WS, ws.port),
            service(DOWN, closed_port()),
        ]
        # The file is named relative to the folder of the configuration.
        sections = {"access_log": {"output": "requests.log"}}
        async with Stack(
            folder, authority, agents={"agent-1": services}, sections=sections
        ) as stack:
            yield Logged(stack, folder / "requests.log")


async def test_a_request_through_caddy(logged: Logged) -> None:
    response = await logged.stack.caddy.get(APP, "/echo/one?secret=1")
    assert response.status == 200
    line = await logged.line(lambda line: line["path"] == "/echo/one")
    assert (line["status"], line["method"], line["scheme"]) == (200, "GET", "https")
    assert (line["agent"], line["service"], line["client"]) == ("agent-1", APP, "127.0.0.1")
    assert line["upstream"].startswith("127.0.0.1:")
    assert (line["sent"], line["ended_by"]) == (len(response.body), "backend")
    parts = ("policy", "tunnel", "connect", "backend", "body")
    assert sum(line[part] for part in parts) == pytest.approx(line["duration"], abs=1e-4)
    assert 0 < line["edge"] < 10
    assert "secret" not in logged.path.read_text()


async def test_what_a_client_says_of_the_edge_is_not_believed(logged: Logged) -> None:
    fields = [(name, "5000000") for name in ("X-0Trust-Edge-Time", "x-0trust-edge-time")]
    response = await logged.stack.caddy.get(APP, "/echo/forged", *fields)
    assert b"edge-time" not in response.body.lower()
    line = await logged.line(lambda line: line["path"] == "/echo/forged")
    assert line["edge"] < 10


async def test_a_backend_that_is_down(logged: Logged) -> None:
    response = await logged.stack.caddy.get(DOWN, "/two")
    line = await logged.line(lambda line: line["host"] == DOWN and line["path"] == "/two")
    assert (line["status"], line["error"]) == (502, response.error_code)
    assert line["ended_by"] == "backend" and "backend" not in line


async def test_a_websocket_has_a_line_at_its_end(logged: Logged) -> None:
    async with logged.stack.caddy.websocket(WS, "/socket", compression=None) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        socket.transport.abort()
    line = await logged.line(lambda line: line["path"] == "/socket")
    assert (line["status"], line["ended_by"]) == (101, "connection")
    assert (line["received"], line["sent"]) == (11, 7)


async def test_lines_are_written_before_the_server_ends(
    logged: Logged, tmp_path: Path, authority: Authority
) -> None:
    sections = {"access_log": {"output": "last.log", "format": "console"}}
    async with Stack(tmp_path, authority, agents={}, with_caddy=False, sections=sections) as stack:
        await stack.api.get("other.localhost", "/last")
        await stack.server.stop()
    (line,) = (tmp_path / "last.log").read_text().splitlines()
    assert " 404 GET https://other.localhost/last " in line
    assert "error=unknown_host" in line and "ended_by=server" in line
