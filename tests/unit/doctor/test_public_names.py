"""Tests of zerotrust.doctor.public_names."""

import re
from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.ports import closed_port
from tests.support.scripted_server import OK, scripted, server_tls, status, trusting
from zerotrust.doctor.public_names import (
    AddressAnswer,
    HostAnswer,
    ask_host,
    is_private,
    judge_host,
    read_ping,
)
from zerotrust.http.ping import answer_body
from zerotrust.net.name_lookup import NameLookup
from zerotrust.net.timed_request import TimedAttempt

pytestmark = pytest.mark.anyio

ROOT, OTHER = b"r" * 32, b"o" * 32


def pong(head: str, *, root: bytes = ROOT, lines: bytes = b"", ahead: float = 0.0) -> bytes:
    """Answer pings as a server of 0Trust does, and other requests with 200."""
    nonce = re.search(r"/\.0trust/ping\?nonce=([0-9a-f]{32})", head)
    host = re.search(r"Host: ([^\s:]+)", head)
    if nonce is None or host is None:
        return OK
    body = answer_body([root], host[1], nonce[1].encode(), lines=lines, unix_time=ahead)
    return status(200, body=body)


def checks(answer: HostAnswer, *, outside: bool = True) -> list[tuple[str, str]]:
    return [(one.check, one.level) for one in judge_host(answer, outside=outside)]


def host(*answers: AddressAnswer, name: str = "app.example.com", error: str = "") -> HostAnswer:
    lookup = NameLookup(addresses=tuple(one.address for one in answers), error=error)
    return HostAnswer(host=name, port=443, lookup=lookup, answers=answers)


OURS = AddressAnswer(address="192.0.2.1", outcome="ours")
ELSEWHERE = AddressAnswer(
    address="2001:db8::7", outcome="other", note="2001:db8::7 answers the ping with status 404"
)
SILENT = AddressAnswer(address="192.0.2.9", outcome="silent", note="192.0.2.9: connection refused")
NO_CERTIFICATE = AddressAnswer(
    address="192.0.2.9", outcome="silent", note="192.0.2.9: TLS: tlsv1 alert internal error"
)


def test_a_name_that_leads_here_is_well() -> None:
    assert checks(host(OURS)) == []


@pytest.mark.parametrize(
    ("answer", "outside", "expected"),
    [
        (host(error="name or service not known"), True, [("dns.no_address", "broken")]),
        (host(OURS, ELSEWHERE), True, [("dns.stray_address", "broken")]),
        (host(OURS, SILENT), False, [("dns.stray_address", "broken")]),
        (host(ELSEWHERE), True, [("dns.elsewhere", "broken")]),
        (host(ELSEWHERE, SILENT), False, [("dns.elsewhere", "broken")]),
        (host(SILENT), True, [("dns.silent", "broken")]),
        (host(SILENT), False, [("dns.unknown", "warning")]),
        (host(NO_CERTIFICATE), False, [("dns.no_certificate", "broken")]),
    ],
)
def test_names_that_lead_elsewhere(
    answer: HostAnswer, outside: bool, expected: list[tuple[str, str]]
) -> None:
    assert checks(answer, outside=outside) == expected


def test_the_record_to_correct_is_named() -> None:
    (finding,) = judge_host(host(OURS, ELSEWHERE), outside=True)
    assert finding.fix == "correct or remove this AAAA record"
    assert "2001:db8::7" in finding.what
    (finding,) = judge_host(host(OURS, SILENT), outside=True)
    assert finding.fix == "correct or remove this A record"


def test_a_proxy_in_front_and_a_certificate_that_browsers_refuse() -> None:
    proxied = AddressAnswer(address="192.0.2.1", outcome="ours", proxies=("cf-ray", "cdn-loop"))
    assert checks(host(proxied)) == [("dns.proxy", "warning")]
    reason = "certificate not trusted: certificate has expired"
    expired = AddressAnswer(address="192.0.2.1", outcome="ours", untrusted=reason)
    assert checks(host(expired)) == [("dns.certificate", "broken")]
    # Caddy's own authority certifies these names, and no browser trusts it by itself.
    assert checks(host(expired, name="nas.internal")) == []


@pytest.mark.parametrize(
    ("name", "private"),
    [
        ("localhost", True),
        ("nas", True),
        ("a.b.localhost", True),
        ("x.home.arpa", True),
        ("arpa", True),
        ("app.example.com", False),
        ("internal.example.com", False),
    ],
)
def test_private_names(name: str, private: bool) -> None:
    assert is_private(name) is private


async def test_a_real_ping(tmp_path: Path) -> None:
    authority = ForeignCertificate.root("Test CA")
    issued = authority.issue("app", dns=("app.localhost",))
    tls = server_tls(issued, tmp_path)
    async with scripted(lambda head: pong(head, lines=b"CF-Ray: 1\r\n"), tls=tls) as port:
        answer = await ask_host(
            "app.localhost", port=port, tls=trusting(authority), roots=[OTHER, ROOT]
        )
        strange = await ask_host("app.localhost", port=port, tls=trusting(authority), roots=[OTHER])
    (ours,) = [one for one in answer.answers if one.outcome == "ours"]
    assert (ours.untrusted, ours.proxies) == ("", ("cf-ray",))
    assert [one.note for one in strange.answers if one.outcome == "other"] == [
        "127.0.0.1 is a server of 0Trust with another authority"
    ]


async def test_other_web_servers_and_closed_ports() -> None:
    async with scripted(lambda _: status(404, "Server: nginx")) as port:
        other = await ask_host("127.0.0.1", port=port, tls=None, roots=[ROOT])
    assert other.answers[0].note == "127.0.0.1 answers the ping with status 404 by nginx"
    closed = await ask_host("127.0.0.1", port=closed_port(), tls=None, roots=[ROOT])
    assert (closed.answers[0].outcome, closed.answers[0].note) == (
        "silent",
        "127.0.0.1: connection refused",
    )
    nowhere = await ask_host("none.invalid", port=443, tls=None, roots=[ROOT], step_timeout=5)
    assert nowhere.answers == ()


def test_the_clock_of_the_server() -> None:
    body = answer_body([ROOT], "a", b"0" * 32, lines=b"", unix_time=1060.0)
    course = TimedAttempt(status=200, body=body, seconds={"http": 2.0})
    answer = read_ping(course, "a", b"0" * 32, address="x", roots=[ROOT], now=1000.0)
    assert answer.ahead == pytest.approx(61.0)
