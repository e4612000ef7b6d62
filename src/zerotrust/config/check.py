"""Checks across several keys: duplicate services, unreachable routes, costly policies."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from zerotrust.config.diagnostics import KeyPath, Severity, printable
from zerotrust.config.ineffective_keys import items, kind_of, without_nulls
from zerotrust.config.yaml_text import Document
from zerotrust.middleware.policy_cost import cost_error
from zerotrust.model.agent import AgentConfig
from zerotrust.model.base import is_pattern, normalise_host, parse_service_host, patterns_of
from zerotrust.model.policy import ServicePolicy
from zerotrust.model.service import Route, RouteMatch, contradictory_keys
from zerotrust.model.upstream import Upstream, UpstreamEndpoint, endpoint_of
from zerotrust.routing.match import Match

RESERVE: Final = (
    "0 makes this upstream a reserve, used only if no other is healthy and has room; "
    "remove the upstream if it must get no requests"
)
_TRUE: Final = ("true", "t", "yes", "y", "on", "1", "1.0")


def contradictions(document: Document) -> Iterator[tuple[KeyPath, Severity, str]]:
    """Yield the contradictions between keys of an agent's file."""
    services = items(document.data.get("services"))
    if not services:
        yield ("services",), "warning", "no services: this agent publishes nothing"
    ids: dict[str, KeyPath] = {}
    hosts: dict[str, KeyPath] = {}
    for index, service in enumerate(services):
        if not isinstance(service, dict):
            continue
        path: KeyPath = ("services", index)
        yield from _incomplete(service, path)
        yield from _redirect_without_https(service, path)
        yield from _upstreams(document, service, path)
        yield from _never_reached(document, items(service.get("routes")), (*path, "routes"))
        named = list(_hosts(service, path))
        yield from _same_id(document, ids, _identity(service, path, named))
        for name, where in named:
            first = hosts.setdefault(name, where)
            if first[:2] != path:
                yield where, "error", _taken(document, first, f'the host name "{name}"')
    yield from _redirect_loops(services, hosts)


def wildcards(data: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the wildcards among the host names of an agent's file, each with its place."""
    for index, service in enumerate(items(data.get("services"))):
        if isinstance(service, dict):
            for name, where in _hosts(service, ("services", index)):
                if is_pattern(name):
                    yield where, name


def costly_policies(config: AgentConfig) -> Iterator[tuple[KeyPath, Severity, str]]:
    """Yield the policies that cost more server time than allowed."""
    for index, service in enumerate(config.services):
        policy = ServicePolicy.from_service(service, config.global_middleware)
        if policy is not None and (found := cost_error(policy)) is not None:
            place, message = found
            if place == ("global_middleware",):
                yield place, "error", message
                return  # the same for the other services
            yield ("services", index, *place), "error", message


def _incomplete(service: dict[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Severity, str]]:
    # The model reports the same, but only if the service has no other error.
    for message in contradictory_keys(service):
        yield path, "error", message


def _redirect_without_https(
    service: dict[str, Any], path: KeyPath
) -> Iterator[tuple[KeyPath, Severity, str]]:
    if service.get("listen_on") == "http" and str(service.get("http_redirect")).lower() in _TRUE:
        message = "contradicts listen_on: http; set http_redirect to false or listen_on to both"
        yield (*path, "http_redirect"), "error", message


def _redirect_loops(
    services: list[Any], hosts: dict[str, KeyPath]
) -> Iterator[tuple[KeyPath, Severity, str]]:
    """Yield the redirects that lead back to their own service.

    With a wildcard on the way that is a warning: another agent may serve the host name itself.
    """
    owners = {name: path[1] for name, path in hosts.items()}
    for index, service in enumerate(services):
        passed: set[KeyPath] = set()
        severity: Severity = "error"
        target = _target(service)
        while target is not None:
            name = next((name for name in patterns_of(target) if name in owners), None)
            if name is None or (name, owners[name]) in passed:
                break
            passed.add((name, owners[name]))
            severity = severity if name == target else "warning"
            if owners[name] == index:
                unless = f", unless another one serves {target}" if severity == "warning" else ""
                message = f"leads back to this service{unless}: change it"
                yield ("services", index, "redirect_to"), severity, message
                break
            target = _target(services[int(owners[name])])


def _target(service: Any) -> str | None:
    """Return the host name that a service redirects to."""
    written = service.get("redirect_to") if isinstance(service, dict) else None
    try:
        return normalise_host(written) if isinstance(written, str) else None
    except ValueError:
        return None  # the model reports the error


def _upstreams(
    document: Document, service: dict[str, Any], path: KeyPath
) -> Iterator[tuple[KeyPath, Severity, str]]:
    seen: dict[UpstreamEndpoint, KeyPath] = {}
    for index, upstream in enumerate(items(service.get("upstreams"))):
        if not isinstance(upstream, dict):
            continue
        here = (*path, "upstreams", index)
        if str(upstream.get("weight")) == "0":
            yield (*here, "weight"), "warning", RESERVE
        try:
            address = Upstream.model_validate({"address": upstream.get("address")}).address
            endpoint = endpoint_of(address, protocol=str(service.get("protocol", "http")))
        except (KeyError, ValidationError):
            continue  # the model reports the error
        first = seen.setdefault(endpoint, here)
        if first != here:
            line = document.place((*first, "address")).value[0]
            message = f"is the same backend as on line {line}; list it once, with a higher weight"
            yield (*here, "address"), "error", message


def _never_reached(
    document: Document, routes: list[Any], path: KeyPath
) -> Iterator[tuple[KeyPath, Severity, str]]:
    """Yield the routes that never get a request, because an earlier route matches all of them.

    A protection in an unreachable route has no effect, so that is an error.
    """
    before: list[tuple[RouteMatch, int]] = []
    for index, route in enumerate(routes):
        try:
            match = RouteMatch.model_validate(without_nulls(route).get("match", {}))
        except (AttributeError, ValidationError):
            continue  # the model reports the error
        if match.model_extra or not Route.model_fields.keys() >= route.keys():
            continue  # corrected keys may give it other requests
        first = next(
            (other for known, other in before if Match(known).everything or known == match), None
        )
        before.append((match, index))
        if first is not None:
            line = document.place((*path, first)).value[0]
            severity: Severity = "error" if _does_more_than_proxy(route) else "warning"
            yield (
                (*path, index),
                severity,
                (
                    f"is never reached: the route on line {line} matches the same requests; move"
                    " this one before it"
                ),
            )


def _does_more_than_proxy(route: dict[str, Any]) -> bool:
    """Return True if the route does more than forward its requests to a backend."""
    return any(kind_of(handler) != "reverse_proxy" for handler in items(route.get("handle")))


def _same_id(
    document: Document, ids: dict[str, KeyPath], own: tuple[str, KeyPath] | None
) -> Iterator[tuple[KeyPath, Severity, str]]:
    if own is None:
        return
    name, where = own
    first = ids.setdefault(name, where)
    # For two services with the same host name and no id, the host name is reported instead.
    if first != where and "id" in (first[-1], where[-1]):
        yield where, "error", _taken(document, first, f'the id "{printable(name)}"')


def _taken(document: Document, first: KeyPath, what: str) -> str:
    return (
        f"{what} is used by another service, on line {document.place(first).value[0]}; each needs"
        " its own"
    )


def _identity(
    service: dict[str, Any], path: KeyPath, hosts: list[tuple[str, KeyPath]]
) -> tuple[str, KeyPath] | None:
    """Return the service's id and its place; by default its first host name."""
    written = service.get("id")
    if written:
        return str(written), (*path, "id")
    return hosts[0] if hosts else None


def _hosts(service: dict[str, Any], path: KeyPath) -> Iterator[tuple[str, KeyPath]]:
    written = [(service.get("hostname"), (*path, "hostname"))]
    for key in ("hosts", "hostnames"):
        written += [(host, (*path, key, i)) for i, host in enumerate(items(service.get(key)))]
    for host, where in written:
        if isinstance(host, str):
            try:
                yield parse_service_host(host), where
            except ValueError:
                continue  # the model reports the error
