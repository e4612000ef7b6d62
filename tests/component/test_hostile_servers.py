"""Tests of agents against servers without a key, or with the server's stolen key.

The agent is a real process; the test plays its server over real TLS.
"""

import asyncio
import contextlib
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support.authorities import ForeignCertificate
from tests.support.bad_certificates import BadCertificateIssuer
from tests.support.ports import closed_port, free_port
from tests.support.processes import PRODUCT, Process
from tests.support.stack import Authority, service
from tests.support.waiting import eventually
from zerotrust.net.tls import tunnel_server
from zerotrust.pki import keys
from zerotrust.pki.identity import AGENT_URN
from zerotrust.tunnel.codes import ALPN, CAPABILITIES, FrameType
from zerotrust.tunnel.frames import Frame, FrameReader, encode

pytestmark = [pytest.mark.anyio, pytest.mark.component, pytest.mark.timeout(60)]

DAY = datetime.timedelta(days=1)
NO_CLOCK_SHOWS_THIS = "Fri, 31 Dec 9999 23:59:59 +99999999999999999999"
Sign = Callable[[x509.CertificateSigningRequest], bytes]


class Agent:
    """The process of the agent "home", whose certificate began and ends when the test says."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        port: int,
        *,
        begins: datetime.timedelta,
        ends: Any,
    ) -> None:
        forger = BadCertificateIssuer(authority.folder, folder / "agent", root=authority.root)
        self.credentials = forger.certificate(
            "home", name="home", ids=("home",), begins=begins, ends=ends
        )
        config = {
            "server": {
                "address": f"127.0.0.1:{port}",
                "server_name": "localhost",
                "ca_cert": str(authority.root),
                "cert": str(self.credentials.chain),
                "key": str(self.credentials.key),
                "connections": 1,
            },
            "services": [service("app.example", closed_port())],
        }
        path = folder / "agent.yaml"
        path.write_text(json.dumps(config))
        self.process = Process(
            "agent", [PRODUCT, "agent", "run", "--config", path], log=folder / "agent.log"
        )

    def pair(self) -> tuple[bytes, bytes]:
        return self.credentials.chain.read_bytes(), self.credentials.key.read_bytes()


def by_another_authority(csr: x509.CertificateSigningRequest) -> bytes:
    """The right key and name, for ninety years, under the name of the true authority."""
    foreign = ForeignCertificate.root("0Trust CA")
    builder = (
        x509.CertificateBuilder(foreign.certificate.subject, x509.Name([]), csr.public_key(), 1)
        .not_valid_before(datetime.datetime.now(datetime.UTC) - DAY)
        .not_valid_after(datetime.datetime.now(datetime.UTC) + 90 * 365 * DAY)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(AGENT_URN + "home")]),
            critical=True,
        )
    )
    return ForeignCertificate(
        builder.sign(foreign.key, keys.signing_hash(foreign.key)), foreign.key
    ).pem


class Server:
    """A server at the agent's server address: HTTP/1.1 or the tunnel, as the agent asks.

    Attributes:
        sign: signs the certificate of an answer.
        date: the Date field of HTTP answers.
        asked: the request lines of HTTP, and the types of the tunnel's frames.
    """

    def __init__(self, context: ssl.SSLContext, root_pem: bytes, sign: Sign) -> None:
        self._context = context
        self._root_pem = root_pem
        self.sign = sign
        self.date = ""
        self.port = free_port()
        self.asked: list[str | int] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if writer.get_extra_info("ssl_object").selected_alpn_protocol() == ALPN:
                await self._tunnel(reader, writer)
            else:
                await self._http(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.asked.append(head.splitlines()[0])
        fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        body = self._root_pem
        if "content-length" in fields:
            said = json.loads(await reader.readexactly(int(fields["content-length"])))
            body = json.dumps({"agent": "home", "certificate": self._signed(said["csr"])}).encode()
        date = f"Date: {self.date}\r\n" if self.date else ""
        writer.write(
            f"HTTP/1.1 200 OK\r\n{date}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        await writer.drain()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader()
        while data := await reader.read(65536):
            for frame in frames.feed(data):
                self.asked.append(frame[0])
                writer.write(self._answer(frame))

    def _answer(self, frame: Frame) -> bytes:
        kind, _, _, payload = frame
        match kind:
            case FrameType.HELLO:
                said: dict[str, Any] = {
                    "version": 1,
                    "capabilities": list(CAPABILITIES),
                    "software": "hostile/1",
                }
                said |= {"session": "0" * 32, "secret": "0" * 64, "window": 65536, "max_streams": 8}
                return encode(
                    FrameType.WELCOME, 0, 0, json.dumps({**said, "resume_timeout": 60.0}).encode()
                )
            case FrameType.REGISTER:
                service_id = json.loads(bytes(payload))["id"]
                registered = {"id": service_id, "accepted": ["app.example"]}
                return encode(FrameType.REGISTERED, 0, 0, json.dumps(registered).encode())
            case FrameType.RENEW:
                renewed = {"chain": self._signed(json.loads(bytes(payload))["csr"])}
                # The answer to the PING shows that the session has survived.
                return encode(FrameType.RENEWED, 0, 0, json.dumps(renewed).encode()) + encode(
                    FrameType.PING, 0, 0, b"survived"
                )
            case FrameType.GOAWAY:
                return encode(FrameType.GOAWAY, 0, 0, bytes(payload))
            case FrameType.PING:
                return encode(FrameType.PONG, 0, 0, bytes(payload))
        return b""

    def _signed(self, csr: str) -> str:
        return self.sign(x509.load_pem_x509_csr(csr.encode())).decode()


def true_context(authority: Authority) -> ssl.SSLContext:
    """Return a TLS context with the real server's key, as a thief of it would have."""
    certificate, key = authority.server()
    return tunnel_server(
        certificate=str(certificate), key=str(key), authority=str(authority.root), enrollment=True
    )


async def test_a_certificate_that_no_true_server_accepts_changes_nothing(
    tmp_path: Path, authority: Authority
) -> None:
    server = Server(true_context(authority), authority.root.read_bytes(), by_another_authority)
    agent = Agent(tmp_path, authority, server.port, begins=-20 * DAY, ends=DAY)
    before = agent.pair()
    async with server.listening(), agent.process:
        await agent.process.wait_line(
            "certificate not renewed .*not valid under this agent's ca_cert"
        )
        assert agent.pair() == before
        await eventually(lambda: FrameType.PONG in server.asked, "the session goes on")
        assert server.asked.count(FrameType.HELLO) == 1
    assert "Traceback" not in agent.process.text()


@pytest.mark.parametrize("answers", ["date", "certificate"])
async def test_an_agent_whose_certificate_has_expired_dials_on_whatever_it_is_answered(
    tmp_path: Path, authority: Authority, answers: str
) -> None:
    """The date comes from an unauthenticated peer: the agent asks before it knows the server."""
    stranger = Authority(tmp_path / "stranger") if answers == "date" else authority
    server = Server(true_context(stranger), authority.root.read_bytes(), by_another_authority)
    server.date = NO_CLOCK_SHOWS_THIS if answers == "date" else ""
    agent = Agent(
        tmp_path, authority, server.port, begins=-20 * DAY, ends=-datetime.timedelta(hours=1)
    )
    before = agent.pair()
    async with server.listening(), agent.process:
        await agent.process.wait_line(
            "certificate expired and could not be renewed|certificate not renewed"
        )
        for _ in range(2):
            since = agent.process.position()
            await agent.process.wait_line("cannot connect|refused: the server", since=since)
        wanted = "GET" if answers == "date" else "POST"
        assert any(str(one).startswith(wanted) for one in server.asked)
        assert agent.process.is_alive
        assert agent.pair() == before
    log = agent.process.text()
    assert "task failed" not in log and "Traceback" not in log
