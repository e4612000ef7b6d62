"""Compiled policy of a service, which its requests have to pass.

An agent may be hostile, so its policy is read as strictly as a configuration file, and a policy
with a part that cannot be enforced is refused as a whole. A new policy takes over the counts and
logins of the one that it replaces, so registering again does not reset them.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from zerotrust.access.conditions import CountryOf, no_country
from zerotrust.access.identity_headers import IdentityHeaders
from zerotrust.errors import ConfigError, ForwardError
from zerotrust.http.client_pace import ClientLimits
from zerotrust.http.head import RequestHead
from zerotrust.middleware.chain import MiddlewareChain
from zerotrust.middleware.client_address import RequireClientAddress
from zerotrust.middleware.header_edits import Edit, edit_lines
from zerotrust.middleware.interface import Answer, Middleware, Request
from zerotrust.middleware.policy import Policy, compile_policy
from zerotrust.middleware.policy_cost import cost_error
from zerotrust.middleware.request_limits import UNLIMITED, BodyLimit, UpgradeLimit
from zerotrust.middleware.upgrade_limits import HandshakeLimit, UpgradeOrigins
from zerotrust.model.condition import Condition
from zerotrust.model.policy import ServicePolicy
from zerotrust.model.rates import parse_byte_rate, parse_byte_size, parse_rate
from zerotrust.model.service_access import Inspection, ServiceAccess
from zerotrust.model.websocket_limits import WebSocketLimits
from zerotrust.model.workers import share
from zerotrust.server.agents.service_shaping import ServiceShaping


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """Treatment of the WebSockets of a service, from their 101 on.

    Attributes:
        client: limits on what the client sends, or None.
        ping: seconds between pings of the server on a quiet WebSocket; 0 for none.
        idle_timeout: seconds without a byte after which any upgraded connection ends; 0 for no
            limit.
        max_duration: seconds after which any upgraded connection ends; 0 for no limit.
    """

    client: ClientLimits | None = None
    ping: float = 0.0
    idle_timeout: float = 0.0
    max_duration: float = 0.0

    @property
    def has_timeouts(self) -> bool:
        """Return True if upgraded connections end by the clock."""
        return bool(self.idle_timeout or self.max_duration)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """Compiled policy of one service.

    Attributes:
        max_body: most bytes of a request body, or `UNLIMITED`.
        upgrades: limit on upgraded connections, or None.
        handshakes: limit on their rate, or None.
        websocket: limits and pings of WebSockets, or None.
        shaping: bandwidth limits, or None.
        access: the service's section `access`, or None.
        identity: header fields that tell the backend who makes a request, as `access` asks for.
    """

    policy: Policy
    max_body: int
    upgrades: UpgradeLimit | None
    shaping: ServiceShaping | None = None
    access: ServiceAccess | None = None
    identity: IdentityHeaders | None = None
    handshakes: HandshakeLimit | None = None
    websocket: WebSocketSettings | None = None

    @property
    def has_effect(self) -> bool:
        """False if every request passes unchanged."""
        parts = (self.shaping, self.access, self.websocket)
        return any(part is not None for part in parts) or any(
            chain.handlers for chain in self.policy.table.choices
        )

    @property
    def inspection(self) -> Inspection:
        """Most that may be shown of the service's WebSockets."""
        return "metadata" if self.access is None else self.access.inspection

    def chain(self, head: RequestHead) -> MiddlewareChain:
        """Return the middleware that a request has to pass.

        Raises:
            AmbiguousPath: backends may read the path differently, which leads to different routes.
            AmbiguousQuery: the same of the query.
            PathTooLong, QueryTooLong, TooManyParameters: the path or query is too large to find the
                route.
        """
        return self.policy.table.lookup(head.method, head.target, head.fields)

    def ask_origin(self, head: RequestHead, *, by_route: bool = True) -> Answer | list[Edit]:
        """Return the cross-origin headers for an error, or the answer to a preflight request.

        A preflight is answered even so: without it, the browser would not send the request that
        gets the error.

        Args:
            by_route: use the request's route; else the default of requests without a route.
        """
        asked = Request(head, client=b"", unix_time=0.0)
        chain = self.policy.table.default
        if by_route:
            with suppress(ForwardError):
                chain = self.chain(head)
        return chain.ask_origin(asked) or asked.response_edits


def compile_service_policy(
    policy_json: dict[str, Any] | None,
    *,
    secret: bytes,
    before: CompiledPolicy | None,
    signs_in: bool = False,
    country_of: CountryOf | None = None,
    workers: int = 1,
) -> CompiledPolicy | None:
    """Compile the policy of a registration; None where every request passes unchanged.

    Args:
        policy_json: the policy as the agent sent it (REGISTER).
        secret: random bytes that only this process has (see `compile_policy`).
        before: the policy that this one replaces.
        signs_in: this server has a section `access`, so people can sign in.
        country_of: looks up countries; None where this server has no database of them.
        workers: number of processes that share the limits.

    Raises:
        ConfigError: it cannot be enforced; the message begins with the key.
    """
    if policy_json is None:
        return None
    asked = ServicePolicy.from_json(policy_json)
    if (found := cost_error(asked)) is not None:
        place, message = found
        raise ConfigError(f"{'.'.join(map(str, place))}: {message}")
    _check_conditions(asked.conditions, signs_in=signs_in, countries=country_of is not None)
    limits = _request_limits(asked, before, workers)
    policy = compile_policy(
        asked.routes,
        secret=secret,
        global_middleware=asked.global_middleware,
        security=asked.security,
        access=asked.access,
        country_of=country_of or no_country,
        limits=limits.middleware,
        before=before.policy if before is not None else None,
        workers=workers,
    )
    compiled = CompiledPolicy(
        policy,
        limits.max_body,
        limits.upgrades,
        ServiceShaping.of(
            asked.traffic_shaping, before.shaping if before is not None else None, workers
        ),
        asked.access,
        _identity_headers(asked.access),
        limits.handshakes,
        _websocket_settings(asked),
    )
    return compiled if compiled.has_effect else None


class _RequestLimits(NamedTuple):
    """Limits that a request has to pass before the middleware of its route.

    Attributes:
        middleware: all of them, in order.
        max_body, upgrades, handshakes: as in `CompiledPolicy`.
    """

    middleware: list[Middleware]
    max_body: int
    upgrades: UpgradeLimit | None
    handshakes: HandshakeLimit | None


def _request_limits(
    asked: ServicePolicy, before: CompiledPolicy | None, workers: int
) -> _RequestLimits:
    """Return the limits that an agent asks for, with the counts of those that they replace."""
    middleware: list[Middleware] = []
    max_body, upgrades, handshakes = UNLIMITED, None, None
    if asked.max_request_body is not None:
        max_body = parse_byte_size(asked.max_request_body)
        middleware.append(BodyLimit(max_body))
    sockets = asked.websocket_limits or WebSocketLimits()
    if sockets.origins:
        middleware.append(UpgradeOrigins(() if sockets.origins == "same" else sockets.origins))
    if sockets.handshakes is not None:
        previous_rate = before.handshakes if before is not None else None
        handshakes = HandshakeLimit.of(sockets.handshakes, previous_rate, workers)
        middleware.append(handshakes)
    if asked.limits_upgrades:
        previous = before.upgrades if before is not None else None
        upgrades = UpgradeLimit(
            _share(asked.max_websockets, workers),
            _share(asked.max_websockets_per_client, workers),
            previous,
            per_user=_share(asked.max_websockets_per_user, workers),
        )
        middleware.append(upgrades)
    if asked.traffic_shaping is not None and asked.traffic_shaping.per_ip_limit is not None:
        middleware.append(RequireClientAddress())
    return _RequestLimits(middleware, max_body, upgrades, handshakes)


def _identity_headers(access: ServiceAccess | None) -> IdentityHeaders | None:
    if access is None:
        return None
    wanted = access.identity
    return IdentityHeaders(jwt=wanted.jwt, headers=wanted.headers, encoding=wanted.encoding)


def _share(limit: int | None, workers: int) -> int | None:
    return None if limit is None else share(limit, workers)


def _websocket_settings(asked: ServicePolicy) -> WebSocketSettings | None:
    """Return the settings for WebSockets; None where they have no limits and no pings."""
    sockets, client = asked.websocket_limits or WebSocketLimits(), ClientLimits()
    if sockets.max_message is not None:
        client = client._replace(max_message=parse_byte_size(sockets.max_message))
    if sockets.messages is not None:
        count, seconds = parse_rate(sockets.messages)
        client = client._replace(messages=count / seconds, burst=sockets.burst or count)
    if sockets.bytes is not None:
        client = client._replace(byte_rate=parse_byte_rate(sockets.bytes))
    settings = WebSocketSettings(
        client if client != ClientLimits() else None,
        sockets.ping,
        asked.websocket_idle_timeout or 0.0,
        asked.websocket_max_duration or 0.0,
    )
    return settings if settings != WebSocketSettings() else None


def _check_conditions(conditions: list[Condition], *, signs_in: bool, countries: bool) -> None:
    """Refuse conditions of access that this server can't judge.

    Raises:
        ConfigError: they need sign-in or a database of countries, and there is none.
    """
    for condition in conditions:
        if condition.names_subjects and not signs_in:
            raise ConfigError(
                "access.require: the service requires sign-in, and this server has none: add the"
                " section access to its file"
            )
        if condition.country is not None and not countries:
            raise ConfigError("access.require: country needs access.geo in the server's file")


def passed_head(head: RequestHead, passed: Request) -> RequestHead:
    """Return the request head for the backend, as middleware has changed it."""
    fields = head.fields
    if passed.edits:
        fields = fields.with_lines(edit_lines(fields.lines, passed.edits), fields.spoofable)
    return RequestHead(head.method, passed.target, head.minor, fields)
