"""What no single key shows: services that get into each other's way, and options that exclude each other."""

from collections.abc import Iterator
from typing import Any, Final

from zerotrust.config.effects import items
from zerotrust.config.problems import KeyPath, Severity, printable
from zerotrust.config.yaml_text import Document
from zerotrust.model import service as model
from zerotrust.model.base import normalise_host

_TRUE: Final = ("true", "t", "yes", "y", "on", "1", "1.0")


def crossings(document: Document) -> Iterator[tuple[KeyPath, Severity, str]]:
    """Contradictions between keys of an agent's file."""
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
        yield from _redirect_to_nowhere(service, path)
        named = list(_hosts(service, path))
        yield from _same_id(document, ids, _identity(service, path, named))
        for name, where in named:
            first = hosts.setdefault(name, where)
            if first[:2] != path:
                yield where, "error", _taken(document, first, f'the host name "{name}"')


def _incomplete(service: dict[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Severity, str]]:
    # The model says the same, but only when nothing else is wrong with the service.
    if not service.get("hostname") and not service.get("hosts"):
        yield path, "error", model.NO_HOST
    if not service.get("upstreams") and not service.get("backend"):
        yield path, "error", model.NO_BACKEND
    if service.get("upstreams") and service.get("backend"):
        yield path, "error", model.TWO_BACKENDS


def _redirect_to_nowhere(service: dict[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Severity, str]]:
    if service.get("listen_on") == "http" and str(service.get("http_redirect")).lower() in _TRUE:
        message = "true with listen_on: http leaves nothing to redirect to; set it to false, or listen_on to both"
        yield (*path, "http_redirect"), "error", message


def _same_id(
    document: Document, ids: dict[str, KeyPath], own: tuple[str, KeyPath] | None
) -> Iterator[tuple[KeyPath, Severity, str]]:
    if own is None:
        return
    name, where = own
    first = ids.setdefault(name, where)
    # Of two services that go by the same host name, that name is complained about, once.
    if first != where and "id" in (first[-1], where[-1]):
        yield where, "error", _taken(document, first, f'the id "{printable(name)}"')


def _taken(document: Document, first: KeyPath, what: str) -> str:
    return f"{what} is used by another service, on line {document.place(first).value[0]}; each needs its own"


def _identity(service: dict[str, Any], path: KeyPath, hosts: list[tuple[str, KeyPath]]) -> tuple[str, KeyPath] | None:
    """The service's id and where it is said; without one it goes by its first host name."""
    written = service.get("id")
    if written:
        return str(written), (*path, "id")
    return hosts[0] if hosts else None


def _hosts(service: dict[str, Any], path: KeyPath) -> Iterator[tuple[str, KeyPath]]:
    written = [(service.get("hostname"), (*path, "hostname"))]
    written += [(host, (*path, "hosts", i)) for i, host in enumerate(items(service.get("hosts")))]
    for host, where in written:
        if isinstance(host, str):
            try:
                yield normalise_host(host), where
            except ValueError:
                continue  # the model says what is wrong with it
