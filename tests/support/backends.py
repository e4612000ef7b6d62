"""The backends as processes, and ports that are not backends at all."""

import socket
import sys
from pathlib import Path
from typing import Any, Self

from tests.support.entrypoint import Way
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import eventually


class Backend(Process):
    """A program of the kits that listens on a port; entered, it listens."""

    module = ""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        command = [sys.executable, "-m", self.module, "--port", str(self.port), *options]
        name = self.module.rpartition(".")[2]
        super().__init__(name, command, log=folder / f"{name}-{self.port}.log")
        self.way = Way(self.port)

    async def __aenter__(self) -> Self:
        self.start()
        await self.wait_line(f"listens on 127.0.0.1:{self.port}")
        return self


class Origin(Backend):
    """`tests.support.origin`: everything that HTTP can be."""

    module = "tests.support.origin"

    async def stats(self) -> dict[str, Any]:
        """Return its counters."""
        found: dict[str, Any] = (await self.way.get("origin", "/stats")).json()
        return found

    async def requests(self, *, clear: bool = False) -> list[dict[str, Any]]:
        """Requests as they came in; with `--record` only."""
        found: list[dict[str, Any]] = (
            await self.way.get("origin", "/log?clear" if clear else "/log")
        ).json()
        return found

    async def wait_aborted(self, before: int, *, timeout: float) -> None:
        """Waits until it has seen one more request aborted than `before`."""

        async def more() -> bool:
            return bool((await self.stats())["aborted"] > before)

        await eventually(more, "the backend learns that the client is gone", timeout)


class WsEcho(Backend):
    """`tests.support.ws_echo`: a WebSocket server."""

    module = "tests.support.ws_echo"


class Clogged:
    """A port at which connections are neither accepted nor refused: its queue is full."""

    def __init__(self) -> None:
        self._listener = socket.socket()
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
