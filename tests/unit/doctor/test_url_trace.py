"""Tests of zerotrust.doctor.url_trace: each hop at which a request may end."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.ports import closed_port
from tests.support.scripted_server import OK, SWITCHED, scripted, server_tls, status
from tests.unit.doctor.test_public_names import OTHER, ROOT, pong
from zerotrust.doctor.url_trace import find_fact, parse_url, trace
from zerotrust.errors import CommandError
from zerotrust.model.doctor import DoctorFacts, HostFact, Trace

pytestmark = pytest.mark.anyio

HOPS = ("dns", "tcp", "caddy", "server", "policy", "agent", "upstream", "upgrade")


async def follow(
    answer: bytes = OK,
    *,
    upgraded: bytes = SWITCHED,
    ping: bytes | None = None,
    scheme: str = "http",
    **options: Any,
) -> Trace:
    """Return the trace of a URL whose server answers so."""

    def script(head: str) -> bytes:
        if "/.0trust/ping" in head:
            return pong(head) if ping is None else ping
        return upgraded if "Upgrade: websocket" in head else answer

    async with scripted(script) as port:
        url = parse_url(f"{scheme}://app.localhost:{port}/a b?c=d")
        return await trace(url, step_timeout=1, request_timeout=0.3, **options)


def ended(found: Trace) -> tuple[str | None, str]:
    hops = [hop for hop in found.hops if hop.outcome == "ended"]
    assert all(hop.fix for hop in hops)
    return found.ends_at, hops[0].seen if hops else ""


async def test_a_request_that_reaches_its_backend() -> None:
    found = await follow(roots=[ROOT])
    assert found.ends_at is None
    assert [(hop.name, hop.outcome) for hop in found.hops] == [(name, "passed") for name in HOPS]
    times = {hop.name: hop.milliseconds for hop in found.hops}
    assert all(times[name] is not None for name in ("dns", "tcp", "server", "upgrade"))


@pytest.mark.parametrize(
    ("given", "hop", "seen"),
    [
        ({"ping": status(200, "Server: nginx")}, "caddy", "status 200 by nginx"),
        ({"ping": status(502, "Server: Caddy")}, "server", "status 502 by itself"),
        ({"ping": b""}, "caddy", "no answer within 1 s"),
        ({"roots": [OTHER]}, "server", "another authority"),
        ({"answer": status(404, "X-0Trust-Error: unknown_host")}, "agent", "unknown_host"),
        ({"answer": status(503, "X-0Trust-Error: no_agent")}, "agent", "no_agent"),
        ({"answer": status(401, "X-0Trust-Error: login_required")}, "policy", "login_required"),
        ({"answer": status(403, "X-0Trust-Error: new_code")}, "policy", "new_code"),
        ({"answer": status(502, "X-0Trust-Error: upstream_failed")}, "upstream", "upstream_failed"),
        ({"answer": b""}, "upstream", "no answer within 0.3 s"),
        ({"answer": status(308, "Location: https://app.localhost/")}, "policy", "status 308"),
        (
            {"upgraded": status(403, "X-0Trust-Error: upgrade_refused")},
            "upgrade",
            "status 403 upgrade_refused",
        ),
        ({"upgraded": status(403)}, "upgrade", "status 403"),
        ({"upgraded": b""}, "upgrade", "no answer within 0.3 s"),
        ({"upgraded": status(200), "scheme": "ws"}, "upgrade", "status 200"),
    ],
)
async def test_each_hop_may_end_it(given: dict[str, Any], hop: str, seen: str) -> None:
    ends_at, said = ended(await follow(**given))
    assert ends_at == hop
    assert seen in said


async def test_a_page_without_websockets_is_no_failure() -> None:
    found = await follow(upgraded=OK)
    assert found.ends_at is None
    assert (found.hops[-1].outcome, found.hops[-1].fix[:27]) == (
        "unknown",
        "the backend does not upgrade"[:27],
    )


async def test_an_older_server_does_not_know_the_ping() -> None:
    found = await follow(ping=status(404, "X-0Trust-Error: unknown_host"))
    assert found.ends_at is None
    assert found.hops[3].seen == "answers the ping with unknown_host"


async def test_names_and_ports_that_do_not_answer() -> None:
    found = await trace(parse_url(f"http://127.0.0.1:{closed_port()}/"), step_timeout=1)
    assert ended(found)[0] == "tcp"
    found = await trace(parse_url("none.invalid"), step_timeout=5)
    assert ended(found)[0] == "dns"


async def test_tls(tmp_path: Path) -> None:
    issued = ForeignCertificate.root("Test CA").issue(
        "app", dns=("app.localhost",), ip=("127.0.0.1",)
    )
    async with scripted(pong, tls=server_tls(issued, tmp_path)) as port:
        private = await trace(parse_url(f"https://app.localhost:{port}/"), step_timeout=1)
        public = await trace(parse_url(f"https://127.0.0.1:{port}/"), step_timeout=1)
    assert private.hops[2].seen == "TLSv1.3, a certificate for app.localhost, 127.0.0.1 by Test CA"
    assert private.hops[2].outcome == "passed"
    assert ended(public)[0] == "tls"
    assert "unable to get local issuer certificate" in ended(public)[1]
    async with scripted(lambda _: status(400)) as port:
        url = parse_url(f"https://app.localhost:{port}/")
        plain = await trace(url, step_timeout=0.3)
        assert ended(plain)[0] == "tls"
        nobody = await trace(url, facts=facts(), step_timeout=0.3)
    assert "no agent has registered" in nobody.hops[-1].fix


async def shown_to(
    folder: Path,
    trusts: bool = True,
    scheme: str = "https",
    ping: bytes | None = None,
    **options: Any,
) -> tuple[list[bool], Trace]:
    """Return for each request of a trace whether it shows the token, and the trace."""
    heads: list[str] = []

    def script(head: str) -> bytes:
        heads.append(head)
        if "/.0trust/ping" in head:
            return pong(head) if ping is None else ping
        return SWITCHED if "Upgrade: websocket" in head else OK

    root = ForeignCertificate.root("Test CA")
    issued = root.issue("app", dns=("app.localhost",))
    store = folder / "roots.pem"
    store.write_bytes(root.pem if trusts else ForeignCertificate.root("Other CA").pem)
    tls = server_tls(issued, folder) if scheme == "https" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(store))
        async with scripted(script, tls=tls) as port:
            url = parse_url(f"{scheme}://app.localhost:{port}/")
            found = await trace(url, token="0t_m_x", step_timeout=1, **options)
    return [bool(re.search("Authorization: Bearer 0t_m_x\r\n", one)) for one in heads], found


@pytest.mark.parametrize("roots", [(), (ROOT,)])
async def test_a_token_is_shown_to_a_server_of_0trust(
    roots: tuple[bytes, ...], tmp_path: Path
) -> None:
    shown, found = await shown_to(tmp_path, roots=roots)
    assert shown == [False, True, True]
    assert found.ends_at is None
    assert not any("token" in hop.seen for hop in found.hops)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"trusts": False}, "the certificate is not trusted"),
        ({"scheme": "http"}, "the connection is not encrypted"),
        (
            {"ping": status(404, "X-0Trust-Error: unknown_host")},
            "the answer to the ping is not one of 0Trust",
        ),
        ({"ping": OK}, None),
        ({"roots": (OTHER,)}, None),
    ],
)
async def test_a_token_is_not_shown_to_strangers(
    given: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    shown, found = await shown_to(tmp_path, **given)
    assert shown == [False, False, False]
    if reason is None:  # the trace ends before the request
        assert found.ends_at in ("caddy", "server")
        return
    policy = next(hop for hop in found.hops if hop.name == "policy")
    assert policy.seen == f"lets the request pass; the token was not sent: {reason}"


def facts(*hosts: HostFact) -> DoctorFacts:
    return DoctorFacts(version="1", unix_time=0, descriptors=1, hosts=list(hosts))


async def test_the_agent_is_named_where_the_server_is_known() -> None:
    fact = HostFact(host="*.localhost", agent="home", service="web", round_trip=0.0)
    found = await follow(facts=facts(fact))
    agent = next(hop for hop in found.hops if hop.name == "agent")
    assert (agent.seen, agent.milliseconds) == ("agent home, service web", 0.0)
    slow = HostFact(host="app.localhost", agent="home", service="web", round_trip=60_000.0)
    found = await follow(facts=facts(slow, fact))
    assert next(hop for hop in found.hops if hop.name == "upstream").milliseconds is None


def test_the_registration_of_a_host_name() -> None:
    exact, wide = (HostFact(host=name, agent="a", service="s") for name in ("a.b.c", "*.b.c"))
    assert find_fact(facts(exact, wide), "a.b.c") is exact
    assert find_fact(facts(exact, wide), "x.b.c") is wide
    assert find_fact(facts(exact, wide), "x.c") is None


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("app.example.com", ("app.example.com", 443, "/", True, False)),
        ("http://A.example.com:81/x?y=1", ("a.example.com", 81, "/x?y=1", False, False)),
        ("wss://bücher.example/ü", ("xn--bcher-kva.example", 443, "/%C3%BC", True, True)),
    ],
)
def test_urls(url: str, parts: tuple[Any, ...]) -> None:
    found = parse_url(url)
    assert (found.host, found.port, found.target, found.secured, found.is_websocket) == parts


@pytest.mark.parametrize(
    "url", ["", "ftp://a.example.com", "https://", "https://a:99999", "https://a b/", "http://[::1"]
)
def test_texts_that_are_no_urls(url: str) -> None:
    with pytest.raises(CommandError, match="is no address of a service"):
        parse_url(url)
