"""A server of several workers, with Caddy and an agent."""

import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.admin_socket import admin_client
from tests.support.backends import Origin, WsEcho
from tests.support.processes import Process, wait_port
from tests.support.stack import Authority, Stack, service
from tests.support.steady_load import APP
from tests.support.waiting import eventually

WS = "ws.localhost"


class WorkersStack(Stack):
    """A stack whose server has workers: Caddy reaches them by unix sockets.

    Attributes:
        workers: their number. One is the server itself.
    """

    workers = 2

    async def wait_server(self) -> None:
        await wait_port(self.tunnel_port, process=self.server)
        ready = "server ready" if self.workers == 1 else "server ready.* workers="
        await self.server.wait_line(ready, timeout=90)
        await self._wait_caddy()

    async def wait_published(self, host: str, *, process: Process | None = None) -> None:
        async def is_served() -> bool:
            # Of each worker: requests go round.
            answers = [await self.plain.get(host, "/") for _ in range(8)]
            return all(one.error_code is None for one in answers)

        await eventually(is_served, f"{host} is published by all workers", 60)
        await eventually(self._has_sessions, "the agent has all its sessions", 60)

    async def _has_sessions(self) -> bool:
        status = await self.admin("GET", "/v1/status")
        hosts = sum(len(agent.services) for agent in self.agents.values())
        return (status["sessions"], status["hosts"]) == (2 * self.workers, hosts)

    def pid(self, worker: int) -> int:
        """Return the process id of a worker."""
        if self.workers == 1:
            return self.server.pid
        found = re.findall(rf"worker started .*pid=(\d+) worker={worker}\n", self.server.text())
        return int(found[-1])

    async def wait_another(self, worker: int, pid: int) -> None:
        """Wait until another process than this is the worker."""
        await eventually(lambda: self.pid(worker) != pid, f"worker {worker} is back", 90)

    def kill(self, worker: int) -> None:
        """Kill a worker as the system does that has no memory left."""
        os.kill(self.pid(worker), signal.SIGKILL)

    async def admin(self, method: str, path: str, **said: Any) -> Any:
        """Send a command to the admin socket."""
        async with admin_client(self.folder / "state" / "admin.sock") as client:
            answer = await client.request(method, path, **said)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def sockets_of(self, worker: int) -> set[str]:
        """Return the paths of the WebSockets that a worker has."""
        found = await self.admin("GET", "/v1/connections")
        return {
            row["path"]
            for row in found["connections"]
            if row["kind"] == "websocket" and row["number"] % 2 == worker
        }


@contextlib.asynccontextmanager
async def workers_stack(
    folder: Path,
    *,
    workers: int = 2,
    sections: Mapping[str, Any] | None = None,
    machines: Sequence[str] = (),
) -> AsyncIterator[WorkersStack]:
    """Start all, with services that answer requests (APP, `machines`) and WebSockets (WS)."""
    async with Origin(folder) as origin, WsEcho(folder) as echo:
        more = dict(sections or {})
        stack = WorkersStack(
            folder / "s",
            Authority(folder / "pki"),
            agents={
                "agent-1": [
                    service(WS, echo.port),
                    *(service(host, origin.port) for host in (APP, *machines)),
                ]
            },
            sections={
                "server": {"workers": workers, **more.pop("server", {})},
                "api": {"listen_addr": f"unix:{folder / 's' / 'api'}"},
                "hot_reload": {"enabled": False, "drain_timeout": "5s"},
                **more,
            },
        )
        stack.workers = workers
        async with stack:
            yield stack
