"""Tests of certificates that live for seconds: renewal, expiry, recovery, messages."""

import asyncio
import contextlib
import datetime
import itertools
import os
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.commands import Commands
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.db import agents, certificates
from zerotrust.db.database import Database
from zerotrust.pki import ca_directory, csr, keys
from zerotrust.pki.identity import serial_of
from zerotrust.pki.issuer import ServerNames

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("certificates"),
]

LIFE = int(os.environ.get("CERTIFICATE_SECONDS", "10"))
"""Lifetime of a certificate in seconds; 60 for a long run."""
ROTATIONS = int(os.environ.get("CERTIFICATE_ROTATIONS", "2"))
"""Rotations of each agent and of the server."""
AGENTS = ("agent-a", "agent-b", "agent-c")
SOCKETS = 6
"""WebSockets of each agent."""


class Scenario:
    """A server with an authority, whose certificates live for seconds."""

    def __init__(
        self, folder: Path, origin: Origin, echo: WsEcho, *names: str, with_caddy: bool = False
    ) -> None:
        self.authority = Authority(folder / "pki")
        issuer = {
            "cert_file": str(self.authority.folder / "issuer.crt"),
            "key_file": str(self.authority.folder / "issuer.key"),
            "agent_lifetime": f"{LIFE}s",
            "server_lifetime": f"{LIFE}s",
        }
        self.issue_server()
        for name in names:
            # The first one is to be good still when all processes have started, on a busy machine
            # too.
            self.issue(name, life=timedelta(seconds=2 * LIFE))
        self.stack = Stack(
            folder,
            self.authority,
            agents={
                name: [
                    service(f"{name}.localhost", origin.port),
                    service(f"ws-{name}.localhost", echo.port),
                ]
                for name in names
            },
            with_caddy=with_caddy,
            sections={"authority": issuer},
        )
        self.command = Commands(folder / "state" / "admin.sock")

    def issue(self, name: str, *, life: timedelta, ago: timedelta = timedelta(0)) -> str:
        """The serial of a certificate that the agent's files hold then."""
        made, folder = csr.create(), self.authority.folder
        moment = datetime.datetime.now(UTC) - ago
        issued = ca_directory.load_authority(folder).issue_agent(name, made.pem, life, moment)
        keys.write(folder / f"{name}.crt", issued.chain_pem, mode=keys.PUBLIC, replace=True)
        keys.write(folder / f"{name}.key", keys.to_pem(made.key), mode=keys.PRIVATE, replace=True)
        return issued.serial

    def issue_server(self) -> None:
        made, folder = csr.create(), self.authority.folder
        names = ServerNames(dns=["localhost"], ip=["127.0.0.1"])
        life = timedelta(seconds=2 * LIFE)
        issued = ca_directory.load_authority(folder).issue_server(
            made.pem, names, life, datetime.datetime.now(UTC)
        )
        keys.write(folder / "server.crt", issued.chain_pem, mode=keys.PUBLIC, replace=True)
        keys.write(folder / "server.key", keys.to_pem(made.key), mode=keys.PRIVATE, replace=True)

    def serial(self, name: str) -> str:
        """Return the serial number of the certificate that is in the files now."""
        return serial_of(ca_directory.load_certificate(self.authority.folder / f"{name}.crt"))


@pytest.fixture
async def backends(tmp_path: Path) -> AsyncIterator[tuple[Origin, WsEcho]]:
    async with Origin(tmp_path) as origin, WsEcho(tmp_path) as echo:
        yield origin, echo


async def rotations(scenario: Scenario, name: str, count: int) -> set[str]:
    """The serials that the files of a name hold, one after the other."""
    seen = {scenario.serial(name)}
    async with asyncio.timeout(LIFE * (count + 4)):
        while len(seen) <= count:
            await asyncio.sleep(0.1)
            with contextlib.suppress(Exception):
                seen.add(scenario.serial(name))
    return seen


async def test_rotations_under_load_disturb_nobody(
    tmp_path: Path, backends: tuple[Origin, WsEcho], measured: Measured
) -> None:
    scenario = Scenario(tmp_path / "s", *backends, *AGENTS, with_caddy=True)
    stop = asyncio.Event()
    requests = messages = 0

    async def ask(name: str) -> None:
        nonlocal requests
        async with await scenario.stack.caddy.open(f"{name}.localhost") as client:
            while not stop.is_set():
                assert (await client.request("GET", "/echo")).status == 200
                requests += 1
                await asyncio.sleep(0.02)

    async def talk(name: str) -> None:
        nonlocal messages
        async with scenario.stack.caddy.websocket(f"ws-{name}.localhost") as socket:
            for number in itertools.count():
                if stop.is_set():
                    return
                await socket.send(text := f"message {number}")
                assert await socket.recv() == text
                messages += 1
                await asyncio.sleep(0.15)

    async with scenario.stack:

        async def both() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (
                await scenario.command("agents", "list", "--json")
            ).json()["agents"]
            return found if all(len(agent["sessions"]) == 2 for agent in found) else []

        sessions = await eventually(both, "each agent has both connections")
        async with asyncio.TaskGroup() as group:
            for name in AGENTS:
                group.create_task(ask(name))
                for _ in range(SOCKETS):
                    group.create_task(talk(name))
            names = [*AGENTS, "server"]
            seen = await asyncio.gather(*(rotations(scenario, name, ROTATIONS) for name in names))
            stop.set()
        after = (await scenario.command("agents", "list", "--json")).json()["agents"]
    generations = [[session["generation"] for session in agent["sessions"]] for agent in sessions]
    assert [
        [session["generation"] for session in agent["sessions"]] for agent in after
    ] == generations
    total = sum(len(serials) - 1 for serials in seen)
    assert all(len(serials) > ROTATIONS for serials in seen)
    measured(
        f"{total} rotations of certificates of {LIFE} s beside {requests} requests and {messages}"
        f" messages on {SOCKETS * len(AGENTS)} WebSockets: none failed, none closed, no new session"
    )


async def test_an_agent_whose_certificate_has_ended_comes_back(
    tmp_path: Path, backends: tuple[Origin, WsEcho]
) -> None:
    """As after a month in which the server was off."""
    scenario = Scenario(tmp_path / "s", *backends, "away", "revoked", "unknown")
    known = {}
    for name in ("away", "revoked", "unknown"):
        known[name] = scenario.issue(name, life=timedelta(seconds=1), ago=timedelta(minutes=1))
    database = Database.open(f"sqlite:///{scenario.stack.folder}/state/state.db")
    with database.transaction() as session:
        for name in ("away", "revoked"):
            agents.ensure(session, name, now=1)
            now = int(datetime.datetime.now(UTC).timestamp())
            certificates.add(session, name, known[name], not_after=now - 59, now=now - 60)
    database.close()
    server, clients = (
        scenario.stack.server,
        {name: agent.process for name, agent in scenario.stack.agents.items()},
    )
    async with server:
        await scenario.stack.wait_server()
        await server.wait_line("server ready")
        assert (await scenario.command("agents", "revoke", "revoked", "--reason", "test")).code == 0
        async with clients["away"], clients["revoked"], clients["unknown"]:
            await eventually(lambda: _serves(scenario, "away.localhost"), "the agent is back")
            await server.wait_line("expired certificate renewed.*away")
            assert scenario.serial("away") != known["away"]
            await clients["revoked"].wait_line(
                "certificate expired and could not be renewed.*revoked; ask the administrator of"
                " the server"
            )
            await clients["unknown"].wait_line(
                "certificate expired and could not be renewed.*not issued here"
            )
            await server.wait_line("renewal of an expired certificate refused.*not issued here")
            for name in ("revoked", "unknown"):
                assert not await _serves(scenario, f"{name}.localhost")
                assert scenario.serial(name) == known[name]
    for process in (server, *clients.values()):
        assert "Traceback" not in process.text()


async def _serves(scenario: Scenario, host: str) -> bool:
    return (await scenario.stack.api.get(host, "/echo")).status == 200
