"""A service's configuration made into the table that its requests go through.

The order is the same for every request: the global handlers, the service's CORS rules (before authentication, because a
preflight carries no credentials), its authentication, the route's own handlers. The first three also stand in front
of the 404 for requests that no route takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from zerotrust.errors import ConfigError
from zerotrust.handlers.basic_auth import BasicAuth
from zerotrust.handlers.chain import Chain
from zerotrust.handlers.cors import Cors
from zerotrust.handlers.headers import Headers
from zerotrust.handlers.ip_filter import IpFilter
from zerotrust.handlers.jwt import Jwt
from zerotrust.handlers.protocol import Handler
from zerotrust.handlers.rate_limit import RateLimit
from zerotrust.handlers.redirect import Redirect
from zerotrust.handlers.respond import no_route, respond
from zerotrust.handlers.rewrite import Rewrite
from zerotrust.model import handlers as model
from zerotrust.model.service import Route, ServiceSecurity
from zerotrust.route.match import Match
from zerotrust.route.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """What is decided about the requests of one service.

    Attributes:
        table: leads from a request to its chain.
        made: each handler with the configuration that it was built from.
    """

    table: Table[Chain]
    made: tuple[tuple[model.Handler, Handler], ...]


def compile_policy(
    routes: Sequence[Route],
    *,
    secret: bytes,
    global_middleware: Sequence[model.Handler] = (),
    security: ServiceSecurity | None = None,
    limits: Sequence[Handler] = (),
    before: Policy | None = None,
) -> Policy:
    """The policy of a service. Without routes, all requests go through.

    Args:
        secret: 16 to 64 random bytes that only this process has (see `basic_auth`).
        limits: handlers behind all others, for requests that go to a backend.
        before: the policy that this one takes the place of. Handlers whose configuration is the same are kept, with the
            counts and logins that they remember.

    Raises:
        ConfigError: a key, or what was read from a file, cannot be used; the message begins with the place.
    """
    workshop = _Workshop(secret, before)
    front = [workshop.make(handler, f"global_middleware[{i}]") for i, handler in enumerate(global_middleware)]
    if security is not None and security.cors is not None:
        front.append(workshop.make(model.Cors(config=security.cors), "security.cors"))
    if security is not None and security.auth is not None:
        front.append(workshop.make(security.auth, "security.auth"))
    rows = []
    for i, route in enumerate(routes):
        own = [workshop.make(handler, f"routes[{i}].handle[{j}]") for j, handler in enumerate(route.handle)]
        rows.append((Match(route.match), _chain([*front, *own, *limits])))
    otherwise = _chain([*front, no_route()] if routes else [*front, *limits])
    return Policy(Table(rows, otherwise=otherwise), tuple(workshop.made))


def _chain(handlers: Sequence[Handler | None]) -> Chain:
    return Chain([handler for handler in handlers if handler is not None])


class _Workshop:
    """Builds handlers, or takes those of before."""

    def __init__(self, secret: bytes, before: Policy | None) -> None:
        self.made: list[tuple[model.Handler, Handler]] = []
        self._secret = secret
        self._former = list(before.made) if before is not None else []

    def make(self, config: model.Handler, where: str) -> Handler | None:
        for index, (former, handler) in enumerate(self._former):
            if former == config:
                del self._former[index]
                self.made.append((config, handler))
                return handler
        try:
            built = _build(config, self._secret)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
        if built is not None:
            self.made.append((config, built))
        return built


def _build(handler: model.Handler, secret: bytes) -> Handler | None:  # noqa: C901 - one line a kind
    match handler:
        case model.ReverseProxy() | model.Unneeded():
            return None
        case model.Headers():
            return Headers(handler.config)
        case model.RateLimit():
            return RateLimit(handler.config)
        case model.IpAllow():
            return IpFilter(handler.config.allowed_ips, allow=True)
        case model.IpDeny():
            return IpFilter(handler.config.denied_ips, allow=False)
        case model.Cors():
            return Cors(handler.config)
        case model.BasicAuth():
            return BasicAuth(handler.config, secret=secret)
        case model.Jwt():
            return Jwt(handler.config, secret=secret)
        case model.Redirect():
            return Redirect(handler.config)
        case model.Respond():
            return respond(handler.config)
        case model.Rewrite():
            return Rewrite(handler.config)
    assert_never(handler)
