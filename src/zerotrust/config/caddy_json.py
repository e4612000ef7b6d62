"""The original's server of its second form as Caddy's own JSON, which YAML can read, made into our keys.

`caddy_modules` says what of it is taken over.
"""

from collections.abc import Iterator
from typing import Any, Final

from zerotrust.config.caddy_modules import NOT_KEPT, NOT_TAKEN, OVER_HTTP, WITHOUT_EFFECT
from zerotrust.config.diagnostics import KeyPath, suggestion
from zerotrust.config.document import Source
from zerotrust.config.ineffective_keys import items, section
from zerotrust.model.base import split_address

AGENTS: Final = ("apps", "zerotrust.agents")

NAMES: Final = {
    "listen_addr": "server.listen_addr",
    "cert_file": "server.cert_file",
    "key_file": "server.key_file",
    "ca_file": "server.ca_file",
    "check_addr": "caddy.permission_addr",
}
"""Keys of the app `zerotrust.agents`, and what they are called here."""

_ROUTER: Final = "zerotrust_router"
_CARRIED: Final = frozenset((_ROUTER, "subroute", "encode", "headers", "vars", "log_append"))
_DECIDING: Final = (
    "match",
    "client_authentication",
    "protocol_min",
    "protocol_max",
    "cipher_suites",
    "curves",
    "drop",
)


def translate(source: Source) -> None:
    """Make Caddy's document into a server's configuration, in place, where it is one."""
    data = source.data
    if not isinstance(data.get("apps"), dict):
        return
    found = {key: data.pop(key) for key in list(data)}
    apps = found.pop("apps")
    agents = apps.pop(AGENTS[1], None)
    if not isinstance(agents, dict):
        source.say((), "error", "there is no app zerotrust.agents in it: this is not the Caddy of a 0Trust server")
        return
    for key, value in agents.items():
        if key in NAMES:
            _move(source, (*AGENTS, key), NAMES[key], value)
        else:
            source.say((*AGENTS, key), "error", f"is no key of zerotrust.agents{suggestion(key, NAMES)}", at_key=True)
    _storage(source, found.pop("storage", None))
    http = apps.pop("http", None)
    http = dict(http) if isinstance(http, dict) else {}
    _servers(source, section(http, "servers"))
    http.pop("servers", None)
    for key in ("http_port", "https_port"):
        if key in http:
            _move(source, ("apps", "http", key), f"caddy.{key}", http.pop(key))
    rest: list[KeyPath] = [(key,) for key in found]
    rest += [("apps", key) for key in apps] + [("apps", "http", key) for key in http]
    for path in rest:
        reason = f"has no effect: {WITHOUT_EFFECT['admin']}" if path == ("admin",) else NOT_TAKEN
        source.say(path, "warning", reason, at_key=True, idle=True)


def _storage(source: Source, storage: Any) -> None:
    if storage is None:
        return
    if isinstance(storage, dict) and storage.get("module") == "file_system" and storage.get("root"):
        _move(source, ("storage", "root"), "caddy.storage_dir", storage["root"])
    else:
        source.say(
            ("storage",), "error", "only file_system and its root are known here: certificates are kept in files"
        )


def _servers(source: Source, servers: dict[str, Any]) -> None:
    for name, server in servers.items():
        path: KeyPath = ("apps", "http", "servers", name)
        handlers = dict.fromkeys(_handlers(server, path))
        if not isinstance(server, dict) or _ROUTER not in {kind for kind, _ in handlers}:
            source.say(path, "warning", NOT_TAKEN, at_key=True, idle=True)
            continue
        for kind, where in handlers:
            if kind not in _CARRIED:
                source.say(where, "error", NOT_KEPT)
        for where in _matchers(server, path):
            source.say(where, "error", NOT_KEPT, at_key=True)
        for key in [key for key in server if key not in ("listen", "routes", "tls_connection_policies")]:
            source.say((*path, key), "warning", NOT_TAKEN, at_key=True, idle=True)
        for index, address in enumerate(items(server.get("listen"))):
            _port(source, server, (*path, "listen", index), address)


def _handlers(value: Any, path: KeyPath) -> Iterator[tuple[str, KeyPath]]:
    for inner, where in _parts(value, path):
        if where[-1] == "handler":
            yield str(inner), where
        yield from _handlers(inner, where)


def _matchers(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """What decides which requests a route is for, or which clients may shake hands."""
    for inner, where in _parts(value, path):
        if where[-1] in _DECIDING and inner:
            yield where
        else:
            yield from _matchers(inner, where)


def _parts(value: Any, path: KeyPath) -> Iterator[tuple[Any, KeyPath]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ((inner, (*path, key)) for key, inner in pairs)


def _port(source: Source, server: dict[str, Any], path: KeyPath, address: Any) -> None:
    try:
        _, port = split_address(str(address))
    except ValueError as error:
        source.say(path, "error", str(error))
        return
    https = port == 443 or bool(server.get("tls_connection_policies"))
    if not https:
        source.say(path, "warning", OVER_HTTP)
    _move(source, path, f"caddy.http{'s' if https else ''}_port", port)


def _move(source: Source, old: KeyPath, name: str, value: Any) -> None:
    *way, key = name.split(".")
    new: KeyPath = (*way, key)
    into = source.data
    for step in way:
        into = into.setdefault(step, {})
    if into.setdefault(key, value) != value:
        source.say(old, "error", f"is given twice: {name} is {into[key]} already; keep one")
    elif new not in source.renamed:
        source.renamed[new] = old
        source.document.places[new] = source.document.place(old)
