"""Estimate of the time that one request may take in a policy, at worst.

While handlers process a request, the server's event loop serves no other request. The figures are
microseconds, measured with the costliest request on a machine with 2 cores at 3 GHz, without
compiled modules. The benchmark (`benchmarks/workloads/policies.py`) builds and measures the
costliest accepted policy of each kind.
"""

from collections.abc import Sequence
from typing import Final

from zerotrust.model import middleware as model
from zerotrust.model.condition import Condition
from zerotrust.model.policy import ServicePolicy
from zerotrust.model.service import Route, RouteMatch, ServiceSecurity
from zerotrust.routing.match import Match

Path = tuple[str | int, ...]

MAX_COST: Final = 2500.0
"""Microseconds. Decoding the longest path, query and headers takes up to 2 ms more. The sum is
below 5 ms, so 20 requests per second take at most a tenth of the loop."""

_ROUTE: Final = 1.0
_SEARCH: Final = 8.0
"""Search for one piece of a pattern in a path of `MAX_PATH_BYTES`."""
_COMPARISON: Final = 1.0
"""Comparison with one value of a header or of the query."""

_HANDLERS: Final[dict[type[object], float]] = {
    model.ReverseProxy: 0.0,
    model.Headers: 5.0,
    model.RateLimit: 30.0,  # the key may be a header of 30 KiB
    model.IpAllow: 15.0,  # 128 prefix lengths
    model.IpDeny: 15.0,
    model.Cors: 35.0,
    model.BasicAuth: 20.0,  # without the password hash, which a thread verifies
    model.Jwt: 600.0,  # a signature (ES384), and 16 audiences compared with 1,400 in a token
    model.AccessRequire: 5.0,
    model.Redirect: 100.0,  # eight placeholders for a target of 32 KiB
    model.Respond: 10.0,
    model.Rewrite: 350.0,  # all readings of a path of `MAX_PATH_BYTES`
}
_PATH_READINGS: Final = 350.0
_CONDITION: Final = 20.0
"""One condition of access: a few sets, one of them of networks."""
_TOKEN_PATTERN: Final = 32.0
"""A pattern with `*` of 64 characters, for the name of a machine or app that nearly fits."""
_EDIT: Final = 0.2
_RULE: Final = 0.3


def cost_error(policy: ServicePolicy) -> tuple[Path, str] | None:
    """Return the costliest place and a message if the policy may cost more than `MAX_COST`."""
    chains = [_chain_cost(route.handle) for route in policy.routes]
    security = policy.security or ServiceSecurity()
    parts: dict[Path, float] = {
        ("routes",): sum(_match_cost(route) for route in policy.routes),
        ("security",): _chain_cost([security.auth] if security.auth is not None else []),
        ("global_middleware",): _chain_cost(policy.global_middleware),
    }
    if policy.access is not None:
        parts["access", "require"] = _conditions_cost(policy.access.require)
    if security.cors is not None:
        parts["security",] += _HANDLERS[model.Cors]
    if chains:
        costliest = max(range(len(chains)), key=lambda place: chains[place])
        parts["routes", costliest, "handle"] = chains[costliest]
    cost = sum(parts.values())
    if cost <= MAX_COST:
        return None
    place = max(parts, key=lambda part: parts[part])
    advice = (
        "routes, or patterns with several *"
        if place == ("routes",)
        else "handlers, jwt and rewrite first"
    )
    return (
        place,
        (
            f"the policy may take {cost / 1000:.1f} ms of server time per request,"
            f" {parts[place] / 1000:.1f} ms of it here; at most {MAX_COST / 1000:g} ms are allowed:"
            f" remove {advice}"
        ),
    )


def _match_cost(route: Route) -> float:
    match = Match(route.match)
    return _ROUTE + _SEARCH * match.searches + _COMPARISON * match.comparisons


def _chain_cost(handlers: Sequence[model.Handler]) -> float:
    return sum(map(_handler_cost, handlers))


def _handler_cost(handler: model.Handler) -> float:
    cost = _HANDLERS[type(handler)]
    match handler:
        case model.Headers():
            cost += _EDIT * (len(handler.config.request.names) + len(handler.config.response.names))
        case model.AccessRequire():
            cost += _conditions_cost(handler.config.require)
        case model.Rewrite():
            cost += _RULE * len(handler.config.replace_prefix)
    return cost


def _conditions_cost(conditions: Sequence[Condition]) -> float:
    patterns = [item.path for item in conditions if item.path is not None]
    searches = sum(Match(RouteMatch(path=pattern)).searches for pattern in patterns)
    readings = _PATH_READINGS if patterns else 0.0
    names = [name for item in conditions for name in (*(item.machine or ()), *(item.app or ()))]
    tokens = sum(_TOKEN_PATTERN for name in names if "*" in name)
    return _CONDITION * len(conditions) + _SEARCH * searches + readings + tokens
