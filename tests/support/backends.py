"""Backends as processes, and a port that neither accepts nor refuses."""

import re
import socket
import sys
from pathlib import Path
from typing import Any, Self

from tests.support.entrypoint import Entrypoint
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import eventually


class Backend(Process):
    """A backend process on a port of its own; entering the context waits until it listens."""

    module = ""

    def __init__(
        self,
        folder: Path,
        *options: str,
        port: int | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.port = port or free_port()
        self.address = address
        where = ["--port", str(self.port), "--address", address]
        command = [sys.executable, "-m", self.module, *where, *options]
        name = self.module.rpartition(".")[2]
        super().__init__(name, command, log=folder / f"{name}-{self.port}.log")
        self.entrypoint = Entrypoint(self.port, address=address)

    async def __aenter__(self) -> Self:
        self.start()
        await self.wait_line(re.escape(f"listens on {self.address}:{self.port}"))
        return self


class Origin(Backend):
    """`tests.support.origin`: an HTTP/1.1 backend for every feature of the protocol."""

    module = "tests.support.origin"

    async def stats(self) -> dict[str, Any]:
        """Return its counters."""
        found: dict[str, Any] = (await self.entrypoint.get("origin", "/stats")).json()
        return found

    async def requests(self, *, clear: bool = False) -> list[dict[str, Any]]:
        """Return the recorded requests; needs `--record`."""
        found: list[dict[str, Any]] = (
            await self.entrypoint.get("origin", "/log?clear" if clear else "/log")
        ).json()
        return found

    async def wait_aborted(self, before: int, *, timeout: float) -> None:
        """Wait until it has seen one more aborted request than `before`."""

        async def more() -> bool:
            return bool((await self.stats())["aborted"] > before)

        await eventually(more, "the backend learns that the client is gone", timeout)


class WsEcho(Backend):
    """`tests.support.ws_echo`: a WebSocket server."""

    module = "tests.support.ws_echo"


class UnresponsivePort:
    """A port whose backlog is full: connections are neither accepted nor refused."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        # A port may be free, and still have an old connection in TIME_WAIT.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", free_port()))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._queued = [socket.socket() for _ in range(4)]
        for one in self._queued:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))

    def close(self) -> None:
        for one in (*self._queued, self._listener):
            one.close()
