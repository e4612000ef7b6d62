"""The edge, as the server sees it: our own Caddy, one that somebody else runs, or none."""

from types import TracebackType
from typing import Final, Self

from zerotrust.caddy.external import ExternalCaddy
from zerotrust.caddy.process import CaddyProcess
from zerotrust.errors import CaddyError
from zerotrust.model.server import ServerConfig

_FIXED: Final = {"managed": ("mode", "binary", "config_dir"), "external": ("mode", "admin_api"), "none": ("mode",)}
"""What changes only when the server is started again."""


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

    def settle(self, config: ServerConfig) -> tuple[ServerConfig, list[str]]:
        """The part of a configuration that needs no restart: the rest as it is now; and the keys that wait for one."""
        now, new = self._config.caddy, config.caddy
        waiting = [key for key in _FIXED[now.mode] if getattr(now, key) != getattr(new, key)]
        if not waiting:
            return config, []
        # What was written for another mode says nothing about this one.
        caddy = now if "mode" in waiting else new.model_copy(update={key: getattr(now, key) for key in waiting})
        return config.model_copy(update={"caddy": caddy}), [f"caddy.{key}" for key in waiting]

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
