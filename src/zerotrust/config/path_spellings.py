"""Protections of a path that leave out its other spelling: `/admin` without `/admin/`.

Many backends answer both alike. So a client would reach the protected page by the other spelling if
another route takes that one with fewer protections.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from zerotrust.config.diagnostics import KeyPath, Severity
from zerotrust.errors import ForwardError
from zerotrust.model import middleware as model
from zerotrust.model.agent import AgentConfig
from zerotrust.model.service import Route, RouteMatch, ServiceSecurity
from zerotrust.routing.match import Match

_AUTHENTICATION: Final = "authentication"
_KINDS: Final[dict[type[object], str]] = {
    model.BasicAuth: _AUTHENTICATION,
    model.Jwt: _AUTHENTICATION,
    model.IpAllow: "addresses",
    model.IpDeny: "addresses",
    model.RateLimit: "rate",
}
_REFUSAL: Final = "refusal"


def half_protected_paths(config: AgentConfig) -> Iterator[tuple[KeyPath, Severity, str]]:
    """Yield the routes whose protections hold for one spelling of their path only."""
    for index, service in enumerate(config.services):
        security = service.security or ServiceSecurity()
        common = [*config.global_middleware, *([security.auth] if security.auth else [])]
        for place, message in _half_protected(service.routes, _protections(common)):
            yield ("services", index, "routes", place, "match", "path"), "warning", message


def _half_protected(
    routes: Sequence[Route], everywhere: Collection[str]
) -> Iterator[tuple[int, str]]:
    matches = [Match(route.match) for route in routes]
    for place, route in enumerate(routes):
        pattern = route.match.path
        other = _other_spelling(pattern)
        own = {
            kind: name
            for kind, name in _protections(route.handle).items()
            if kind not in everywhere
        }
        if other is None or not own or _taker(routes, matches, route.match, pattern) != place:
            continue
        taker = _taker(routes, matches, route.match, other)
        if taker is None or _answers(routes[taker].handle):
            continue
        others = _protections(routes[taker].handle)
        missing = [kind for kind in own if kind not in others]
        if not missing or (others and missing == [_REFUSAL]):
            continue
        names = ", ".join(own[kind] for kind in missing)
        yield (
            place,
            (
                f'routes[{taker}] takes "{other}" without {names}, and many backends answer both'
                f' spellings alike; write "{pattern.rstrip("/")}/*" for both and all below, or a'
                f' route for "{other}" as well'
            ),
        )


def _protections(handlers: Sequence[model.Handler]) -> dict[str, str]:
    """Return the protections of a list of handlers: kinds, and types in the file."""
    found: dict[str, str] = {
        _KINDS[type(each)]: each.type for each in handlers if type(each) in _KINDS
    }
    if any(isinstance(each, model.Respond) and each.config.status >= 400 for each in handlers):
        found[_REFUSAL] = "respond"
    return found


def _answers(handlers: Sequence[model.Handler]) -> bool:
    """Return True if no request of the route reaches a backend."""
    return any(isinstance(handler, model.FINAL) for handler in handlers)


def _other_spelling(pattern: str) -> str | None:
    """Return the pattern with a slash more or less at its end; None if it includes that."""
    if pattern in ("", "/") or pattern.endswith("*"):
        return None
    return pattern[:-1] if pattern.endswith("/") else pattern + "/"


def _taker(
    routes: Sequence[Route], matches: Sequence[Match], conditions: RouteMatch, pattern: str
) -> int | None:
    """Return the first route that takes each request that meets `conditions` with another path."""
    sample = pattern.replace("*", "x")
    path = unquote_to_bytes(sample if sample.startswith("/") else f"/{sample}")
    for place, (route, match) in enumerate(zip(routes, matches, strict=True)):
        try:
            if match.path_fits(path) and _is_implied(route.match, conditions):
                return place
        except ForwardError:
            return None  # such a request is refused
    return None


def _is_implied(weaker: RouteMatch, conditions: RouteMatch) -> bool:
    """Return True if each request that meets `conditions` meets the other ones but the path."""
    return (
        (not _methods(weaker) or set() < _methods(conditions) <= _methods(weaker))
        and all(conditions.headers.get(name) == weaker.headers[name] for name in weaker.headers)
        and all(conditions.query.get(name) == weaker.query[name] for name in weaker.query)
    )


def _methods(match: RouteMatch) -> set[str]:
    methods = [match.method] if isinstance(match.method, str) else match.method or []
    return {method.upper() for method in methods}
