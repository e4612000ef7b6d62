"""Permission endpoint for Caddy's on-demand TLS: permits host names served over https, and those
at which agents reach the server itself.

Without it, any client could make Caddy order certificates for any name. Caddy requests
`/.0trust/tls-permission?domain=NAME` and goes on with status 200 only. After any other status it
also stops using a certificate that is due for renewal, so a name that was permitted must not be
refused later, while it is served.

Below a wildcard of a service, each name that a client asks for is an order. So these names count as
new ones until they have a certificate.
"""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from zerotrust.caddy.render import is_private
from zerotrust.enrollment.grant_table import GrantTable
from zerotrust.enrollment.public_suffix import registered_domain
from zerotrust.http.body import Kind
from zerotrust.http.head import RequestHead
from zerotrust.model.base import is_address, is_pattern, normalise_host
from zerotrust.net.http_server import HttpServerConnection, RequestSink
from zerotrust.server.agents.registry import Registry
from zerotrust.server.ops.certificate_budget import CertificateBudget
from zerotrust.telemetry import logs

PATH = "/.0trust/tls-permission"
MAX_CONNECTIONS: Final = 256
"""Connections at the same time: Caddy opens one for each handshake that waits for the answer."""

_YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_NO = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

_log = logs.logger("server")


class TlsPermission:
    """Answers Caddy's requests (net.http_server.RequestHandler).

    Args:
        registry: host names that are served.
        grants: tells names that are granted themselves from names that a wildcard grants.
        budget: limits the new names of wildcard grants.
        own_hosts: returns the host names at which agents reach the server itself.
        clock: monotonic seconds.

    Attributes:
        storage: folder of Caddy's certificates; None where an external Caddy has its own.
    """

    def __init__(
        self,
        registry: Registry,
        grants: GrantTable,
        budget: CertificateBudget,
        *,
        own_hosts: Callable[[], Collection[str]] = tuple,
        storage: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._grants = grants
        self._budget = budget
        self._own_hosts = own_hosts
        self._clock = clock
        self.storage = storage

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        connection.reply(_YES if self._permits(head) else _NO, close=framing[0] is not Kind.NONE)
        return None

    def _permits(self, head: RequestHead) -> bool:
        path, _, query = head.target.decode("latin-1").partition("?")
        names = parse_qs(query).get("domain", [])
        if head.method != b"GET" or path != PATH or len(names) != 1:
            return False
        try:
            name = normalise_host(names[0])
        except ValueError:
            return False
        if name in self._own_hosts():
            return True
        if not self._registry.offers_https(name):
            return False
        registered = self._registry.resolve(name)
        wildcard = registered if is_pattern(registered) else None
        if wildcard is not None and is_address(name):
            return False  # no authority certifies an address that clients make up
        return self._costs_nothing(name, wildcard) or self._has_room(name, wildcard)

    def _costs_nothing(self, name: str, wildcard: str | None) -> bool:
        """Return True where the name needs no budget: internal, granted, or permitted before."""
        return (
            (is_private(name) and wildcard is None)
            or any(self._grants.names(agent, name) for agent in self._registry.agents_of(name))
            or self._budget.knows(name, self._clock())
            or self._has_certificate(name)
        )

    def _has_certificate(self, name: str) -> bool:
        """Return True where Caddy has a certificate of the name, which is due for renewal."""
        if self.storage is None:
            return False
        try:
            return any(self.storage.glob(f"certificates/*/{name}/{name}.crt"))
        except OSError:  # for example a name too long for a file
            return False

    def _has_room(self, name: str, wildcard: str | None) -> bool:
        """Count the name for an agent that serves it and has room; return False where none has."""
        domain = None if is_private(name) else registered_domain(name)
        now = self._clock()
        exceeded: dict[str, str] = {}
        for agent in self._registry.agents_of(name):
            limit = self._budget.exceeded(agent, domain, name, now, wildcard=wildcard)
            if limit is None:
                return True
            exceeded[agent] = limit
        for agent, limit in exceeded.items():
            if self._budget.refuse(agent, limit, now):
                _log.warning(
                    "no certificate: the agent's wildcard grants have too many new names; "
                    "grant the name itself, or raise the limit in limits of the server's file",
                    agent=agent,
                    host_name=name,
                    domain=domain,
                    wildcard=wildcard,
                    limit=limit,
                )
        return False
