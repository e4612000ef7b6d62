"""Tests of zerotrust.server.identity.enrollment_api, over real TLS."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from tests.support.agent_listener import TOKEN, AgentListenerFixture, running_listener
from tests.support.authorities import ForeignCertificate, now
from tests.support.tunnel import HELLO, message
from tests.support.waiting import eventually
from zerotrust.errors import CsrRefused, PkiError, TokenExpired
from zerotrust.net.tunnel import TunnelLink
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.pki import ca_directory, csr
from zerotrust.pki.issuer import ServerNames
from zerotrust.server.identity import enrollment_api
from zerotrust.tunnel.codes import ALPN, FrameType
from zerotrust.tunnel.session import Phase, SessionOptions

pytestmark = pytest.mark.anyio

HTTP = "http/1.1"
GREETING = message(FrameType.HELLO, HELLO)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


def post(body: Any) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {enrollment_api.JOIN} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length:"
        f" {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def parsed(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.count(b"\r\nDate: ") == 1
    return int(head.split()[1]), json.loads(body)


def agent_of(listener: AgentListenerFixture, name: str = "home") -> tuple[Path, Path]:
    made = ca_directory.issue_agent(listener.folder, name)
    return made.certificate, made.key


@pytest.mark.parametrize("alpn", [(ALPN,), (ALPN, HTTP), (), ("h2",)])
@pytest.mark.parametrize("data", [GREETING, get(enrollment_api.AUTHORITY)])
async def test_without_a_certificate_there_is_no_session(
    tmp_path: Path, alpn: tuple[str, ...], data: bytes
) -> None:
    async with running_listener(tmp_path) as listener:
        with capture_logs() as logs:
            assert await listener.says(listener.client(*alpn), data) == b""
            await eventually(lambda: logs, "the refusal is logged")
    assert [(line["event"], line["reason"]) for line in logs] == [
        ("agent refused", "no certificate; an agent gets one with 0trust agent join")
    ]


async def test_at_the_desk_frames_of_the_tunnel_are_not_understood(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        answer = await listener.says(listener.client(HTTP), GREETING)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert not list(listener.registry.sessions)


async def test_a_link_that_finds_no_certificate_makes_no_session() -> None:
    """Last line of defence: the link itself checks the peer's certificate."""

    class Tls:
        def __init__(self, certificate: bytes | None) -> None:
            self.certificate = certificate

        def selected_alpn_protocol(self) -> str:
            return ALPN

        def getpeercert(self, binary_form: bool) -> bytes | None:
            assert binary_form
            return self.certificate

    class Transport(asyncio.Transport):
        def __init__(self, certificate: bytes | None) -> None:
            super().__init__({"ssl_object": Tls(certificate)})
            self.aborted = False

        def set_write_buffer_limits(
            self, high: int | None = None, low: int | None = None
        ) -> None: ...

        def abort(self) -> None:
            self.aborted = True

    class Sink:
        def __init__(self) -> None:
            self.over: list[str] = []

        def closed(self, code: object, reason: str) -> None:
            self.over.append(reason)

    for certificate, lives in ((None, False), (b"", False), (b"DER", True)):
        sink, transport = Sink(), Transport(certificate)
        link = TunnelLink(
            WriteCoalescer(asyncio.get_running_loop()),
            dialer=False,
            sink=sink,  # type: ignore[arg-type]
            options=SessionOptions(),
            session_id="0" * 32,
        )
        link.connection_made(transport)
        assert transport.aborted is not lives
        assert (link.session.phase is Phase.CLOSED) is not lives
        assert sink.over == ([] if lives else ["the peer has no certificate"])
        assert link.peer_certificate == (certificate or b"")
        link.connection_lost(None)


@pytest.mark.parametrize(("enrollment", "limited"), [(True, False), (False, False), (True, True)])
async def test_an_agent_with_a_certificate_gets_its_session(
    tmp_path: Path, enrollment: bool, limited: bool
) -> None:
    """An issuer limited to server names may still issue agent ids, which are not host names."""
    async with running_listener(tmp_path, enrollment=enrollment, limited=limited) as listener:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            listener.port,
            ssl=listener.client(ALPN, credentials=agent_of(listener, "pi.hole.lan")),
        )
        writer.write(GREETING)
        async with asyncio.timeout(10):
            assert (await reader.readexactly(1))[0] == FrameType.WELCOME
        assert [session.agent for session in listener.registry.sessions] == ["pi.hole.lan"]
        writer.close()


async def test_who_has_a_certificate_has_no_business_at_the_desk(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        with capture_logs() as logs:
            context = listener.client(HTTP, credentials=agent_of(listener))
            assert await listener.says(context, get(enrollment_api.AUTHORITY)) == b""
            await eventually(lambda: logs, "the refusal is logged")
    assert logs[0]["reason"] == "the peer does not speak 0trust/1"


@pytest.mark.parametrize("alpn", [ALPN, HTTP])
@pytest.mark.parametrize("kind", ["foreign", "ended", "server"])
async def test_a_bad_certificate_is_worse_than_none(tmp_path: Path, alpn: str, kind: str) -> None:
    async with running_listener(tmp_path) as listener:
        if kind == "foreign":
            credentials = ForeignCertificate.root().issue("home").store(tmp_path, "foreign")
        elif kind == "ended":
            root = ForeignCertificate(
                listener.one_token.issuer.certificate, listener.one_token.issuer.key
            )
            credentials = root.issue("home", end=now()).store(tmp_path, "ended")
        else:
            credentials = tmp_path / "localhost.crt", tmp_path / "localhost.key"
        with capture_logs() as logs:
            assert (
                await listener.says(
                    listener.client(alpn, credentials=credentials), get(enrollment_api.AUTHORITY)
                )
                == b""
            )
            await eventually(lambda: logs, "the refusal is logged")
    assert "certificate not trusted" in logs[0]["reason"]


async def test_without_enrollment_the_handshake_refuses(tmp_path: Path) -> None:
    async with running_listener(tmp_path, enrollment=False) as listener:
        with capture_logs() as logs:
            for alpn in (HTTP, ALPN):
                assert (
                    await listener.says(listener.client(alpn), get(enrollment_api.AUTHORITY)) == b""
                )
            await eventually(lambda: len(logs) == 2, "the refusals are logged")
    assert {line["reason"] for line in logs} == {"TLS: peer did not return a certificate"}


async def test_the_authority_for_all_and_a_certificate_for_who_has_the_token(
    tmp_path: Path,
) -> None:
    async with running_listener(tmp_path) as listener:
        root = (
            await listener.says(listener.client(HTTP), get(enrollment_api.AUTHORITY))
        ).partition(b"\r\n\r\n")[2]
        assert root == (tmp_path / "ca.crt").read_bytes()
        asked = csr.create()
        body = {"token": TOKEN, "csr": asked.pem.decode()}
        status, said = parsed(await listener.says(listener.client(HTTP), post(body)))
        assert status == 200
        assert said["agent"] == "home"
        assert said["hosts"] == ["pihole.example.com", "*.lab.example.com"]
        assert said["authority"].encode() == root
        leaf = x509.load_pem_x509_certificate(said["certificate"].encode())
        assert leaf.public_key() == asked.key.public_key()
        assert listener.one_token.asked == [(TOKEN, "127.0.0.1")]
        status, said = parsed(await listener.says(listener.client(HTTP), post(body)))
        assert (status, said["code"]) == (410, "token_used")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"token": TOKEN},
        {"csr": "x"},
        {"token": "", "csr": "x"},
        {"token": 1, "csr": "x"},
        {"token": TOKEN, "csr": ["x"]},
        {"token": "x" * 513, "csr": "x"},
        {"token": TOKEN, "csr": "x" * 8193},
        {"token": "ü", "csr": "x"},
        {"token": "\ud800", "csr": "x"},
        b"{",
        b"[]",
        b'{"token":' * 3000,
    ],
)
async def test_what_is_no_request_does_not_reach_the_enrollment(tmp_path: Path, body: Any) -> None:
    async with running_listener(tmp_path) as listener:
        status, _ = parsed(await listener.says(listener.client(HTTP), post(body)))
        assert status == 400
        assert not listener.one_token.asked


async def test_refusals_are_told_and_faults_of_ours_are_not(tmp_path: Path) -> None:
    body = {"token": TOKEN, "csr": csr.create().pem.decode()}
    async with running_listener(tmp_path) as listener:
        for failure, status, code, told in (
            (TokenExpired("the token has expired"), 410, "token_expired", "the token has expired"),
            (CsrRefused("weak"), 400, "csr_refused", "weak"),
            (
                PkiError("/etc/0trust/issuer.key: gone"),
                503,
                "bad_call",
                "the server cannot issue certificates",
            ),
            (RuntimeError("detail"), 500, "internal", "internal error"),
        ):
            listener.one_token.failure = failure
            with capture_logs() as logs:
                got, said = parsed(await listener.says(listener.client(HTTP), post(body)))
            assert (got, said["code"]) == (status, code)
            assert told in said["error"]
            assert "/etc" not in said["error"] and "detail" not in said["error"]
            assert len(logs) == 1
            assert TOKEN not in repr(logs)


async def test_bodies_are_bounded(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        answer = await listener.says(listener.client(HTTP), post(b" " * (64 * 1024 + 1)))
        assert answer.startswith(b"HTTP/1.1 413 ")
        endless = (
            b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            % enrollment_api.JOIN.encode()
        )
        answer = await listener.says(
            listener.client(HTTP), endless + (b"1000\r\n" + b" " * 4096 + b"\r\n") * 17
        )
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert not listener.one_token.asked


@pytest.mark.parametrize(
    "target",
    ["/", "/x", "//[", "//[::1", enrollment_api.JOIN, enrollment_api.AUTHORITY + "/", "/%2e"],
)
async def test_there_is_nothing_else(tmp_path: Path, target: str) -> None:
    async with running_listener(tmp_path) as listener:
        status, _ = parsed(await listener.says(listener.client(HTTP), get(target)))
        assert status == (405 if target == enrollment_api.JOIN else 404)


async def test_one_question_a_connection(tmp_path: Path) -> None:
    """Otherwise a stranger could occupy the loop for as long as one connection lasts."""
    async with running_listener(tmp_path) as listener:
        asked = get(enrollment_api.AUTHORITY).replace(b"Connection: close\r\n", b"")
        said = await listener.says(listener.client(HTTP), asked * 1000)
        assert said.count(b"HTTP/1.1 200 OK") == 1
        assert b"Connection: close" in said


async def test_connections_of_one_network_and_in_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrollment_api, "MAX_OF_NETWORK", 3)
    async with running_listener(tmp_path) as listener:
        held = [
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=listener.client(HTTP))
            for _ in range(3)
        ]
        desk = listener.enrollment
        assert desk is not None
        await eventually(lambda: desk.connections == 3, "three are open")
        with capture_logs() as logs:
            assert await listener.says(listener.client(HTTP), get(enrollment_api.AUTHORITY)) == b""
            await eventually(lambda: logs, "the refusal is logged")
        assert "too many connections" in logs[0]["reason"]
        # Others are not shut out by one network, until the desk is full.
        assert not isinstance(desk.accept("192.0.2.7"), str)
        monkeypatch.setattr(enrollment_api, "MAX_CONNECTIONS", 3)
        assert desk.accept("192.0.2.7") == "too many connections without a certificate"
        monkeypatch.undo()
        held.pop()[1].close()
        await eventually(lambda: desk.connections == 2, "one has gone")
        assert await listener.says(listener.client(HTTP), get(enrollment_api.AUTHORITY))
        for _, writer in held:
            writer.close()
        agent = listener.client(ALPN, credentials=agent_of(listener))
        monkeypatch.setattr(enrollment_api, "MAX_CONNECTIONS", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=agent)
        writer.write(GREETING)
        async with asyncio.timeout(10):
            assert (await reader.readexactly(1))[0] == FrameType.WELCOME
        writer.close()


async def test_who_says_nothing_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrollment_api, "LIFE", 0.1)
    async with running_listener(tmp_path) as listener:
        for data in (b"", b"GET / HTTP/1.1\r\n", post(b"{}")[:-1]):
            assert await listener.says(listener.client(HTTP), data) == b""
        desk = listener.enrollment
        assert not desk.connections


async def test_the_certificates_can_be_renewed(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        ca_directory.issue_server(tmp_path, "localhost", ServerNames(ip=["127.0.0.1"]), force=True)
        listener.agent_listener.reconfigure(listener.context())
        assert await listener.says(listener.client(HTTP), get(enrollment_api.AUTHORITY))
        assert await listener.says(listener.client(ALPN), GREETING) == b""


async def test_an_authority_can_come_and_go(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=listener.client(HTTP)
        )
        await eventually(lambda: listener.enrollment.connections, "somebody is at the desk")
        # The handshake may still be with the context from before.
        listener.enrollment.reconfigure(None)
        with capture_logs() as logs:
            assert await listener.says(listener.client(HTTP), get(enrollment_api.AUTHORITY)) == b""
            await eventually(lambda: logs, "the refusal is logged")
        assert logs[0]["reason"] == "no certificate, and this server issues none"
        writer.write(post({"token": TOKEN, "csr": "x"}))
        async with asyncio.timeout(10):
            assert b"HTTP/1.1 503 " in await reader.read()
        writer.close()
        listener.enrollment.reconfigure(listener.one_token)
        assert await listener.says(listener.client(HTTP), get(enrollment_api.AUTHORITY))


def test_only_one_place_lets_clients_without_certificate_through_the_handshake() -> None:
    source = Path(enrollment_api.__file__).parents[2]
    assert [path.name for path in source.rglob("*.py") if "CERT_OPTIONAL" in path.read_text()] == [
        "tls.py"
    ]
