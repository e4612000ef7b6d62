"""Check of the way from an agent to its server: address, port, TLS, and the way by port 443."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from zerotrust.doctor.clock_offset import date_ahead
from zerotrust.doctor.public_names import AddressAnswer, Roots, ping
from zerotrust.doctor.tls_files import owner
from zerotrust.model.doctor import Finding
from zerotrust.net.name_lookup import NameLookup, look_up
from zerotrust.net.timed_request import TIMEOUT, Target, TimedAttempt, attempt, unverified

AUTHORITY_PATH: Final = "/.well-known/0trust/authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerWay:
    """An address of the server, and the public web server that leads to it.

    Attributes:
        server_name: expected name in the server's certificate.
        proxied: the agent reaches it through a proxy, so a connection of our own says nothing.
    """

    host: str
    port: int
    server_name: str
    web_host: str
    web_port: int
    web_name: str
    proxied: bool = False
    transport: Literal["auto", "direct", "websocket"] = "auto"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WayAnswer:
    """Course of the attempts at one address of the server.

    Attributes:
        direct: connection with the agent's certificate; None if the agent makes none.
        plain: the same without its ALPN, if that of `direct` failed in TLS.
        web: ping by the public web server; None if it was not asked.
        ahead: seconds that the server's clock is ahead; None if unknown.
    """

    way: ServerWay
    lookup: NameLookup
    direct: TimedAttempt | None = None
    plain: TimedAttempt | None = None
    web: AddressAnswer | None = None
    ahead: float | None = None


async def ask_server(
    way: ServerWay,
    *,
    tls: ssl.SSLContext,
    roots: Roots,
    now: float,
    step_timeout: float = TIMEOUT,
) -> WayAnswer:
    """Try the ways to the server.

    Args:
        tls: context with the agent's certificate.
        now: seconds since 1970, when this is called.
    """
    lookup = await look_up(way.host, lookup_timeout=step_timeout)
    if not lookup.addresses:
        return WayAnswer(way=way, lookup=lookup)
    direct = plain = None
    if way.transport != "websocket":
        target = _target(way, lookup.addresses[0], tls)
        direct = await attempt(target, step_timeout=step_timeout)
        if direct.failed_at == "tls":
            target = _target(way, lookup.addresses[0], unverified())
            plain = await attempt(target, step_timeout=step_timeout)
    web = None
    if direct is None or direct.failed_at is not None or direct.untrusted:
        web = await _ask_web_server(way, roots, step_timeout)
    ahead = web.ahead if web is not None else None
    if ahead is None and direct is not None and direct.failed_at is None:
        ahead = await _ask_clock(way, lookup.addresses[0], now, step_timeout)
    return WayAnswer(way=way, lookup=lookup, direct=direct, plain=plain, web=web, ahead=ahead)


def _target(way: ServerWay, address: str, tls: ssl.SSLContext) -> Target:
    return Target(address=address, port=way.port, tls=tls, server_name=way.server_name, method="")


async def _ask_web_server(
    way: ServerWay, roots: Roots, step_timeout: float
) -> AddressAnswer | None:
    lookup = await look_up(way.web_host, lookup_timeout=step_timeout)
    if not lookup.addresses:
        return None
    # The tunnel verifies its own TLS inside, so the certificate of the web server does not matter.
    return await ping(
        way.web_name,
        address=lookup.addresses[0],
        port=way.web_port,
        tls=unverified(),
        roots=roots,
        step_timeout=step_timeout,
    )


async def _ask_clock(way: ServerWay, address: str, now: float, step_timeout: float) -> float | None:
    """Return the seconds that the server's clock is ahead, by the Date of its enrollment API."""
    target = Target(
        address=address,
        port=way.port,
        tls=unverified(),
        server_name=way.server_name,
        host=way.server_name,
        target=AUTHORITY_PATH,
    )
    course = await attempt(target, step_timeout=step_timeout)
    return date_ahead(course.fields.get("date", ""), now=now)


def judge_way(answer: WayAnswer) -> Iterator[Finding]:
    """Yield what is wrong with the way to an address of the server."""
    way = answer.way
    if way.proxied:
        return
    if not answer.lookup.addresses:
        yield Finding(
            check="server.no_address",
            level="broken",
            subject=str(way),
            what=f"the server's name {way.host} has no address",
            seen=answer.lookup.error,
            fix="correct server.address in the agent's file, or the DNS of this network",
        )
        return
    by_web = answer.web is not None and answer.web.outcome == "ours"
    if answer.direct is None:
        if not by_web:
            yield _no_web_server(answer)
        return
    finding = _judge_direct(answer.direct, answer.plain, way)
    if finding is None:
        return
    if by_web and way.transport == "auto":
        finding = finding.model_copy(
            update={
                "level": "warning",
                "what": f"{finding.what}; the agent goes through port {way.web_port} instead",
            }
        )
    yield finding


def _no_web_server(answer: WayAnswer) -> Finding:
    way = answer.way
    return Finding(
        check="server.no_web_server",
        level="broken",
        subject=f"{way.web_host}:{way.web_port}",
        what=f"{way.web_host}:{way.web_port} does not lead to the server",
        seen="no address" if answer.web is None else answer.web.note,
        fix="correct server.websocket_address, and server.websocket_hosts in the server's file",
    )


def _judge_direct(
    direct: TimedAttempt, plain: TimedAttempt | None, way: ServerWay
) -> Finding | None:
    if direct.untrusted:
        return _untrusted(direct, way)
    if direct.failed_at is None:
        return None
    if direct.failed_at == "tcp":
        what = (
            f"{way} does not answer" if direct.timed_out else f"no connection to {way} is possible"
        )
        fix = (
            "a firewall drops the packets: open the port at the server and on the way, or leave"
            " server.transport at auto"
            if direct.timed_out
            else "start the server, and check the port in server.address and server.listen_addr"
        )
        check = "server.port_silent" if direct.timed_out else "server.port_closed"
        return _broken(check, way, what=what, seen=direct.error, fix=fix)
    if plain is not None and plain.failed_at is None:
        return _broken(
            "server.alpn",
            way,
            what=f"something on the way to {way} ends TLS connections with our protocol (ALPN)",
            seen=f"with it: {direct.error}; without it TLS works",
            fix="exempt the server there, or set server.transport: websocket",
        )
    return _broken(
        "server.tls",
        way,
        what=f"TLS with {way} fails",
        seen=direct.error,
        fix="check that server.address is the port for agents, and that no proxy is on the way",
    )


def _untrusted(direct: TimedAttempt, way: ServerWay) -> Finding:
    reason = direct.untrusted.removeprefix("certificate not trusted: ")
    if "mismatch" in reason:
        return _broken(
            "server.name",
            way,
            what=f"the server's certificate is not for {way.server_name}",
            seen=f"{way} has {owner(direct.certificate)}",
            fix=f"issue it again with this name: 0trust ca issue server {way.server_name}; or set"
            " server.server_name to a name in it",
        )
    if "expired" in reason or "not yet valid" in reason:
        return _broken(
            "server.certificate_time",
            way,
            what="the server's certificate is not valid now",
            seen=reason,
            fix="compare the clocks of both machines, and issue it again if they are right",
        )
    return _broken(
        "server.authority",
        way,
        what=f"{way} shows a certificate of another authority",
        seen=f"{owner(direct.certificate)}: {reason}",
        fix="if a company's proxy intercepts TLS, exempt the server there; else join again, or"
        " correct server.ca_cert",
    )


def _broken(check: str, way: ServerWay, *, what: str, seen: str, fix: str) -> Finding:
    return Finding(check=check, level="broken", subject=str(way), what=what, seen=seen, fix=fix)
