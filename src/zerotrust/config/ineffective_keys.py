"""Keys that the server and the agent know but do not act on.

A key that asks for protection is an error: a service must not be published without the protection
that its file asks for. Any other key is a warning, where its value asks for something else than
what the program does.

The checks read the plain data instead of the models, so that an error in one key hides no other.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any, Final

from zerotrust.config.diagnostics import KeyPath, Severity
from zerotrust.http import headers
from zerotrust.model.service import tls_version

Effect = tuple[KeyPath, Severity, str]

FOR_PEOPLE: Final = "it only informs readers of the file"
_NO_CLIENT_AUTH: Final = ("", "none", "no", "off", "false", "no_client_cert", "noclientcert")
_OF_CADDY: Final = (
    "remove it; to use your own certificate, name it in the server's caddy.certificates"
)
_NO_QUESTION: Final = (
    "client certificates are not supported: remove it, and protect the service with security.auth"
    " or ip_allow"
)
_TOWARDS_CLIENTS: Final = {
    "cert_file": f"clients get Caddy's certificate: {_OF_CADDY}",
    "key_file": (
        f"clients get Caddy's certificate, and private keys are not sent to the server: {_OF_CADDY}"
    ),
    "ciphers": (
        "Caddy chooses the ciphers, all with forward secrecy and authenticated encryption:"
        " remove it"
    ),
    "client_auth": _NO_QUESTION,
    "client_ca_file": _NO_QUESTION,
}
"""Keys of `tls` for TLS to clients, and the reasons why they are refused."""
_TOWARDS_BACKENDS: Final = (
    "ca_file",
    "server_name",
    "client_cert_file",
    "client_key_file",
    "min_version",
)
_PORT: Final = re.compile(r"(?:\]|^[^\[\]:]+):([0-9]+)\s*\Z")
"""Port behind a host name or an IPv6 address in brackets."""
_PORT_IGNORED: Final = (
    "the port {} is ignored: clients use the ports of the server's Caddy; remove it"
)
_UNVERIFIED: Final = (
    "anyone on the path to the backends can read and modify the traffic; name their certificate"
    " authority in ca_file instead"
)
_NO_TLS: Final = (
    "no backend of the service uses TLS: remove it, or write https:// before an address"
)


def agent_effects(data: dict[str, Any]) -> Iterator[Effect]:
    """Yield the keys of an agent's file that have no effect or are refused."""
    for index, service in enumerate(items(data.get("services"))):
        if isinstance(service, dict):
            yield from _ports(service, ("services", index))
            yield from _tls(service, ("services", index))


def for_people(data: dict[str, Any]) -> Iterator[KeyPath]:
    """Yield the keys that only describe the service to readers of the file.

    They cause no warning.
    """
    yield from (("services", index, "name") for index in range(len(items(data.get("services")))))


def server_effects(data: dict[str, Any]) -> Iterator[Effect]:
    """Yield the keys of a server's file that have no effect or are refused."""
    caddy = section(data, "caddy")
    if caddy.get("admin_api") and caddy.get("mode", "managed") == "managed":
        message = (
            "has no effect with mode managed: the admin API of that Caddy is a socket in"
            " config_dir; remove it"
        )
        yield ("caddy", "admin_api"), "warning", message
    api = section(data, "api")
    for key, judge in (("pass_headers", _passed_header), ("pass_trailers", _passed_trailer)):
        for index, name in enumerate(items(api.get(key))):
            if isinstance(name, str) and (problem := judge(name)) is not None:
                yield ("api", key, index), *problem


def _passed_header(name: str) -> tuple[Severity, str] | None:
    plain = headers.folded(name.encode())
    if headers.is_ours(plain):
        return "error", f"the server itself sets {name}, see api.trusted_proxies: remove it"
    if plain in headers.REQUEST_SPECIAL:
        return (
            "error",
            f"{name} describes the connection to the server and is not forwarded: remove it",
        )
    if not headers.is_spoofable(plain):
        near = difflib.get_close_matches(
            plain.decode(), [known.decode() for known in headers.SPOOFABLE], n=1
        )
        return "warning", f"has no effect: {name} passes anyway" + (
            f"; did you mean {near[0]}?" if near else ""
        )
    return None


def _passed_trailer(name: str) -> tuple[Severity, str] | None:
    if headers.is_forbidden_trailer(headers.folded(name.encode())):
        return (
            "error",
            f"{name} is not safe as a trailer field, because recipients act on it: remove it",
        )
    return None


def _ports(service: dict[str, Any], path: KeyPath) -> Iterator[Effect]:
    names = [((*path, "hostname"), service.get("hostname"))]
    for key in ("hostnames", "hosts"):
        names += [((*path, key, i), name) for i, name in enumerate(items(service.get(key)))]
    for here, name in names:
        match = _PORT.search(name) if isinstance(name, str) else None
        if match is not None:
            yield here, "warning", _PORT_IGNORED.format(match[1])


def _tls(service: dict[str, Any], path: KeyPath) -> Iterator[Effect]:
    tls = section(service, "tls")
    anonymous = str(tls.get("client_auth", "")).strip().lower() in _NO_CLIENT_AUTH
    for key, value in tls.items():
        here = (*path, "tls", key)
        if not value:
            continue
        if key in _TOWARDS_CLIENTS and (key, anonymous) != ("client_auth", True):
            if key == "client_ca_file" and anonymous and "client_auth" in tls:
                yield here, "warning", f"has no effect: client_auth is {tls['client_auth']}"
            else:
                yield here, "error", _TOWARDS_CLIENTS[key]
        elif (
            key in _TOWARDS_BACKENDS
            and not _secured(service)
            and not _as_happens_anyway(key, value)
        ):
            yield here, "error", _NO_TLS
        elif key == "insecure_skip_verify":
            yield here, "warning", _UNVERIFIED if _secured(service) else f"has no effect: {_NO_TLS}"


def _as_happens_anyway(key: str, value: Any) -> bool:
    """Return True for `min_version: "1.2"`, which clients have in any case."""
    try:
        return key == "min_version" and tls_version(value) == "1.2"
    except ValueError:
        return True  # the model reports the error


def _secured(service: dict[str, Any]) -> bool:
    """Return True if one of the backends uses TLS."""
    addresses = [
        item.get("address") for item in items(service.get("upstreams")) if isinstance(item, dict)
    ]
    addresses.append(service.get("backend"))
    written = [address for address in addresses if isinstance(address, str)]
    return any(_scheme(address, service) in ("https", "wss") for address in written)


def _scheme(address: str, service: dict[str, Any]) -> str:
    if address.startswith("unix:"):
        return "http"
    scheme, separator, _ = address.partition("://")
    return scheme.lower() if separator else str(service.get("protocol"))


def section(data: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the mapping under `key`, or an empty one."""
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def kind_of(handler: Any) -> str:
    """Return the type of a handler as the models read it, or ""."""
    kind = handler.get("type") if isinstance(handler, dict) else None
    return kind.strip().lower().replace("-", "_") if isinstance(kind, str) else ""


def items(value: Any) -> list[Any]:
    """Return `value` if it is a list, else an empty list."""
    return value if isinstance(value, list) else []


def without_nulls(value: Any) -> Any:
    """Return `value` without keys that have no value.

    A line with only `logging:` then means the defaults.
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
