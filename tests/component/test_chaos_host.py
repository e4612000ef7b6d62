"""Tests of faults of the machine: Caddy is killed, disks are full, clocks jump.

`CHAOS=full` runs the long forms.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from websockets.exceptions import ConnectionClosed

from tests.component.test_chaos import APP, FULL, HTTPS, WS, Load, scene_of
from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.clock import Clock
from tests.support.commands import Commands
from tests.support.disk import Disk
from tests.support.processes import Process
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.caddy.process import FIRST_DELAY
from zerotrust.pki import ca_directory, csr, keys

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
]

SOCKETS = 20
HOUR = 3600


# Caddy


START = 4.0
"""Limit in seconds for Caddy's restart, with a backoff that doubles after each crash."""


def caddy_of(server: Process) -> int:
    """The process id of the server's Caddy."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    (found,) = (
        int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "caddy"
    )
    return found


async def test_a_caddy_that_is_killed(tmp_path: Path, measured: Measured) -> None:
    loop = asyncio.get_running_loop()
    async with Origin(tmp_path) as origin, WsEcho(tmp_path) as ws:
        services = [service(APP, origin.port), service(WS, ws.port)]
        stack = Stack(tmp_path / "stack", Authority(tmp_path / "pki"), agents={"agent-1": services})
        command = Commands(tmp_path / "stack" / "state" / "admin.sock")
        async with stack:

            async def connected() -> bool:
                return len(await sessions_of(command)) == 2

            await eventually(connected, "both connections are there")
            before = await sessions_of(command)
            agent, since = (
                stack.agents["agent-1"].process,
                stack.agents["agent-1"].process.position(),
            )
            slowest = 0.0
            for death in range(5 if FULL else 2):
                sockets = [
                    await stack.caddy.websocket(WS, close_timeout=0.1) for _ in range(SOCKETS)
                ]
                uploads = [await stack.caddy.open(APP) for _ in range(4)]
                for upload in uploads:
                    await upload.send_head("POST", "/upload", [("Content-Length", "10000000")])
                    await upload.send(random.randbytes(1_000_000))
                os.kill(caddy_of(stack.server), signal.SIGKILL)
                killed_at = loop.time()
                ends = await asyncio.gather(*(end_of(socket) for socket in sockets))
                assert ends == [1006] * SOCKETS, "the connection just broke"
                for upload in uploads:
                    with pytest.raises((OSError, EOFError)):
                        await upload.read_response()
                    upload.abort()
                await eventually(lambda: serves(stack), "it is served again", 20)
                took = loop.time() - killed_at
                assert took < START + 1.5 * FIRST_DELAY * 2**death
                slowest = max(slowest, took)
                async with stack.caddy.websocket(WS) as socket:
                    await socket.send("after")
                    assert await socket.recv() == "after"
                await eventually(
                    lambda: idle(command), "what was under way is given up at the agent", 10
                )
            assert await sessions_of(command) == before, "no tunnel has noticed"
            assert "connect" not in agent.text(since)
            measured(
                f"Caddy killed: {SOCKETS} WebSockets and 4 uploads broke off, served again in"
                f" {slowest:.1f} s"
            )


async def end_of(socket: Any) -> int | None:
    """The code with which a WebSocket ends."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionClosed):
            await socket.recv()
    code: int | None = socket.close_code
    return code


async def serves(stack: Stack) -> bool:
    with contextlib.suppress(OSError, EOFError):
        return (await stack.caddy.get(APP, "/bytes/5")).status == 200
    return False


async def sessions_of(command: Commands) -> list[tuple[str, int]]:
    listed = (await command("agents", "list", "--json")).json()["agents"]
    return [
        (agent["id"], session["generation"]) for agent in listed for session in agent["sessions"]
    ]


async def idle(command: Commands) -> bool:
    listed = (await command("agents", "list", "--json")).json()["agents"]
    return not any(session["streams"] for agent in listed for session in agent["sessions"])


# Disks


LIFE = 90 if FULL else 50
"""Seconds for which a certificate is good: enough for another try, ten seconds after the first."""
AGE = 12
"""Seconds since it was issued: the agent renews it after two thirds of its life."""


@contextlib.asynccontextmanager
async def under_load(
    folder: Path, *, sections: dict[str, Any], credentials: tuple[Path, Path] | None = None
) -> AsyncIterator[tuple[Stack, Load]]:
    """Run a server with these sections, an agent with these credentials, and a load."""
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        agents = {"agent-1": [service(APP, origin.port), service(WS, ws.port)]}
        authority = Authority(folder / "pki")
        stack = Stack(
            folder / "stack", authority, agents=agents, with_caddy=False, sections=sections
        )
        if credentials is not None:
            certificate, key = credentials
            agent = stack.agents["agent-1"]
            issue(authority, certificate, key)
            agent.set_up(
                server={**agent.config["server"], "cert": str(certificate), "key": str(key)}
            )
        async with stack, Load(stack, sockets=SOCKETS, uploads=2).running() as load:
            yield stack, load


def issuing(folder: Path) -> dict[str, Any]:
    """The section with which a server issues certificates, itself under `folder`."""
    issuer = folder / "pki" / "issuer"
    return {"authority": {"cert_file": f"{issuer}.crt", "key_file": f"{issuer}.key"}}


def issue(authority: Authority, certificate: Path, key: Path) -> None:
    """A certificate that the agent has to renew soon."""
    made = csr.create()
    issuer = ca_directory.load_authority(authority.folder)
    issued_at = datetime.now(UTC) - timedelta(seconds=AGE)
    issued = issuer.issue_agent("agent-1", made.pem, timedelta(seconds=LIFE), issued_at)
    keys.write(certificate, issued.chain_pem, mode=keys.PUBLIC, replace=False)
    keys.write(key, keys.to_pem(made.key), mode=keys.PRIVATE, replace=False)


async def test_a_full_disk_at_the_server(tmp_path: Path) -> None:
    """Its database, its log, the folder of its socket."""
    with Disk(tmp_path / "disk") as disk:
        log = disk.place / "server.log"
        sections = {
            "state": {"dir": str(disk.place / "state")},
            "logging": {"level": "info", "output": str(log)},
        }
        async with under_load(tmp_path, sections=sections) as (stack, load):
            command = Commands(disk.place / "state" / "admin.sock")
            assert (await command("grants", "add", "home", "before.example")).code == 0
            disk.fill()
            uploads = load.uploads
            refused = await command("grants", "add", "home", "refused.example")
            assert refused.code != 0
            assert "the disk is full; nothing was changed" in refused.err
            assert (await command("agents", "list")).code == 0, "what only reads goes on"
            for number in range(200):  # each with a line in the log
                assert (
                    await stack.api.get(f"unknown-{number}.localhost", "/", HTTPS)
                ).status == 404
            await load.all_heard(asyncio.get_running_loop().time())
            await eventually(lambda: load.uploads > uploads, "uploads go on", 20)
            disk.clear()
            assert (await command("grants", "add", "home", "after.example")).code == 0
            hosts = {
                one["host"] for one in (await command("grants", "list", "--json")).json()["grants"]
            }
            assert {"before.example", "after.example"} <= hosts
            assert "refused.example" not in hosts
            assert (await command("audit", "verify")).code == 0
            await stack.api.get("logged-again.localhost", "/", HTTPS)
            await eventually(
                lambda: "logged-again.localhost" in log.read_text(), "the log goes on", 5
            )
            load.untouched()


async def test_a_full_disk_at_the_agent(tmp_path: Path) -> None:
    """The new certificate cannot be stored: the old one stays intact and valid."""
    with Disk(tmp_path / "disk") as disk:
        certificate, key = disk.place / "agent.crt", disk.place / "agent.key"
        async with under_load(
            tmp_path, sections=issuing(tmp_path), credentials=(certificate, key)
        ) as (stack, load):
            agent = stack.agents["agent-1"].process
            before = (certificate.read_bytes(), key.read_bytes())
            disk.fill()
            await agent.wait_line("certificate not renewed.*cannot write", timeout=LIFE)
            assert (certificate.read_bytes(), key.read_bytes()) == before
            await load.all_heard(asyncio.get_running_loop().time())
            disk.clear()
            await agent.wait_line("certificate renewed", timeout=LIFE)
            assert certificate.read_bytes() != before[0]
            assert (
                ca_directory.load_certificate(certificate).public_key()
                == keys.read_key(key).public_key()
            )
            await load.all_heard(asyncio.get_running_loop().time())
            load.untouched()
            assert "Traceback" not in agent.text()


# Clocks


SECRET = "a secret of at least thirty-two bytes"
TOKEN, RARE = "token.localhost", "rare.localhost"


async def test_clocks_that_are_set(tmp_path: Path, measured: Measured) -> None:
    """The clock jumps by an hour at one or both ends: sessions, timers and limits are monotonic."""
    clocks = {}
    for name in ("server", "agent"):
        (tmp_path / name).mkdir()
        clocks[name] = Clock(tmp_path / name)
    auth = {"type": "jwt", "config": {"algorithm": "HS256", "secret": SECRET}}
    limit = {"handle": [{"type": "rate_limit", "config": {"rate": "2/hour"}}]}
    loop = asyncio.get_running_loop()

    def dress(stack: Stack) -> None:
        agent = stack.agents["agent-1"]
        port = agent.services[0]["upstreams"][0]["address"].rpartition(":")[2]
        more = [
            service(TOKEN, int(port), security={"auth": auth}),
            service(RARE, int(port), routes=[limit]),
        ]
        agent.set_up(services=[*agent.services, *more])
        stack.server.argv[:0] = clocks["server"].command
        agent.process.argv[:0] = clocks["agent"].command

    async with scene_of(
        tmp_path, sockets=SOCKETS, uploads=2, sections=issuing(tmp_path), dress=dress
    ) as scenario:
        stack, load = scenario.stack, scenario.load
        command = Commands(stack.folder / "state" / "admin.sock")
        expires = time.time() + HOUR / 2
        token = jwt.encode({"alg": "HS256"}, {"exp": expires}, OctKey.import_key(SECRET))
        assert (
            await command(
                "tokens", "create", "--agent", "new", "--host", "n.example", "--expires", "10m"
            )
        ).code == 0
        before = await sessions_of(command)

        async def passes() -> bool:
            return (
                await stack.api.get(TOKEN, "/bytes/5", HTTPS, ("Authorization", f"Bearer {token}"))
            ).status == 200

        assert [(await stack.api.get(RARE, "/", HTTPS)).status for _ in range(3)] == [200, 200, 429]
        steps = [("server", HOUR), ("agent", HOUR), ("server", 0), ("agent", 0)]
        for name, seconds in steps * (3 if FULL else 1):
            clocks[name].set(seconds)
            since = loop.time()
            ahead = clocks["server"].seconds > 0
            assert await passes() is not ahead, "a token ends by the time of day"
            (shown,) = (await command("tokens", "list", "--json")).json()["tokens"]
            assert shown["state"] == ("expired" if ahead else "open")
            assert (await stack.api.get(RARE, "/", HTTPS)).status == 429, "a limit does not"
            await load.all_heard(since)
            scenario.network.reset()
            await load.all_heard(loop.time())
        assert await sessions_of(command) == before, "the certificates are good for longer"
        since_line = stack.server.position()
        scenario.network.swallow()
        for clock in clocks.values():
            clock.set(HOUR)
        await stack.server.wait_line(
            "agent disconnected; session kept for resume", since=since_line
        )
        async with await stack.api.open(APP) as client:
            await client.send_head("GET", "/bytes/5", [HTTPS])
            for clock in clocks.values():
                clock.set(0)
            since = loop.time()
            scenario.network.give_back()
            p99 = await load.all_heard(since)
            assert (await client.read_response()).status == 200, "it was waited for as long as ever"
        assert await sessions_of(command) == before
        for process in (stack.server, scenario.agent.process):
            assert latest_of(process) > datetime.now(UTC) + timedelta(minutes=55), (
                "its clock was another one"
            )
        measured(
            f"clocks set by an hour, {len(steps)} times and while a link is away: recovery p99"
            f" {p99:.2f} s"
        )
        load.untouched()


def latest_of(process: Process) -> datetime:
    """The latest time in a log."""
    return max(map(datetime.fromisoformat, re.findall(r"^20\S+Z", process.text(), re.MULTILINE)))
