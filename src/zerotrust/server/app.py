"""The server, put together: agents' door, proxy API, permission endpoint, Caddy."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog

from zerotrust.caddy.edge import Edge
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.config.reload import Read, Reloader
from zerotrust.model.server import ServerConfig
from zerotrust.net.flush import Flusher
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.tasks import Tasks
from zerotrust.server.accept import AgentDoor
from zerotrust.server.admission import Admission
from zerotrust.server.ingress import Ingress
from zerotrust.server.permission import Permission
from zerotrust.server.registry import Registry
from zerotrust.server.verifications import Verifications
from zerotrust.telemetry import logs

_log = structlog.get_logger("server")

_CERTIFICATES: Final = frozenset({"server.cert_file", "server.key_file", "server.ca_file"})


async def serve(loaded: Loaded[ServerConfig], read: Read[ServerConfig]) -> None:
    """Run the server until it is cancelled.

    Args:
        read: reads the configuration again, when it changes or on SIGHUP; what is different is then applied.

    Raises:
        SetupError: an address, certificate or Caddy can't be used.
    """
    config = loaded.config
    flusher = Flusher(asyncio.get_running_loop())
    registry = Registry()
    async with AsyncExitStack() as stack:
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        admission = Admission(any_host=config.unsafe_agents_may_claim_any_host)
        admission.grants.replace("file", _grants(config))
        door = AgentDoor(
            registry,
            admission,
            flusher=flusher,
            tasks=tasks,
            settings=config.server,
            offers_http=config.caddy.mode == "none" or bool(config.caddy.http_port),
        )
        await door.open()
        stack.push_async_callback(door.close)
        ingress = Ingress(
            registry,
            trusted_proxies=config.api.trusted_proxies,
            verifications=Verifications(tasks),
            https_port=config.caddy.https_port,
        )
        api = HttpListener(flusher, ingress, tasks)
        await stack.enter_async_context(api.listen(config.api.listen_addr, key="api.listen_addr"))
        if config.caddy.mode != "none":
            permission = HttpListener(flusher, Permission(registry), tasks)
            await stack.enter_async_context(
                permission.listen(config.caddy.permission_addr, key="caddy.permission_addr")
            )
        await stack.enter_async_context(Edge(config))
        tasks.spawn(Reloader(loaded, read=read, apply=partial(_apply, door), tasks=tasks).run(), "reload")
        _log.info("server ready", agents=config.server.listen_addr, api=config.api.listen_addr)
        await asyncio.Event().wait()


def _grants(config: ServerConfig) -> list[tuple[str, str]]:
    return [(agent, pattern) for agent, patterns in config.grants.items() for pattern in patterns]


def _apply(door: AgentDoor, config: ServerConfig, changes: Changes) -> list[str]:
    """Go on with this configuration; what of it waits, and for what.

    Raises:
        SetupError: the log file can't be opened.
        PkiError: a certificate can't be used.
    """
    if changes.files or _CERTIFICATES & set(changes.keys):
        door.renew(config.server)
    if "logging" in changes.sections:
        logs.configure(config.logging)
    at_once = {key for key in changes.keys if key.partition(".")[0] in ("logging", "hot_reload")} | _CERTIFICATES
    return [f"{key}: for a restart" for key in changes.keys if key not in at_once]
