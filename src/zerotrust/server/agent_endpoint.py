"""Endpoint for agents, at `server.listen_addr`: listener, enrollment, sessions and their rights."""

import asyncio
import datetime
import platform
import secrets
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zerotrust.config.diff import Changes
from zerotrust.db.database import Database
from zerotrust.model.password_hash import HashSpeed
from zerotrust.model.server import ServerConfig
from zerotrust.net.tasks import Tasks
from zerotrust.net.tls import tunnel_server
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki import key_pair_files
from zerotrust.server.agents.listener import AgentListener
from zerotrust.server.agents.member_announcer import MemberAnnouncer
from zerotrust.server.agents.policy_quota import most_memory
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.service_registrar import ServiceRegistrar
from zerotrust.server.agents.session import RenewCertificate
from zerotrust.server.agents.session_acceptor import SessionAcceptor
from zerotrust.server.agents.session_control import SessionControl
from zerotrust.server.identity.agent_directory import FILE, AgentDirectory
from zerotrust.server.identity.audit import Audit
from zerotrust.server.identity.authority import Authority, load_authority
from zerotrust.server.identity.authorization import Authorization
from zerotrust.server.identity.enrollment_api import EnrollmentEndpoint
from zerotrust.server.identity.membership import Membership, load_server_id
from zerotrust.server.identity.server_certificate import log_foreign_member_addr
from zerotrust.server.identity.trust_settings import configured_grants
from zerotrust.server.identity.worker_slot import WorkerSlot
from zerotrust.server.ops.certificate_maintenance import TICK, CertificateMaintenance
from zerotrust.telemetry import logs

_log = logs.logger("server")


class PreparedTrust(NamedTuple):
    """Certificates of another configuration, read and not used yet.

    Attributes:
        authority: None where certificates are issued by hand.
        context: TLS context of the listener.
    """

    authority: Authority | None
    context: ssl.SSLContext


class AgentEndpoint:
    """Decides which agents may connect, and which host names each may serve; holds their sessions.

    Args:
        slot: place of this process among the workers of the server.

    Attributes:
        listener: the listener for agents, and for machines that join.
        authorization: the grants and revocations in force.
        acceptor: begins the sessions of agents.
        registry: sessions of the agents, and their services.
        registrar: registers services of agents.
        sessions: operations on all sessions.
        directory: the agents in the database.
        membership: the servers that share the database; None where it is for one server.
        audit: the audit log.

    Raises:
        PkiError: a certificate can't be used.
        StateError: the id of this server can't be read or written.
    """

    def __init__(
        self,
        config: ServerConfig,
        database: Database,
        tasks: Tasks,
        *,
        coalescer: WriteCoalescer,
        hash_speed: HashSpeed,
        slot: WorkerSlot,
    ) -> None:
        authority = load_authority(config)
        self._config, self._tasks = config, tasks
        self.audit = Audit(database, server=f"{platform.node()} {config.server.listen_addr}")
        self._follows = database.shared
        self.authorization = Authorization(any_host=config.unsafe_agents_may_claim_any_host)
        self.authorization.grants.replace(FILE, configured_grants(config))
        self.registry = Registry(holders=self.authorization.grants.holders)
        self.registry.policies.most = most_memory(config.limits)
        self.registrar = ServiceRegistrar(
            self.registry,
            self.authorization,
            secret=secrets.token_bytes(32),
            hash_speed=hash_speed,
            hosts_checked=self._record_refused_hosts,
            workers=slot.count,
        )
        self.sessions = SessionControl(self.registry, self.registrar, self.authorization)
        self.directory = AgentDirectory(
            database, authorization=self.authorization, sessions=self.sessions, authority=authority
        )
        self.membership, announcer = _membership(config, database, self.registry, slot)
        self._enrollment = EnrollmentEndpoint(
            self._enrolls(authority), coalescer=coalescer, tasks=tasks
        )
        self.acceptor = SessionAcceptor(
            self.registry,
            self.registrar,
            self.authorization,
            coalescer=coalescer,
            tasks=tasks,
            record_rejected=self.audit.agent_rejected,
            renew_certificate=self._renews(authority),
            offers_http=_offers_http(config),
            resume_timeout=config.server.resume_timeout,
            worker=slot.index,
            workers=slot.count,
            announcer=announcer,
        )
        self.listener = AgentListener(
            _tls_context(config, authority),
            registry=self.registry,
            acceptor=self.acceptor,
            enrollment=self._enrollment,
            tasks=tasks,
        )
        self._maintenance = CertificateMaintenance(
            self.sessions, renewed=self._use_new_certificate, renews=slot.is_first
        )

    async def start(self) -> None:
        """Read the agents and their rights, and begin what is done from time to time.

        Raises:
            StateError: the database can't be used.
        """
        self._tasks.spawn(self._maintain_certificates(), "certificate maintenance")
        if self._follows:
            self._tasks.spawn(self.directory.follow(), "follow other servers")
        await self.directory.load()
        self.directory.log_overlaps()
        if self.membership is not None:
            await self.membership.look()
            log_foreign_member_addr(self._config.server)
            self._tasks.supervise(self.membership.follow, "follow the members")

    async def prepare(self, config: ServerConfig, changes: Changes) -> PreparedTrust:
        """Read the certificates of another configuration.

        Raises:
            PkiError: one can't be used; nothing has changed.
        """
        authority = self.directory.authority
        if changes.files or changes.sections & {"server", "authority"}:
            # In a thread: decrypting a key with a passphrase takes time.
            authority = await asyncio.to_thread(load_authority, config)
        return PreparedTrust(authority, _tls_context(config, authority))

    def apply(self, config: ServerConfig, trust: PreparedTrust) -> list[str]:
        """Use another configuration, with the certificates that `prepare` has read.

        It cannot fail.

        Returns:
            The settings that do not apply yet, each with the reason.
        """
        before, self._config = self._config, config
        self.registry.policies.most = most_memory(config.limits)
        self.listener.reconfigure(trust.context)
        self.acceptor.reconfigure(
            renew_certificate=self._renews(trust.authority),
            offers_http=_offers_http(config),
            resume_timeout=config.server.resume_timeout,
        )
        if self.membership is not None:
            self.membership.reconfigure(config.server.member_addr)
            log_foreign_member_addr(config.server)
        self._enrollment.reconfigure(self._enrolls(trust.authority))
        self.directory.reconfigure(trust.authority)
        any_host = config.unsafe_agents_may_claim_any_host
        if config.grants != before.grants or any_host != before.unsafe_agents_may_claim_any_host:
            self.authorization.any_host = any_host
            self.authorization.grants.replace(FILE, configured_grants(config))
            self.directory.log_overlaps()
            self.sessions.reauthorize()
        if _offers_http(config) == _offers_http(before):
            return []
        return ["caddy.http_port: applies to http-only services when their agents reconnect"]

    def _renews(self, authority: Authority | None) -> RenewCertificate | None:
        return None if authority is None else self.directory.renew

    def _enrolls(self, authority: Authority | None) -> AgentDirectory | None:
        return None if authority is None else self.directory

    def _record_refused_hosts(
        self, agent: str, granted: Sequence[str], refused: Sequence[str]
    ) -> None:
        if new := self.audit.new_refusals(agent, granted, refused):
            self._tasks.spawn(self.audit.hosts_refused(agent, new), "record refused host names")

    async def _maintain_certificates(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                self._maintenance.tick(
                    datetime.datetime.now(datetime.UTC), self._config, self.directory.authority
                )
            except Exception as error:  # noqa: BLE001 - sessions have to end with their certificates after any fault
                _log.error(
                    "certificate maintenance failed; retrying", error=repr(error), exc_info=error
                )

    def _use_new_certificate(self) -> None:
        self.listener.reconfigure(_tls_context(self._config, self.directory.authority))


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


def _offers_http(config: ServerConfig) -> bool:
    return config.caddy.mode == "none" or bool(config.caddy.http_port)


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
