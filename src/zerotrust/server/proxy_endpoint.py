"""Endpoints for Caddy: the proxy API (`api.listen_addr`), and its permission for certificates."""

from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes

from zerotrust.caddy.render import has_our_storage, is_private, sends_edge_time
from zerotrust.db.database import Database
from zerotrust.http.ping import MAX_ROOTS
from zerotrust.model.server import ServerConfig
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.loop import descriptor_limit
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki.ca_directory import load_certificates
from zerotrust.server.agent_endpoint import AgentEndpoint
from zerotrust.server.agents.websocket_endpoint import WebSocketEndpoint
from zerotrust.server.identity.server_certificate import websocket_hosts
from zerotrust.server.ops import tls_permission
from zerotrust.server.ops.certificate_budget import CertificateBudget
from zerotrust.server.ops.certificate_orders import CertificateOrders
from zerotrust.server.ops.descriptors import api_connections
from zerotrust.server.ops.tls_permission import TlsPermission
from zerotrust.server.proxy.challenge_relay import ChallengeRelay
from zerotrust.server.proxy.ingress import Ingress
from zerotrust.server.proxy.load_shedding import LoadShedding
from zerotrust.server.proxy.pending_requests import PendingRequests
from zerotrust.server.proxy.proxy_trust import ProxyTrust
from zerotrust.server.proxy.verification_pool import VerificationPool


class ServerIdentity(NamedTuple):
    """Identity of the server towards agents and pings.

    Attributes:
        websocket_hosts: host names at which agents connect through Caddy.
        roots: SHA-256 of each root certificate.
    """

    websocket_hosts: frozenset[str]
    roots: tuple[bytes, ...]


class ProxyEndpoint:
    """Forwards requests from Caddy to agents, and tells Caddy which host names get a certificate.

    Args:
        agents: the sessions to forward to.
        secret: by which a Caddy on loopback TCP proves itself.

    Attributes:
        ingress: handler of the requests.
        load_shedding: refuses requests during an overload.
        api: listener of the proxy API.
        permission_api: listener for Caddy's questions about host names.
        certificate_budget: the certificates that may still be ordered.

    Raises:
        PkiError: a certificate can't be used.
    """

    def __init__(
        self,
        config: ServerConfig,
        database: Database,
        tasks: Tasks,
        agents: AgentEndpoint,
        *,
        coalescer: WriteCoalescer,
        secret: str,
    ) -> None:
        self._config, self._agents, self._secret = config, agents, secret
        identity = self.prepare(config)
        self.load_shedding = LoadShedding(config.limits)
        pending = PendingRequests(agents.registry, timeout=config.api.hold_timeout)
        agents.registry.subscribe(pending.host_served)
        self.ingress = Ingress(
            agents.registry,
            config.api,
            trust=ProxyTrust(config.trusted_proxies, secret),
            pending=pending,
            verifications=VerificationPool(tasks),
            agents=WebSocketEndpoint(agents.listener, identity.websocket_hosts),
            https_port=config.caddy.https_port,
            overload=self.load_shedding,
        )
        self.ingress.roots = identity.roots
        self.ingress.edge_times = sends_edge_time(config)
        self.ingress.challenges = self._challenge_relay(tasks)
        self.api = HttpListener(
            coalescer,
            self.ingress,
            tasks,
            name="api.listen_addr",
            most=lambda: api_connections(self._config.limits, descriptor_limit()),
            # Caddy may be using what looks idle here.
            reuse_idle=False,
            fix="raise limits.requests, or how many descriptors the process may open (LimitNOFILE)",
        )
        self.certificate_budget = CertificateBudget(config.limits)
        self._permission = TlsPermission(
            agents.registry,
            agents.authorization.grants,
            self.certificate_budget,
            own_hosts=self._own_hosts,
            orders=self._certificate_orders(database, tasks),
            storage=_storage(config),
        )
        self.permission_api = HttpListener(
            coalescer,
            self._permission,
            tasks,
            name="caddy.permission_addr",
            most=lambda: tls_permission.MAX_CONNECTIONS,
        )

    def prepare(self, config: ServerConfig) -> ServerIdentity:
        """Read the identity of the server from a configuration.

        Raises:
            PkiError: a certificate can't be used; nothing has changed.
        """
        return ServerIdentity(websocket_hosts(config.server), _roots(config))

    def apply(self, config: ServerConfig, identity: ServerIdentity) -> None:
        """Use a configuration from the next request on, with what `prepare` has read.

        It cannot fail.
        """
        before, self._config = self._config, config
        self.ingress.reconfigure(config.api, https_port=config.caddy.https_port)
        self.ingress.edge_times = sends_edge_time(config)
        self.ingress.trust = ProxyTrust(config.trusted_proxies, self._secret)
        self.ingress.agents.hosts = identity.websocket_hosts
        self.ingress.roots = identity.roots
        if self.ingress.challenges is not None:
            self.ingress.challenges.http_port = _challenge_port(config)
        if config.limits != before.limits:
            self.load_shedding.reconfigure(config.limits)
            self.certificate_budget.reconfigure(config.limits)
        self._permission.storage = _storage(config)

    def close(self) -> None:
        """Close all connections. The owner of the listeners' addresses closes those."""
        self.permission_api.close()
        self.api.close()

    def _challenge_relay(self, tasks: Tasks) -> ChallengeRelay | None:
        """Return what answers ACME challenges of other members; None without a shared database."""
        membership = self._agents.membership
        if membership is None:
            return None
        return ChallengeRelay(
            lambda: membership.others,
            self._certifies,
            tasks,
            http_port=_challenge_port(self._config),
        )

    def _certificate_orders(self, database: Database, tasks: Tasks) -> CertificateOrders | None:
        """Return what lets members order certificates in turn; None without a shared database."""
        membership = self._agents.membership
        if membership is None:
            return None
        return CertificateOrders(
            database,
            membership.server_id,
            tasks,
            others=lambda: membership.others,
            storage=lambda: _storage(self._config),
        )

    def _own_hosts(self) -> frozenset[str]:
        """Return the host names that the server serves itself."""
        return self.ingress.agents.hosts | self._agents.authorization.reserved

    def _certifies(self, host: str) -> bool:
        """Return True for host names that get a certificate of a public authority."""
        served = self._agents.registry.offers_https(host) or host in self._own_hosts()
        return served and not is_private(host)


def _storage(config: ServerConfig) -> Path | None:
    """Return the folder of Caddy's certificates, where it is known."""
    return Path(config.caddy.storage) if has_our_storage(config.caddy) else None


def _challenge_port(config: ServerConfig) -> int:
    """Return the port at which Caddys answer challenges; 0 where Caddy gets no certificates."""
    return 0 if config.caddy.mode == "none" else config.caddy.http_port


def _roots(config: ServerConfig) -> tuple[bytes, ...]:
    """Return the SHA-256 of each root certificate.

    Raises:
        PkiError: the file has none.
    """
    found = load_certificates(Path(config.server.ca_file))
    return tuple(one.fingerprint(hashes.SHA256()) for one in found[:MAX_ROOTS])
