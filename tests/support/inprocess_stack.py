"""Server without Caddy, agent and backend in the test's own process, with certificates."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.client import Client
from tests.support.ports import free_port
from zerotrust.agent.app import Agent
from zerotrust.config import diff
from zerotrust.config.diff import Changes
from zerotrust.db.state_dir import open_database
from zerotrust.model.agent import AgentConfig
from zerotrust.model.server import ServerConfig
from zerotrust.net.tasks import Tasks
from zerotrust.pki.ca_directory import create_authority, issue_agent, issue_server
from zerotrust.pki.issuer import ServerNames
from zerotrust.server.app import Server


class StackFiles:
    """A folder with an authority, the certificates "server" and "home", and configurations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        create_authority(folder)
        self.issue()
        self.tunnel_port, self.api_port = free_port(), free_port()

    def issue(self) -> None:
        """Replace the certificates by new ones."""
        issue_server(
            self.folder, "server", ServerNames(dns=["localhost"], ip=["127.0.0.1"]), force=True
        )
        issue_agent(self.folder, "home", force=True)

    def server(self, **sections: Any) -> ServerConfig:
        server, api, caddy = (sections.pop(name, {}) for name in ("server", "api", "caddy"))
        names = {"cert_file": "server.crt", "key_file": "server.key", "ca_file": "ca.crt"}
        own = {key: str(self.folder / name) for key, name in names.items()}
        return ServerConfig.model_validate(
            {
                "server": {"listen_addr": f"127.0.0.1:{self.tunnel_port}", **own, **server},
                "api": {"listen_addr": f"127.0.0.1:{self.api_port}", **api},
                "caddy": {"mode": "none", **caddy},
                "grants": {"home": ["*.example.com"]},
                "state": {"dir": str(self.folder / "state")},
                **sections,
            }
        )

    def agent(self, *services: dict[str, Any], **sections: dict[str, Any]) -> AgentConfig:
        names = {"cert": "home.crt", "key": "home.key", "ca_cert": "ca.crt"}
        own = {key: str(self.folder / name) for key, name in names.items()}
        address = {
            "address": f"127.0.0.1:{self.tunnel_port}",
            "server_name": "localhost",
            "connections": 1,
            "transport": "direct",
        }
        return AgentConfig.model_validate(
            {
                "server": {**address, **own, **sections.pop("server", {})},
                "services": list(services),
                **sections,
            }
        )


class Backend:
    """Answer requests with a name, /wait only once `go` is set; upgrades become an echo."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.go = asyncio.Event()
        self.waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Backend"]:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"\r\nUpgrade:" in head:
                    asked = head.partition(b"\r\nUpgrade: ")[2].partition(b"\r\n")[0]
                    switch = (
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade:"
                        b" %b\r\n\r\n"
                    )
                    writer.write(switch % asked)
                    while data := await reader.read(1000):
                        writer.write(data)
                    break
                if b" /wait " in head:
                    self.waiting += 1
                    await self.go.wait()
                body = self.name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@dataclass
class RunningServer:
    """A running server, its files and its configuration."""

    files: StackFiles
    server: Server
    config: ServerConfig
    port: int

    async def change(self, config: ServerConfig, *files: str) -> list[str]:
        """Apply another configuration; return the keys that take effect later."""
        waiting = await self.server.apply(config, diff.compare(self.config, config, files=files))
        self.config = config
        return waiting

    async def open(self, host: str, port: int | None = None) -> Client:
        return await Client.open(port or self.files.api_port, host=host)

    async def status(self, host: str, port: int | None = None) -> int:
        async with await self.open(host, port) as client:
            return (await client.get("/")).status


@contextlib.asynccontextmanager
async def serving(
    files: StackFiles, config: ServerConfig | None = None
) -> AsyncIterator[RunningServer]:
    """Run a server."""
    config = config or files.server()
    database, tasks = open_database(config.state), Tasks()
    server = Server(config, database, tasks)
    try:
        await server.start()
        yield RunningServer(files, server, config, files.api_port)
    finally:
        await server.close()
        await tasks.close()
        database.close()


@dataclass
class RunningAgent:
    """A running agent and its configuration."""

    agent: Agent
    config: AgentConfig
    changes: list[Changes] = field(default_factory=list)

    async def change(self, config: AgentConfig, *files: str) -> list[str]:
        """Apply another configuration; return the keys that take effect later."""
        waiting = await self.agent.apply(config, diff.compare(self.config, config, files=files))
        self.config = config
        return waiting


@contextlib.asynccontextmanager
async def dialling(config: AgentConfig) -> AsyncIterator[RunningAgent]:
    """Run an agent."""
    tasks = Tasks()
    agent = Agent(config, tasks)
    tasks.spawn(agent.run(), "agent")
    try:
        yield RunningAgent(agent, config)
    finally:
        await agent.close()
        await tasks.close()
