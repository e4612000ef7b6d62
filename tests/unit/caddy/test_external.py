"""Tests of zerotrust.caddy.external."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.waiting import eventually
from zerotrust.caddy.edge import Edge
from zerotrust.caddy.external import ExternalCaddy, adopt, refuse_foreign
from zerotrust.caddy.render import render
from zerotrust.errors import CaddyError
from zerotrust.model.server import Caddy, ServerConfig

EXTERNAL = ServerConfig.model_validate({"caddy": {"mode": "external"}})
FOREIGN: dict[str, Any] = {"apps": {"http": {"servers": {"blog": {"listen": [":80"]}}}}}


def test_admin_and_storage_of_an_external_caddy_are_kept() -> None:
    existing = {
        "admin": {"listen": "0.0.0.0:2019"},
        "storage": {"module": "redis"},
        "logging": {},
        **FOREIGN,
    }
    merged = adopt(render(EXTERNAL), existing)
    assert merged["admin"] == {"listen": "0.0.0.0:2019"}
    assert merged["storage"] == {"module": "redis"}
    assert merged["apps"] == render(EXTERNAL)["apps"]


def test_configured_storage_wins() -> None:
    told = ServerConfig.model_validate(
        {"caddy": {"mode": "external", "storage_dir": "/var/lib/caddy"}}
    )
    assert (
        adopt(render(told), {"storage": {"module": "redis"}})["storage"]["root"] == "/var/lib/caddy"
    )


@pytest.mark.parametrize("existing", [None, {}])
def test_missing_sections_are_not_added(existing: dict[str, Any] | None) -> None:
    assert "admin" not in adopt(render(EXTERNAL), existing)
    assert "storage" not in adopt(render(EXTERNAL), existing)


def test_a_foreign_configuration_is_refused() -> None:
    with pytest.raises(
        CaddyError, match="localhost:2019 runs a configuration that is not 0Trust's"
    ):
        refuse_foreign(FOREIGN, EXTERNAL.caddy)


@pytest.mark.parametrize("existing", [None, {}, {"admin": {}}, render(EXTERNAL)])
def test_an_empty_or_own_configuration_may_be_replaced(existing: dict[str, Any] | None) -> None:
    refuse_foreign(existing, EXTERNAL.caddy)


def test_a_foreign_configuration_is_replaced_if_permitted() -> None:
    refuse_foreign(FOREIGN, Caddy(mode="external", replace_existing_config=True))


class AdminServer:
    """The admin API of an external Caddy, with the configuration that it runs."""

    def __init__(self, address: str) -> None:
        self.config = ServerConfig.model_validate(
            {"caddy": {"mode": "external", "admin_api": address}}
        )
        self.running: dict[str, Any] | None = None
        self.loads = self.reads = 0
        self.refuses = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        except asyncio.IncompleteReadError:  # the watch ends while it connects
            writer.close()
            return
        status, answer = 200, b""
        if head.startswith("get"):
            self.reads += 1
            answer = json.dumps(self.running).encode()
        else:
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = await reader.readexactly(length)
            if self.refuses:
                status, answer = 400, b'{"error":"not this"}'
            else:
                self.loads += 1
                self.running = json.loads(body)
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(answer)))
        writer.write(answer)
        writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AdminServer]:
    found = AdminServer(f"unix:{tmp_path}/admin.sock")
    async with await asyncio.start_unix_server(found.serve, tmp_path / "admin.sock"):
        yield found


@pytest.mark.anyio
async def test_an_external_caddy_is_configured_and_keeps_it(server: AdminServer) -> None:
    server.running = {"storage": {"module": "redis"}}
    wanted = adopt(render(server.config), server.running)
    async with Edge(server.config) as edge:
        assert server.running == wanted
        await edge.apply(server.config)
        assert edge.pid is None
    assert (server.running, server.loads) == (wanted, 1)


@pytest.mark.anyio
async def test_a_change_is_applied_but_not_another_address(server: AdminServer) -> None:
    changed, elsewhere = (
        server.config.model_copy(update={"caddy": server.config.caddy.model_copy(update=keys)})
        for keys in ({"https_port": 8443}, {"admin_api": "localhost:1"})
    )
    async with ExternalCaddy(server.config) as caddy:
        await caddy.apply(changed)
        assert server.running == adopt(render(changed), None)
        with pytest.raises(CaddyError, match=r"caddy\.admin_api needs a restart"):
            await caddy.apply(elsewhere)
    assert server.loads == 2


@pytest.mark.anyio
async def test_an_external_caddy_that_restarts_is_configured_again(server: AdminServer) -> None:
    async with ExternalCaddy(server.config, watch_interval=0.01):
        server.running = None
        await eventually(lambda: server.running, "Caddy is configured again")
        assert server.running == adopt(render(server.config), None)


@pytest.mark.anyio
async def test_a_caddy_that_refuses_is_logged_once_until_it_accepts(server: AdminServer) -> None:
    with capture_logs() as logs:
        async with ExternalCaddy(server.config, watch_interval=0.01):
            for _ in range(2):
                server.refuses, server.running, server.reads = True, None, 0
                await eventually(lambda: server.reads > 2, "it was tried again")
                server.refuses = False
                await eventually(lambda: server.running, "Caddy is configured again")
    errors = [entry["reason"] for entry in logs if entry["log_level"] == "error"]
    assert errors == ["Caddy refused POST /load: not this"] * 2


@pytest.mark.anyio
async def test_a_foreign_configuration_stays_at_the_start(server: AdminServer) -> None:
    server.running = FOREIGN
    with pytest.raises(CaddyError, match="a configuration that is not 0Trust's"):
        await ExternalCaddy(server.config).__aenter__()
    assert server.running == FOREIGN
