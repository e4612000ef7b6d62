"""Tests of zerotrust.doctor.backend_checks: each broken backend, with real sockets."""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.backends import UnresponsivePort
from tests.support.ports import closed_port
from tests.support.scripted_server import OK, SWITCHED, scripted, server_tls, status, trusting
from zerotrust.doctor import backend_checks
from zerotrust.doctor.backend_checks import UpstreamAnswer, ask_all, judge_upstream
from zerotrust.model.doctor import Finding
from zerotrust.model.service import Service
from zerotrust.model.upstream import UpstreamEndpoint
from zerotrust.net.name_lookup import NameLookup
from zerotrust.net.timed_request import TimedAttempt

pytestmark = pytest.mark.anyio

AUTHORITY = ForeignCertificate.root("Home CA")
HOST = "app.example.com"


async def findings(
    backend: str | int, *, tls: ssl.SSLContext | None = None, **keys: Any
) -> list[Finding]:
    address = backend if isinstance(backend, str) else f"127.0.0.1:{backend}"
    given = {"id": "web", "hostname": HOST, "backend": address, **keys}
    service = Service.model_validate(given)
    contexts = {"web": tls or trusting(AUTHORITY)}
    answers = await ask_all([service], contexts, step_timeout=1)
    return [finding for answer in answers for finding in judge_upstream(answer)]


async def checks(backend: str | int, **keys: Any) -> list[str]:
    return [one.check for one in await findings(backend, **keys)]


def host_of(head: str) -> str:
    return str(re.findall(r"Host: (\S+)", head)[0])


def is_upgrade(head: str) -> bool:
    return "Upgrade: websocket" in head


async def test_backends_that_are_well() -> None:
    async with scripted(lambda head: SWITCHED if is_upgrade(head) else OK) as port:
        assert await checks(port) == []
        assert await checks(port, hostname="*.example.com") == []
    async with scripted(lambda _: status(401)) as port:
        assert await checks(port) == []
    async with scripted(lambda _: status(302, "Location: /login")) as port:
        assert await checks(port, origin="upstream", host_header="upstream") == []


@pytest.mark.slow
async def test_a_backend_that_is_down() -> None:
    port = closed_port()
    (finding,) = await findings(port)
    assert str(finding) == (
        f"backend 127.0.0.1:{port} of service web is not reachable (connection refused); start it,"
        " and check the address in the agent's file"
    )
    hole = UnresponsivePort()
    (finding,) = await findings(hole.port)
    hole.close()
    assert "firewall" in finding.fix
    assert await checks("none.invalid:80") == ["backend.no_address"]


async def test_a_unix_socket(tmp_path: Path) -> None:
    assert await checks(f"unix:{tmp_path}/no.sock") == ["backend.unreachable"]


@pytest.fixture
def has_ipv6() -> None:
    with contextlib.closing(socket.socket(socket.AF_INET6)) as tried:
        try:
            tried.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")


async def test_the_other_address_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(_host: str, *, lookup_timeout: float) -> NameLookup:
        assert lookup_timeout
        return NameLookup(addresses=("127.0.0.1", "127.0.0.2"))

    monkeypatch.setattr(backend_checks, "look_up", look_up)
    async with scripted(lambda _: OK, host="127.0.0.2") as port:
        (finding,) = await findings(f"nas.home.arpa:{port}")
    assert finding.fix.startswith(f'write "127.0.0.2:{port}" as its address')


@pytest.mark.parametrize(("found", "family"), [("::1", "IPv6"), ("192.0.2.1", "IPv4")])
def test_words_for_one_ip_family(found: str, family: str) -> None:
    answer = UpstreamAnswer(
        service="web",
        address="localhost:80",
        endpoint=UpstreamEndpoint("localhost", 80, secured=False),
        lookup=NameLookup(addresses=("127.0.0.1",)),
        get=TimedAttempt(failed_at="tcp", error="connection refused"),
        other_family=found,
    )
    (finding,) = judge_upstream(answer)
    assert finding.what == f"backend localhost:80 of service web listens on {family} only"


@pytest.mark.parametrize(("listens", "written"), [("::1", "127.0.0.1"), ("127.0.0.1", "[::1]")])
async def test_a_backend_with_one_ip_family(has_ipv6: None, listens: str, written: str) -> None:
    async with scripted(lambda _: OK, host=listens) as port:
        (finding,) = await findings(f"{written}:{port}")
    assert finding.check == "backend.ip_family"
    literal = f"[{listens}]" if ":" in listens else listens
    assert finding.fix.startswith(f'write "{literal}:{port}" as its address')


@pytest.mark.slow
async def test_the_wrong_scheme(tmp_path: Path) -> None:
    issued = AUTHORITY.issue("app", dns=(HOST,), ip=("127.0.0.1",))
    async with scripted(lambda _: OK, tls=server_tls(issued, tmp_path)) as port:
        assert await checks(f"https://127.0.0.1:{port}") == []
        (finding,) = await findings(port)
    assert finding.check == "backend.scheme"
    assert finding.fix == f'write "https://127.0.0.1:{port}" as its address'
    async with scripted(lambda _: OK) as port:
        (finding,) = await findings(f"https://127.0.0.1:{port}")
    assert finding.fix == f'write "http://127.0.0.1:{port}" as its address'


@contextlib.asynccontextmanager
async def nginx_with_tls(folder: Path) -> AsyncIterator[int]:
    """Yield the port of a server that answers 400 to plain requests at its TLS port."""
    issued = AUTHORITY.issue("app", ip=("127.0.0.1",))
    async with scripted(lambda _: OK, tls=server_tls(issued, folder)) as secured:

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = await reader.read(1)
            if first != b"\x16":
                writer.write(status(400))
                writer.close()
                return
            inner, out = await asyncio.open_connection("127.0.0.1", secured)
            out.write(first)

            async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(pipe(reader, out), pipe(inner, writer), return_exceptions=True)

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()


async def test_plain_http_to_a_port_that_says_so(tmp_path: Path) -> None:
    async with nginx_with_tls(tmp_path) as port:
        (finding,) = await findings(port)
    assert (finding.check, finding.seen) == ("backend.scheme", "with plain http: status 400")


async def test_certificates(tmp_path: Path) -> None:
    issued = AUTHORITY.issue("app", dns=("inside.example.com",))
    async with scripted(lambda _: OK, tls=server_tls(issued, tmp_path)) as port:
        address = f"https://127.0.0.1:{port}"
        (finding,) = await findings(address)
        assert (finding.check, finding.fix[:20]) == ("backend.certificate", "set tls.server_name ")
        (finding,) = await findings(address, tls=ssl.create_default_context())
        assert finding.fix.startswith("set tls.ca_file")
        named = {"server_name": "inside.example.com"}
        service = Service.model_validate(
            {"id": "web", "hostname": HOST, "backend": address, "tls": named}
        )
        answers = await ask_all([service], {"web": trusting(AUTHORITY)}, step_timeout=1)
        assert [*judge_upstream(answers[0])] == []


@pytest.mark.slow
async def test_a_port_without_http() -> None:
    async with scripted(lambda _: b"SSH-2.0-OpenSSH\r\n\r\n") as port:
        assert await checks(port) == ["backend.no_http"]


async def test_a_backend_that_knows_its_own_host_alone() -> None:
    def script(head: str) -> bytes:
        return OK if host_of(head).startswith("127.0.0.1") else status(421)

    async with scripted(script) as port:
        (finding,) = await findings(port)
        assert await checks(port, host_header="upstream") == []
    assert (finding.check, finding.fix) == (
        "backend.host",
        "set host_header: upstream in the service",
    )


@pytest.mark.slow
async def test_home_assistant_without_trusted_proxies() -> None:
    def script(head: str) -> bytes:
        return status(400) if "X-Forwarded-For" in head else OK

    async with scripted(script) as port:
        (finding,) = await findings(port)
    assert finding.check == "backend.trusted_proxies"
    assert "trusted_proxies: [ADDRESS OF THE AGENT]" in finding.fix


async def test_a_backend_with_an_error() -> None:
    async with scripted(lambda _: status(503)) as port:
        (finding,) = await findings(port)
    assert (finding.check, finding.level) == ("backend.error", "warning")


async def test_websockets_that_need_their_own_origin() -> None:
    def script(head: str) -> bytes:
        if not is_upgrade(head) or not head.startswith("GET /api/websocket "):
            return OK
        own = f"Origin: http://{host_of(head)}\r\n"
        return SWITCHED if own in head and "127.0.0.1" in own else status(403)

    async with scripted(script) as port:
        (finding,) = await findings(port)
        assert (finding.check, "/api/websocket status 403" in finding.seen) == (
            "backend.websocket_origin",
            True,
        )
        assert await checks(port, origin="upstream", host_header="upstream") == []


async def test_websockets_that_the_service_refuses() -> None:
    def script(head: str) -> bytes:
        return SWITCHED if is_upgrade(head) and head.startswith("GET /ws ") else OK

    async with scripted(script) as port:
        (finding,) = await findings(port, websocket=False)
    assert (finding.check, finding.level) == ("backend.websocket_off", "warning")
    assert "101 at /ws" in finding.seen


async def test_services_whose_tls_files_are_broken_are_left_out() -> None:
    service = Service.model_validate({"hostname": HOST, "backend": "127.0.0.1:1"})
    assert await ask_all([service], {}) == []
