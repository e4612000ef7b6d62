"""Older spellings of keys, translated before the models read the file."""

from collections.abc import Mapping
from typing import Any, Final

from zerotrust.config.diagnostics import KeyPath, Severity, suggestion
from zerotrust.config.document import Source
from zerotrust.config.ineffective_keys import items
from zerotrust.model.websocket_limits import WebSocketLimits

LEVEL: Final = "log_level"
EXPOSE: Final = "expose_to_network_without_authentication"

WEBSOCKET_NAMES: Final[Mapping[str, KeyPath]] = {
    "idle_timeout": ("websocket_idle_timeout",),
    "max_duration": ("websocket_max_duration",),
    "max_per_client": ("max_websockets_per_client",),
    "max_per_user": ("max_websockets_per_user",),
    **{name: ("websocket_limits", name) for name in WebSocketLimits.model_fields},
    "enabled": ("websocket",),
}
"""Keys of a service's `websocket` section, and the keys of the service that they set.

`enabled` is last, because it replaces the section itself."""

WEBSOCKET_LIMITS: Final = ("max_per_client", "max_per_user", *WebSocketLimits.model_fields)
"""Keys of this section that protect a service."""

_LOOPBACK: Final = "127.0.0.1"


def rename_level(source: Source) -> None:
    """Move `log_level` at the root to `logging.level`, which applies if both are given."""
    level = source.data.pop(LEVEL, None)
    if level is None:
        return
    if source.data.get("logging") is None:
        source.data["logging"] = {}
    logging = source.data["logging"]
    if not isinstance(logging, dict):
        return
    if "level" in logging:
        source.ineffective[(LEVEL,)] = "logging.level is given as well and applies"
        return
    _move(source, (LEVEL,), ("logging", "level"), level)


def flatten_websocket(source: Source) -> None:
    """Move the keys of a service's `websocket` section to the service, as in
    `websocket_idle_timeout`."""
    for index, service in enumerate(items(source.data.get("services"))):
        asked = service.get("websocket") if isinstance(service, dict) else None
        if not isinstance(asked, dict):
            continue
        path: KeyPath = ("services", index)
        here = source.path_in_file((*path, "websocket"))
        for key in asked.keys() - WEBSOCKET_NAMES.keys():
            near = suggestion(key, WEBSOCKET_NAMES) or ", it is ignored"
            # A limit that is misspelt must not be ignored.
            severity: Severity = "error" if suggestion(key, WEBSOCKET_LIMITS) == near else "warning"
            source.report(
                (*here, key),
                severity,
                f"unknown key{near}",
                at_key=True,
                ineffective=severity == "warning",
            )
        del service["websocket"]
        for key, names in WEBSOCKET_NAMES.items():
            if asked.get(key) is None:
                continue
            section = service
            for name in names[:-1]:
                section = section.setdefault(name, {})
            if not isinstance(section, dict) or names[-1] in section:
                message = f"sets {'.'.join(map(str, names))}, which is given as well; remove one"
                source.report((*here, key), "error", message, at_key=True)
            else:
                _move(source, (*here, key), (*path, *names), asked[key])


def restrict_api_to_loopback(source: Source) -> None:
    """Take an `api.listen_addr` without a host, as in ":9443", as loopback: only the local Caddy
    connects."""
    api = source.data.get("api")
    address = api.get("listen_addr") if isinstance(api, dict) else None
    if not (isinstance(address, str) and address.startswith(":")) or api.get(EXPOSE):
        return
    api["listen_addr"] = _LOOPBACK + address
    message = (
        f'"{address}" means {_LOOPBACK}{address} here, because there is no authentication; '
        f"write the host, or {EXPOSE}: true to listen on all interfaces"
    )
    source.report(("api", "listen_addr"), "warning", message)


def _move(source: Source, old: KeyPath, new: KeyPath, value: Any) -> None:
    section = source.data
    for step in new[:-1]:
        section = section[step]
    section[new[-1]] = value
    source.renamed[new] = old
    source.document.places[new] = source.document.place(old)
