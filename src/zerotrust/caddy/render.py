"""Renders the server's configuration as Caddy JSON: a pure function.

Each port has one static catch-all route to the server's proxy API. The server looks up the host,
and redirects http. So a changed service does not change Caddy's configuration, and no reload closes
open WebSockets. When the configuration does change, `stream_close_delay` keeps them open.

There is no `handle_response`, because it runs before Caddy completes an upgrade and drops the
`101`.

Names that no public authority can certify get a certificate from Caddy's internal authority (RFC
6761, RFC 8375, `.internal`, `.local`, names without a dot). All others get one by ACME. A wildcard
of a policy matches exactly one label, so each depth is listed. A handshake for a private name with
more labels is dropped before a policy is selected, so the name never reaches a public authority.

Objects that an operator may `PATCH` have an `@id`: `/id/zerotrust-route`, `/id/zerotrust-proxy`.
"""

import os
from typing import Any, Final

from zerotrust.errors import ConfigError
from zerotrust.http.head import EDGE_TIME
from zerotrust.model.base import split_address
from zerotrust.model.server import Caddy, CaddyLogging, ServerConfig
from zerotrust.net.unix_socket import MAX_PATH_BYTES

ROUTE_ID: Final = "zerotrust-route"
PROXY_ID: Final = "zerotrust-proxy"
SERVER: Final = "zerotrust"
HTTP_SERVER: Final = "zerotrust_http"
TUNNEL_PATH: Final = "/.0trust/tunnel"
WORKER_QUERY: Final = "worker"
OWN_PATHS: Final = "/.0trust/*"
PERMISSION_PATH: Final = "/.0trust/tls-permission"
DEFAULT_ADMIN: Final = "localhost:2019"

PRIVATE_SUFFIXES: Final = ("localhost", "internal", "home.arpa", "test", "local")
PRIVATE_DEPTH: Final = 8

MAX_HEADER_BYTES: Final = 58 * 1024
"""Caddy accepts heads of 4 KiB more over HTTP/1.1. The fields that it adds fit into the 2 KiB that
are left of `http.head.MAX_REQUEST_HEAD_BYTES`."""

_PROOF_FIELD: Final = "X-0Trust-Proxy-Secret"
_UNTRUSTED_FIELDS: Final = ["Forwarded", "X-Real-IP"]
"""The server itself removes `X-0Trust-*` in every spelling, and reads the token of a client from
`X-0Trust-Token`."""

Json = dict[str, Any]


def render(config: ServerConfig, secret: str | None = None) -> Json:
    """Return the whole configuration of Caddy.

    Args:
        secret: the value by which Caddy proves itself at a port of the server. None for the name
            of its file, which Caddy then reads for each request.

    Raises:
        ConfigError: Caddy does not support a setting.
    """
    caddy = config.caddy
    secret = secret or f"{{file.{config.proxy_secret_file}}}"
    if caddy.http_port == caddy.https_port:
        raise ConfigError(
            f"caddy.http_port and caddy.https_port are both {caddy.http_port}; choose two ports"
        )
    servers = {SERVER: _https_server(config, secret)}
    http: Json = {"https_port": caddy.https_port, "servers": servers}
    if caddy.http_port:
        http["http_port"] = caddy.http_port
        servers[HTTP_SERVER] = _http_server(config, secret)
    document: Json = {
        "admin": {"listen": admin_address(caddy), "config": {"persist": False}},
        "logging": {"logs": {"default": _log(caddy.logging, merged=caddy.mode == "managed")}},
        "apps": {
            "http": http,
            "tls": _tls(config),
            # Without this, a Caddy that runs as root adds its internal authority to the system's
            # trust store.
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }
    if has_our_storage(caddy):
        document["storage"] = {"module": "file_system", "root": caddy.storage}
    return document


def sends_edge_time(config: ServerConfig) -> bool:
    """Return True if Caddy tells the server for how long it has had each request.

    Only a managed Caddy does: it overwrites what clients say.
    """
    return config.caddy.mode == "managed" and config.access_log.output is not None


def is_ours(document: object) -> bool:
    """Return True if this configuration of Caddy was rendered by us."""
    try:
        return bool(document["apps"]["http"]["servers"][SERVER]["routes"][-1]["@id"] == ROUTE_ID)  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        return False


def admin_address(caddy: Caddy) -> str:
    """Return the address of Caddy's admin endpoint, in Caddy's form.

    Raises:
        ConfigError: the path of the socket is too long for the operating system.
    """
    if caddy.mode == "managed":
        path = f"{caddy.config_dir}/admin.sock"
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise ConfigError(
                f"caddy.config_dir is too long: the socket {path} has {len(os.fsencode(path))}"
                f" bytes, the system allows {MAX_PATH_BYTES}; choose a shorter directory"
            )
        return f"unix/{path}|0600"
    address = (caddy.admin_api or DEFAULT_ADMIN).removeprefix("http://").rstrip("/")
    if address.startswith("unix:"):
        return f"unix/{address.removeprefix('unix:').removeprefix('//')}"
    return address


def listen_hosts(caddy: Caddy) -> list[str]:
    """Return the hosts to listen on; an empty one stands for all interfaces."""
    return [host.removeprefix("[").removesuffix("]") for host in caddy.bind] or [""]


def _https_server(config: ServerConfig, secret: str) -> Json:
    caddy, proxy = config.caddy, _proxy(config, secret)
    return {
        "listen": _listen(caddy, caddy.https_port),
        "protocols": ["h1", "h2", "h3"],
        **_limits(),
        "automatic_https": {"disable_redirects": True},
        "tls_connection_policies": [
            {"match": {"sni_regexp": {"pattern": _deep_private_names()}}, "drop": True},
            {},
        ],
        "routes": [
            *_worker_routes(config, secret),
            {"@id": ROUTE_ID, "handle": _handlers({"@id": PROXY_ID, **proxy})},
        ],
    }


def _http_server(config: ServerConfig, secret: str) -> Json:
    """Return the server for http.

    Caddy answers ACME's HTTP-01 before its routes; our server redirects.
    """
    caddy = config.caddy
    return {
        "listen": _listen(caddy, caddy.http_port),
        "protocols": ["h1"],
        **_limits(),
        "automatic_https": {"disable": True},
        "routes": [*_worker_routes(config, secret), {"handle": _handlers(_proxy(config, secret))}],
    }


def _worker_routes(config: ServerConfig, secret: str) -> list[Json]:
    """Return the routes that lead to certain workers, where there are several.

    A tunnel of an agent goes to the worker that it names. The server's own pages are served by the
    first worker that runs: it alone counts the attempts at them, and the dashboard stays with it.
    """
    if config.server.worker_count == 1:
        return []
    upstreams = _upstreams(config)
    routes = [
        _route_to(
            [{"path": [TUNNEL_PATH], "query": {WORKER_QUERY: [str(index)]}}],
            {**_proxy(config, secret), "upstreams": [one]},
        )
        for index, one in enumerate(upstreams)
        if index  # tunnels without a number go to the first worker
    ]
    own: list[Json] = [{"path": [OWN_PATHS]}]
    if config.access is not None:
        hosts = (config.access.auth_host, config.access.admin_host)
        own.append({"host": [host for host in hosts if host is not None]})
    first = _proxy(config, secret)
    first["load_balancing"]["selection_policy"] = {"policy": "first"}
    # Without it, the first one would be tried again and again while it does not run.
    first["health_checks"] = {"passive": {"fail_duration": "1s"}}
    return [*routes, _route_to(own, first)]


def _route_to(match: list[Json], proxy: Json) -> Json:
    return {"match": match, "handle": _handlers(proxy), "terminal": True}


def _upstreams(config: ServerConfig) -> list[Json]:
    """Return the addresses of the server, one for each worker."""
    workers = config.server.worker_count
    addresses = (
        [config.api_address]
        if workers == 1
        else [config.worker_address(index) for index in range(workers)]
    )
    return [{"dial": _dial("api.listen_addr", address)} for address in addresses]


def _handlers(proxy: Json) -> list[Json]:
    # In a handler of its own, before the proxy: within one set of operations, Caddy deletes after
    # it has set.
    return [{"handler": "headers", "request": {"delete": _UNTRUSTED_FIELDS}}, proxy]


def _limits() -> Json:
    """Return the limits of a server.

    The default timeout of a minute cuts quiet WebSockets, -1 truncates responses.
    """
    return {
        "read_idle_timeout": "1h",
        "write_idle_timeout": "1h",
        "max_header_bytes": MAX_HEADER_BYTES,
    }


def _proxy(config: ServerConfig, secret: str) -> Json:
    """Return the handler that proxies to our server.

    Caddy overwrites `X-Forwarded-Proto` of clients.
    """
    fields = {"X-Real-IP": ["{http.vars.client_ip}"]}
    if sends_edge_time(config):
        fields[EDGE_TIME] = ["{http.request.duration_ms}"]
    if not config.api_address.startswith("unix:"):
        fields[_PROOF_FIELD] = [secret]
    balancing: Json = {
        "try_duration": "20s",
        "try_interval": "250ms",
        "retry_match": [{"method": ["NEVER"]}],
    }
    upstreams = _upstreams(config)
    if len(upstreams) > 1:
        # Not the one with the fewest connections: a worker that does not run has none.
        balancing["selection_policy"] = {"policy": "round_robin"}
        balancing["try_interval"] = "50ms"
    return {
        "handler": "reverse_proxy",
        "upstreams": upstreams,
        "headers": {"request": {"set": fields}},
        # Caddy always flushes responses without a length, and server-sent events, at once. With -1,
        # it would write head and body of each small response separately.
        "flush_interval": "50ms",
        "stream_close_delay": "24h",
        # A request waits while our server restarts (server.ops.restart_gate). Caddy tries again
        # only if it could not connect. It never sends a request twice.
        "load_balancing": balancing,
        "transport": {
            "protocol": "http",
            "compression": False,
            "network_proxy": {"from": "none"},
            "keep_alive": {"max_idle_conns_per_host": 256},
        },
    }


def _tls(config: ServerConfig) -> Json:
    caddy = config.caddy
    files = [{"certificate": own.cert_file, "key": own.key_file} for own in caddy.certificates]
    return {
        **({"certificates": {"load_files": files}} if files else {}),
        "automation": {
            "on_demand": {"permission": {"module": "http", "endpoint": _permission_url(caddy)}},
            "policies": [
                {
                    "subjects": _private_names(),
                    "on_demand": True,
                    "issuers": [{"module": "internal"}],
                },
                {"on_demand": True, "issuers": [_acme(config)]},
            ],
        },
    }


def _permission_url(caddy: Caddy) -> str:
    if caddy.permission_addr.startswith("unix:"):
        raise ConfigError(
            f'caddy.permission_addr "{caddy.permission_addr}": Caddy cannot use a unix socket here;'
            " write 127.0.0.1:PORT"
        )
    return f"http://{_dial('caddy.permission_addr', caddy.permission_addr)}{PERMISSION_PATH}"


def has_our_storage(caddy: Caddy) -> bool:
    """Return True if certificates are in `caddy.storage`; an external Caddy may have another
    storage."""
    return caddy.mode == "managed" or bool(caddy.storage_dir)


def is_private(name: str) -> bool:
    """Return True if Caddy's internal authority certifies the name, because no public one can."""
    return "." not in name or f".{name}".endswith(
        tuple(f".{suffix}" for suffix in PRIVATE_SUFFIXES)
    )


def _private_names() -> list[str]:
    deep = [
        "*." * depth + suffix for suffix in PRIVATE_SUFFIXES for depth in range(PRIVATE_DEPTH + 1)
    ]
    return ["*", *deep]


def _deep_private_names() -> str:
    """Return an expression for private names of more labels; no `{n,}`, which Caddy takes for a
    placeholder."""
    suffixes = "|".join(suffix.replace(".", r"\.") for suffix in PRIVATE_SUFFIXES)
    return r"(?i)^([^.]+\.)+" + r"[^.]+\." * PRIVATE_DEPTH + f"({suffixes})$"


def _acme(config: ServerConfig) -> Json:
    """Return the issuer of public certificates.

    Members answer HTTP-01 challenges for each other (`server.proxy.challenge_relay`). They cannot
    do so for TLS-ALPN-01, whose answer is a handshake with Caddy.
    """
    caddy = config.caddy
    http: Json = {"alternate_port": caddy.http_port} if caddy.http_port else {"disabled": True}
    alpn: Json = {"alternate_port": caddy.https_port}
    if config.server.member_addr is not None and caddy.http_port:
        alpn = {"disabled": True}
    challenges: Json = {"http": http, "tls-alpn": alpn}
    if len(caddy.bind) == 1:
        challenges["bind_host"] = listen_hosts(caddy)[0]
    issuer: Json = {"module": "acme", "challenges": challenges}
    if caddy.acme.ca_url:
        issuer["ca"] = caddy.acme.ca_url
    if caddy.acme.email:
        issuer["email"] = caddy.acme.email
    return issuer


def _listen(caddy: Caddy, port: int) -> list[str]:
    return [_join(host, port) for host in listen_hosts(caddy)]


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _dial(key: str, listen: str) -> str:
    """Return the address at which Caddy reaches a listener of ours, in Caddy's form."""
    if listen.startswith("unix:"):
        path = listen.removeprefix("unix:")
        return f"unix/{path if not path.startswith('//') else path[1:]}"
    host, port = split_address(listen)
    if port == 0:
        raise ConfigError(f'{key} "{listen}": Caddy needs the port number; write one other than 0')
    if host in ("", "0.0.0.0"):  # noqa: S104  (compared, not listened on)
        host = "127.0.0.1"
    return _join("::1" if host == "::" else host, port)


_SECRETS: Final[Json] = {
    field: {"filter": "delete"}
    for field in (
        "request>headers>X-0trust-Token",
        "request>headers>Cf-Access-Client-Secret",
        "request>headers>P-Access-Token",
        "request>headers>X-0trust-Proxy-Secret",
        "http",
    )
}
"""Log fields with tokens of clients (`access.token_fields`) or the secret of Caddy, as Go spells
their names. Caddy leaves out cookies and Authorization by itself, but logs the head of each request
that fails. With level DEBUG it also logs each request to the server, and its own configuration in
the field `http`."""


def _log(logging: CaddyLogging, *, merged: bool) -> Json:
    """Return Caddy's default log; `merged` sends terminal output to us as JSON, for our log."""
    streams = logging.output in ("stdout", "stderr")
    log: Json = {
        "level": "WARN" if logging.level == "WARNING" else logging.level,
        "writer": _log_writer(logging, merged=merged and streams),
        "encoder": _log_encoder(logging, "json" if merged and streams else logging.format),
    }
    if logging.include:
        log["include"] = logging.include
    if logging.exclude:
        log["exclude"] = logging.exclude
    if logging.sampling_first is not None or logging.sampling_thereafter is not None:
        log["sampling"] = {
            "first": logging.sampling_first or 0,
            "thereafter": logging.sampling_thereafter or 0,
        }
    return log


def _log_writer(logging: CaddyLogging, *, merged: bool) -> Json:
    if not logging.enabled or logging.output == "discard":
        return {"output": "discard"}
    if merged:
        return {"output": "stderr"}
    if logging.output in ("stdout", "stderr"):
        return {"output": logging.output}
    return {"output": "file", "filename": logging.output}


def _log_encoder(logging: CaddyLogging, form: str) -> Json:
    """Return the encoder, which leaves out secrets.

    Caddy has no `single_field` any more: it becomes `console`.
    """
    plain: Json = {"format": "console" if form in ("console", "single_field") else "json"}
    if logging.format == "filter":
        return {"format": "filter", "wrap": plain, "fields": {**logging.fields, **_SECRETS}}
    filtered: Json = {"format": "filter", "wrap": plain, "fields": _SECRETS}
    if not logging.fields:
        return filtered
    return {"format": "append", "wrap": filtered, "fields": logging.fields}
