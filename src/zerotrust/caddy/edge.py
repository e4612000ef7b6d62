"""The edge, as the server sees it: our own Caddy, one that somebody else runs, or none."""

from pathlib import Path
from types import TracebackType
from typing import Self

from zerotrust.caddy.external import ExternalCaddy
from zerotrust.caddy.process import CaddyProcess
from zerotrust.errors import CaddyError
from zerotrust.model.server import ServerConfig


class Edge:
    """Owns what `caddy.mode` asks for; the server enters it and applies each configuration that it reads later.

    When it is entered the edge serves.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._caddy: CaddyProcess | ExternalCaddy | None = None

    async def __aenter__(self) -> Self:
        mode = self._config.caddy.mode
        if mode != "none":
            chosen = CaddyProcess(self._config) if mode == "managed" else ExternalCaddy(self._config)
            self._caddy = await chosen.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._caddy:
            await self._caddy.__aexit__(kind, error, trace)

    @property
    def pid(self) -> int | None:
        """The process of a managed Caddy that serves now."""
        return self._caddy.pid if isinstance(self._caddy, CaddyProcess) else None

    @property
    def root_certificate(self) -> Path | None:
        """Caddy's own authority, which signs private names; None where it is not on this machine."""
        path = Path(self._config.caddy.storage) / "pki" / "authorities" / "local" / "root.crt"
        return path if self._caddy and path.is_file() else None

    async def apply(self, config: ServerConfig) -> None:
        """Bring the edge to another configuration; nothing is sent where nothing differs.

        Raises:
            CaddyError: refused; the old configuration keeps running.
            ConfigError: it asks for something that Caddy cannot do.
        """
        if config.caddy.mode != self._config.caddy.mode:
            raise CaddyError("caddy.mode changes only when the server is started again")
        if self._caddy:
            await self._caddy.apply(config)
        self._config = config
