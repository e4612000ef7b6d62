"""The edge: a Caddy that the server runs, an external Caddy, or none."""

from types import TracebackType
from typing import Final, Self

from zerotrust.caddy.external import ExternalCaddy
from zerotrust.caddy.process import CaddyProcess
from zerotrust.errors import CaddyError
from zerotrust.model.server import ServerConfig

_FIXED: Final = {
    "managed": ("mode", "binary", "config_dir"),
    "external": ("mode", "admin_api"),
    "none": ("mode",),
}
"""Keys of `caddy` that change only when the server restarts, by mode."""


class Edge:
    """The Caddy of `caddy.mode`, if any; an async context manager, which serves when entered.

    To enter it again has no effect.

    Args:
        secret: the value by which Caddy proves itself to the server, see `render`.
        elsewhere: another process of the server runs and configures Caddy.
    """

    def __init__(
        self, config: ServerConfig, secret: str | None = None, *, elsewhere: bool = False
    ) -> None:
        self._config, self._secret = config, secret
        self._elsewhere = elsewhere
        self._caddy: CaddyProcess | ExternalCaddy | None = None

    async def __aenter__(self) -> Self:
        mode = self._config.caddy.mode
        if mode != "none" and self._caddy is None and not self._elsewhere:
            kind = CaddyProcess if mode == "managed" else ExternalCaddy
            self._caddy = await kind(self._config, self._secret).__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._caddy:
            await self._caddy.__aexit__(kind, error, trace)

    @property
    def pid(self) -> int | None:
        """Return the process id of a managed Caddy; None if none runs."""
        return self._caddy.pid if isinstance(self._caddy, CaddyProcess) else None

    def without_restart(self, config: ServerConfig) -> tuple[ServerConfig, list[str]]:
        """Return the configuration without changes that need a restart, and the keys of these
        changes."""
        now, new = self._config.caddy, config.caddy
        waiting = [key for key in _FIXED[now.mode] if getattr(now, key) != getattr(new, key)]
        if not waiting:
            return config, []
        # The other keys are for the new mode, so none of them applies now.
        caddy = (
            now
            if "mode" in waiting
            else new.model_copy(update={key: getattr(now, key) for key in waiting})
        )
        return config.model_copy(update={"caddy": caddy}), [f"caddy.{key}" for key in waiting]

    async def apply(self, config: ServerConfig) -> None:
        """Apply a configuration; send nothing to Caddy if nothing differs.

        Raises:
            CaddyError: Caddy refuses it; the old configuration keeps running.
            ConfigError: Caddy does not support a setting.
        """
        if config.caddy.mode != self._config.caddy.mode:
            raise CaddyError("caddy.mode needs a restart of the server")
        if self._caddy:
            await self._caddy.apply(config)
        self._config = config
