"""A Caddy that somebody else runs: set up through its admin API, and set up again when it forgot.

Its admin endpoint and its storage stay its own. It keeps our configuration when we leave.
"""

import asyncio
from types import TracebackType
from typing import Any, Final, Self

from zerotrust.caddy.admin import AdminApi
from zerotrust.caddy.render import admin_address, is_ours, render
from zerotrust.errors import CaddyError
from zerotrust.model.server import Caddy, ServerConfig
from zerotrust.telemetry import logs

WATCH_INTERVAL: Final = 10.0

_log: Final = logs.logger("caddy")


class ExternalCaddy:
    """Owns the conversation with one Caddy while it is entered; it serves our configuration when entered."""

    def __init__(self, config: ServerConfig, *, watch_interval: float = WATCH_INTERVAL) -> None:
        self._config = config
        self._interval = watch_interval
        self._admin = AdminApi(admin_address(config.caddy))
        self._changes = asyncio.Lock()
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        try:
            await self._take_over(self._config)
        except BaseException:
            await self._admin.__aexit__(None, None, None)
            raise
        await self._tasks.__aenter__()
        self._watch = self._tasks.create_task(self._keep(), name="caddy watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.cancel()
        # not handed the body's exception: the group would wrap it
        await self._tasks.__aexit__(None, None, None)
        await self._admin.__aexit__(None, None, None)

    async def apply(self, config: ServerConfig) -> None:
        """Bring Caddy to another configuration; nothing is sent where nothing differs.

        Raises:
            CaddyError: refused (the old one keeps running), or not reached.
            ConfigError: it asks for something that Caddy cannot do.
        """
        if admin_address(config.caddy) != self._admin.address:
            raise CaddyError("caddy.admin_api changes only when the server is started again")
        await self._take_over(config)
        self._config = config

    async def _take_over(self, config: ServerConfig) -> None:
        async with self._changes:
            existing = await self._admin.config()
            refuse_foreign(existing, config.caddy)
            wanted = adopt(render(config), existing)
            if wanted != existing:
                await self._admin.load(wanted)
                _log.info("caddy configured", admin=self._admin.address)

    async def _keep(self) -> None:
        """A Caddy that was started again has its own configuration, or none."""
        trouble = ""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._take_over(self._config)
            except CaddyError as error:
                if str(error) != trouble:
                    _log.error("caddy does not serve our configuration", reason=str(error))
                trouble = str(error)
            else:
                trouble = ""


def adopt(rendered: dict[str, Any], existing: dict[str, Any] | None) -> dict[str, Any]:
    """Our configuration with the admin endpoint, and where we name none the storage, that Caddy has."""
    merged = {key: value for key, value in rendered.items() if key != "admin"}
    if existing and "admin" in existing:
        merged["admin"] = existing["admin"]
    if existing and "storage" in existing:
        merged.setdefault("storage", existing["storage"])
    return merged


def refuse_foreign(existing: dict[str, Any] | None, caddy: Caddy) -> None:
    """Keep somebody else's configuration from being destroyed.

    Raises:
        CaddyError: it serves something, was not rendered by us, and `replace_existing_config` is not set.
    """
    if existing and existing.get("apps") and not is_ours(existing) and not caddy.replace_existing_config:
        raise CaddyError(
            f"the Caddy at {admin_address(caddy)} runs a configuration that is not 0Trust's; save it and set "
            "caddy.replace_existing_config: true to replace it, or set caddy.mode: managed to leave it alone"
        )
