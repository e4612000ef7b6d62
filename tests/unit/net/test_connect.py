"""Tests of zerotrust.net.connect with real proxies and TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import aiofastnet
import pytest

from tests.support.authorities import ForeignCertificate
from tests.support.ports import closed_port
from tests.support.proxy_server import ProxyServer
from zerotrust.errors import ProxyError
from zerotrust.model.proxy import Proxy
from zerotrust.net.connect import SMALL_SEGMENT, dial

pytestmark = pytest.mark.anyio


async def open_stream(
    host: str, port: int, **keys: Any
) -> tuple[asyncio.StreamReader, asyncio.Transport]:
    """Connect as `dial`; return a reader and the transport to write to."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    return reader, await dial(lambda: protocol, host, port, **keys)


SECRET = "tr%s3cret!ü"
Kind = Literal["http", "socks5"]


class EchoServer:
    """A TLS server that sends back what it gets."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        root = ForeignCertificate.root()
        leaf = root.issue("localhost", dns=("localhost", "tunnel.test"), ip=("127.0.0.1",))
        self.server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server_tls.load_cert_chain(*leaf.store(folder, "echo"))
        self.client_tls = ssl.create_default_context(cadata=root.pem.decode())
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


@asynccontextmanager
async def echo_server(folder: Path, *, plain: bool = False) -> AsyncIterator[EchoServer]:
    echo = EchoServer(folder / "echo")
    tls = None if plain else echo.server_tls
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0, ssl=tls)
    echo.port = server.sockets[0].getsockname()[1]
    try:
        yield echo
    finally:
        server.close()
        await server.wait_closed()


def proxy_of(proxy: ProxyServer, password: str = "") -> Proxy:
    return Proxy.parse(proxy.url, setting="server.proxy").with_password(password)


async def echoed(
    echo: EchoServer, proxy: Proxy | None = None, host: str = "127.0.0.1", size: int = 300_000
) -> None:
    reader, transport = await open_stream(
        host, echo.port, connect_timeout=10, tls=echo.client_tls, proxy=proxy
    )
    try:
        sent = bytes(range(256)) * (size // 256)
        transport.write(sent)
        assert await reader.readexactly(len(sent)) == sent
    finally:
        transport.abort()


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("piece", [0, 1])
@pytest.mark.parametrize("credentials", [None, ("anna", SECRET)])
async def test_tls_through_a_proxy(
    tmp_path: Path, kind: Kind, piece: int, credentials: tuple[str, str] | None
) -> None:
    async with (
        echo_server(tmp_path) as echo,
        ProxyServer(kind, credentials=credentials, piece=piece) as server,
    ):
        await echoed(echo, proxy_of(server, SECRET if credentials else ""))
        assert server.asked == [f"127.0.0.1:{echo.port}"]


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_the_proxy_resolves_names(tmp_path: Path, kind: Kind) -> None:
    async with echo_server(tmp_path) as echo:
        async with ProxyServer(kind, names={"tunnel.test": echo.port}) as server:
            await echoed(echo, proxy_of(server), host="Tunnel.test")
            assert server.asked == [f"tunnel.test:{echo.port}"]


async def test_a_plain_connection_through_a_proxy(tmp_path: Path) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    class Client(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast("asyncio.Transport", transport).write(b"hello")

        def data_received(self, data: bytes) -> None:
            got.put_nowait(data)

    async with echo_server(tmp_path, plain=True) as echo, ProxyServer() as server:
        transport = await dial(
            Client, "127.0.0.1", echo.port, connect_timeout=10, proxy=proxy_of(server)
        )
        assert await got.get() == b"hello"
        transport.abort()


async def test_a_proxy_behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ForeignCertificate.root()
    leaf = root.issue("proxy", ip=("127.0.0.1",))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*leaf.store(tmp_path, "proxy"))
    async with echo_server(tmp_path) as echo, ProxyServer(tls=tls) as server:
        with pytest.raises(ProxyError, match="cannot be reached: certificate not trusted"):
            await echoed(echo, proxy_of(server))
        (tmp_path / "root.crt").write_bytes(root.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.crt"))
        await echoed(echo, proxy_of(server))


async def test_the_certificate_of_the_server_is_verified(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as echo:
        async with ProxyServer(names={"other.test": echo.port}) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await echoed(echo, proxy_of(server), host="other.test")


REFUSALS: list[tuple[Kind, bytes, str]] = [
    (
        "http",
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        r"does not allow 127.0.0.1:\d+ \(403 Forbidden\): allow this host and port in the proxy",
    ),
    (
        "http",
        b"HTTP/1.1 407 No\r\n\r\n",
        r"wants a user and a password \(407\): name the user in server.proxy and set"
        r" server.proxy_password_file",
    ),
    (
        "http",
        b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM a\r\n\r\n",
        r"wants Negotiate, NTLM credentials \(407\), which the agent does not have",
    ),
    (
        "http",
        b"HTTP/1.0 502 Bad \x1b[31mGateway\n\n",
        r"cannot connect to 127.0.0.1:\d+ \(502 Bad  \[31mGateway\): check the server's address",
    ),
    ("http", b"HTTP/1.1 400\r\n\r\n", r"does not connect to 127.0.0.1:\d+ \(400\): check its"),
    ("http", b"SSH-2.0-OpenSSH\r\n\r\n", "does not answer by HTTP: check its address and scheme"),
    ("http", b"HTTP/1.1 x\r\n\r\n", "does not answer by HTTP"),
    ("http", b"HTTP/1.1 " + b"9" * 5000 + b"\r\n\r\n", "does not answer by HTTP"),
    ("http", b"HTTP/1.1 20\r\n\r\n", "does not answer by HTTP"),
    ("http", b"\r\n\r\n", "does not answer by HTTP"),
    ("http", b"HTTP/1.1 200 OK\r\n", "closes the connection: check its address"),
    ("http", b"x" * 100_000, "answers with more than 16 KiB"),
    ("http", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000, "answers with more than 16 KiB"),
    ("socks5", b"HTTP/1.1 400 Bad\r\n\r\n", "does not speak SOCKS5: check its address and scheme"),
    ("socks5", b"\x05\xff", "accepts none of the agent's ways to log in: it may want a user and"),
    ("socks5", b"\x05", "closes the connection"),
    ("socks5", b"\x05\x00\x04\x00\x00", "does not speak SOCKS5"),
    ("socks5", b"\x05\x00\x05\x02\x00", "does not allow 127.0.0.1:"),
    ("socks5", b"\x05\x00\x05\x04\x00", r"cannot connect to 127.0.0.1:\d+ \(host unreachable\)"),
    ("socks5", b"\x05\x00\x05\x63\x00", r"cannot connect to 127.0.0.1:\d+ \(error 99\)"),
    ("socks5", b"\x05\x00\x05\x00\x00\x03\x05abc", "closes the connection"),
]


@pytest.mark.parametrize(("kind", "answer", "message"), REFUSALS, ids=lambda value: str(value)[:40])
async def test_a_refusal_names_proxy_setting_and_fix(
    kind: Kind, answer: bytes, message: str
) -> None:
    async with ProxyServer(kind, answer=answer) as server:
        said = await refused(proxy_of(server))
        assert said.startswith(f"proxy {kind}://127.0.0.1:{server.port} (server.proxy) ")
        assert_matches(message, said)


async def test_wrong_credentials_are_refused() -> None:
    async with ProxyServer(credentials=("anna", SECRET)) as server:
        wrong = proxy_of(server, "wrong")
        assert "refuses the user or the password (407): correct them" in await refused(wrong)
        bare = Proxy("http", wrong.host, wrong.port, "HTTPS_PROXY")
        assert "wants a user and a password (407): add them to HTTPS_PROXY" in await refused(bare)
    async with ProxyServer("socks5", credentials=("anna", SECRET)) as server:
        wrong = proxy_of(server, "wrong")
        assert "refuses the user or the password: correct them" in await refused(wrong)
    async with ProxyServer("socks5", answer=b"\x05\xff") as server:
        named = Proxy("socks5", "127.0.0.1", server.port, "server.proxy", "anna", SECRET)
        assert "ways to log in: allow the agent's user by a password" in await refused(named)


async def test_an_unreachable_proxy() -> None:
    closed = Proxy("http", "127.0.0.1", closed_port(), "ALL_PROXY")
    assert await refused(closed) == (
        f"proxy http://127.0.0.1:{closed.port} (ALL_PROXY) cannot be reached: connection refused;"
        " check its address and scheme"
    )
    unknown = Proxy("socks5", "does-not-exist.invalid", 1080, "server.proxy")
    assert "cannot be reached: " in await refused(unknown)


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_proxy_that_does_not_answer(kind: Kind) -> None:
    async with ProxyServer(kind, hangs=True) as server:
        said = await refused(proxy_of(server), connect_timeout=0.2)
        assert_matches(r"did not connect to 127.0.0.1:\d+ within 0.2 s: check both addresses", said)


async def test_a_proxy_that_closes_before_tls() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    async with ProxyServer(answer=answer) as server:
        assert "but TLS failed: " in await refused(proxy_of(server))


async def test_bytes_right_behind_the_handshake_come_after_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Client(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            events.append("made")

        def data_received(self, data: bytes) -> None:
            events.append(data.decode())

    async def handshake(
        _loop: object,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        *_: Any,
        **_keys: Any,
    ) -> asyncio.Transport:
        protocol.data_received(b"hello, ")
        protocol.data_received(b"world")
        return transport

    monkeypatch.setattr(aiofastnet, "start_tls", handshake)
    async with echo_server(tmp_path, plain=True) as echo, ProxyServer() as server:
        transport = await dial(
            Client,
            "127.0.0.1",
            echo.port,
            connect_timeout=10,
            tls=echo.client_tls,
            proxy=proxy_of(server),
        )
        assert events == ["made", "hello, world"]
        transport.abort()


async def test_a_connection_that_ends_right_behind_the_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handshake(_loop: object, transport: asyncio.Transport, *_: Any, **_keys: Any) -> Any:
        transport.close()
        return transport

    monkeypatch.setattr(aiofastnet, "start_tls", handshake)
    async with echo_server(tmp_path, plain=True) as echo, ProxyServer() as server:
        with pytest.raises(ProxyError, match="but TLS failed: connection reset"):
            await echoed(echo, proxy_of(server))


async def test_a_name_that_is_none_goes_to_no_proxy() -> None:
    async with ProxyServer() as server:
        with pytest.raises(ProxyError, match="is not a host name"):
            await open_stream(
                "a\r\nb: c",
                443,
                connect_timeout=10,
                tls=ssl.create_default_context(),
                proxy=proxy_of(server),
            )
        assert not server.asked


async def test_without_a_proxy(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as echo:
        await echoed(echo)
        await echoed(echo, host="localhost")
    with pytest.raises(ConnectionRefusedError):
        await echoed(echo)


@pytest.mark.parametrize("proxied", [False, True])
async def test_small_segments(tmp_path: Path, proxied: bool) -> None:
    async with echo_server(tmp_path) as echo, ProxyServer() as server:
        reader, transport = await open_stream(
            "127.0.0.1",
            echo.port,
            connect_timeout=10,
            tls=echo.client_tls,
            proxy=proxy_of(server) if proxied else None,
            small_segments=True,
        )
        raw = transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= SMALL_SEGMENT
        transport.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        transport.abort()


async def test_a_server_that_does_not_answer_raises_timeout_error(tmp_path: Path) -> None:
    async with ProxyServer(hangs=True) as silent:
        with pytest.raises(TimeoutError):
            await open_stream(
                "127.0.0.1", silent.port, connect_timeout=0.2, tls=ssl.create_default_context()
            )


async def refused(proxy: Proxy, *, connect_timeout: float = 10.0) -> str:
    """Return the error of a connection through the proxy: one line, without a password."""
    with pytest.raises(ProxyError) as found:
        await open_stream(
            "127.0.0.1",
            closed_port(),
            connect_timeout=connect_timeout,
            tls=ssl.create_default_context(),
            proxy=proxy,
        )
    said = str(found.value)
    assert "\n" not in said and said.isprintable()
    assert not proxy.password or proxy.password not in said
    return said


def assert_matches(pattern: str, text: str) -> None:
    with pytest.raises(ProxyError, match=pattern):
        raise ProxyError(text)


@pytest.mark.parametrize("secured", [True, False])
async def test_a_dial_that_is_cancelled_once_it_is_connected_is_closed(
    tmp_path: Path, secured: bool
) -> None:
    class Cancelling(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost = asyncio.Event()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.number = transport.get_extra_info("socket").fileno()
            dialling.cancel()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set()

    made = Cancelling()
    async with echo_server(tmp_path, plain=not secured) as echo:
        tls = echo.client_tls if secured else None
        dialling = asyncio.ensure_future(
            dial(lambda: made, "127.0.0.1", echo.port, connect_timeout=10, tls=tls)
        )
        with pytest.raises(asyncio.CancelledError):
            await dialling
        async with asyncio.timeout(10):
            await made.lost.wait()
    assert not asyncio.get_running_loop().remove_reader(made.number), "its number is watched"
