"""The server, put together: agents' door, proxy API, permission endpoint, Caddy."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from zerotrust.caddy.edge import Edge
from zerotrust.model.server import ServerConfig
from zerotrust.net.flush import Flusher
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.tasks import Tasks
from zerotrust.server.accept import AgentDoor
from zerotrust.server.ingress import Ingress
from zerotrust.server.permission import Permission
from zerotrust.server.registry import Registry

_log = structlog.get_logger("server")


async def serve(config: ServerConfig) -> None:
    """Run the server until it is cancelled.

    Raises:
        SetupError: an address, certificate or Caddy can't be used.
    """
    flusher = Flusher(asyncio.get_running_loop())
    registry = Registry()
    async with AsyncExitStack() as stack:
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        door = AgentDoor(registry, flusher=flusher, tasks=tasks, settings=config.server)
        await door.open()
        stack.push_async_callback(door.close)
        ingress = Ingress(registry, trusted_proxies=config.api.trusted_proxies)
        api = HttpListener(flusher, ingress, tasks)
        await stack.enter_async_context(api.listen(config.api.listen_addr, key="api.listen_addr"))
        if config.caddy.mode != "none":
            permission = HttpListener(flusher, Permission(registry), tasks)
            await stack.enter_async_context(
                permission.listen(config.caddy.permission_addr, key="caddy.permission_addr")
            )
        await stack.enter_async_context(Edge(config))
        _log.info("server ready", agents=config.server.listen_addr, api=config.api.listen_addr)
        await asyncio.Event().wait()
