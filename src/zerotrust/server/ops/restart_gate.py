"""Restart gate: makes a restarted server wait for the host names that it served before.

Agents reconnect within a second or two. Until then their host names are unknown, and requests that
Caddy has held back during the restart would get a 404. The agents of the host names that are still
missing at the end count as just disconnected, so requests for them wait for `api.hold_timeout`.

Agents that come by a WebSocket through Caddy can only return when the gate has opened.
"""

import asyncio
import json
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from zerotrust.net.channel import describe
from zerotrust.server.agents.registry import Registry
from zerotrust.telemetry import logs

RETURN_TIMEOUT: Final = 5.0
"""Longest wait for all agents, in seconds: most need less, and Caddy holds requests back for longer
(caddy.render)."""
STEP: Final = 0.02
MAX_BYTES: Final = 16 * 1024 * 1024

_SAVED: Final = TypeAdapter(dict[str, tuple[str, str, bool]])

_log = logs.logger("server")


class RestartGate:
    """Hands the host names to the next process, in a file: those that are served, and those whose
    agent is away.

    Each has its agent, its service, and True if the next process is to wait for it.
    """

    def __init__(self, registry: Registry, path: Path) -> None:
        self._registry = registry
        self._path = path

    def save(self) -> None:
        """Write the host names; log a warning if that fails."""
        names = {host: (agent, service, False) for host, agent, service in self._registry.lost}
        names |= {
            # An agent that comes by a WebSocket cannot return before the gate opens.
            host: (session.agent, service, not session.link.by_websocket)
            for session in self._registry.sessions
            for service, registration in session.services.items()
            for host in registration.hosts
            if host in self._registry.by_host
        }
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(names))
            fresh.replace(self._path)
        except OSError as error:
            _log.warning(
                "cannot save the list of served host names",
                file=str(self._path),
                reason=describe(error),
            )

    async def wait(self) -> None:
        """Wait until all saved host names are served again, for RETURN_TIMEOUT at most."""
        saved = self._load()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + RETURN_TIMEOUT
        while missing := [
            host
            for host, (_, _, awaited) in saved.items()
            if awaited and host not in self._registry.by_host
        ]:
            if loop.time() >= ends_at:
                _log.warning(
                    "starting without some host names: their agents have not reconnected",
                    host_names=len(missing),
                    first=min(missing),
                )
                break
            await asyncio.sleep(STEP)
        for host, (agent, service, _) in saved.items():
            if host not in self._registry.by_host:
                self._registry.expect(host, agent, service)

    def _load(self) -> dict[str, tuple[str, str, bool]]:
        """Read and remove the file; return no host names where it cannot be read."""
        try:
            with self._path.open("rb") as file:
                saved = _SAVED.validate_json(file.read(MAX_BYTES))
            self._path.unlink()
        except (OSError, ValueError):
            return {}
        return saved
