"""The server: builds its parts, applies new configurations, drains and closes.

A new configuration applies as a whole or not at all. The steps that can fail come first, and can be
undone: new listeners beside the old ones, the log, Caddy. Then the old listeners close; connections
that they accepted stay open.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from zerotrust import __version__
from zerotrust.caddy.edge import Edge
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.config.reload import Read, Reloader
from zerotrust.db.change_listener import ChangeListener
from zerotrust.db.database import Database
from zerotrust.db.state_dir import open_database
from zerotrust.model.password_hash import REFERENCE_SPEED, HashSpeed
from zerotrust.model.server import ServerConfig
from zerotrust.net.descriptor_passing import ParentChannel, Take
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.listen import Listening
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.access_section import AccessSection, build_access
from zerotrust.server.admin_endpoint import AdminEndpoint
from zerotrust.server.agent_endpoint import AgentEndpoint
from zerotrust.server.agents.hash_speed import measure_hash_speed
from zerotrust.server.identity.accepted_config import AcceptedConfig
from zerotrust.server.identity.authority import issuer_serial
from zerotrust.server.identity.trust_settings import access_settings, trust_settings
from zerotrust.server.identity.worker_slot import (
    ADMIN,
    AGENTS,
    APPLIED,
    METRICS,
    PERMISSION,
    READY,
    REFUSED,
    WorkerSlot,
)
from zerotrust.server.ops.restart_gate import RestartGate
from zerotrust.server.proxy.proxy_trust import load_proxy_secret
from zerotrust.server.proxy_endpoint import ProxyEndpoint
from zerotrust.telemetry import logs

_log = logs.logger("server")

_APPLIED: Final = frozenset(
    {"server", "api", "admin", "authority", "caddy", "logging", "hot_reload", "limits", "metrics"}
    | {"grants", "unsafe_agents_may_claim_any_host", "access", "access_log", "tracing"}
)
"""Sections of the file that apply without a restart, except for the keys that `caddy.edge`
names."""

FAREWELL: Final = 3.0
"""Seconds for WebSockets to finish a frame, and for Caddy to read the last bytes."""

Listen = Callable[[str, Listening | None], Awaitable[Listening]]
"""Listens at an address, beside the listener that it replaces."""


async def serve(
    loaded: Loaded[ServerConfig],
    read: Read[ServerConfig],
    slot: WorkerSlot | None = None,
    accepted: AcceptedConfig | None = None,
) -> None:
    """Run the server until it is cancelled: then it drains, unless it is cancelled again.

    Args:
        read: reads the configuration again when it changes or on SIGHUP; differences are then
            applied.
        slot: place of this process among the workers of the server; None if it is the only one.
        accepted: the configuration that a worker reads.

    Raises:
        SetupError: the database, an address, certificate or Caddy can't be used.
    """
    config = loaded.config
    async with AsyncExitStack() as stack:
        database = open_database(config.state, shared=slot is not None)
        stack.callback(database.close)
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        if database.notifies:
            tasks.supervise(ChangeListener(database).run, "listen for changes")
        handed = None if slot is None else _handed(slot)
        server = Server(
            config,
            database,
            tasks,
            hash_speed=await measure_hash_speed(),
            slot=slot or WorkerSlot(0, 1),
            handed=handed,
        )
        stack.push_async_callback(server.close)
        await server.start()

        def tell(word: bytes) -> None:
            if handed is not None and accepted is not None:
                handed.tell(word + accepted.mark)

        reloader = Reloader(
            loaded,
            read=read,
            apply=server.apply,
            tasks=tasks,
            done=lambda applied: tell(APPLIED if applied else REFUSED),
        )
        reloading = tasks.spawn(reloader.run(), "reload")
        _log.info("server ready", agents=config.server.listen_addr, api=config.api_address)
        await asyncio.sleep(0)  # for the reloader, which handles SIGHUP from now on
        tell(READY)
        try:
            await asyncio.Event().wait()
        finally:
            reloading.cancel()
            await server.drain()


def _handed(slot: WorkerSlot) -> ParentChannel:
    """Return the channel to the parent, whose end ends this process, too."""
    this = asyncio.current_task()
    assert this is not None
    return ParentChannel(slot.descriptor, ended=this.cancel)


class Server:
    """Builds and owns the parts of a server, with its listeners and the edge.

    `start` begins to serve, `apply` applies another configuration, `close` ends everything.

    Args:
        slot: place of this process among the workers of the server.
        handed: takes connections from the parent; None without one.

    Attributes:
        agents: what agents talk to, and their sessions.
        proxy: what Caddy talks to.
        admin: what administrators talk to.
        access: who may enter, and the pages for signing in.

    Raises:
        PkiError: a certificate can't be used.
        StateError: the secret of Caddy, or the id of this server, can't be read or written.
    """

    def __init__(
        self,
        config: ServerConfig,
        database: Database,
        tasks: Tasks,
        *,
        hash_speed: HashSpeed = REFERENCE_SPEED,
        slot: WorkerSlot = WorkerSlot(0, 1),  # noqa: B008 - immutable
        handed: ParentChannel | None = None,
    ) -> None:
        self._config, self._slot, self._handed = config, slot, handed
        coalescer = WriteCoalescer(asyncio.get_running_loop())
        self.agents = AgentEndpoint(
            config,
            database,
            tasks,
            coalescer=coalescer,
            hash_speed=hash_speed,
            slot=slot,
        )
        self._proxy_secret = load_proxy_secret(Path(config.proxy_secret_file))
        self.proxy = ProxyEndpoint(
            config,
            database,
            tasks,
            self.agents,
            coalescer=coalescer,
            secret=self._proxy_secret.text,
        )
        self.admin = AdminEndpoint(
            config,
            tasks,
            self.agents,
            self.proxy,
            access=lambda: self.access.service,
            coalescer=coalescer,
            slot=slot,
        )
        self.access = AccessSection(
            config,
            build=partial(
                build_access,
                database=database,
                tasks=tasks,
                registry=self.agents.registry,
                commands=self.admin.commands,
            ),
            ingress=self.proxy.ingress,
            registrar=self.agents.registrar,
            authorization=self.agents.authorization,
            sessions=self.agents.sessions,
        )
        self._edge = Edge(config, self._proxy_secret.text, elsewhere=slot.has_parent)
        self._restart_gate = RestartGate(
            self.agents.registry, slot.file(Path(config.state.dir) / "served")
        )
        self._listen: dict[str, Listen] = {
            "server.listen_addr": self._listen_for_agents,
            "api.listen_addr": partial(_listen_plain, self.proxy.api, "api.listen_addr"),
            "caddy.permission_addr": partial(
                _listen_plain, self.proxy.permission_api, "caddy.permission_addr"
            ),
            "admin.socket": partial(_listen_plain, self.admin.worker_api, "admin.socket"),
        }
        self._listening: dict[str, Listening] = {}

    async def start(self) -> None:
        """Begin to listen, and start the edge.

        Raises:
            SetupError: an address, the database or Caddy can't be used.
        """
        await self.agents.start()
        await self.access.start()
        observers = self.admin.observers
        async with AsyncExitStack() as undo:
            await observers.apply(self._config, await observers.prepare(self._config, undo))
            undo.pop_all()
        if self._handed is not None:
            self._handed.start(self._takers())
        for key, address in self._addresses(self._config).items():
            if key == "api.listen_addr":
                await self._restart_gate.wait()
                self.agents.registry.forget_lost(self.agents.authorization.may_serve)
                if self._proxy_secret.is_new and self._config.caddy.mode == "external":
                    # A Caddy that runs has to know it before it sends a request.
                    await self._edge.__aenter__()
            self._listening[key] = await self._listen[key](address, None)
        await self._listen_for_metrics(self._config)
        await self._edge.__aenter__()
        if self._slot.is_first:
            trust = trust_settings(self._config, self.agents.directory.authority)
            await self.agents.audit.note(
                "server.started", {"version": __version__, **trust, **self._access_settings()}
            )

    async def apply(self, config: ServerConfig, changes: Changes) -> list[str]:
        """Apply another configuration.

        Returns:
            The settings that do not apply yet, each with the reason.

        Raises:
            SetupError: an address, a certificate, the log or Caddy can't be used; nothing has
                changed.
            ConfigError: Caddy cannot do what the configuration asks for; nothing has changed.
        """
        config, restart = self._edge.without_restart(config)
        if config.server.worker_count != self._slot.count:
            restart = [*restart, "server.workers"]
        # The database stays, and so do the socket beside it and the number of processes.
        server = config.server.model_copy(update={"workers": self._slot.count})
        config = config.model_copy(update={"state": self._config.state, "server": server})
        trust, identity = await self.agents.prepare(config, changes), self.proxy.prepare(config)
        async with AsyncExitStack() as undo:
            access = await self.access.prepare(config, undo)
            observers = await self.admin.observers.prepare(config, undo)
            listening = await self._listen_anew(config, undo)
            if "logging" in changes.sections:
                logs.configure(config.logging)
                undo.callback(logs.configure, self._config.logging)
            await self._listen_for_metrics(config)
            undo.push_async_callback(self._listen_for_metrics, self._config)
            await self._edge.apply(config)
            undo.pop_all()
        previous, self._listening = self._listening, {**self._listening, **listening}
        issuer_before = issuer_serial(self.agents.directory.authority)
        later = self.agents.apply(config, trust)
        self.proxy.apply(config, identity)
        self.admin.apply(config)
        for key in listening:
            await previous[key].close()
        await self.access.apply(config, access)
        await self.admin.observers.apply(config, observers)
        self._config = config
        if self._slot.is_first:
            await self._record_applied(changes, issuer_before)
        return [*(f"{key}: for a restart" for key in (*restart, *_unknown(changes))), *later]

    async def drain(self) -> None:
        """Stop listening, and end what is open: requests within `drain_timeout`, then WebSockets.

        Caddy holds new requests back for the next process (`caddy.render`), which waits for the
        host names of this one.
        """
        timeout = self._config.hot_reload.drains_for
        _log.info("draining", drain_timeout=timeout)
        self._restart_gate.save()
        self.access.drain()
        if self._handed is not None:
            self._handed.refuse(AGENTS)
        for key in ("api.listen_addr", "server.listen_addr"):
            if key in self._listening:
                await self._listening.pop(key).close()
        await self.proxy.api.drain(timeout)
        self.agents.listener.depart()
        await self.proxy.api.ended(FAREWELL)

    async def close(self) -> None:
        """End everything: Caddy first, so that its requests still get answers."""
        await self._edge.__aexit__(None, None, None)
        if self._handed is not None:
            self._handed.close()
        for listening in self._listening.values():
            await listening.close()
        self.proxy.close()
        await self.admin.close()
        await self.access.close()
        await self.agents.listener.close()
        # Last: the requests that were broken off are observed, too.
        await self.admin.observers.close()

    # ---- listening

    async def _listen_anew(
        self, config: ServerConfig, undo: AsyncExitStack
    ) -> dict[str, Listening]:
        """Listen at the addresses that have changed."""
        before = self._addresses(self._config)
        found: dict[str, Listening] = {}
        for key, address in self._addresses(config).items():
            if address != before[key]:
                found[key] = await self._listen[key](address, self._listening[key])
                undo.push_async_callback(found[key].close)
        return found

    def _addresses(self, config: ServerConfig) -> dict[str, str]:
        """Return the addresses at which this process listens itself."""
        found = _addresses(config)
        if not self._slot.has_parent:
            return found
        return {key: found[key] for key in ("api.listen_addr", "admin.socket")}

    def _takers(self) -> dict[bytes, Take]:
        """Return what takes the connections that the parent hands over, by listener."""
        plain = {
            ADMIN: (self.admin.api, "admin.socket"),
            METRICS: (self.admin.metrics.listener, "metrics.listen_addr"),
            PERMISSION: (self.proxy.permission_api, "caddy.permission_addr"),
        }
        takers = {name: listener.handed(key=key).take for name, (listener, key) in plain.items()}
        return {AGENTS: self.agents.listener.take, **takers}

    async def _listen_for_metrics(self, config: ServerConfig) -> None:
        """Raises SetupError."""
        if not self._slot.has_parent:
            await self.admin.metrics.listen(config.metrics.listen_addr)

    async def _listen_for_agents(self, address: str, beside: Listening | None) -> Listening:
        return self.agents.listener.listen(address, beside=beside)

    # ---- audit

    def _access_settings(self) -> dict[str, str]:
        return access_settings(self._config, server=self.agents.audit.server)

    async def _record_applied(self, changes: Changes, issuer_before: str | None) -> None:
        """Record what was applied.

        Args:
            issuer_before: serial number of the issuing certificate before.
        """
        issuer = issuer_serial(self.agents.directory.authority)
        if issuer != issuer_before:
            await self.agents.audit.note("authority.changed", {"issuer": issuer})
        await self.agents.audit.note(
            "configuration.applied",
            {"settings": changes.keys, "files": changes.files, **self._access_settings()},
        )


async def _listen_plain(
    listener: HttpListener, key: str, address: str, beside: Listening | None
) -> Listening:
    return await listener.bind(address, key=key, beside=beside)


def _unknown(changes: Changes) -> list[str]:
    """Return the changed keys that `Server.apply` does not apply."""
    return [key for key in changes.keys if key.partition(".")[0] not in _APPLIED]


def _addresses(config: ServerConfig) -> dict[str, str]:
    """Return the addresses to listen at by configuration key, the exclusive ones first."""
    found = {
        "server.listen_addr": config.server.listen_addr,
        "api.listen_addr": config.api_address,
    }
    if config.caddy.mode != "none":
        found["caddy.permission_addr"] = config.caddy.permission_addr
    found["admin.socket"] = f"unix:{config.admin_socket}"
    return found
