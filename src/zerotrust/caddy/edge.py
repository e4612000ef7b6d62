"""The edge, as the server sees it: our own Caddy, one that somebody else runs, or none."""

from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from zerotrust.caddy.admin import AdminApi
from zerotrust.caddy.process import CaddyProcess
from zerotrust.caddy.render import admin_address, is_ours, render
from zerotrust.errors import CaddyError
from zerotrust.model.server import Caddy, ServerConfig

_log: Final = structlog.get_logger("caddy")


class Edge:
    """Owns what `caddy.mode` asks for; the server enters it and applies each configuration that it reads later.

    When it is entered the edge serves. An external Caddy keeps our configuration when it is left.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._process: CaddyProcess | None = None
        self._admin: AdminApi | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        caddy = self._config.caddy
        if caddy.mode == "managed":
            self._process = await self._stack.enter_async_context(CaddyProcess(self._config))
        elif caddy.mode == "external":
            self._admin = await self._stack.enter_async_context(AdminApi(admin_address(caddy)))
            try:
                await _take_over(self._admin, self._config)
            except BaseException:
                await self._stack.aclose()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def pid(self) -> int | None:
        """The process of a managed Caddy that serves now."""
        return self._process.pid if self._process else None

    @property
    def root_certificate(self) -> Path | None:
        """Caddy's own authority, which signs private names; None where it is not on this machine."""
        path = Path(self._config.caddy.storage) / "pki" / "authorities" / "local" / "root.crt"
        return path if self._config.caddy.mode != "none" and path.is_file() else None

    async def apply(self, config: ServerConfig) -> None:
        """Bring the edge to another configuration; nothing is sent where nothing differs.

        Raises:
            CaddyError: refused; the old configuration keeps running.
            ConfigError: it asks for something that Caddy cannot do.
        """
        if config.caddy.mode != self._config.caddy.mode:
            raise CaddyError("caddy.mode changes only when the server is started again")
        if self._process:
            await self._process.apply(config)
        elif self._admin:
            if admin_address(config.caddy) != self._admin.address:
                raise CaddyError("caddy.admin_api changes only when the server is started again")
            await _take_over(self._admin, config)
        self._config = config


def adopt(rendered: dict[str, Any], existing: dict[str, Any] | None) -> dict[str, Any]:
    """Our configuration for a Caddy that somebody else runs: its admin endpoint and its storage stay its own."""
    merged = {key: value for key, value in rendered.items() if key != "admin"}
    if existing and "admin" in existing:
        merged["admin"] = existing["admin"]
    if existing and "storage" in existing:
        merged.setdefault("storage", existing["storage"])
    return merged


def refuse_foreign(existing: dict[str, Any] | None, caddy: Caddy) -> None:
    """Raise where replacing the configuration would destroy somebody else's.

    Raises:
        CaddyError: it serves something, was not rendered by us, and `replace_existing_config` is not set.
    """
    if existing and existing.get("apps") and not is_ours(existing) and not caddy.replace_existing_config:
        raise CaddyError(
            f"the Caddy at {admin_address(caddy)} runs a configuration that is not 0Trust's; save it and set "
            "caddy.replace_existing_config: true to replace it, or set caddy.mode: managed to leave it alone"
        )


async def _take_over(admin: AdminApi, config: ServerConfig) -> None:
    existing = await admin.config()
    refuse_foreign(existing, config.caddy)
    wanted = adopt(render(config), existing)
    if wanted != existing:
        await admin.load(wanted)
        _log.info("caddy configured", admin=admin.address)
