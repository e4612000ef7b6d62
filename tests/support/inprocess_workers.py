"""The workers of one server in the test's own process, without their parent and Caddy."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.inprocess_stack import StackFiles
from zerotrust.db.state_dir import open_database
from zerotrust.model.server import ServerConfig
from zerotrust.net.descriptor_passing import (
    Connection,
    ParentChannel,
    WorkerChannel,
    WorkerListener,
)
from zerotrust.net.tasks import Tasks
from zerotrust.server.app import Server
from zerotrust.server.identity.worker_slot import AGENTS, WorkerSlot


@dataclass
class RunningWorkers:
    """Running workers.

    Attributes:
        config: that of the whole server.
        handed: descriptors of the channels by worker, for connections to other listeners.
    """

    config: ServerConfig
    servers: list[Server]
    channels: list[WorkerChannel]

    def sessions(self) -> list[int]:
        """Return the number of sessions of each worker."""
        return [len(server.agents.registry.sessions) for server in self.servers]

    async def get(self, worker: int, host: str) -> bytes:
        """Send a request to the socket of a worker; return the answer."""
        path = self.config.worker_address(worker).removeprefix("unix:")
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Real-IP: 203.0.113.7\r\n"
            "X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n".encode()
        )
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def serving_workers(files: StackFiles, count: int = 2) -> AsyncIterator[RunningWorkers]:
    """Run workers, and listen for agents as their parent does."""
    config = files.server(
        server={"workers": count},
        api={"listen_addr": f"unix:{files.folder / 'api'}"},
    )
    async with contextlib.AsyncExitStack() as stack:
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        servers, channels = [], []
        for index in range(count):
            channel = WorkerChannel()
            stack.callback(channel.close)
            slot = WorkerSlot(index, count, os.dup(channel.descriptor))
            own = slot.config(config)
            database = open_database(own.state, shared=True)
            stack.callback(database.close)
            handed = ParentChannel(slot.descriptor, ended=lambda: None)
            server = Server(own, database, tasks, slot=slot, handed=handed)
            stack.push_async_callback(server.close)
            await server.start()
            servers.append(server)
            channels.append(channel)

        def hand(worker: int, connection: Connection) -> None:
            with connection:
                channels[worker].hand(AGENTS, connection)

        listener = WorkerListener(hand, refused=lambda *_: None, tasks=tasks)
        listening = listener.listen(config.server.listen_addr, key="server.listen_addr")
        stack.push_async_callback(listening.close)
        yield RunningWorkers(config, servers, channels)
