"""Permission endpoint for Caddy's on-demand TLS: permits host names served over https, and those
at which agents reach the server itself.

Without it, any client could make Caddy order certificates for any name. Caddy requests
`/.0trust/tls-permission?domain=NAME` and goes on with status 200 only. After any other status it
also stops using a certificate that is due for renewal, so a name that was permitted must not be
refused later, while it is served.

Below a wildcard of a service, each name that a client asks for is an order. So these names count as
new ones until they have a certificate.

Where several members order certificates, the answer waits for the turn of this one.
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
from zerotrust.server.ops.certificate_orders import CertificateOrders
from zerotrust.server.ops.stored_certificates import certificate_files
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
        orders: gives this member its turns; None for a server without members.
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
        orders: CertificateOrders | None = None,
        storage: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._grants = grants
        self._budget = budget
        self._own_hosts = own_hosts
        self._orders = orders
        self._clock = clock
        self.storage = storage

    def request(
        self, connection: HttpServerConnection, head: RequestHead, framing: tuple[Kind, int]
    ) -> RequestSink | None:
        name, orders, close = _name_of(head), self._orders, framing[0] is not Kind.NONE
        if name is None or not self._permits(name):
            connection.reply(_NO, close=close)
            return None
        if orders is None or not orders.needs_turn(name):
            connection.reply(_YES, close=close)
            return None
        question = _WaitingQuestion(connection, close=close)
        orders.ask(name, question.reply, question.is_abandoned)
        return question

    def _permits(self, name: str) -> bool:
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
            or bool(certificate_files(self.storage, name))
        )

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


class _WaitingQuestion:
    """A question whose answer waits for the turn of this server (net.http_server.RequestSink)."""

    __slots__ = ("_close", "_connection")

    def __init__(self, connection: HttpServerConnection, *, close: bool) -> None:
        self._connection: HttpServerConnection | None = connection
        self._close = close

    def is_abandoned(self) -> bool:
        """Return True if Caddy has stopped waiting."""
        return self._connection is None

    def reply(self, permitted: bool) -> None:
        """Answer, if Caddy still waits."""
        if self._connection is not None:
            self._connection.reply(_YES if permitted else _NO, close=self._close)

    def body(self, data: bytes, *, end: bool) -> None:
        """Ignore it: a question has no body."""

    def body_trailers(self, fields: bytes) -> None:
        """Ignore them."""

    def aborted(self) -> None:
        self._connection = None

    def drained(self) -> None:
        """Do nothing: an answer is small."""


def _name_of(head: RequestHead) -> str | None:
    """Return the host name that a question is about; None if the request is no question."""
    path, _, query = head.target.decode("latin-1").partition("?")
    names = parse_qs(query).get("domain", [])
    if head.method != b"GET" or path != PATH or len(names) != 1:
        return None
    try:
        return normalise_host(names[0])
    except ValueError:
        return None
