"""Check of backends: reachable, TLS, Host, WebSockets, and headers of proxies.

Each upstream gets the request that the agent would send, and where that fails, variants of it: the
variant that works names the setting to change.
"""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from zerotrust.model.base import is_pattern
from zerotrust.model.doctor import Finding
from zerotrust.model.service import Service, ServiceTls
from zerotrust.model.upstream import Upstream, UpstreamEndpoint
from zerotrust.net.name_lookup import NameLookup, look_up
from zerotrust.net.timed_request import (
    TIMEOUT,
    Fields,
    Target,
    TimedAttempt,
    attempt,
    unverified,
    websocket_fields,
)

SOCKET_PATHS: Final = ("/", "/api/websocket", "/ws", "/socket.io/?EIO=4&transport=websocket")
"""Paths at which common programs have their WebSocket. Another one needs `0trust doctor URL`."""
_CLIENT: Final = "203.0.113.7"
"""Client address in requests (RFC 5737): backends that know their proxies read it."""
_PROXY_FIELDS: Final = ("X-Forwarded-For", _CLIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAnswer:
    """Course of the attempts at one upstream. None stands for an attempt that was not needed.

    Attributes:
        get: the request as the agent sends it.
        other_family: address of the other IP family at which the port is open.
        other_scheme: the same request with TLS instead of without, or without instead of with.
        own_host: the same with the upstream's address as Host.
        direct: the same without X-Forwarded-For.
        sockets: WebSocket handshakes by path, as configured.
        eased: WebSocket handshakes by path, with the upstream's address as Host and Origin.
    """

    service: str
    address: str
    endpoint: UpstreamEndpoint
    lookup: NameLookup
    get: TimedAttempt | None = None
    other_family: str = ""
    other_scheme: TimedAttempt | None = None
    own_host: TimedAttempt | None = None
    direct: TimedAttempt | None = None
    sockets: dict[str, TimedAttempt] = field(default_factory=dict)
    eased: dict[str, TimedAttempt] = field(default_factory=dict)
    websocket: bool = True


async def ask_upstream(
    service: Service, upstream: Upstream, *, tls: ssl.SSLContext, step_timeout: float = TIMEOUT
) -> UpstreamAnswer:
    """Try an upstream of a service.

    Args:
        tls: context for backends with https, as the service configures it.
    """
    endpoint = service.endpoint(upstream)
    answer = UpstreamAnswer(
        service=service.service_id,
        address=upstream.address,
        endpoint=endpoint,
        lookup=NameLookup(addresses=(endpoint.path,)),
        websocket=service.websocket,
    )
    if not endpoint.path:
        lookup = await look_up(endpoint.host, lookup_timeout=step_timeout)
        answer = replace(answer, lookup=lookup)
    if not answer.lookup.addresses:
        return answer
    target = _target(service, endpoint, answer.lookup.addresses[0], tls)
    get = await attempt(target, step_timeout=step_timeout)
    answer = replace(answer, get=get)
    if get.failed_at == "tcp" and not endpoint.path:
        return replace(answer, other_family=await _other_family(endpoint, answer, step_timeout))
    if (get.failed_at is not None or get.status == 400) and not endpoint.path:
        flipped = replace(target, tls=None if endpoint.secured else unverified())
        answer = replace(answer, other_scheme=await attempt(flipped, step_timeout=step_timeout))
    if get.status >= 400:
        own = _with_host(target, endpoint)
        bare = replace(target, fields=())
        answer = replace(
            answer,
            own_host=await attempt(own, step_timeout=step_timeout),
            direct=await attempt(bare, step_timeout=step_timeout),
        )
    return answer if get.failed_at is not None else await _ask_sockets(answer, target, step_timeout)


async def _ask_sockets(
    answer: UpstreamAnswer, target: Target, step_timeout: float
) -> UpstreamAnswer:
    """Try WebSocket handshakes as configured, and again with Host and Origin of the upstream."""
    scheme, own = ("https" if target.tls else "http"), answer.endpoint.authority
    sockets, eased = {}, {}
    origin = dict(target.fields).get("Origin", f"https://{target.host}")
    for path in SOCKET_PATHS:
        fields = (*websocket_fields(origin), _PROXY_FIELDS)
        tried = replace(target, target=path, fields=fields)
        sockets[path] = await attempt(tried, step_timeout=step_timeout)
        if sockets[path].status == 101:
            break
        if sockets[path].status in (400, 401, 403, 421):
            fields = (*websocket_fields(f"{scheme}://{own}"), _PROXY_FIELDS)
            tried = _with_host(replace(tried, fields=fields), answer.endpoint)
            eased[path] = await attempt(tried, step_timeout=step_timeout)
    return replace(answer, sockets=sockets, eased=eased)


def _target(
    service: Service, endpoint: UpstreamEndpoint, address: str, tls: ssl.SSLContext
) -> Target:
    settings = service.tls or ServiceTls()
    host = service.host_for(endpoint)
    names = [name for name in service.host_names if not is_pattern(name)]
    own = f"{'https' if endpoint.secured else 'http'}://{endpoint.authority}"
    public = f"https://{names[0]}" if names else own
    fields: Fields = (_PROXY_FIELDS, ("X-Forwarded-Proto", "https"))
    if service.origin == "upstream":
        fields = (*fields, ("Origin", own))
    elif names:
        fields = (*fields, ("Origin", public))
    return Target(
        address=address if not endpoint.path else "",
        port=endpoint.port,
        path=endpoint.path,
        tls=tls if endpoint.secured else None,
        server_name=settings.server_name or endpoint.host,
        host=host,
        fields=fields,
    )


def _with_host(target: Target, endpoint: UpstreamEndpoint) -> Target:
    return replace(target, host=endpoint.authority)


async def _other_family(
    endpoint: UpstreamEndpoint, answer: UpstreamAnswer, step_timeout: float
) -> str:
    """Return the address of the other IP family at which the port is open; empty if there is none.

    A program on this machine may listen on `::1` alone, while the file says 127.0.0.1.
    """
    others = [*answer.lookup.addresses[1:]]
    if endpoint.host in ("127.0.0.1", "localhost"):
        others.append("::1")
    if endpoint.host == "::1":
        others.append("127.0.0.1")
    for address in others:
        target = Target(address=address, port=endpoint.port, method="")
        if (await attempt(target, step_timeout=step_timeout)).failed_at is None:
            return address
    return ""


def judge_upstream(answer: UpstreamAnswer) -> Iterator[Finding]:
    """Yield what is wrong with an upstream."""
    get = answer.get
    if get is None:
        yield _finding(
            answer,
            "no_address",
            "the name of {} has no address",
            answer.lookup.error,
            "correct the address in the agent's file, or the DNS of this network",
        )
    elif get.failed_at == "tcp":
        yield _unreachable(answer, get)
    elif get.untrusted:
        yield _untrusted(answer, get)
    elif get.failed_at is not None or _asks_for_tls(answer):
        yield _wrong_protocol(answer, get)
    else:
        yield from _judge_status(answer, get)
        yield from _judge_sockets(answer)


def _unreachable(answer: UpstreamAnswer, get: TimedAttempt) -> Finding:
    if answer.other_family:
        literal = f"[{answer.other_family}]" if ":" in answer.other_family else answer.other_family
        family = "IPv6" if ":" in answer.other_family else "IPv4"
        return _finding(
            answer,
            "ip_family",
            f"{{}} listens on {family} only",
            f"{answer.lookup.addresses[0] or answer.address}: {get.error}; {literal} answers",
            f'write "{literal}:{answer.endpoint.port}" as its address, or let it listen on both',
        )
    fix = "start it, and check the address in the agent's file"
    if get.timed_out:
        fix = "check the address, and the firewall of its machine"
    return _finding(answer, "unreachable", "{} is not reachable", get.error, fix)


def _untrusted(answer: UpstreamAnswer, get: TimedAttempt) -> Finding:
    name = "mismatch" in get.untrusted
    return _finding(
        answer,
        "certificate",
        "the agent does not trust the certificate of {}",
        get.untrusted.removeprefix("certificate not trusted: "),
        "set tls.server_name to a name in it"
        if name
        else "set tls.ca_file to its authority (or to this certificate, if it is self-signed)",
    )


def _asks_for_tls(answer: UpstreamAnswer) -> bool:
    """Return True if a plain request gets 400, and the same over TLS something better."""
    get, other = answer.get, answer.other_scheme
    return (
        get is not None
        and get.status == 400
        and other is not None
        and 0 < other.status < 500
        and other.status != 400
    )


def _wrong_protocol(answer: UpstreamAnswer, get: TimedAttempt) -> Finding:
    other, secured = answer.other_scheme, answer.endpoint.secured
    if other is not None and other.status:
        address = answer.address.partition("://")[2] or answer.address
        return _finding(
            answer,
            "scheme",
            f"{{}} speaks {'plain http' if secured else 'https'}",
            f"with {'TLS' if secured else 'plain http'}: {get.error or f'status {get.status}'}",
            f'write "{"http" if secured else "https"}://{address}" as its address',
        )
    return _finding(
        answer,
        "no_http",
        "{} does not answer in HTTP",
        get.error,
        "check the port: another program may listen there",
    )


def _judge_status(answer: UpstreamAnswer, get: TimedAttempt) -> Iterator[Finding]:
    own, direct = answer.own_host, answer.direct
    if get.status == 400 and direct is not None and 0 < direct.status < 400:
        yield _finding(
            answer,
            "trusted_proxies",
            "{} refuses requests with X-Forwarded-For",
            f"status 400 with it, {direct.status} without",
            "let it trust the agent's machine; in Home Assistant: http: {use_x_forwarded_for:"
            " true, trusted_proxies: [ADDRESS OF THE AGENT]}",
        )
    elif get.status in (400, 403, 404, 421) and own is not None and 0 < own.status < 400:
        yield _finding(
            answer,
            "host",
            "{} does not accept the service's host name",
            f"status {get.status} with it, {own.status} with {answer.endpoint.authority}",
            "set host_header: upstream in the service",
        )
    elif get.status >= 500:
        yield _finding(
            answer,
            "error",
            "{} answers with an error",
            f"GET / gets status {get.status}",
            "see its log",
            level="warning",
        )


def _judge_sockets(answer: UpstreamAnswer) -> Iterator[Finding]:
    opened = next((path for path, one in answer.sockets.items() if one.status == 101), "")
    if opened and not answer.websocket:
        yield _finding(
            answer,
            "websocket_off",
            "{} speaks WebSocket, but the service refuses it",
            f"status 101 at {opened}, and websocket: false in the agent's file",
            "remove websocket: false, if its pages need WebSockets",
            level="warning",
        )
    eased = next((path for path, one in answer.eased.items() if one.status == 101), "")
    if eased and answer.websocket and not opened:
        yield _finding(
            answer,
            "websocket_origin",
            "{} refuses WebSockets of the service's host name",
            f"at {eased} status {answer.sockets[eased].status}, and 101 with its own address as"
            " Host and Origin",
            "set origin: upstream and host_header: upstream in the service, or allow the host name"
            " in the backend",
        )


def _finding(
    answer: UpstreamAnswer,
    check: str,
    what: str,
    seen: str,
    fix: str,
    *,
    level: str = "broken",
) -> Finding:
    return Finding.model_validate(
        {
            "check": f"backend.{check}",
            "level": level,
            "subject": answer.address,
            "what": what.format(f"backend {answer.address} of service {answer.service}"),
            "seen": seen,
            "fix": fix,
        }
    )


async def ask_all(
    services: list[Service], contexts: dict[str, ssl.SSLContext], *, step_timeout: float = TIMEOUT
) -> list[UpstreamAnswer]:
    """Try all upstreams of services; `contexts` has the TLS context of each by its id."""
    limit = asyncio.Semaphore(16)

    async def ask(service: Service, upstream: Upstream) -> UpstreamAnswer:
        async with limit:
            tls = contexts[service.service_id]
            return await ask_upstream(service, upstream, tls=tls, step_timeout=step_timeout)

    return await asyncio.gather(
        *(
            ask(service, upstream)
            for service in services
            if service.service_id in contexts
            for upstream in service.backends
        )
    )
