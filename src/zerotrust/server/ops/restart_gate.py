"""Which host names were served when the last process ended: the next one waits for them before it takes requests.

Agents come back within a second or two. Until then nothing would know their names, and requests that Caddy has held
back for the restart would get a 404.
"""

import asyncio
import json
from pathlib import Path
from typing import Final

from zerotrust.net.channel import describe
from zerotrust.server.agents.registry import Registry
from zerotrust.telemetry import logs

RETURN_TIMEOUT: Final = 5.0
"""For all of them: longer than most agents need, shorter than Caddy holds requests back (caddy.render)."""
STEP: Final = 0.02
MAX_BYTES: Final = 16 * 1024 * 1024

_log = logs.logger("server")


class RestartGate:
    """Owns a file that lasts from the end of one process to the start of the next."""

    def __init__(self, registry: Registry, path: Path) -> None:
        self._registry = registry
        self._path = path

    def note(self) -> None:
        """Write down what is served now; a server that cannot does without."""
        claims = (claim for member in self._registry.sessions for claim in member.services.values())
        hosts = {host for claim in claims for host in claim.hosts if self._is_served(host)}
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(sorted(hosts)))
            fresh.replace(self._path)
        except OSError as error:
            _log.warning("not written down which host names are served", file=str(self._path), reason=describe(error))

    async def wait(self) -> None:
        """Wait until all that was served is served again, or RETURN_TIMEOUT is over."""
        missing = self._take()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + RETURN_TIMEOUT
        while missing := {host for host in missing if not self._is_served(host)}:
            if loop.time() >= ends_at:
                _log.warning("agents have not come back yet", host_names=len(missing), first=min(missing))
                return
            await asyncio.sleep(STEP)

    def _take(self) -> set[str]:
        """What the file says, once; whatever is wrong with it costs no more than the waiting."""
        try:
            with self._path.open("rb") as file:
                said = json.loads(file.read(MAX_BYTES))
            self._path.unlink()
        except (OSError, ValueError):
            return set()
        return {host for host in said if isinstance(host, str)} if isinstance(said, list) else set()

    def _is_served(self, host: str) -> bool:
        try:
            return self._registry.lookup(host) is not None
        except KeyError:
            return False
