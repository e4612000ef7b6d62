"""Tests of reloads under load: unrelated traffic goes on, each change is one log line."""

import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.config_file import PARTLY, REFUSED, RELOADED, ConfigFile
from tests.support.entrypoint import Entrypoint
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.stack import Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.pki.ca_directory import issue_agent, issue_server
from zerotrust.pki.issuer import ServerNames

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(90),
    pytest.mark.xdist_group("reload"),
]

APP, WS, SECURE = "app.localhost", "ws.localhost", "secure.localhost"


class Scenario:
    """A stack with the files of server and agent."""

    def __init__(self, stack: Stack, origin: Origin, ws: WsEcho) -> None:
        self.stack = stack
        self.origin = origin
        self.ws = ws
        agent = stack.agents["agent-1"]
        self.agent = ConfigFile(agent.process, agent.path, agent.config)
        path = stack.folder / "server.yaml"
        self.server = ConfigFile(stack.server, path, json.loads(path.read_text()))
        self.backend_ca = stack.folder / "backend-ca.crt"
        shutil.copy(stack.authority.root, self.backend_ca)


@pytest.fixture(scope="module")
async def scenario(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scenario]:
    folder = tmp_path_factory.mktemp("reload")
    authority = Authority(folder / "pki")
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        secure = service(
            SECURE,
            origin.port,
            protocol="https",
            tls={"ca_file": str(folder / "stack" / "backend-ca.crt")},
        )
        services = [service(APP, origin.port), service(WS, ws.port), secure]
        stack = Stack(folder / "stack", authority, agents={"agent-1": services})
        made = Scenario(stack, origin, ws)
        async with stack:
            yield made


class Load:
    """Clients of APP and WS; descriptions of failures are in `failures`."""

    def __init__(self, entrypoint: Entrypoint) -> None:
        self.entrypoint = entrypoint
        self.requests = self.messages = 0
        self.failures: list[str] = []
        self._stop = asyncio.Event()
        self._sockets: list[ClientConnection] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        self._sockets = [await self.entrypoint.websocket(WS, "/hash") for _ in range(20)]
        clients = [self._watched(self._get(), "GET") for _ in range(4)]
        clients += [self._watched(self._post(), "POST") for _ in range(2)]
        clients += [self._watched(self._talk(one), "WebSocket") for one in self._sockets]
        tasks = [asyncio.create_task(one) for one in clients]
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)
            for one in self._sockets:
                await one.close()

    async def _watched(self, work: Any, name: str) -> None:
        try:
            await work
        except (AssertionError, OSError, EOFError, TimeoutError, ConnectionClosed) as error:
            self.failures.append(f"{name}: {error!r}")

    async def _get(self) -> None:
        """One connection, kept alive."""
        async with await self.entrypoint.open(APP) as client:
            while not self._stop.is_set():
                response = await client.get("/bytes/2000")
                assert response.status == 200 and len(response.body) == 2000, response
                self.requests += 1
                await asyncio.sleep(0.03)

    async def _post(self) -> None:
        """Bodies of all sizes; the backend says what it got."""
        async with await self.entrypoint.open(APP) as client:
            while not self._stop.is_set():
                body = random.randbytes(random.choice((1, 1000, 100_000)))
                response = await client.request("POST", "/upload", body=body)
                assert response.status == 200, response
                assert response.json()["sha256"] == hashlib.sha256(body).hexdigest()
                self.requests += 1
                await asyncio.sleep(0.03)

    async def _talk(self, socket: ClientConnection) -> None:
        """Messages, and in the end the same hash on both sides."""
        digest, count = hashlib.sha256(), 0
        while not self._stop.is_set():
            message = random.randbytes(random.choice((1, 200, 5000)))
            async with asyncio.timeout(15):
                await socket.send(message)
                assert await socket.recv() == message
            digest.update(message)
            count += 1
            self.messages += 1
            await asyncio.sleep(0.15)
        async with asyncio.timeout(15):
            await socket.send("!digest")
            assert await socket.recv() == f"{count} {digest.hexdigest()}"


def half(file: ConfigFile) -> Callable[[], None]:
    return lambda: file.overwrite(file.text()[: len(file.text()) // 2])


async def broken_and_mended(file: ConfigFile) -> None:
    """Write unusable files: each is refused with its reason, and the former settings return."""
    await file.tell(half(file), "not valid YAML")
    await file.tell(file.overwrite, '"changes": "nothing"')
    await file.tell(lambda: file.by_backup(""), "is empty")
    await file.tell(file.by_backup, '"changes": "nothing"')
    file.config["hot_reload"]["debounce_delay"] = "soon"
    await file.tell(file.replace, 'hot_reload.debounce_delay: invalid duration \\"soon\\"')
    file.config["hot_reload"]["debounce_delay"] = "30ms"
    await file.tell(file.replace, '"changes": "nothing"')


async def change_level(file: ConfigFile) -> None:
    logging = file.config["logging"]
    logging["level"] = "debug" if logging["level"] == "info" else "info"
    await file.tell(file.replace, "settings logging.level")


async def agent_cycle(scenario: Scenario, number: int) -> None:
    file = scenario.agent
    services: list[dict[str, Any]] = file.config["services"]
    host = f"extra-{number}.localhost"

    def add() -> None:
        services.append(service(host, scenario.origin.port))
        file.replace()

    await file.tell(add, f"added {host}")
    services[-1]["timeout"] = "7s"
    await file.tell(file.overwrite, f"changed {host}")
    services[-1]["upstreams"] = [{"address": f"127.0.0.1:{scenario.ws.port}"}]
    await file.tell(file.by_backup, f"changed {host}")
    services[-1]["upstreams"] = 7
    await wrong_service(file, host)
    services.pop()
    await file.tell(file.replace, f"removed {host}")
    await change_level(file)
    await file.tell(file.hang_up, '"changes": "nothing"')
    await file.tell(lambda: renew(scenario.backend_ca), f"files {scenario.backend_ca}")


async def wrong_service(file: ConfigFile, host: str) -> None:
    """The file is otherwise as before: one line says why the service stays as it was."""
    await file.tell(file.replace, f'"event": "{PARTLY}"')
    assert "upstreams" in file.told[-1]["reason"]


def renew(path: Path) -> None:
    """The same certificate with another comment, in the place of the old one."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(f"{path.read_text()}# renewed {time.monotonic()}\n")
    fresh.replace(path)


async def server_cycle(scenario: Scenario, number: int) -> None:
    file = scenario.server
    await change_level(file)
    file.config["api"]["trusted_proxies"] = ["127.0.0.0/8", f"192.0.2.{number}"]
    await file.tell(file.overwrite, "settings api.trusted_proxies")
    file.config["grants"] = {"other": [f"{number}.example.com"]}
    await file.tell(file.by_backup, "settings grants")
    await file.tell(file.hang_up, '"changes": "nothing"')
    file.config["server"]["listen_addr"] = f"127.0.0.1:{free_port()}"
    await file.tell(file.replace, "settings server.listen_addr")
    file.config["server"]["listen_addr"] = f"127.0.0.1:{scenario.stack.tunnel_port}"
    await file.tell(file.replace, "settings server.listen_addr")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file.config["server"]["listen_addr"] = f"127.0.0.1:{taken.getsockname()[1]}"
        await file.tell(file.replace, "server.listen_addr: cannot listen on 127.0.0.1:")
    file.config["server"]["listen_addr"] = f"127.0.0.1:{scenario.stack.tunnel_port}"
    await file.tell(file.replace, '"changes": "nothing"')


async def renew_both(scenario: Scenario) -> None:
    """Both ends' certificates.

    Certificate and key are two files: one reload may see them not belong together.
    """
    folder = scenario.stack.authority.folder
    names = ServerNames(dns=["localhost"], ip=["127.0.0.1"])
    for file, issue in (
        (scenario.server, lambda: issue_server(folder, "server", names, force=True)),
        (scenario.agent, lambda: issue_agent(folder, "agent-1", force=True)),
    ):
        since = file.process.position()
        await asyncio.to_thread(issue)
        await file.process.wait_line(r'"changes": "files ', since=since)


async def has_let_go(program: Process, before: int) -> None:
    """WebSockets keep an older session of the agent; connections to backends vary."""
    await eventually(
        lambda: program.open_files() <= before + 8,
        f"{program.name} has let go of what it opened",
        10,
    )


async def test_two_hundred_reloads_under_load(scenario: Scenario, measured: Measured) -> None:
    begun_at = time.monotonic()
    programs = (scenario.agent.process, scenario.stack.server)
    assert (await scenario.stack.caddy.get(APP, "/bytes/1")).status == 200
    async with Load(scenario.stack.caddy).running() as load:
        await asyncio.gather(agent_cycle(scenario, 0), server_cycle(scenario, 0))
        files = [program.open_files() for program in programs]
        for number in range(1, 19):
            await asyncio.gather(agent_cycle(scenario, number), server_cycle(scenario, number))
            if number % 5 == 0:
                await renew_both(scenario)
                await asyncio.gather(
                    broken_and_mended(scenario.agent), broken_and_mended(scenario.server)
                )
        for program, before in zip(programs, files, strict=True):
            await has_let_go(program, before)
    assert load.failures == []
    reloads = applied = 0
    for file in (scenario.agent, scenario.server):
        lines = file.reloads()
        reloads += len(lines)
        applied += sum(line["event"] == RELOADED and line["changes"] != "nothing" for line in lines)
        # A key pair that is read between its two files is refused, and read again later.
        others = [
            line for line in lines if line not in file.told and line.get("changes") != "nothing"
        ]
        assert all(str(scenario.stack.authority.folder) in str(line) for line in others), others
        assert all(line.get("reason") or line["event"] == RELOADED for line in lines)
        assert "Traceback" not in file.process.text()
    assert applied >= 200
    measured(
        f"{reloads} reloads ({applied} with a change) in {time.monotonic() - begun_at:.0f} s beside"
        f" {load.requests} requests and {load.messages} messages on 20 WebSockets: none failed,"
        " none closed"
    )


async def test_another_level_shows_in_the_log(scenario: Scenario) -> None:
    """The agent logs the opening of a WebSocket at debug only."""
    file = scenario.agent

    async def told_at(level: str) -> bool:
        if file.config["logging"]["level"] != level:
            file.config["logging"]["level"] = level
            await file.tell(file.replace, "settings logging.level")
        since = file.process.position()
        async with scenario.stack.caddy.websocket(WS) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
        return "Detected WebSocket upgrade" in file.process.text(since)

    assert [await told_at(level) for level in ("debug", "info", "debug", "info")] == [
        True,
        False,
        True,
        False,
    ]


async def test_fields_that_pass_change_with_the_file(scenario: Scenario) -> None:
    file, api = scenario.server, scenario.server.config["api"]

    async def passed() -> tuple[str | None, list[str]]:
        """Return the header value that the backend gets and the trailers that the client gets."""
        seen = await scenario.stack.caddy.get(APP, "/echo", ("CF-Connecting-IP", "203.0.113.9"))
        said = await scenario.stack.caddy.get(
            APP, "/trailers?X-Sum=1&X-User=root", ("TE", "trailers")
        )
        fields = {name.lower(): value for name, value in seen.json()["fields"]}
        return fields.get("cf-connecting-ip"), [name for name, _ in said.trailers]

    assert await passed() == (None, [])
    api |= {"pass_headers": ["CF-Connecting-IP"], "pass_trailers": ["X-Sum"]}
    await file.tell(file.replace, "settings api.pass_headers, api.pass_trailers")
    assert await passed() == ("203.0.113.9", ["X-Sum"])
    api["pass_headers"].append("X-Forwarded-For")
    await file.tell(file.replace, "the server itself sets X-Forwarded-For")
    assert await passed() == ("203.0.113.9", ["X-Sum"])
    del api["pass_headers"], api["pass_trailers"]
    await file.tell(file.replace, "settings api.pass_headers, api.pass_trailers")
    assert await passed() == (None, [])


async def test_a_file_of_a_backend_that_cannot_be_used_changes_nothing(scenario: Scenario) -> None:
    good = scenario.backend_ca.read_text()
    await scenario.agent.tell(
        lambda: scenario.backend_ca.write_text("half"), f"{scenario.backend_ca}: cannot be used"
    )
    assert scenario.agent.told[-1]["event"] == REFUSED
    await scenario.agent.tell(lambda: scenario.backend_ca.write_text(good), '"changes": "nothing"')


async def test_a_websocket_of_a_removed_service_is_told(scenario: Scenario) -> None:
    """It has its time, then a Close frame; others go on."""
    services = scenario.agent.config["services"]
    services.append(service("leaving.localhost", scenario.ws.port))
    await scenario.agent.tell(scenario.agent.replace, "added leaving.localhost")
    entrypoint = scenario.stack.caddy
    async with (
        entrypoint.websocket("leaving.localhost") as leaving,
        entrypoint.websocket(WS) as staying,
    ):
        services.pop()
        await scenario.agent.tell(scenario.agent.replace, "removed leaving.localhost")
        await leaving.send("still here")
        assert await leaving.recv() == "still here"
        assert (await scenario.stack.api.get("leaving.localhost", "/")).error_code == "unknown_host"
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed) as closed:
                await leaving.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        await staying.send("hello")
        assert await staying.recv() == "hello"


async def test_everything_listens_elsewhere(scenario: Scenario) -> None:
    """Caddy, proxy API, permission endpoint and agent listener move at once; WebSockets stay."""
    before, entrypoint = dict(scenario.server.config), scenario.stack.caddy
    ports = [free_port() for _ in range(4)]
    async with entrypoint.websocket(WS) as old:
        scenario.server.config |= {
            "server": {**before["server"], "listen_addr": f"127.0.0.1:{ports[0]}"},
            "api": {**before["api"], "listen_addr": f"127.0.0.1:{ports[1]}"},
            "caddy": {
                **before["caddy"],
                "permission_addr": f"127.0.0.1:{ports[2]}",
                "https_port": ports[3],
            },
        }
        keys = "server.listen_addr, api.listen_addr, caddy.https_port, caddy.permission_addr"
        await scenario.server.tell(scenario.server.replace, f"settings {keys}")
        assert scenario.server.told[-1]["waiting"] is None
        scenario.agent.config["server"]["address"] = f"127.0.0.1:{ports[0]}"
        await scenario.agent.tell(scenario.agent.replace, "settings server.address")
        moved = Entrypoint(ports[3], root=scenario.stack.caddy_root)
        assert (await moved.get(APP, "/bytes/1")).status == 200
        async with moved.websocket(WS) as new:
            for one in (old, new):
                await one.send("hello")
                assert await one.recv() == "hello"
        with pytest.raises(ConnectionRefusedError):
            await entrypoint.get(APP, "/bytes/1")
    scenario.server.config.update(before)
    await scenario.server.tell(scenario.server.replace, f"settings {keys}")
    scenario.agent.config["server"]["address"] = before["server"]["listen_addr"]
    await scenario.agent.tell(scenario.agent.replace, "settings server.address")
    assert (await entrypoint.get(APP, "/bytes/1")).status == 200


async def test_what_cannot_be_listened_on_changes_nothing(scenario: Scenario) -> None:
    before = scenario.server.config["caddy"], scenario.server.config["api"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        scenario.server.config["caddy"] = {**before[0], "https_port": taken.getsockname()[1]}
        scenario.server.config["api"] = {**before[1], "listen_addr": f"127.0.0.1:{free_port()}"}
        await scenario.server.tell(scenario.server.replace, "is in use by another program")
    assert (await scenario.stack.caddy.get(APP, "/bytes/1")).status == 200
    scenario.server.config["caddy"], scenario.server.config["api"] = before
    await scenario.server.tell(scenario.server.replace, '"changes": "nothing"')


async def test_what_needs_a_restart_is_said(scenario: Scenario) -> None:
    caddy = scenario.server.config["caddy"]
    caddy["binary"] = "/nowhere/caddy"
    (line,) = await scenario.server.tell(scenario.server.replace, "settings caddy.binary")
    assert line["waiting"] == ["caddy.binary: for a restart"]
    del caddy["binary"]
    (line,) = await scenario.server.tell(scenario.server.replace, "settings caddy.binary")
    assert line["waiting"] is None
    assert (await scenario.stack.caddy.get(APP, "/bytes/1")).status == 200
