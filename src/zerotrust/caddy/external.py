"""External Caddy: configured through its admin API, and again after it has lost the configuration.

It keeps its own admin endpoint and storage. It keeps our configuration when the server ends.
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
    """Configures one external Caddy; an async context manager.

    On entry Caddy has our configuration.
    """

    def __init__(
        self,
        config: ServerConfig,
        secret: str | None = None,
        *,
        watch_interval: float = WATCH_INTERVAL,
    ) -> None:
        self._config, self._secret = config, secret
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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.cancel()
        # The group would wrap the body's exception, so it does not get it.
        await self._tasks.__aexit__(None, None, None)
        await self._admin.__aexit__(None, None, None)

    async def apply(self, config: ServerConfig) -> None:
        """Apply a configuration; send nothing if nothing differs.

        Raises:
            CaddyError: Caddy refuses it (the old one keeps running), or does not answer.
            ConfigError: Caddy does not support a setting.
        """
        if admin_address(config.caddy) != self._admin.address:
            raise CaddyError("caddy.admin_api needs a restart of the server")
        await self._take_over(config)
        self._config = config

    async def _take_over(self, config: ServerConfig) -> None:
        async with self._changes:
            existing = await self._admin.config()
            refuse_foreign(existing, config.caddy)
            wanted = adopt(render(config, self._secret), existing)
            if wanted != existing:
                await self._admin.load(wanted)
                _log.info("caddy configured", admin=self._admin.address)

    async def _keep(self) -> None:
        """Configure Caddy again after it was restarted, because then it has its own
        configuration or none."""
        last_reason = ""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._take_over(self._config)
            except CaddyError as error:
                if str(error) != last_reason:
                    _log.error("caddy does not run our configuration", reason=str(error))
                last_reason = str(error)
            else:
                last_reason = ""


def adopt(rendered: dict[str, Any], existing: dict[str, Any] | None) -> dict[str, Any]:
    """Return our configuration with the admin endpoint of Caddy, and its storage unless we
    configure one."""
    merged = {key: value for key, value in rendered.items() if key != "admin"}
    if existing and "admin" in existing:
        merged["admin"] = existing["admin"]
    if existing and "storage" in existing:
        merged.setdefault("storage", existing["storage"])
    return merged


def refuse_foreign(existing: dict[str, Any] | None, caddy: Caddy) -> None:
    """Refuse to replace a configuration that is not ours.

    Raises:
        CaddyError: Caddy has one with apps, and `replace_existing_config` is not set.
    """
    if (
        existing
        and existing.get("apps")
        and not is_ours(existing)
        and not caddy.replace_existing_config
    ):
        raise CaddyError(
            f"the Caddy at {admin_address(caddy)} runs a configuration that is not 0Trust's; save"
            " it and set caddy.replace_existing_config: true to replace it, or set caddy.mode:"
            " managed to use another Caddy"
        )
