"""The server: builds its parts, applies new configurations, drains and closes.

A new configuration applies as a whole or not at all. The steps that can fail come first, and can be
undone: new listeners beside the old ones, the log, Caddy. Then the old listeners close; connections
that they accepted stay open.
"""

import asyncio
import datetime
import hashlib
import platform
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes

from zerotrust import __version__
from zerotrust.caddy.edge import Edge
from zerotrust.caddy.render import has_our_storage, is_private, sends_edge_time
from zerotrust.config import folders
from zerotrust.config.diff import Changes
from zerotrust.config.load import Loaded
from zerotrust.config.reload import Read, Reloader
from zerotrust.db.change_listener import ChangeListener
from zerotrust.db.database import Database
from zerotrust.errors import StateError
from zerotrust.http.ping import MAX_ROOTS
from zerotrust.model.database import DatabaseConfig
from zerotrust.model.password_hash import REFERENCE_SPEED, HashSpeed
from zerotrust.model.server import ServerConfig
from zerotrust.net.channel import describe
from zerotrust.net.descriptor_passing import ParentChannel, Take
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.listen import Listening
from zerotrust.net.loop import descriptor_limit
from zerotrust.net.metrics_endpoint import MetricsEndpoint
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import tunnel_server
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki import key_pair_files
from zerotrust.pki.ca_directory import load_certificates
from zerotrust.pki.identity import serial_of
from zerotrust.server.access_section import AccessSection, build_access
from zerotrust.server.agents.hash_speed import measure_hash_speed
from zerotrust.server.agents.listener import AgentListener
from zerotrust.server.agents.member_announcer import MemberAnnouncer
from zerotrust.server.agents.policy_quota import most_memory
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_registrar import ServiceRegistrar
from zerotrust.server.agents.session import RenewCertificate
from zerotrust.server.agents.session_acceptor import SessionAcceptor
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.agents.websocket_endpoint import WebSocketEndpoint
from zerotrust.server.identity.accepted_config import AcceptedConfig
from zerotrust.server.identity.agent_directory import FILE, AgentDirectory
from zerotrust.server.identity.audit import Audit
from zerotrust.server.identity.authority import Authority, load_authority
from zerotrust.server.identity.authorization import Authorization
from zerotrust.server.identity.enrollment_api import EnrollmentEndpoint
from zerotrust.server.identity.join_tokens import JoinTokens
from zerotrust.server.identity.membership import Membership, load_server_id
from zerotrust.server.identity.server_certificate import (
    log_foreign_member_addr,
    websocket_hosts,
)
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
from zerotrust.server.ops import admin, tls_permission
from zerotrust.server.ops.admin import AdminChannel, Endpoints
from zerotrust.server.ops.admin_commands import AdminCommands
from zerotrust.server.ops.all_workers import build_commands
from zerotrust.server.ops.certificate_budget import CertificateBudget
from zerotrust.server.ops.certificate_maintenance import TICK, CertificateMaintenance
from zerotrust.server.ops.certificate_orders import CertificateOrders
from zerotrust.server.ops.descriptors import api_connections
from zerotrust.server.ops.load_sampler import LoadSampler
from zerotrust.server.ops.metrics import ServerMetrics
from zerotrust.server.ops.request_observers import RequestObservers
from zerotrust.server.ops.restart_gate import RestartGate
from zerotrust.server.ops.service_admin import ServiceAdmin
from zerotrust.server.ops.tls_permission import TlsPermission
from zerotrust.server.ops.traffic_history import TrafficHistory
from zerotrust.server.ops.worker_endpoints import worker_endpoints
from zerotrust.server.ops.worker_peers import WorkerPeers
from zerotrust.server.proxy.captures import Captures
from zerotrust.server.proxy.challenge_relay import ChallengeRelay
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.server.proxy.pending_requests import PendingRequests
from zerotrust.server.proxy.proxy_trust import ProxyTrust, load_proxy_secret
from zerotrust.server.proxy.verification_pool import VerificationPool
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
        registry: sessions of the agents, and their services.
        sessions: operations on all these sessions.
        ingress: handler of the proxy API.
        authorization: the grants and revocations in force.
        acceptor: begins the sessions of agents.
        access: who may enter, and the pages for signing in.
        agent_listener: the listener for agents.
        metrics: the metrics and the endpoint that serves them.

    Raises:
        PkiError: a certificate can't be used.
        StateError: the secret of Caddy can't be read or written.
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
        authority, coalescer, self._proxy_secret = (
            load_authority(config),
            WriteCoalescer(asyncio.get_running_loop()),
            load_proxy_secret(Path(config.proxy_secret_file)),
        )
        self._config, self._tasks, self._slot, self._handed = config, tasks, slot, handed

        # Agents: who may connect, and which host names each may serve.
        self.authorization = Authorization(any_host=config.unsafe_agents_may_claim_any_host)
        self.authorization.grants.replace(FILE, _grants(config))
        self._audit = Audit(database, server=f"{platform.node()} {config.server.listen_addr}")
        self.registry = Registry(holders=self.authorization.grants.holders)
        self.registry.policies.most = most_memory(config.limits)
        registrar = ServiceRegistrar(
            self.registry,
            self.authorization,
            secret=secrets.token_bytes(32),
            hash_speed=hash_speed,
            hosts_checked=self._record_refused_hosts,
            workers=slot.count,
        )
        self.sessions = SessionControl(self.registry, registrar, self.authorization)
        self._agent_directory = AgentDirectory(
            database, authorization=self.authorization, sessions=self.sessions, authority=authority
        )

        self._membership, announcer = _membership(config, database, self.registry, slot)

        # The listener for agents, and for machines that join.
        self._enrollment = EnrollmentEndpoint(
            self._enrolls(authority), coalescer=coalescer, tasks=tasks
        )
        self.acceptor = SessionAcceptor(
            self.registry,
            registrar,
            self.authorization,
            coalescer=coalescer,
            tasks=tasks,
            record_rejected=self._audit.agent_rejected,
            renew_certificate=self._renews(authority),
            offers_http=_offers_http(config),
            resume_timeout=config.server.resume_timeout,
            worker=slot.index,
            workers=slot.count,
            announcer=announcer,
        )
        self.agent_listener = AgentListener(
            _tls_context(config, authority),
            registry=self.registry,
            acceptor=self.acceptor,
            enrollment=self._enrollment,
            tasks=tasks,
        )

        # The proxy API, for requests from Caddy.
        self._load_shedding, pending = (
            LoadShedding(config.limits),
            PendingRequests(self.registry, timeout=config.api.hold_timeout),
        )
        self.registry.subscribe(pending.host_served)
        self.ingress = Ingress(
            self.registry,
            config.api,
            trust=ProxyTrust(config.trusted_proxies, self._proxy_secret.text),
            pending=pending,
            verifications=VerificationPool(tasks),
            agents=WebSocketEndpoint(self.agent_listener, websocket_hosts(config.server)),
            https_port=config.caddy.https_port,
            overload=self._load_shedding,
        )
        self._api = HttpListener(
            coalescer,
            self.ingress,
            tasks,
            name="api.listen_addr",
            most=lambda: api_connections(self._config.limits, descriptor_limit()),
            # Caddy may be using what looks idle here.
            reuse_idle=False,
            fix="raise limits.requests, or how many descriptors the process may open (LimitNOFILE)",
        )

        # Commands of administrators: the admin API and the dashboard carry out the same ones.
        self._join_tokens, peers = (
            JoinTokens(config.server),
            None if handed is None else WorkerPeers(lambda: slot.other_sockets(self._config)),
        )
        commands, own_commands = build_commands(
            self._agent_directory,
            self.sessions,
            self._audit,
            self._join_tokens,
            ServiceAdmin(self.registry, self._load_shedding, lambda: self.access.service),
            registry=self.registry,
            ingress=self.ingress,
            captures=Captures(self._audit, tasks),
            traffic=TrafficHistory(
                lambda: self.registry.sessions, self.ingress, tasks, shared=handed is not None
            ),
            slot=slot,
            peers=peers,
            membership=self._membership,
        )

        # Challenges of ACME that are for the Caddy of another server.
        self.ingress.challenges = self._challenge_relay(config)

        # People, and who may enter; only with the section `access`.
        self.access = AccessSection(
            config,
            build=partial(
                build_access,
                database=database,
                tasks=tasks,
                registry=self.registry,
                commands=commands,
            ),
            ingress=self.ingress,
            registrar=registrar,
            authorization=self.authorization,
            sessions=self.sessions,
        )

        # The permission endpoint, for Caddy's on-demand TLS.
        self._certificate_budget = CertificateBudget(config.limits)
        self._permission = TlsPermission(
            self.registry,
            self.authorization.grants,
            self._certificate_budget,
            own_hosts=self._own_hosts,
            orders=self._certificate_orders(database),
            storage=_storage(config),
        )
        self._permission_api = HttpListener(
            coalescer,
            self._permission,
            tasks,
            name="caddy.permission_addr",
            most=lambda: tls_permission.MAX_CONNECTIONS,
        )

        # The admin API, for administrators of this machine; and one for the other workers.
        self._admin = self._admin_listener("admin.socket", commands, coalescer)
        self._worker_admin = (
            self._admin
            if handed is None
            else self._admin_listener(
                "admin socket of the worker",
                own_commands,
                coalescer,
                worker_endpoints(own_commands, lambda: self.metrics.text()),  # noqa: PLW0108 - made later
            )
        )

        # Metrics, access log, traces.
        self._load, self._observers = (
            LoadSampler(self.registry, self.ingress, self._load_shedding),
            RequestObservers(self.ingress),
        )
        listeners = {"api": self._api, "admin": self._admin, "permission": self._permission_api}
        metrics = ServerMetrics(
            load=self._load,
            ingress=self.ingress,
            load_shedding=self._load_shedding,
            agent_listener=self.agent_listener,
            certificates=self._certificate_budget,
            listeners=listeners,
            config=lambda: self._config,
        )
        self.metrics = MetricsEndpoint(
            lambda: chain(
                metrics.collect(),
                self._observers.collect(),
                () if self._membership is None else self._membership.collect(),
            ),
            lambda: metrics.health,
            coalescer=coalescer,
            tasks=tasks,
            merge=None if peers is None else peers.add_metrics,
        )
        listeners["metrics"] = self.metrics.listener

        # Caddy, restarts, and what is done from time to time.
        self._edge = Edge(config, self._proxy_secret.text, elsewhere=handed is not None)
        self._listen: dict[str, Listen] = {
            "server.listen_addr": self._listen_for_agents,
            "api.listen_addr": partial(_listen_plain, self._api, "api.listen_addr"),
            "caddy.permission_addr": partial(
                _listen_plain, self._permission_api, "caddy.permission_addr"
            ),
            "admin.socket": partial(_listen_plain, self._worker_admin, "admin.socket"),
        }
        self._listening: dict[str, Listening] = {}
        self._restart_gate = RestartGate(
            self.registry, slot.file(Path(config.state.dir) / "served")
        )
        self._maintenance = CertificateMaintenance(
            self.sessions, renewed=self._use_new_certificate, renews=slot.is_first
        )
        tasks.spawn(self._maintain_certificates(), "certificate maintenance")
        if database.shared:
            tasks.spawn(self._agent_directory.follow(), "follow other servers")

    async def start(self) -> None:
        """Begin to listen, and start the edge.

        Raises:
            SetupError: an address, the database or Caddy can't be used.
        """
        await self._agent_directory.load()
        self._agent_directory.log_overlaps()
        if self._membership is not None:
            await self._membership.look()
            log_foreign_member_addr(self._config.server)
            self._tasks.supervise(self._membership.follow, "follow the members")
        await self.access.start()
        async with AsyncExitStack() as undo:
            await self._observers.apply(
                self._config, await self._observers.prepare(self._config, undo)
            )
            undo.pop_all()
        self.ingress.roots = _roots(self._config)
        self.ingress.edge_times = sends_edge_time(self._config)
        if self._handed is not None:
            self._handed.start(self._takers())
        for key, address in self._addresses(self._config).items():
            if key == "api.listen_addr":
                await self._restart_gate.wait()
                self.registry.forget_lost(self.authorization.may_serve)
                if self._proxy_secret.is_new and self._config.caddy.mode == "external":
                    # A Caddy that runs has to know it before it sends a request.
                    await self._edge.__aenter__()
            self._listening[key] = await self._listen[key](address, None)
        await self._listen_for_metrics(self._config)
        await self._edge.__aenter__()
        if self._slot.is_first:
            await self._audit.note(
                "server.started", {"version": __version__, **self._trust_settings()}
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
        authority = await self._load_authority(config, changes)
        context, hosts = _tls_context(config, authority), websocket_hosts(config.server)
        roots = _roots(config)
        async with AsyncExitStack() as undo:
            access = await self.access.prepare(config, undo)
            observers = await self._observers.prepare(config, undo)
            listening = await self._listen_anew(config, undo)
            if "logging" in changes.sections:
                logs.configure(config.logging)
                undo.callback(logs.configure, self._config.logging)
            await self._listen_for_metrics(config)
            undo.push_async_callback(self._listen_for_metrics, self._config)
            await self._edge.apply(config)
            undo.pop_all()
        issuer_before = _issuer_serial(self._agent_directory.authority)
        self._reconfigure(config, authority, context)
        self.ingress.agents.hosts = hosts
        self.ingress.roots = roots
        previous, self._listening = self._listening, {**self._listening, **listening}
        for key in listening:
            await previous[key].close()
        self._reauthorize(config)
        await self.access.apply(config, access)
        await self._observers.apply(config, observers)
        waiting = [f"{key}: for a restart" for key in (*restart, *_unknown(changes))]
        if _offers_http(config) != _offers_http(self._config):
            waiting.append(
                "caddy.http_port: applies to http-only services when their agents reconnect"
            )
        self._config = config
        if self._slot.is_first and _issuer_serial(authority) != issuer_before:
            await self._audit.note("authority.changed", {"issuer": _issuer_serial(authority)})
        if self._slot.is_first:
            await self._audit.note(
                "configuration.applied",
                {"settings": changes.keys, "files": changes.files, **self._access_settings()},
            )
        return waiting

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
        await self._api.drain(timeout)
        self.agent_listener.depart()
        await self._api.ended(FAREWELL)

    async def close(self) -> None:
        """End everything: Caddy first, so that its requests still get answers."""
        await self._edge.__aexit__(None, None, None)
        if self._handed is not None:
            self._handed.close()
        for listening in self._listening.values():
            await listening.close()
        for listener in (self._admin, self._worker_admin, self._permission_api, self._api):
            listener.close()
        await self.access.close()
        await self.metrics.close()
        self._load.loop_lag.stop()
        await self.agent_listener.close()
        # Last: the requests that were broken off are observed, too.
        await self._observers.close()

    def _admin_listener(
        self,
        name: str,
        commands: AdminCommands,
        coalescer: WriteCoalescer,
        more: Endpoints | None = None,
    ) -> HttpListener:
        """Return a listener of the admin API.

        Args:
            more: further endpoints.
        """
        channel = AdminChannel(
            commands, self._audit, self._tasks, access=lambda: self.access.service, more=more
        )
        if more is None:
            self.ingress.admin_api = channel.api  # which machines call by the ingress
        return HttpListener(
            coalescer, channel.api, self._tasks, name=name, most=lambda: admin.MAX_CONNECTIONS
        )

    def _challenge_relay(self, config: ServerConfig) -> ChallengeRelay | None:
        """Return what answers challenges of other members; None without a shared database."""
        membership = self._membership
        if membership is None:
            return None
        return ChallengeRelay(
            lambda: membership.others,
            self._certifies,
            self._tasks,
            http_port=_challenge_port(config),
        )

    def _certificate_orders(self, database: Database) -> CertificateOrders | None:
        """Return what lets members order certificates in turn; None without a shared database."""
        membership = self._membership
        if membership is None:
            return None
        return CertificateOrders(
            database,
            membership.server_id,
            self._tasks,
            others=lambda: membership.others,
            storage=lambda: _storage(self._config),
        )

    # ---- applying a configuration

    def _reconfigure(
        self, config: ServerConfig, authority: Authority | None, context: ssl.SSLContext
    ) -> None:
        """Give the parts their new settings; none of this can fail."""
        self.ingress.reconfigure(config.api, https_port=config.caddy.https_port)
        self.ingress.edge_times = sends_edge_time(config)
        self.ingress.trust = ProxyTrust(config.trusted_proxies, self._proxy_secret.text)
        if config.limits != self._config.limits:
            self._load_shedding.reconfigure(config.limits)
            self.registry.policies.most = most_memory(config.limits)
            self._certificate_budget.reconfigure(config.limits)
        self._permission.storage = _storage(config)
        self.agent_listener.reconfigure(context)
        self.acceptor.reconfigure(
            renew_certificate=self._renews(authority),
            offers_http=_offers_http(config),
            resume_timeout=config.server.resume_timeout,
        )
        if self._membership is not None:
            self._membership.reconfigure(config.server.member_addr)
            log_foreign_member_addr(config.server)
        if self.ingress.challenges is not None:
            self.ingress.challenges.http_port = _challenge_port(config)
        self._enrollment.reconfigure(self._enrolls(authority))
        self._agent_directory.reconfigure(authority)
        self._join_tokens.reconfigure(config.server)

    async def _load_authority(self, config: ServerConfig, changes: Changes) -> Authority | None:
        """Raises PkiError. Runs in a thread: decrypting a key with a passphrase takes time."""
        if changes.files or changes.sections & {"server", "authority"}:
            return await asyncio.to_thread(load_authority, config)
        return self._agent_directory.authority

    def _renews(self, authority: Authority | None) -> RenewCertificate | None:
        return None if authority is None else self._agent_directory.renew

    def _enrolls(self, authority: Authority | None) -> AgentDirectory | None:
        return None if authority is None else self._agent_directory

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
        if self._handed is None:
            return found
        return {key: found[key] for key in ("api.listen_addr", "admin.socket")}

    def _takers(self) -> dict[bytes, Take]:
        """Return what takes the connections that the parent hands over, by listener."""
        plain = {
            ADMIN: (self._admin, "admin.socket"),
            METRICS: (self.metrics.listener, "metrics.listen_addr"),
            PERMISSION: (self._permission_api, "caddy.permission_addr"),
        }
        takers = {name: listener.handed(key=key).take for name, (listener, key) in plain.items()}
        return {AGENTS: self.agent_listener.take, **takers}

    async def _listen_for_metrics(self, config: ServerConfig) -> None:
        """Raises SetupError."""
        if self._handed is None:
            await self.metrics.listen(config.metrics.listen_addr)

    async def _listen_for_agents(self, address: str, beside: Listening | None) -> Listening:
        return self.agent_listener.listen(address, beside=beside)

    def _reauthorize(self, config: ServerConfig) -> None:
        before, any_host = self._config, config.unsafe_agents_may_claim_any_host
        if config.grants != before.grants or any_host != before.unsafe_agents_may_claim_any_host:
            self.authorization.any_host = any_host
            self.authorization.grants.replace(FILE, _grants(config))
            self._agent_directory.log_overlaps()
            self.sessions.reauthorize()

    def _own_hosts(self) -> frozenset[str]:
        """Return the host names that the server serves itself."""
        return self.ingress.agents.hosts | self.authorization.reserved

    def _certifies(self, host: str) -> bool:
        """Return True for host names that get a certificate of a public authority."""
        served = self.registry.offers_https(host) or host in self._own_hosts()
        return served and not is_private(host)

    # ---- events

    def _trust_settings(self) -> dict[str, str | bool | None]:
        """Return the settings about access: records show changes made while no server ran."""
        config = self._config
        return {
            "grants": _digest(
                "\n".join(
                    f"{agent} {pattern}" for agent, pattern in sorted(_grants(config))
                ).encode()
            ),
            "any_host": config.unsafe_agents_may_claim_any_host,
            "ca_file": _digest(Path(config.server.ca_file).read_bytes()),
            "issuer": _issuer_serial(self._agent_directory.authority),
            **self._access_settings(),
        }

    def _access_settings(self) -> dict[str, str]:
        """Return the name of this server, and a digest by which others compare `access`."""
        access = self._config.access
        text = "" if access is None else access.model_dump_json()
        return {"server": self._audit.server, "access": _digest(text.encode())}

    def _record_refused_hosts(
        self, agent: str, granted: Sequence[str], refused: Sequence[str]
    ) -> None:
        if new := self._audit.new_refusals(agent, granted, refused):
            self._tasks.spawn(self._audit.hosts_refused(agent, new), "record refused host names")

    async def _maintain_certificates(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                self._maintenance.tick(
                    datetime.datetime.now(datetime.UTC),
                    self._config,
                    self._agent_directory.authority,
                )
            except Exception as error:  # noqa: BLE001 - sessions have to end with their certificates after any fault
                _log.error(
                    "certificate maintenance failed; retrying", error=repr(error), exc_info=error
                )

    def _use_new_certificate(self) -> None:
        self.agent_listener.reconfigure(_tls_context(self._config, self._agent_directory.authority))


async def _listen_plain(
    listener: HttpListener, key: str, address: str, beside: Listening | None
) -> Listening:
    return await listener.bind(address, key=key, beside=beside)


def _membership(
    config: ServerConfig, database: Database, registry: Registry, slot: WorkerSlot
) -> tuple[Membership | None, MemberAnnouncer | None]:
    """Return the membership, and what tells agents of it; None where servers share no database.

    Raises:
        StateError: the id of this server can't be read or written.
    """
    if not config.state.is_for_servers:
        return None, None
    server_id = load_server_id(Path(config.state.dir))
    announcer = MemberAnnouncer(server_id, lambda: registry.sessions)
    membership = Membership(
        database,
        server_id,
        address=config.server.member_addr,
        renews=slot.is_first,
        changed=announcer.announce,
    )
    return membership, announcer


def _grants(config: ServerConfig) -> list[tuple[str, str]]:
    return [(agent, pattern) for agent, patterns in config.grants.items() for pattern in patterns]


def _unknown(changes: Changes) -> list[str]:
    """Return the changed keys that `Server.apply` does not apply."""
    return [key for key in changes.keys if key.partition(".")[0] not in _APPLIED]


def open_database(state: DatabaseConfig, *, shared: bool = False) -> Database:
    """Open the server's database and migrate it; create its folder where there is none.

    Args:
        shared: other workers of this server use it, too.

    Raises:
        StateError: it can't be used, a newer program wrote it, or other users may replace files in
            its folder.
    """
    folder = Path(state.dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        refusal, warnings = folders.refusal(folder), list(folders.above(folder))
    except OSError as error:
        raise StateError(
            f"state.dir: cannot create {state.dir}: {describe(error)}; correct the path, or create"
            " the folder"
        ) from error
    if refusal is not None:
        raise StateError(f"state.dir: {refusal}")
    for warning in warnings:
        _log.warning("state.dir is not safe", reason=warning)
    database = Database.open(state.database, folder=folder, shared=shared)
    if database.migration is not None:
        say = _log.warning if database.migration.risky else _log.info
        say(str(database.migration), database=database.name)
    return database


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


def _storage(config: ServerConfig) -> Path | None:
    """Return the folder of Caddy's certificates, where it is known."""
    return Path(config.caddy.storage) if has_our_storage(config.caddy) else None


def _offers_http(config: ServerConfig) -> bool:
    return config.caddy.mode == "none" or bool(config.caddy.http_port)


def _challenge_port(config: ServerConfig) -> int:
    """Return the port at which Caddys answer challenges; 0 where Caddy gets no certificates."""
    return 0 if config.caddy.mode == "none" else config.caddy.http_port


def _issuer_serial(authority: Authority | None) -> str | None:
    """Return the serial number of the issuing certificate."""
    return None if authority is None else serial_of(authority.issuer.certificate)


def _roots(config: ServerConfig) -> tuple[bytes, ...]:
    """Return the SHA-256 of each root certificate.

    Raises:
        PkiError: the file has none.
    """
    found = load_certificates(Path(config.server.ca_file))
    return tuple(one.fingerprint(hashes.SHA256()) for one in found[:MAX_ROOTS])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tls_context(config: ServerConfig, authority: Authority | None) -> ssl.SSLContext:
    """Raises PkiError."""
    server = config.server
    # A process that was killed during a renewal has left a key that does not fit its certificate.
    key_pair_files.complete(Path(server.cert_file), Path(server.key_file))
    return tunnel_server(
        certificate=server.cert_file,
        key=server.key_file,
        authority=server.ca_file,
        enrollment=authority is not None,
    )
