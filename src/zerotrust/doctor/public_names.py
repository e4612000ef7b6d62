"""Check of public host names: do their addresses lead to this server?"""

import asyncio
import secrets
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from zerotrust.caddy.render import PRIVATE_SUFFIXES
from zerotrust.http.ping import NONCE_BYTES, PING_PREFIX, parse_answer, proof
from zerotrust.model.doctor import Finding
from zerotrust.net.name_lookup import NameLookup, look_up
from zerotrust.net.timed_request import TIMEOUT, Target, TimedAttempt, attempt

MAX_ADDRESSES: Final = 8
"""Addresses of one name that are asked."""

Roots = Sequence[bytes]
"""SHA-256 of each root certificate of this installation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressAnswer:
    """Answer of one address to a ping.

    Attributes:
        outcome: `ours` is this installation, `other` another machine, `silent` no HTTP answer.
        note: the observation behind the outcome.
        untrusted: the reason why browsers would not trust the certificate.
        proxies: fields that a proxy in front of the server has added.
        ahead: seconds that the server's clock is ahead; None if unknown.
    """

    address: str
    outcome: Literal["ours", "other", "silent"]
    note: str = ""
    untrusted: str = ""
    proxies: tuple[str, ...] = ()
    ahead: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAnswer:
    """Answers of all addresses of a host name."""

    host: str
    port: int
    lookup: NameLookup
    answers: tuple[AddressAnswer, ...] = ()

    @property
    def ours(self) -> list[AddressAnswer]:
        """Return the answers of this installation."""
        return [one for one in self.answers if one.outcome == "ours"]


async def ask_host(
    host: str, *, port: int, tls: ssl.SSLContext | None, roots: Roots, step_timeout: float = TIMEOUT
) -> HostAnswer:
    """Look a host name up, and ping each of its addresses.

    Args:
        tls: None to ask over plain HTTP.
    """
    lookup = await look_up(host, lookup_timeout=step_timeout)
    pings = (
        ping(host, address=address, port=port, tls=tls, roots=roots, step_timeout=step_timeout)
        for address in lookup.addresses[:MAX_ADDRESSES]
    )
    return HostAnswer(
        host=host, port=port, lookup=lookup, answers=tuple(await asyncio.gather(*pings))
    )


async def ping(
    host: str,
    *,
    address: str,
    port: int,
    tls: ssl.SSLContext | None,
    roots: Roots,
    step_timeout: float = TIMEOUT,
) -> AddressAnswer:
    """Ping one address."""
    nonce = secrets.token_hex(NONCE_BYTES).encode()
    target = Target(
        address=address,
        port=port,
        tls=tls,
        server_name=host,
        host=host,
        target=(PING_PREFIX + nonce).decode(),
    )
    course = await attempt(target, step_timeout=step_timeout)
    return read_ping(course, host, nonce, address=address, roots=roots, now=time.time())


def read_ping(
    course: TimedAttempt, host: str, nonce: bytes, *, address: str, roots: Roots, now: float
) -> AddressAnswer:
    """Return the meaning of an attempt at a ping."""
    if not course.status:
        note = f"{address}: {course.error}"
        return AddressAnswer(address=address, outcome="silent", note=note)
    answer = parse_answer(course.body)
    if course.status != 200 or answer is None:
        by = f" by {course.fields['server']}" if course.fields.get("server") else ""
        note = f"{address} answers the ping with status {course.status}{by}"
        return AddressAnswer(
            address=address, outcome="other", note=note, untrusted=course.untrusted
        )
    if not {proof(root, host, nonce) for root in roots} & {*answer.proofs}:
        note = f"{address} is a server of 0Trust with another authority"
        return AddressAnswer(address=address, outcome="other", note=note)
    return AddressAnswer(
        address=address,
        outcome="ours",
        untrusted=course.untrusted,
        proxies=tuple(answer.proxies),
        # The server's clock is read somewhere between question and answer.
        ahead=answer.unix_time - now + course.seconds.get("http", 0.0) / 2,
    )


def judge_host(answer: HostAnswer, *, outside: bool) -> Iterator[Finding]:
    """Yield what is wrong with a host name.

    Args:
        outside: the name was asked from another network than the server's.
    """
    host, ours = answer.host, answer.ours
    if not answer.answers:
        yield Finding(
            check="dns.no_address",
            level="broken",
            subject=host,
            what=f"{host} has no address",
            seen=answer.lookup.error,
            fix="add an A record that leads to this server, and an AAAA record if it has IPv6",
        )
    elif ours:
        yield from _strays(answer)
    else:
        yield _elsewhere(answer, outside=outside)
    for proxy in {one.proxies for one in ours if one.proxies}:
        yield Finding(
            check="dns.proxy",
            level="warning",
            subject=host,
            what=f"a proxy or content delivery network is in front of {host}",
            seen=f"requests arrive with {', '.join(proxy)}",
            fix="it must pass WebSockets; name its field with the client's address in"
            " api.pass_headers, or let DNS lead here directly",
        )
    for reason in {one.untrusted for one in ours if one.untrusted}:
        if not is_private(host):
            yield Finding(
                check="dns.certificate",
                level="broken",
                subject=host,
                what=f"browsers do not trust the certificate of {host}",
                seen=reason,
                fix="see the server's log for Caddy's attempt to get one: port 80 or 443 must be"
                " reachable from the internet, and the clock right",
            )


def is_private(host: str) -> bool:
    """Return True for names that only Caddy's own authority certifies."""
    return (
        "." not in host
        or host.rpartition(".")[2] in PRIVATE_SUFFIXES
        or (host.endswith(".home.arpa"))
    )


def _strays(answer: HostAnswer) -> Iterator[Finding]:
    """Yield a finding for each address that leads elsewhere, beside one that leads here."""
    for one in answer.answers:
        if one.outcome != "ours":
            record = "AAAA" if ":" in one.address else "A"
            yield Finding(
                check="dns.stray_address",
                level="broken",
                subject=answer.host,
                what=f"{answer.host} also has the address {one.address}, which is not this server",
                seen=one.note,
                fix=f"correct or remove this {record} record",
            )


def _elsewhere(answer: HostAnswer, *, outside: bool) -> Finding:
    host = answer.host
    seen = "; ".join(_unique(one.note for one in answer.answers))
    if any(one.outcome == "other" for one in answer.answers):
        return Finding(
            check="dns.elsewhere",
            level="broken",
            subject=host,
            what=f"{host} leads to another machine",
            seen=seen,
            fix="correct its A and AAAA records, or the port forwarding of the router",
        )
    if any("TLS" in one.note for one in answer.answers):
        return Finding(
            check="dns.no_certificate",
            level="broken",
            subject=host,
            what=f"{host} has no certificate",
            seen=seen,
            fix="see the server's log: Caddy gets one if an agent serves the name, DNS leads here,"
            " and port 80 or 443 is reachable from the internet",
        )
    if outside:
        return Finding(
            check="dns.silent",
            level="broken",
            subject=host,
            what=f"{host} does not answer on port {answer.port}",
            seen=seen,
            fix="open the port in the firewall or router of the server, and check its A and AAAA"
            " records",
        )
    return Finding(
        check="dns.unknown",
        level="warning",
        subject=host,
        what=f"cannot tell whether {host} leads here",
        seen=seen,
        fix="many routers do not lead a network back to itself: run 0trust doctor on an agent, or"
        f" 0trust doctor https://{host}/ elsewhere",
    )


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
