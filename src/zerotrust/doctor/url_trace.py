"""Trace of a URL: each hop from DNS to the backend, with its time, and the hop that ends it."""

import asyncio
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from zerotrust.doctor.error_hops import hop_of, status_fix
from zerotrust.doctor.public_names import Roots, is_private
from zerotrust.doctor.tls_files import owner
from zerotrust.errors import CommandError
from zerotrust.http.ping import NONCE_BYTES, PING_PREFIX, parse_answer, proof
from zerotrust.model.base import join_address, normalise_host, patterns_of
from zerotrust.model.doctor import DoctorFacts, Hop, HopName, HostFact, Trace
from zerotrust.net.name_lookup import NameLookup, look_up
from zerotrust.net.timed_request import (
    TIMEOUT,
    Fields,
    Target,
    TimedAttempt,
    attempt,
    websocket_fields,
)

REQUEST_TIMEOUT: Final = 15.0
"""Seconds for the request: the server lets it wait for an agent that has just disconnected
(`api.hold_timeout`)."""
_SECURED: Final = {"https": True, "wss": True, "http": False, "ws": False}
_KEPT: Final = "/!$&'()*+,;=:@?%-._~"
_ERROR: Final = "x-0trust-error"


class TracedUrl(NamedTuple):
    """Parts of a URL: normalised host name, port, path with query."""

    url: str
    host: str
    port: int
    target: str
    secured: bool
    is_websocket: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlProbes:
    """Course of the attempts at a URL. None stands for an attempt that was not reached.

    Attributes:
        address: the address that was dialled.
        ping: ping of the host name.
        proven: the ping proves this installation; None if its authority is not known here.
        withheld: the reason why the requests do not show the token; empty if they do, or there is
            none.
        get: the request itself.
        upgrade: a WebSocket handshake at the same URL.
    """

    lookup: NameLookup
    address: str = ""
    ping: TimedAttempt | None = None
    proven: bool | None = None
    withheld: str = ""
    get: TimedAttempt | None = None
    upgrade: TimedAttempt | None = None


def parse_url(url: str) -> TracedUrl:
    """Return the parts of a URL.

    Raises:
        CommandError: it is no URL with a host name.
    """
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        secured = _SECURED[parts.scheme]
        host, port = normalise_host(parts.hostname or ""), parts.port
    except (ValueError, KeyError):
        raise CommandError(
            f'"{url}" is no address of a service: write, for example, https://app.example.com/'
        ) from None
    query = f"?{parts.query}" if parts.query else ""
    return TracedUrl(
        url=url,
        host=host,
        port=port or (443 if secured else 80),
        target=quote((parts.path or "/") + query, safe=_KEPT),
        secured=secured,
        is_websocket=parts.scheme in ("ws", "wss"),
    )


async def trace(
    asked: TracedUrl,
    *,
    facts: DoctorFacts | None = None,
    roots: Roots = (),
    token: str = "",
    step_timeout: float = TIMEOUT,
    request_timeout: float = REQUEST_TIMEOUT,
) -> Trace:
    """Follow a URL hop by hop.

    Args:
        facts: of the running server, if this is its machine.
        roots: of this installation; none if they are not known here.
        token: the secret of a machine or app. The requests show it only to a server of 0Trust whose
            certificate is trusted.
    """
    probes = await probe_url(
        asked, roots=roots, token=token, step_timeout=step_timeout, request_timeout=request_timeout
    )
    fact = None if facts is None else find_fact(facts, asked.host)
    unserved = facts is not None and (fact is None or bool(fact.refusal))
    return judge_probes(asked, probes, fact, unserved=unserved)


def find_fact(facts: DoctorFacts, host: str) -> HostFact | None:
    """Return the fact about the registration of a host name, or of its wildcard."""
    known = {one.host: one for one in reversed(facts.hosts)}
    return next((known[name] for name in patterns_of(host) if name in known), None)


async def probe_url(
    asked: TracedUrl,
    *,
    roots: Roots,
    token: str,
    step_timeout: float = TIMEOUT,
    request_timeout: float = REQUEST_TIMEOUT,
) -> UrlProbes:
    """Make all attempts at a URL, until one fails."""
    lookup = await look_up(asked.host, lookup_timeout=step_timeout)
    probes = UrlProbes(lookup=lookup)
    tls = await asyncio.to_thread(ssl.create_default_context) if asked.secured else None
    nonce = secrets.token_hex(NONCE_BYTES).encode()
    target = Target(
        port=asked.port,
        tls=tls,
        server_name=asked.host,
        host=asked.host if asked.port in (80, 443) else join_address(asked.host, asked.port),
        target=(PING_PREFIX + nonce).decode(),
    )
    for address in lookup.addresses:
        tried = await attempt(replace(target, address=address), step_timeout=step_timeout)
        probes = replace(probes, address=address, ping=tried)
        if tried.failed_at != "tcp":
            break
    ping = probes.ping
    if ping is None or ping.failed_at is not None:
        return probes
    target = replace(target, address=probes.address, target=asked.target)
    answer = parse_answer(ping.body)
    if answer is not None and roots:
        wanted = {proof(root, asked.host, nonce) for root in roots}
        probes = replace(probes, proven=bool(wanted & {*answer.proofs}))
    fields: Fields = ()
    if token:
        withheld = _reason_to_withhold(asked, ping, probes.proven)
        probes = replace(probes, withheld=withheld)
        fields = () if withheld else (("Authorization", f"Bearer {token}"),)
    get = await attempt(replace(target, fields=fields), step_timeout=request_timeout)
    upgrade = None
    if get.status:
        origin = f"{'https' if asked.secured else 'http'}://{target.host}"
        handshake = replace(target, fields=(*websocket_fields(origin), *fields))
        upgrade = await attempt(handshake, step_timeout=request_timeout)
    return replace(probes, get=get, upgrade=upgrade)


def _reason_to_withhold(asked: TracedUrl, ping: TimedAttempt, proven: bool | None) -> str:
    """Return the reason why this server must not see a token; empty if it may."""
    if not asked.secured:
        return "the connection is not encrypted"
    if ping.untrusted:
        return "the certificate is not trusted"
    if parse_answer(ping.body) is None:
        return "the answer to the ping is not one of 0Trust"
    return "the server has another authority" if proven is False else ""


def judge_probes(
    asked: TracedUrl, probes: UrlProbes, fact: HostFact | None = None, *, unserved: bool = False
) -> Trace:
    """Return the trace that attempts make.

    Args:
        fact: the registration of the host name, if the server's facts are known.
        unserved: the server's facts are known, and no agent serves the host name.
    """
    hops, ping = [_dns(probes)], probes.ping
    if ping is None:
        return _ended(asked, hops)
    for judge in (_tcp, _tls, _caddy, _server) if asked.secured else (_tcp, _caddy, _server):
        hop = judge(asked, probes, ping)
        if unserved and hop.name == "tls" and hop.outcome == "ended":
            hop = hop.model_copy(update={"fix": hop_of("unknown_host")[1]})
        hops.append(hop)
        if hop.outcome == "ended":
            return _ended(asked, hops)
    if probes.get is not None:
        first, *others = _request_hops(asked, probes.get, ping, fact)
        if probes.withheld:
            seen = f"{first.seen}; the token was not sent: {probes.withheld}"
            first = first.model_copy(update={"seen": seen})
        hops += [first, *others]
        if not any(hop.outcome == "ended" for hop in hops) and probes.upgrade is not None:
            hops.append(_upgrade(asked, probes.upgrade))
    return _ended(asked, hops)


def _ended(asked: TracedUrl, hops: Sequence[Hop]) -> Trace:
    ends_at: HopName | None = next((one.name for one in hops if one.outcome == "ended"), None)
    return Trace(url=asked.url, hops=list(hops), ends_at=ends_at)


def _dns(probes: UrlProbes) -> Hop:
    lookup = probes.lookup
    if not lookup.addresses:
        fix = "add an A record that leads to the server, and an AAAA record if it has IPv6"
        return Hop(name="dns", outcome="ended", seen=lookup.error, fix=fix)
    return _passed("dns", lookup.seconds, ", ".join(lookup.addresses))


def _tcp(asked: TracedUrl, probes: UrlProbes, ping: TimedAttempt) -> Hop:
    where = join_address(probes.address, asked.port)
    if ping.failed_at == "tcp":
        fix = "open the port in the firewall or router, and start the server"
        return Hop(name="tcp", outcome="ended", seen=f"{where}: {ping.error}", fix=fix)
    return _passed("tcp", ping.seconds["tcp"], where)


def _tls(asked: TracedUrl, _probes: UrlProbes, ping: TimedAttempt) -> Hop:
    if ping.failed_at == "tls":
        fix = (
            "see the server's log: Caddy gets a certificate if an agent serves the name, DNS leads"
            " there, and port 80 or 443 is reachable from the internet"
        )
        return Hop(name="tls", outcome="ended", seen=ping.error, fix=fix)
    seen = f"{ping.tls_version}, {owner(ping.certificate)}"
    if ping.untrusted and not is_private(asked.host):
        return Hop(
            name="tls",
            outcome="ended",
            milliseconds=_ms(ping.seconds["tls"]),
            seen=f"{ping.untrusted}; {seen}",
            fix="browsers refuse it: see the server's log for Caddy's attempt to get one",
        )
    return _passed("tls", ping.seconds["tls"], seen)


def _caddy(_asked: TracedUrl, _probes: UrlProbes, ping: TimedAttempt) -> Hop:
    if ping.failed_at == "http":
        fix = "see the log of the program at this port"
        return Hop(name="caddy", outcome="ended", seen=ping.error, fix=fix)
    by = ping.fields.get("server", "")
    if parse_answer(ping.body) is None and _ERROR not in ping.fields:
        if _cannot_forward(ping):
            return Hop(name="caddy", outcome="passed", seen=f"status {ping.status} by {by}")
        return Hop(
            name="caddy",
            outcome="ended",
            seen=f"another web server answers: status {ping.status}{f' by {by}' if by else ''}",
            fix="correct DNS or the port forwarding, or let that server forward to 0Trust",
        )
    return Hop(name="caddy", outcome="passed", seen="forwards to the server")


def _server(_asked: TracedUrl, probes: UrlProbes, ping: TimedAttempt) -> Hop:
    if _cannot_forward(ping):
        return Hop(
            name="server",
            outcome="ended",
            seen=f"Caddy answers with status {ping.status} by itself",
            fix="start the server, and compare api.listen_addr with the address in Caddy",
        )
    if probes.proven is False:
        return Hop(
            name="server",
            outcome="ended",
            seen="it is a server of 0Trust with another authority",
            fix="correct the DNS of the host name, or use the file of its own installation",
        )
    if parse_answer(ping.body) is None:
        code = ping.fields[_ERROR]
        return Hop(name="server", outcome="passed", seen=f"answers the ping with {code}")
    return _passed("server", ping.seconds["http"], "answers, through Caddy")


def _cannot_forward(ping: TimedAttempt) -> bool:
    by_caddy = ping.fields.get("server", "").lower() == "caddy"
    return by_caddy and ping.status in (502, 503, 504) and _ERROR not in ping.fields


def _request_hops(
    asked: TracedUrl, get: TimedAttempt, ping: TimedAttempt, fact: HostFact | None
) -> list[Hop]:
    """Return the hops of the request itself: policy, agent, upstream."""
    code = get.fields.get(_ERROR, "")
    if not get.status:
        fix = "see the logs of server and agent"
        return [Hop(name="upstream", outcome="ended", seen=get.error, fix=fix)]
    location = get.fields.get("location", "")
    if not asked.secured and get.status in (301, 308) and location.startswith("https://"):
        fix = "use https://"
        seen = f"status {get.status} to {location}"
        return [Hop(name="policy", outcome="ended", seen=seen, fix=fix)]
    name, fix = hop_of(code) if code else ("upstream", "")
    passed = {
        "policy": Hop(name="policy", outcome="passed", seen="lets the request pass"),
        "agent": _agent(fact),
        "upstream": _upstream(get, ping, fact),
    }
    hops: list[Hop] = []
    for step, hop in passed.items():
        if code and step == name:
            seen = f"status {get.status} {code}"
            return [*hops, Hop(name=name, outcome="ended", seen=seen, fix=fix)]
        hops.append(hop)
    return hops


def _agent(fact: HostFact | None) -> Hop:
    if fact is None:
        return Hop(name="agent", outcome="passed")
    return Hop(
        name="agent",
        outcome="passed",
        milliseconds=fact.round_trip,
        seen=f"agent {fact.agent}, service {fact.service}",
    )


def _upstream(get: TimedAttempt, ping: TimedAttempt, fact: HostFact | None) -> Hop:
    """Return the hop of the backend: the time of the request without that of the other hops."""
    others = ping.seconds.get("http", 0.0) * 1000
    if fact is not None and fact.round_trip is not None:
        others += fact.round_trip
    own = get.seconds.get("http", 0.0) * 1000 - others
    return Hop(
        name="upstream",
        outcome="passed",
        # The time to the agent is an average, so it may be larger than that of this request.
        milliseconds=round(own, 1) if own > 0 else None,
        seen=f"answers with status {get.status}",
    )


def _upgrade(asked: TracedUrl, upgrade: TimedAttempt) -> Hop:
    if upgrade.status == 101:
        return _passed("upgrade", upgrade.seconds["http"], "101 Switching Protocols")
    code = upgrade.fields.get(_ERROR, "")
    if not upgrade.status:
        return Hop(name="upgrade", outcome="ended", seen=upgrade.error, fix=status_fix(0))
    ends = asked.is_websocket or bool(code) or upgrade.status == 403
    return Hop(
        name="upgrade",
        outcome="ended" if ends else "unknown",
        seen=f"a WebSocket handshake gets status {upgrade.status}{f' {code}' if code else ''}",
        fix=hop_of(code)[1] if code else status_fix(upgrade.status),
    )


def _passed(name: HopName, seconds: float, seen: str) -> Hop:
    return Hop(name=name, outcome="passed", milliseconds=_ms(seconds), seen=seen)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
