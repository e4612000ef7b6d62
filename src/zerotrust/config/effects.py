"""Keys that are read and checked but that this release does not act on.

What would keep somebody out is refused: a service that is published without the protection that its file asks for is
worse than one that is not published. The rest is said in a warning, only where the file asks for something else than
what happens anyway.

The checks read the plain data, not the models, so that they speak even where another key of the file is wrong.
"""

from collections.abc import Iterator
from typing import Any, Final

from zerotrust.config.problems import KeyPath, Severity
from zerotrust.config.unknown import not_enforced

Effect = tuple[KeyPath, Severity, str]

NO_EFFECT: Final = "read and checked, has no effect in this release"
_UNNEEDED: Final = ("compress", "encode", "gzip", "logging")
_NO_CLIENT_AUTH: Final = ("", "none", "no", "off", "false", "no_client_cert", "noclientcert")
_NO_FETCHING: Final = "keys are not fetched by this release; download the document and name it in jwks_file"


def agent_effects(data: dict[str, Any]) -> Iterator[Effect]:
    """What an agent's file asks for in vain."""
    for index, service in enumerate(items(data.get("services"))):
        if isinstance(service, dict):
            yield from _service(service, ("services", index))
    yield from _handlers(items(data.get("global_middleware")), ("global_middleware",))
    if section(data, "health_checks").get("endpoints"):
        yield ("health_checks", "endpoints"), "warning", "has no effect: the agent listens at no port"


def server_effects(data: dict[str, Any]) -> Iterator[Effect]:
    """What a server's file asks for in vain."""
    for key in ("drain_timeout", "graceful_timeout"):
        if section(data, "hot_reload").get(key):
            yield ("hot_reload", key), "warning", "has no effect in a server's file: services end at their agent"
    caddy = section(data, "caddy")
    if caddy.get("admin_api") and caddy.get("mode", "managed") == "managed":
        message = "has no effect with mode managed: the server's own Caddy has a socket in config_dir"
        yield ("caddy", "admin_api"), "warning", message


def _service(service: dict[str, Any], path: KeyPath) -> Iterator[Effect]:
    yield from _refused(service, path)
    yield from _tls(service, path)
    yield from _routes(service, path)
    if service.get("monitoring"):
        yield (*path, "monitoring"), "warning", NO_EFFECT


def _refused(service: dict[str, Any], path: KeyPath) -> Iterator[Effect]:
    if _wants_keys(section(section(service, "security"), "auth")):
        yield (*path, "security", "auth", "config", "jwks_url"), "error", _NO_FETCHING
    client_auth = section(service, "tls").get("client_auth")
    if client_auth is not None and str(client_auth).strip().lower() not in _NO_CLIENT_AUTH:
        yield (*path, "tls", "client_auth"), "error", not_enforced("client_auth")


def _tls(service: dict[str, Any], path: KeyPath) -> Iterator[Effect]:
    # What is about the way to the backends is obeyed; `client_auth` is refused above.
    for key, value in section(service, "tls").items():
        if value and key in ("cert_file", "key_file", "ciphers", "client_ca_file"):
            yield (*path, "tls", key), "warning", NO_EFFECT


def _routes(service: dict[str, Any], path: KeyPath) -> Iterator[Effect]:
    for index, route in enumerate(items(service.get("routes"))):
        if isinstance(route, dict):
            yield from _handlers(items(route.get("handle")), (*path, "routes", index, "handle"))


def _handlers(handlers: list[Any], path: KeyPath) -> Iterator[Effect]:
    # What is no kind of handler, the models say.
    for index, handler in enumerate(handlers):
        if _type(handler) in _UNNEEDED:
            yield (*path, index), "warning", NO_EFFECT
        elif isinstance(handler, dict) and _wants_keys(handler):
            yield (*path, index, "config", "jwks_url"), "error", _NO_FETCHING


def _wants_keys(handler: dict[str, Any]) -> bool:
    return _type(handler) == "jwt" and bool(section(handler, "config").get("jwks_url"))


def _type(handler: Any) -> str:
    kind = handler.get("type") if isinstance(handler, dict) else None
    return kind.strip().lower().replace("-", "_") if isinstance(kind, str) else ""


def section(data: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping under `key`; an empty one where there is none."""
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def items(value: Any) -> list[Any]:
    """The list that `value` is; an empty one where it is none."""
    return value if isinstance(value, list) else []
