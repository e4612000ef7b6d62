"""Tests of zerotrust.agent.join with a real agent listener, an interceptor, other servers."""

import asyncio
import base64
import datetime
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.agent_listener import TOKEN, running_listener
from tests.support.authorities import ForeignCertificate, now
from tests.support.ports import closed_port, free_port
from zerotrust.agent import enrollment_client
from zerotrust.agent import join as joining
from zerotrust.agent.join import JoinResult, join
from zerotrust.errors import JoinError, PkiError
from zerotrust.model.agent import ServerAddress
from zerotrust.pki import csr
from zerotrust.pki.issuer import Issuer, ServerNames
from zerotrust.pki.join_token import JoinToken, fingerprint

pytestmark = pytest.mark.anyio

DIRECT = ServerAddress(transport="direct")


async def joined(line: JoinToken, asked: csr.CertificateRequest | None = None) -> JoinResult:
    return await asyncio.to_thread(join, line, asked or csr.create(), DIRECT)


async def refused(line: JoinToken) -> str:
    with pytest.raises(JoinError) as found:
        await joined(line)
    assert TOKEN not in str(found.value)
    assert "\n" not in str(found.value)
    return str(found.value)


class FakeServer:
    """A TLS server with its own certificate and given answers."""

    def __init__(
        self, root: ForeignCertificate, answer: Callable[[bytes], bytes], *, stays: bool
    ) -> None:
        self._stays = stays
        self.heard = b""
        self.port = free_port()
        self.root = root
        self._answer = answer

    @property
    def line(self) -> JoinToken:
        return JoinToken(
            server=f"localhost:{self.port}",
            secret=TOKEN,
            fingerprint=fingerprint(self.root.certificate),
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heard += head
        for line in head.lower().splitlines():
            if line.startswith(b"content-length:"):
                self.heard += await reader.readexactly(int(line.partition(b":")[2]))
        writer.write(self._answer(head))
        if self._stays:
            await reader.read()
        writer.close()


@asynccontextmanager
async def liar(
    folder: Path,
    answer: Callable[[bytes], bytes],
    *,
    root: ForeignCertificate | None = None,
    leaf: ForeignCertificate | None = None,
    stays: bool = False,
) -> AsyncIterator[FakeServer]:
    root = root or ForeignCertificate.root()
    leaf = leaf or root.issue("localhost", dns=("localhost",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*leaf.store(folder, "liar"))
    speaks = FakeServer(root, answer, stays=stays)
    server = await asyncio.start_server(speaks.serve, "127.0.0.1", speaks.port, ssl=context)
    try:
        yield speaks
    finally:
        server.close()
        await server.wait_closed()


def ok(body: bytes, *, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (len(body), fields) + body


@pytest.mark.parametrize("names", [ServerNames(ip=["127.0.0.1"]), ServerNames(dns=["localhost"])])
async def test_join_returns_a_certificate_for_the_key(tmp_path: Path, names: ServerNames) -> None:
    async with running_listener(tmp_path, names=names) as listener:
        host = "localhost" if names.dns else "127.0.0.1"
        asked = csr.create()
        found = await joined(replace(listener.line, server=f"{host}:{listener.port}"), asked)
        assert (found.agent_id, found.hosts) == (
            "home",
            ("pihole.example.com", "*.lab.example.com"),
        )
        leaf, issuer = x509.load_pem_x509_certificates(found.chain_pem)
        assert leaf.public_key() == asked.key.public_key()
        assert issuer == listener.one_token.issuer.certificate
        assert found.root_pem == (tmp_path / "ca.crt").read_bytes()
        assert found.not_after == leaf.not_valid_after_utc
        assert found.skew is None


async def test_a_used_and_a_wrong_token(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        assert (await refused(replace(listener.line, secret="wrong"))).endswith(
            "refuses: the server knows no such token"
        )
        await joined(listener.line)
        assert (await refused(listener.line)).endswith("refuses: the token has been used already")
        listener.one_token.failure = PkiError("/secret/path")
        assert "cannot issue certificates at the moment" in await refused(listener.line)


async def test_the_pinned_root_is_selected(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        own = listener.one_token.root
        listener.one_token.root = ForeignCertificate.root("Another CA").pem + own
        assert (await joined(listener.line)).root_pem == own


async def test_no_token_is_sent_to_another_authority(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        said = await refused(replace(listener.line, fingerprint="0" * 64))
        assert "has another CA" in said and "the token was not sent" in said
        assert not listener.one_token.asked


async def test_an_interceptor_with_the_genuine_root_gets_no_token(tmp_path: Path) -> None:
    """The root is public, so an interceptor can send it; it has no certificate of it."""
    own = ForeignCertificate.root()
    async with liar(
        tmp_path,
        lambda _head: ok(own.pem),
        leaf=ForeignCertificate.root("FakeServer").issue("x", dns=("localhost",)),
    ) as speaks:
        said = await refused(replace(speaks.line, fingerprint=fingerprint(own.certificate)))
        assert "the connection may be intercepted" in said
        assert TOKEN.encode() not in speaks.heard
        assert b"POST" not in speaks.heard


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    async with running_listener(tmp_path) as listener:
        listener.one_token.used = True
        said = await refused(replace(listener.line, server=f"127.0.0.2:{listener.port}"))
        assert "cannot connect to 127.0.0.2" in said
    other = tmp_path / "other"
    async with running_listener(other, names=ServerNames(dns=["tunnel.example.com"])) as listener:
        line = replace(listener.line, server=f"127.0.0.1:{listener.port}")
        assert 'is not for "127.0.0.1"; use an address that it is for' in await refused(line)
        assert not listener.one_token.asked


@pytest.mark.parametrize("what", ["expired", "not valid yet"])
async def test_the_servers_certificate_and_the_time(tmp_path: Path, what: str) -> None:
    root, hour = ForeignCertificate.root(), datetime.timedelta(hours=1)
    if what == "expired":
        leaf = root.issue("x", dns=("localhost",), end=now() - hour / 2)
    else:
        leaf = root.issue("x", dns=("localhost",), start=now() + hour)
    async with liar(tmp_path, lambda _head: ok(root.pem), root=root, leaf=leaf) as speaks:
        assert what in await refused(speaks.line)
    date = b"Date: Tue, 01 Jan 2030 00:00:00 GMT\r\n"
    async with liar(
        tmp_path, lambda _head: ok(root.pem, fields=date), root=root, leaf=leaf
    ) as speaks:
        assert "this machine's clock is" in await refused(speaks.line)


async def test_clock_skew_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_listener(tmp_path) as listener:
        monkeypatch.setattr(enrollment_client, "MIN_SKEW", datetime.timedelta(days=-1))
        found = await joined(listener.line)
    assert found.skew is not None
    minute = datetime.timedelta(minutes=1)
    assert (
        enrollment_client.clocks(5 * minute)
        == "this machine's clock is 0:05:00 behind the server's; set it"
    )
    assert (
        enrollment_client.clocks(-7 * minute)
        == "this machine's clock is 0:07:00 ahead of the server's; set it"
    )


@pytest.mark.parametrize(
    "date",
    [
        b"Fri, 31 Dec 9999 23:59:59 +99999999999999999999",
        b"Fri, 31 Dec 9999 23:59:59 -2359",
        b"Mon, 01 Jan 0001 00:00:00 +2359",
        b"\xff\xfe",
    ],
)
async def test_an_invalid_date_is_ignored(tmp_path: Path, date: bytes) -> None:
    root, asked = ForeignCertificate.root(), csr.create()
    body = answer_of(root, asked)
    fields = b"Date: " + date + b"\r\n"

    def answer(head: bytes) -> bytes:
        return ok(root.pem if head.startswith(b"GET") else body, fields=fields)

    async with liar(tmp_path, answer, root=root) as speaks:
        assert (await joined(speaks.line, asked)).agent_id == "home"


async def test_an_unreachable_server_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    line = JoinToken(server=f"127.0.0.1:{closed_port()}", secret=TOKEN, fingerprint="0" * 64)
    assert (
        f"cannot connect to {line.server}: connection refused; check the address"
        in await refused(line)
    )
    said = await refused(replace(line, server="does-not-exist.invalid:8443"))
    assert "cannot connect to does-not-exist.invalid:8443: " in said
    monkeypatch.setattr(enrollment_client, "STEP_TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        said = await refused(replace(line, server=f"127.0.0.1:{silent.getsockname()[1]}"))
    assert "does not answer; check the address, and that the port is open" in said


async def test_an_endless_answer_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "DEADLINE", 0.2)
    async with liar(
        tmp_path, lambda _head: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", stays=True
    ) as speaks:
        assert "does not answer; check the address" in await refused(speaks.line)


async def test_a_server_without_enrollment(tmp_path: Path) -> None:
    async with running_listener(tmp_path, enrollment=False) as listener:
        assert "accepts no connection without a certificate" in await refused(listener.line)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ok(b"hello"), "something other than a certificate"),
        (ok(b""), "something other than a certificate"),
        (ok(b"x" * 70_000), "larger than a 0trust server"),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "answers with status 404: is it a 0trust server",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: https://a/\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (
            b'HTTP/1.1 403 No\r\nContent-Length: 26\r\n\r\n{"error": "send me money!"}',
            "answers with status 403",
        ),
        (b"SSH-2.0-OpenSSH\r\n", "accepts no connection without a certificate"),
        (b"", "accepts no connection without a certificate"),
    ],
)
async def test_other_servers_are_reported(tmp_path: Path, answer: bytes, said: str) -> None:
    async with liar(tmp_path, lambda _head: answer) as speaks:
        assert said in await refused(speaks.line)


async def test_plain_http_at_the_port(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", free_port())
    port = server.sockets[0].getsockname()[1]
    line = JoinToken(server=f"127.0.0.1:{port}", secret=TOKEN, fingerprint="0" * 64)
    assert "is it a 0trust server" in await refused(line)
    server.close()


@pytest.mark.parametrize(
    "what", ["another key", "another agent", "no certificate", "nonsense", "hosts", "a list"]
)
async def test_an_invalid_answer_is_refused(tmp_path: Path, what: str) -> None:
    root = ForeignCertificate.root()
    asked = csr.create()
    own = root.issue("home")
    body: object = {"agent": "home", "certificate": own.pem.decode(), "hosts": []}
    assert isinstance(body, dict)
    if what == "another agent":
        asked = replace(asked, key=own.key)
        body["agent"] = "away"
    elif what == "no certificate":
        body["certificate"] = "x"
    elif what == "hosts":
        asked = replace(asked, key=own.key)
        body["hosts"] = ["a\nb: c"]
    elif what == "a list":
        body = []
    answer = b"{" if what == "nonsense" else json.dumps(body).encode()
    async with liar(
        tmp_path, lambda head: ok(root.pem if head.startswith(b"GET") else answer), root=root
    ) as speaks:
        with pytest.raises(JoinError, match=r"cannot (read|use) the server's answer"):
            await joined(speaks.line, asked)


def answer_of(root: ForeignCertificate, asked: csr.CertificateRequest, **changed: object) -> bytes:
    """Return the server's answer to a join request, with changes."""
    life = datetime.timedelta(days=1)
    chain = (
        Issuer(certificate=root.certificate, key=root.key)
        .issue_agent("home", asked.pem, life, now())
        .chain_pem
    )
    said = {"agent": "home", "certificate": chain.decode(), "hosts": ["app.example.com"], **changed}
    return json.dumps(said).encode()


def altered(root: ForeignCertificate, before: str, after: str) -> str:
    """Return the root in PEM form with some bytes changed."""
    der = root.der.replace(bytes.fromhex(before), bytes.fromhex(after), 1)
    assert der != root.der
    return (
        f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END"
        " CERTIFICATE-----\n"
    )


VERSION_8 = ("a003020102", "a003020107")
UNKNOWN_KEY = ("2a8648ce3d0201", "2a8648ce3d027f")


@pytest.mark.parametrize("change", [VERSION_8, UNKNOWN_KEY])
async def test_a_certificate_that_cannot_be_parsed_is_one_line(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    root = ForeignCertificate.root()
    odd = altered(root, *change)
    async with liar(tmp_path, lambda _head: ok(odd.encode()), root=root) as speaks:
        assert "something other than a certificate" in await refused(speaks.line)
    body = answer_of(root, csr.create(), certificate=odd)
    async with liar(
        tmp_path, lambda head: ok(root.pem if head.startswith(b"GET") else body), root=root
    ) as speaks:
        assert "what the server sent is not a certificate" in await refused(speaks.line)


@pytest.mark.parametrize(
    "changed", [{"certificate": "\ud800"}, {"agent": "../home"}, {"agent": "away"}]
)
async def test_an_answer_for_another_agent_is_refused(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    root, asked = ForeignCertificate.root(), csr.create()
    body = answer_of(root, asked, **changed)
    async with liar(
        tmp_path, lambda head: ok(root.pem if head.startswith(b"GET") else body), root=root
    ) as speaks:
        with pytest.raises(JoinError, match=r"cannot (read|use) the server's answer"):
            await joined(speaks.line, asked)


async def test_a_certificate_of_another_root_is_refused(tmp_path: Path) -> None:
    root, asked = ForeignCertificate.root(), csr.create()
    body = answer_of(ForeignCertificate.root(), asked)
    async with liar(
        tmp_path, lambda head: ok(root.pem if head.startswith(b"GET") else body), root=root
    ) as speaks:
        with pytest.raises(JoinError, match="not valid under this agent's ca_cert: "):
            await joined(speaks.line, asked)


async def test_control_characters_of_the_server_are_removed(tmp_path: Path) -> None:
    root = ForeignCertificate.root()
    body = b'{"error": "no\\u001b[31m\\nreally\\u202e' + b"x" * 1000 + b'"}'
    no = b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with liar(
        tmp_path, lambda head: ok(root.pem) if head.startswith(b"GET") else no, root=root
    ) as speaks:
        said = await refused(speaks.line)
    assert said.isprintable() and len(said) < 400
    assert "refuses: no [31m really" in said
