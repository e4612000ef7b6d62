"""Tests of zerotrust.doctor.server_address: judgements, and real TLS."""

import ssl
from pathlib import Path

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.backends import UnresponsivePort
from tests.support.ports import closed_port
from tests.support.scripted_server import scripted, server_tls, status, trusting
from tests.unit.doctor.test_public_names import ROOT, pong
from zerotrust.doctor.public_names import AddressAnswer
from zerotrust.doctor.server_address import ServerWay, WayAnswer, ask_server, judge_way
from zerotrust.net.name_lookup import NameLookup
from zerotrust.net.timed_request import TimedAttempt

pytestmark = pytest.mark.anyio

AUTHORITY = ForeignCertificate.root("Home CA")
WAY = ServerWay(
    host="tunnel.example.com",
    port=8443,
    server_name="tunnel.example.com",
    web_host="tunnel.example.com",
    web_port=443,
    web_name="tunnel.example.com",
)
FOUND = NameLookup(addresses=("192.0.2.1",))
BY_WEB = AddressAnswer(address="192.0.2.1", outcome="ours")
REFUSED = TimedAttempt(failed_at="tcp", error="connection refused")
LATE = TimedAttempt(failed_at="tcp", error="no answer within 5 s", timed_out=True)
RESET = TimedAttempt(failed_at="tls", error="connection reset")


def checks(answer: WayAnswer) -> list[tuple[str, str]]:
    return [(one.check, one.level) for one in judge_way(answer)]


def way(**changes: object) -> ServerWay:
    values = {name: getattr(WAY, name) for name in WAY.__slots__}
    return ServerWay(**{**values, **changes})


def answer(**changes: object) -> WayAnswer:
    return WayAnswer(**{"way": WAY, "lookup": FOUND, **changes})  # type: ignore[arg-type]


def untrusted(reason: str) -> TimedAttempt:
    return TimedAttempt(untrusted=f"certificate not trusted: {reason}", certificate=b"")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(direct=TimedAttempt()), []),
        (answer(lookup=NameLookup(error="unknown")), [("server.no_address", "broken")]),
        (answer(way=way(proxied=True), lookup=NameLookup()), []),
        (answer(direct=REFUSED), [("server.port_closed", "broken")]),
        (answer(direct=LATE), [("server.port_silent", "broken")]),
        (answer(direct=LATE, web=BY_WEB), [("server.port_silent", "warning")]),
        (
            answer(way=way(transport="direct"), direct=LATE, web=BY_WEB),
            [("server.port_silent", "broken")],
        ),
        (answer(direct=RESET, plain=TimedAttempt()), [("server.alpn", "broken")]),
        (answer(direct=RESET, plain=RESET), [("server.tls", "broken")]),
        (answer(direct=RESET), [("server.tls", "broken")]),
        (
            answer(direct=untrusted("Hostname mismatch, not valid for 'x'")),
            [("server.name", "broken")],
        ),
        (
            answer(direct=untrusted("certificate has expired")),
            [("server.certificate_time", "broken")],
        ),
        (
            answer(direct=untrusted("certificate is not yet valid")),
            [("server.certificate_time", "broken")],
        ),
        (
            answer(direct=untrusted("unable to get local issuer certificate")),
            [("server.authority", "broken")],
        ),
        (answer(way=way(transport="websocket"), web=BY_WEB), []),
        (answer(way=way(transport="websocket")), [("server.no_web_server", "broken")]),
        (
            answer(
                way=way(transport="websocket"),
                web=AddressAnswer(address="x", outcome="other", note="status 404"),
            ),
            [("server.no_web_server", "broken")],
        ),
    ],
)
def test_judgements(given: WayAnswer, expected: list[tuple[str, str]]) -> None:
    assert checks(given) == expected


def test_the_way_by_the_web_server_is_named() -> None:
    (finding,) = judge_way(answer(direct=LATE, web=BY_WEB))
    assert finding.what == (
        "tunnel.example.com:8443 does not answer; the agent goes through port 443 instead"
    )


def local(port: int, **changes: object) -> ServerWay:
    values = {"host": "localhost", "port": port, "server_name": "localhost"}
    web = {"web_host": "localhost", "web_port": closed_port(), "web_name": "localhost"}
    return way(**{**values, **web, **changes})


async def ask(asked: ServerWay, tls: ssl.SSLContext | None = None) -> WayAnswer:
    tls = tls or trusting(AUTHORITY)
    return await ask_server(asked, tls=tls, roots=[ROOT], now=0.0, step_timeout=1)


async def test_a_server_that_is_well_and_the_time_of_its_clock(tmp_path: Path) -> None:
    issued = AUTHORITY.issue("server", dns=("localhost",))
    dated = status(200, "Date: Thu, 01 Jan 1970 00:02:00 GMT")
    async with scripted(lambda _: dated, tls=server_tls(issued, tmp_path)) as port:
        found = await ask(local(port))
        assert checks(found) == []
        assert found.ahead == 120.0
        strange = await ask(local(port), ssl.create_default_context())
    (finding,) = judge_way(strange)
    assert finding.check == "server.authority"
    assert "a certificate for localhost by Home CA" in finding.seen


@pytest.mark.slow
async def test_closed_silent_and_plain_ports() -> None:
    assert checks(await ask(local(closed_port()))) == [("server.port_closed", "broken")]
    hole = UnresponsivePort()
    assert checks(await ask(local(hole.port))) == [("server.port_silent", "broken")]
    hole.close()
    async with scripted(lambda _: b"") as port:
        assert checks(await ask(local(port))) == [("server.tls", "broken")]
    nowhere = local(1, host="none.invalid")
    assert checks(await ask(nowhere)) == [("server.no_address", "broken")]


async def test_a_tls_middlebox_that_does_not_know_our_alpn(tmp_path: Path) -> None:
    tls = server_tls(AUTHORITY.issue("box", dns=("localhost",)), tmp_path)
    tls.set_alpn_protocols(["http/1.1"])
    ours = trusting(AUTHORITY)
    # Without a common protocol OpenSSL goes on, so this client ends the handshake itself.
    ours.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    async with scripted(lambda _: status(200), tls=tls) as port:
        assert checks(await ask(local(port), ours)) == [("server.alpn", "broken")]


async def test_the_way_by_the_web_server(tmp_path: Path) -> None:
    tls = server_tls(AUTHORITY.issue("web", dns=("localhost",)), tmp_path)
    async with scripted(pong, tls=tls) as port:
        found = await ask(local(closed_port(), web_port=port))
        assert checks(found) == [("server.port_closed", "warning")]
        only = await ask(local(closed_port(), web_port=port, transport="websocket"))
        assert checks(only) == []
        lost = await ask(local(closed_port(), web_host="none.invalid", transport="websocket"))
        assert checks(lost) == [("server.no_web_server", "broken")]
