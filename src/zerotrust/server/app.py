"""The server, put together: database, agents' door, proxy API, admin channel, permission endpoint, Caddy; and put
together otherwise.

A new configuration applies as a whole or not at all. What can fail comes first, and can be undone: new listeners beside
the old ones, the log, Caddy. Then the old listeners close; connections that they accepted live on.
"""

import asyncio
import datetime
import hashlib
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from zerotrust import __version__
from zerotrust.caddy.edge import Edge
from zerotrust.caddy.render import has_our_storage
from zerotrust.config import folders
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.config.reload import Read, Reloader
from zerotrust.db.database import Database
from zerotrust.errors import StateError
from zerotrust.model.database import DatabaseConfig
from zerotrust.model.password_hash import REFERENCE_SPEED, HashSpeed
from zerotrust.model.server import ServerConfig
from zerotrust.net.channel import describe
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.listen import Listening
from zerotrust.net.loop import descriptor_limit
from zerotrust.net.metrics_endpoint import MetricsEndpoint
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import tunnel_server
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki import key_pair_files
from zerotrust.pki.identity import serial_of
from zerotrust.server.agents.hash_speed import measure_hash_speed
from zerotrust.server.agents.listener import AgentListener, RenewCertificate, Terms
from zerotrust.server.agents.policy_quota import most_memory
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.agent_directory import FILE, AgentDirectory
from zerotrust.server.identity.audit import Audit
from zerotrust.server.identity.authority import Authority, load_authority
from zerotrust.server.identity.authorization import Authorization
from zerotrust.server.identity.enrollment_api import Enrollment
from zerotrust.server.identity.join_lines import JoinLines
from zerotrust.server.ops import admin, tls_permission
from zerotrust.server.ops.admin import AdminChannel
from zerotrust.server.ops.certificate_budget import CertificateBudget
from zerotrust.server.ops.certificate_maintenance import TICK, CertificateMaintenance
from zerotrust.server.ops.descriptors import api_connections
from zerotrust.server.ops.load_sampler import LoadSampler
from zerotrust.server.ops.metrics import ServerMetrics
from zerotrust.server.ops.restart_gate import RestartGate
from zerotrust.server.ops.tls_permission import TlsPermission
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.server.proxy.pending_requests import PendingRequests
from zerotrust.server.proxy.verification_pool import VerificationPool
from zerotrust.telemetry import logs

_log = logs.logger("server")

_APPLIED: Final = frozenset(
    {"server", "api", "admin", "authority", "caddy", "logging", "hot_reload", "limits", "metrics"}
    | {"grants", "unsafe_agents_may_claim_any_host"}
)
"""Sections of the file that apply without a restart, but for what `caddy.edge` says."""

FAREWELL: Final = 3.0
"""For WebSockets to come to the end of a frame, and for Caddy to take the last words."""

Listen = Callable[[str, Listening | None], Awaitable[Listening]]
"""Listens at an address, beside what is to be closed then."""


async def serve(loaded: Loaded[ServerConfig], read: Read[ServerConfig]) -> None:
    """Run the server until it is cancelled: then it drains, unless it is cancelled again.

    Args:
        read: reads the configuration again, when it changes or on SIGHUP; what is different is then applied.

    Raises:
        SetupError: the database, an address, certificate or Caddy can't be used.
    """
    config = loaded.config
    async with AsyncExitStack() as stack:
        database = open_database(config.state)
        stack.callback(database.close)
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        server = Server(config, database, tasks, hash_speed=await measure_hash_speed())
        stack.push_async_callback(server.close)
        await server.start()
        reloading = tasks.spawn(Reloader(loaded, read=read, apply=server.apply, tasks=tasks).run(), "reload")
        _log.info("server ready", agents=config.server.listen_addr, api=config.api.listen_addr)
        try:
            await asyncio.Event().wait()
        finally:
            reloading.cancel()
            await server.drain()


class Server:
    """Owns the listeners and the edge. Once started, it can be given other configurations; `close` ends everything.

    Raises:
        PkiError: a certificate can't be used.
    """

    def __init__(
        self, config: ServerConfig, database: Database, tasks: Tasks, *, hash_speed: HashSpeed = REFERENCE_SPEED
    ) -> None:
        coalescer = WriteCoalescer(asyncio.get_running_loop())
        registry = Registry()
        registry.policies.most = most_memory(config.limits)
        authority = load_authority(config)
        context = _context(config, authority)
        self._config = config
        self._registry = registry
        self._admission = Authorization(any_host=config.unsafe_agents_may_claim_any_host)
        self._admission.grants.replace(FILE, _grants(config))
        self._sessions = SessionControl(registry, self._admission)
        self._identities = AgentDirectory(
            database, admission=self._admission, sessions=self._sessions, authority=authority
        )
        self._audit = Audit(database)
        self._tasks = tasks
        self._admission.watch = self._claimed
        self._invitations = JoinLines(config.server)
        terms = Terms(
            registry=registry,
            admission=self._admission,
            coalescer=coalescer,
            tasks=tasks,
            secret=secrets.token_bytes(32),
            renewal=self._renewal(authority),
            enrolment=self._enrolment(authority),
            turned_away=self._audit.turned_away,
            offers_http=_offers_http(config),
            resume_timeout=config.server.resume_timeout,
            hash_speed=hash_speed,
        )
        self._door = AgentListener(terms, context=context)
        self._overload = LoadShedding(config.limits)
        pending = PendingRequests(registry, timeout=config.api.hold_timeout)
        registry.subscribe(pending.host_served)
        self._ingress = Ingress(
            registry,
            config.api,
            pending=pending,
            verifications=VerificationPool(tasks),
            https_port=config.caddy.https_port,
            overload=self._overload,
        )
        self._load = LoadSampler(registry, self._ingress, self._overload)
        self._api = HttpListener(
            coalescer,
            self._ingress,
            tasks,
            name="api.listen_addr",
            most=lambda: api_connections(self._config.limits, descriptor_limit()),
            # Caddy may be using what looks idle here.
            reuse_idle=False,
            fix="raise limits.requests, or how many descriptors the process may open (LimitNOFILE)",
        )
        self._certificates = CertificateBudget(config.limits)
        self._permission = TlsPermission(registry, self._admission.grants, self._certificates, storage=_storage(config))
        self._permission_api = HttpListener(
            coalescer,
            self._permission,
            tasks,
            name="caddy.permission_addr",
            most=lambda: tls_permission.MAX_CONNECTIONS,
        )
        channel = AdminChannel(self._identities, self._audit, self._invitations, tasks)
        self._admin = HttpListener(
            coalescer, channel.api, tasks, name="admin.socket", most=lambda: admin.MAX_CONNECTIONS
        )
        listeners = {"api": self._api, "admin": self._admin, "permission": self._permission_api}
        metrics = ServerMetrics(
            load=self._load,
            ingress=self._ingress,
            overload=self._overload,
            door=self._door,
            certificates=self._certificates,
            listeners=listeners,
            config=lambda: self._config,
        )
        self._metrics = MetricsEndpoint(metrics.collect, lambda: metrics.health, coalescer=coalescer, tasks=tasks)
        listeners["metrics"] = self._metrics.listener
        self._edge = Edge(config)
        self._listen: dict[str, Listen] = {
            "server.listen_addr": self._listen_for_agents,
            "api.listen_addr": partial(_listen_plain, self._api, "api.listen_addr"),
            "caddy.permission_addr": partial(_listen_plain, self._permission_api, "caddy.permission_addr"),
            "admin.socket": partial(_listen_plain, self._admin, "admin.socket"),
        }
        self._listening: dict[str, Listening] = {}
        self._served = RestartGate(registry, Path(config.state.dir) / "served")
        self._upkeep = CertificateMaintenance(self._sessions, renewed=self._use_certificates)
        tasks.spawn(self._keep_up(), "upkeep of certificates")
        if database.shared:
            tasks.spawn(self._identities.follow(), "follow other servers")

    async def start(self) -> None:
        """Listen everywhere, and have the edge serve.

        Raises:
            SetupError: an address, the database or Caddy can't be used.
        """
        await self._identities.load()
        self._identities.log_overlaps()
        for key, address in _addresses(self._config).items():
            if key == "api.listen_addr":
                await self._served.wait()
            self._listening[key] = await self._listen[key](address, None)
        await self._metrics.listen(self._config.metrics.listen_addr)
        await self._edge.__aenter__()
        await self._audit.note("server.started", {"version": __version__, **self._trusts()})

    async def apply(self, config: ServerConfig, changes: Changes) -> list[str]:
        """Go on with this configuration; what of it waits, and for what.

        Raises:
            SetupError: an address, a certificate, the log or Caddy can't be used; all is as before.
            ConfigError: it asks for something that Caddy cannot do.
        """
        config, restart = self._edge.without_restart(config)
        # The database stays, and so does the socket beside it.
        config = config.model_copy(update={"state": self._config.state})
        authority = await self._authority(config, changes)
        context = _context(config, authority)
        async with AsyncExitStack() as undo:
            listening = await self._listen_anew(config, undo)
            if "logging" in changes.sections:
                logs.configure(config.logging)
                undo.callback(logs.configure, self._config.logging)
            await self._metrics.listen(config.metrics.listen_addr)
            undo.push_async_callback(self._metrics.listen, self._config.metrics.listen_addr)
            await self._edge.apply(config)
            undo.pop_all()
        self._ingress.reconfigure(config.api, https_port=config.caddy.https_port)
        if config.limits != self._config.limits:
            self._overload.reconfigure(config.limits)
            self._registry.policies.most = most_memory(config.limits)
            self._certificates.use(config.limits)
        self._permission.storage = _storage(config)
        self._door.use(
            context,
            offers_http=_offers_http(config),
            resume_timeout=config.server.resume_timeout,
            renewal=self._renewal(authority),
            enrolment=self._enrolment(authority),
        )
        rotated = _serial(authority) != _serial(self._identities.authority)
        self._identities.use(authority)
        self._invitations.use(config.server)
        former, self._listening = self._listening, {**self._listening, **listening}
        for key in listening:
            await former[key].close()
        self._judge_by(config)
        waiting = [f"{key}: for a restart" for key in (*restart, *_unknown(changes))]
        if _offers_http(config) != _offers_http(self._config):
            waiting.append("caddy.http_port: services that listen on http alone, for their agents' next connection")
        self._config = config
        if rotated:
            await self._audit.note("authority.changed", {"issuer": _serial(authority)})
        await self._audit.note("configuration.applied", {"settings": changes.keys, "files": changes.files})
        return waiting

    async def drain(self) -> None:
        """Take nothing new, and end what runs: requests within `drain_timeout`, then WebSockets.

        What comes from now on waits in Caddy for the next process (`caddy.render`), which is told whose agents it had.
        """
        timeout = self._config.hot_reload.drains_for
        _log.info("draining", drain_timeout=timeout)
        self._served.note()
        for key in ("api.listen_addr", "server.listen_addr"):
            await self._listening.pop(key).close()
        await self._api.drain(timeout)
        self._door.depart()
        await self._api.ended(FAREWELL)

    async def close(self) -> None:
        """End it all: Caddy first, so that it gets answers to what it asks."""
        await self._edge.__aexit__(None, None, None)
        for listening in self._listening.values():
            await listening.close()
        for listener in (self._admin, self._permission_api, self._api):
            listener.close()
        await self._metrics.close()
        self._load.loop_lag.stop()
        await self._door.close()

    def _trusts(self) -> dict[str, str | bool | None]:
        """What of the files decides who is let in, so that a record shows what was changed while nobody ran."""
        config = self._config
        return {
            "grants": _digest("\n".join(f"{agent} {pattern}" for agent, pattern in sorted(_grants(config))).encode()),
            "any_host": config.unsafe_agents_may_claim_any_host,
            "ca_file": _digest(Path(config.server.ca_file).read_bytes()),
            "issuer": _serial(self._identities.authority),
        }

    def _claimed(self, agent: str, granted: Sequence[str], refused: Sequence[str]) -> None:
        if new := self._audit.new_refusals(agent, granted, refused):
            self._tasks.spawn(self._audit.hosts_refused(agent, new), "record refused host names")

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                self._upkeep.tick(datetime.datetime.now(datetime.UTC), self._config, self._identities.authority)
            except Exception as error:  # noqa: BLE001 - sessions have to end with their certificates, whatever it was
                _log.error("upkeep of certificates failed, and goes on", error=repr(error), exc_info=error)

    def _use_certificates(self) -> None:
        self._door.use_context(_context(self._config, self._identities.authority))

    async def _authority(self, config: ServerConfig, changes: Changes) -> Authority | None:
        """Raises PkiError. In a thread, because opening a key with a passphrase takes its time."""
        if changes.files or changes.sections & {"server", "authority"}:
            return await asyncio.to_thread(load_authority, config)
        return self._identities.authority

    def _renewal(self, authority: Authority | None) -> RenewCertificate | None:
        return None if authority is None else self._identities.renew

    def _enrolment(self, authority: Authority | None) -> Enrollment | None:
        return None if authority is None else self._identities

    async def _listen_anew(self, config: ServerConfig, undo: AsyncExitStack) -> dict[str, Listening]:
        """Listen at the addresses that are other ones than before."""
        before = _addresses(self._config)
        found: dict[str, Listening] = {}
        for key, address in _addresses(config).items():
            if address != before[key]:
                found[key] = await self._listen[key](address, self._listening[key])
                undo.push_async_callback(found[key].close)
        return found

    def _judge_by(self, config: ServerConfig) -> None:
        before, any_host = self._config, config.unsafe_agents_may_claim_any_host
        if config.grants != before.grants or any_host != before.unsafe_agents_may_claim_any_host:
            self._admission.any_host = any_host
            self._admission.grants.replace(FILE, _grants(config))
            self._identities.log_overlaps()
            self._sessions.rejudge()

    async def _listen_for_agents(self, address: str, beside: Listening | None) -> Listening:
        return self._door.listen(address, beside=beside)


async def _listen_plain(listener: HttpListener, key: str, address: str, beside: Listening | None) -> Listening:
    return await listener.bind(address, key=key, beside=beside)


def _grants(config: ServerConfig) -> list[tuple[str, str]]:
    return [(agent, pattern) for agent, patterns in config.grants.items() for pattern in patterns]


def _unknown(changes: Changes) -> list[str]:
    """What changed that `Server.apply` does nothing about."""
    return [key for key in changes.keys if key.partition(".")[0] not in _APPLIED]


def open_database(state: DatabaseConfig) -> Database:
    """The server's database, brought up to date; its folder is made where there is none.

    Raises:
        StateError: it can't be used, is of a newer program, or others may replace what is in its folder.
    """
    folder = Path(state.dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        refusal, warnings = folders.refusal(folder), list(folders.above(folder))
    except OSError as error:
        raise StateError(
            f"state.dir: cannot create {state.dir}: {describe(error)}; correct the path, or make the folder"
        ) from error
    if refusal is not None:
        raise StateError(f"state.dir: {refusal}")
    for warning in warnings:
        _log.warning("state.dir is not safe", reason=warning)
    database = Database.open(state.database, folder=folder)
    if database.migration is not None:
        say = _log.warning if database.migration.risky else _log.info
        say(str(database.migration), database=database.name)
    return database


def _addresses(config: ServerConfig) -> dict[str, str]:
    """Where to listen, by the keys that say so; first what nobody else can have at the same time."""
    found = {"server.listen_addr": config.server.listen_addr, "api.listen_addr": config.api.listen_addr}
    if config.caddy.mode != "none":
        found["caddy.permission_addr"] = config.caddy.permission_addr
    found["admin.socket"] = f"unix:{config.admin_socket}"
    return found


def _storage(config: ServerConfig) -> Path | None:
    """Return the folder of Caddy's certificates, where it is known."""
    return Path(config.caddy.storage) if has_our_storage(config.caddy) else None


def _offers_http(config: ServerConfig) -> bool:
    return config.caddy.mode == "none" or bool(config.caddy.http_port)


def _serial(authority: Authority | None) -> str | None:
    """Of the issuing certificate."""
    return None if authority is None else serial_of(authority.issuer.certificate)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _context(config: ServerConfig, authority: Authority | None) -> ssl.SSLContext:
    """Raises PkiError."""
    server = config.server
    # Who was killed while its certificate was renewed has a key here that does not fit.
    key_pair_files.complete(Path(server.cert_file), Path(server.key_file))
    return tunnel_server(
        certificate=server.cert_file, key=server.key_file, authority=server.ca_file, enrolment=authority is not None
    )
