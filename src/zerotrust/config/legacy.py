"""Keys of earlier configurations that have another name now, or no counterpart.

The original program's server was configured in three ways. Its first (`server`, `api`, `caddy`) is ours; its last
(`listen`, `tls`, `agents`, `router`, `metrics`) is translated here. Its second was a Caddyfile, which is not YAML.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from zerotrust.config import error_messages
from zerotrust.config.diagnostics import KeyPath, suggestion
from zerotrust.config.document import Source
from zerotrust.config.ineffective_keys import items
from zerotrust.model.base import parse_duration, split_address

LEVEL: Final = "log_level"
EXPOSE: Final = "expose_to_network_without_authentication"

SERVER_NAMES: Final[Mapping[str, str]] = {
    "agents.listen": "server.listen_addr",
    "agents.cert_file": "server.cert_file",
    "agents.key_file": "server.key_file",
    "agents.ca_file": "server.ca_file",
    "agents.check_addr": "caddy.permission_addr",
    "listen.http": "caddy.http_port",
    "listen.https": "caddy.https_port",
    "tls.acme.storage_dir": "caddy.storage_dir",
    "tls.acme.email": "caddy.acme.email",
    "tls.acme.ca_url": "caddy.acme.ca_url",
    "metrics.addr": "metrics.listen_addr",
}
"""Keys of the original's last server, and what they are called here."""

SERVER_WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "agents.tcp_port_max": "raw TCP is not carried",
    "agents.tcp_port_min": "raw TCP is not carried",
    "listen.http3": "Caddy offers HTTP/3 at caddy.https_port",
    "listen.http_redirect": "each service says it: http_redirect: false in the agent's file",
    "logging.access_log": "Caddy writes the access log: see caddy.logging",
    "router.request_timeout": "a service's timeout holds, two minutes where it has none",
    "tls.mode": "Caddy gets certificates by ACME, for names that none of caddy.certificates covers",
}
"""Keys of the original's last server without counterpart, and why."""

WEBSOCKET_NAMES: Final[Mapping[str, str]] = {
    "idle_timeout": "websocket_idle_timeout",
    "max_duration": "websocket_max_duration",
    "enabled": "websocket",
}
"""Keys of a service's `websocket`, where it is written as a section, and what they are called else.

The one that takes the section's own place is moved last: from then on that is the place of `websocket`.
"""

SECTIONS: Final = frozenset({"listen", "tls", "agents", "router"})
"""The sections that only the original's last server had."""

_IN_OURS: Final = (("logging", "access_log"), ("metrics", "addr"))
"""Its keys in sections that we have too."""

_HTTP_ALONE: Final = (
    'http alone is not offered: write a port for https, such as ":443"; '
    "a service that is found over http only says listen_on: http in the agent's file"
)
_LOOPBACK: Final = "127.0.0.1"
_NARROWED: Final[tuple[tuple[str, str], ...]] = (("agents", "check_addr"), ("metrics", "addr"))
"""Without a host all interfaces, in the original. Only Caddy asks at the first, and it runs on this machine."""


def rename_level(source: Source) -> None:
    """`log_level` at the root is the older form of `logging.level`, which wins."""
    level = source.data.pop(LEVEL, None)
    if level is None:
        return
    if source.data.get("logging") is None:
        source.data["logging"] = {}
    logging = source.data["logging"]
    if not isinstance(logging, dict):
        return
    if "level" in logging:
        source.idle[(LEVEL,)] = "logging.level is given as well and wins"
        return
    _move(source, (LEVEL,), ("logging", "level"), level)


def flatten_websocket(source: Source) -> None:
    """A service's `websocket: {enabled: true, idle_timeout: 30s}` becomes the keys that say so each for itself."""
    for index, service in enumerate(items(source.data.get("services"))):
        asked = service.get("websocket") if isinstance(service, dict) else None
        if not isinstance(asked, dict):
            continue
        path: KeyPath = ("services", index)
        here = source.as_written((*path, "websocket"))
        for key in asked.keys() - WEBSOCKET_NAMES.keys():
            near = suggestion(key, WEBSOCKET_NAMES) or ", it is ignored"
            source.say((*here, key), "warning", f"unknown key{near}", at_key=True, idle=True)
        del service["websocket"]
        for key, name in WEBSOCKET_NAMES.items():
            if asked.get(key) is None:
                continue
            if name in service:
                message = f"is another name of {name}, which is given as well; remove one"
                source.say((*here, key), "error", message, at_key=True)
            else:
                _move(source, (*here, key), (*path, name), asked[key])


def narrow_api(source: Source) -> None:
    """`:9443`, all interfaces in the original, is loopback here: only Caddy asks, and it runs on this machine."""
    api = source.data.get("api")
    address = api.get("listen_addr") if isinstance(api, dict) else None
    if not (isinstance(address, str) and address.startswith(":")) or api.get(EXPOSE):
        return
    api["listen_addr"] = _LOOPBACK + address
    message = (
        f'"{address}" is {_LOOPBACK}{address} here, as whoever reaches it is let in; {EXPOSE}: true opens it to all'
    )
    source.say(("api", "listen_addr"), "warning", message)


def translate_server(source: Source) -> None:
    """Make the original's last form of the server's file into ours, in place."""
    found = _taken_out(source.data)
    for name, section in found.items():
        if section is not None and not isinstance(section, dict):
            source.say((name,), "error", f"expected keys and values, found {error_messages.describe(section)}")
    for path, value in sorted(_leaves(found), key=lambda leaf: leaf[0]):
        name = ".".join(path)
        if value is None or (value == "" and path[0] in ("tls", "metrics")):
            continue
        if path == ("tls", "manual"):
            _certificate(source, path, value)
        elif path == ("tls", "sni"):
            _certificates(source, path, value)
        elif name in SERVER_NAMES:
            _rename(source, path, tuple(SERVER_NAMES[name].split(".")), value)
        elif name in SERVER_WITHOUT_EFFECT:
            _without_effect(source, name, value)
        else:
            known = [key.rpartition(".")[2] for key in (*SERVER_NAMES, *SERVER_WITHOUT_EFFECT)]
            near = suggestion(path[-1], known) or ", it is ignored"
            source.say(path, "warning", f"unknown key{near}", at_key=True, idle=True)


def _taken_out(data: dict[str, Any]) -> dict[str, Any]:
    found = {name: data.pop(name) for name in SECTIONS & set(data)}
    for name, key in _IN_OURS:
        ours = data.get(name)
        if isinstance(ours, dict) and key in ours:
            found[name] = {key: ours.pop(key)}
    return found


def _leaves(data: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in data.items():
        here = (*path, key)
        if isinstance(value, dict) and here[:2] not in (("tls", "manual"), ("tls", "sni")):
            yield from _leaves(value, here)
        elif len(here) > 1:
            yield here, value


def _rename(source: Source, old: tuple[str, ...], new: tuple[str, ...], value: Any) -> None:
    section: Any = source.data
    for step in new[:-1]:
        if section.get(step) is None:
            section[step] = {}
        section = section[step]
        if not isinstance(section, dict):
            return  # the model says what is wrong with it
    if new[-1] in section:
        name = ".".join(new)
        source.say(old, "error", f"is the older name of {name}, which is given as well; remove one", at_key=True)
        return
    if old[0] == "listen":
        value = _port(source, old, value)
    elif old in _NARROWED and isinstance(value, str) and value.startswith(":"):
        if old[0] == "metrics":
            source.say(old, "warning", f'"{value}" is {_LOOPBACK}{value} here: there is no authentication')
        value = _LOOPBACK + value
    _move(source, old, new, value)


def _certificates(source: Source, path: KeyPath, value: Any) -> None:
    if not isinstance(value, dict):
        source.say(path, "error", f"expected a host name for each certificate, found {error_messages.describe(value)}")
        return
    for host, pair in value.items():
        _certificate(source, (*path, host), pair)


def _certificate(source: Source, path: KeyPath, pair: Any) -> None:
    caddy = source.data.setdefault("caddy", {})
    own = caddy.setdefault("certificates", []) if isinstance(caddy, dict) else None
    if not isinstance(own, list):
        return  # the model says what is wrong with it
    new: KeyPath = ("caddy", "certificates", len(own))
    own.append(pair)
    for key in ((), *((key,) for key in pair)) if isinstance(pair, dict) else ((),):
        source.renamed[new + key] = path + key
        source.document.places[new + key] = source.document.place(path + key)


def _move(source: Source, old: KeyPath, new: KeyPath, value: Any) -> None:
    section = source.data
    for step in new[:-1]:
        section = section[step]
    section[new[-1]] = value
    source.renamed[new] = old
    source.document.places[new] = source.document.place(old)


def _port(source: Source, old: tuple[str, ...], value: Any) -> Any:
    """The port of ":443" or "192.0.2.1:443", where the address goes to `caddy.bind`; no port for "", but for https."""
    if value == "" and old == ("listen", "http"):
        return 0
    if value == "":
        source.say(old, "error", _HTTP_ALONE)
        return 1
    try:
        host, port = split_address(str(value))
    except ValueError as error:
        source.say(old, "error", str(error))
        return 1
    bind = source.data["caddy"].setdefault("bind", [])
    if host and isinstance(bind, list) and host not in bind:
        bind.append(host)
    return port


def _without_effect(source: Source, name: str, value: Any) -> None:
    path, reason = tuple(name.split(".")), SERVER_WITHOUT_EFFECT[name]
    if not _as_happens_anyway(name, value):
        source.say(path, "warning", f"has no effect: {reason}", idle=True)


def _as_happens_anyway(name: str, value: Any) -> bool:
    if name == "router.request_timeout":
        try:
            return parse_duration(value) == 120
        except ValueError:
            return False
    usual = {"listen.http_redirect": "true", "logging.access_log": "false", "tls.mode": "acme"}
    return name in usual and str(value).lower() == usual[name]
