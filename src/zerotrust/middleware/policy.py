"""Compiler for policies: a service's configuration becomes a table of routes and handlers.

The order is the same for every request: global handlers, CORS rules of the service (before
authentication, because a preflight has no credentials), `access`, authentication, handlers of the
route. All but the last also run before the 404 for a request without a route.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from zerotrust.access.conditions import CountryOf, no_country
from zerotrust.errors import ConfigError
from zerotrust.middleware.access_require import AccessRequireMiddleware
from zerotrust.middleware.basic_auth import BasicAuthMiddleware
from zerotrust.middleware.chain import MiddlewareChain
from zerotrust.middleware.cors import CorsMiddleware
from zerotrust.middleware.header_rules import HeadersMiddleware
from zerotrust.middleware.interface import Middleware
from zerotrust.middleware.ip_filter import IpFilterMiddleware
from zerotrust.middleware.jwt import JwtMiddleware
from zerotrust.middleware.rate_limit import RateLimitMiddleware
from zerotrust.middleware.redirect import RedirectMiddleware
from zerotrust.middleware.respond import no_route, respond
from zerotrust.middleware.rewrite import RewriteMiddleware
from zerotrust.model import middleware as model
from zerotrust.model.service import Route, ServiceSecurity
from zerotrust.model.service_access import AccessRequireConfig, ServiceAccess
from zerotrust.routing.match import Match
from zerotrust.routing.route_table import RouteTable


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Compiled policy of one service.

    Attributes:
        table: finds the chain for a request.
        made: each handler with the configuration that it was built from.
    """

    table: RouteTable[MiddlewareChain]
    made: tuple[tuple[model.Handler, Middleware], ...]


def compile_policy(  # noqa: PLR0913 - the parts of a policy
    routes: Sequence[Route],
    *,
    secret: bytes,
    global_middleware: Sequence[model.Handler] = (),
    security: ServiceSecurity | None = None,
    access: ServiceAccess | None = None,
    country_of: CountryOf = no_country,
    limits: Sequence[Middleware] = (),
    before: Policy | None = None,
    workers: int = 1,
) -> Policy:
    """Return the compiled policy of a service. Without routes, all requests pass.

    Args:
        secret: 16 to 64 random bytes of this process (see `basic_auth`).
        country_of: looks up countries, for `access`. It stays the same in all policies.
        limits: handlers after all others, for requests that go to a backend.
        before: the policy that this one replaces. Handlers with the same configuration are reused,
            with their counts and remembered logins.
        workers: number of processes that share the limits.

    Raises:
        ConfigError: a key or the contents of a file are invalid; the message begins with the place.
    """
    builder = _Builder(secret, country_of, before, workers)
    front = [
        builder.make(handler, f"global_middleware[{i}]")
        for i, handler in enumerate(global_middleware)
    ]
    if security is not None and security.cors is not None:
        front.append(builder.make(model.Cors(config=security.cors), "security.cors"))
    if access is not None and access.require:
        narrowed = AccessRequireConfig(require=access.require)
        front.append(builder.make(model.AccessRequire(config=narrowed), "access.require"))
    if security is not None and security.auth is not None:
        front.append(builder.make(security.auth, "security.auth"))
    rows = []
    for i, route in enumerate(routes):
        own = [
            builder.make(handler, f"routes[{i}].handle[{j}]")
            for j, handler in enumerate(route.handle)
        ]
        rows.append((Match(route.match), _chain([*front, *own, *limits])))
    default = _chain([*front, no_route()] if routes else [*front, *limits])
    return Policy(RouteTable(rows, default=default), tuple(builder.made))


def _chain(handlers: Sequence[Middleware | None]) -> MiddlewareChain:
    return MiddlewareChain([handler for handler in handlers if handler is not None])


class _Builder:
    """Builds handlers, or reuses those of the previous policy."""

    def __init__(
        self, secret: bytes, country_of: CountryOf, before: Policy | None, workers: int
    ) -> None:
        self.made: list[tuple[model.Handler, Middleware]] = []
        self._secret = secret
        self._country_of = country_of
        self._workers = workers
        self._reusable = list(before.made) if before is not None else []

    def make(self, config: model.Handler, where: str) -> Middleware | None:
        for index, (reusable, handler) in enumerate(self._reusable):
            if reusable == config:
                del self._reusable[index]
                self.made.append((config, handler))
                return handler
        try:
            built = _build(config, self._secret, self._country_of, self._workers)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
        if built is not None:
            self.made.append((config, built))
        return built


def _build(  # noqa: C901 - one line a kind
    handler: model.Handler, secret: bytes, country_of: CountryOf, workers: int
) -> Middleware | None:
    match handler:
        case model.ReverseProxy():
            return None
        case model.Headers():
            return HeadersMiddleware(handler.config)
        case model.RateLimit():
            return RateLimitMiddleware(handler.config, workers)
        case model.IpAllow():
            return IpFilterMiddleware(handler.config.allowed_ips, allow=True)
        case model.IpDeny():
            return IpFilterMiddleware(handler.config.denied_ips, allow=False)
        case model.Cors():
            return CorsMiddleware(handler.config)
        case model.BasicAuth():
            return BasicAuthMiddleware(handler.config, secret=secret)
        case model.Jwt():
            return JwtMiddleware(handler.config, secret=secret)
        case model.AccessRequire():
            return AccessRequireMiddleware(handler.config.require, country_of=country_of)
        case model.Redirect():
            return RedirectMiddleware(handler.config)
        case model.Respond():
            return respond(handler.config)
        case model.Rewrite():
            return RewriteMiddleware(handler.config)
    assert_never(handler)
