"""Tests of the edge with the real Caddy, a stand-in upstream and permission endpoint."""

import asyncio
import base64
import json
import os
import random
import re
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from cryptography import x509
from structlog.testing import capture_logs
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.conftest import Measured
from tests.support.agent_sessions import join
from tests.support.entrypoint import Entrypoint, trusting
from tests.support.ports import free_port
from tests.support.stack import Authority as TunnelAuthority
from tests.support.waiting import eventually
from zerotrust.caddy.admin import AdminApi
from zerotrust.caddy.edge import Edge
from zerotrust.caddy.executable import locate
from zerotrust.caddy.external import ExternalCaddy
from zerotrust.caddy.process import STOP_TIMEOUT
from zerotrust.caddy.render import render
from zerotrust.enrollment.grant_table import GrantTable
from zerotrust.errors import CaddyError
from zerotrust.model.limits import Limits
from zerotrust.model.server import ServerConfig
from zerotrust.net.http_listener import HttpListener
from zerotrust.net.tasks import Tasks
from zerotrust.net.write_coalescer import WriteCoalescer
from zerotrust.server.agents.registry import Registry
from zerotrust.server.agents.scheme import USUAL
from zerotrust.server.agents.session import ServiceRegistration
from zerotrust.server.ops.certificate_budget import CertificateBudget
from zerotrust.server.ops.tls_permission import TlsPermission

pytestmark = [pytest.mark.component, pytest.mark.anyio, pytest.mark.timeout(90)]

CONTRADICTION = {"include": ["http", "tls"], "exclude": ["http.log"]}
"""Logging settings that our model accepts and Caddy refuses."""


class EdgeSetup:
    """Surroundings of the edge: upstream, permission endpoint, and the ports of all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api_port, self.permission_port = free_port(), free_port()
        self.http_port, self.https_port = free_port(), free_port()
        self.asked: list[str] = []
        self.refused: set[str] = set()

    def config(self, **caddy: Any) -> ServerConfig:
        keys: dict[str, Any] = {
            "config_dir": str(self.folder / "caddy"),
            "bind": ["127.0.0.1"],
            "http_port": self.http_port,
            "https_port": self.https_port,
            "permission_addr": f"127.0.0.1:{self.permission_port}",
            "acme": {"ca_url": "http://127.0.0.1:9/directory"},
        }
        return ServerConfig.model_validate(
            {"api": {"listen_addr": f"127.0.0.1:{self.api_port}"}, "caddy": {**keys, **caddy}}
        )

    @property
    def root_certificate(self) -> Path:
        """The root certificate of Caddy's own authority, which signs private names."""
        return self.folder / "caddy" / "storage/pki/authorities/local/root.crt"

    def entrypoint(self, port: int | None = None) -> Entrypoint:
        root = self.root_certificate
        return Entrypoint(port or self.https_port, root=root if root.is_file() else None)

    @asynccontextmanager
    async def surroundings(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(upstream(self.api_port))
            await stack.enter_async_context(
                await asyncio.start_server(self.permission, "127.0.0.1", self.permission_port)
            )
            yield

    async def permission(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await read_head(reader))[0].split(" ")[1]
        name = parse_qs(urlsplit(target).query)["domain"][0]
        assert urlsplit(target).path == "/.0trust/tls-permission"
        self.asked.append(name)
        status = "403 Forbidden" if name in self.refused else "200 OK"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        writer.close()


async def read_head(reader: asyncio.StreamReader) -> list[str]:
    return (
        (await reader.readuntil(b"\r\n\r\n"))
        .decode("latin-1")
        .removesuffix("\r\n\r\n")
        .split("\r\n")
    )


def answer_with_head(_: ServerConnection, request: Request) -> Response | None:
    """Answer a plain request with its content; pass a WebSocket on to the echo."""
    if "Upgrade" in request.headers:
        return None
    body = json.dumps({"path": request.path, "fields": list(request.headers.raw_items())}).encode()
    return Response(200, "OK", Headers({"Content-Length": str(len(body))}), body)


def upstream(port: int) -> AbstractAsyncContextManager[Server]:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    return serve(echo, "127.0.0.1", port, process_request=answer_with_head, ping_interval=None)


@pytest.fixture
async def edge_setup(tmp_path: Path) -> AsyncIterator[EdgeSetup]:
    edge_setup = EdgeSetup(tmp_path)
    async with edge_setup.surroundings():
        yield edge_setup


def alive(pid: int) -> bool:
    """Return True if the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def issuer(entrypoint: Entrypoint, name: str) -> str:
    """Return the issuer of the certificate for a name, verified against Caddy's root."""
    async with await entrypoint.open(name) as client:
        raw = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(raw).issuer.rfc4514_string()


async def test_serves_when_entered_and_leaves_nothing(edge_setup: EdgeSetup) -> None:
    async with Edge(edge_setup.config()) as edge:
        pid = edge.pid
        assert pid and alive(pid)
        response = await edge_setup.entrypoint().get("app.localhost", "/a%2Fb?c=%20d&")
        assert response.status == 200
        assert response.json()["path"] == "/a%2Fb?c=%20d&"
        assert edge_setup.root_certificate.is_file()
        assert (edge_setup.folder / "caddy" / "admin.sock").stat().st_mode & 0o777 == 0o600
        assert (edge_setup.folder / "caddy").stat().st_mode & 0o777 == 0o700
    assert not alive(pid)
    assert edge.pid is None


async def test_serves_on_all_interfaces(edge_setup: EdgeSetup) -> None:
    async with Edge(edge_setup.config(bind=[])):
        assert (await edge_setup.entrypoint().get("app.localhost", "/")).status == 200


async def test_upstream_behind_a_unix_socket(edge_setup: EdgeSetup) -> None:
    path = edge_setup.folder / "api.sock"

    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()

    config = edge_setup.config().model_copy(
        update={"api": ServerConfig.model_validate({"api": {"listen_addr": f"unix:{path}"}}).api}
    )
    async with await asyncio.start_unix_server(hello, path), Edge(config):
        assert (await edge_setup.entrypoint().get("app.localhost", "/")).body == b"hello"


@pytest.mark.parametrize(
    "name", ["a.test", "a.b.test", "a.b.c.localhost", "h.g.f.e.d.c.b.a.internal", "a.home.arpa"]
)
async def test_private_names_get_an_internal_certificate(edge_setup: EdgeSetup, name: str) -> None:
    async with Edge(edge_setup.config()):
        assert "Caddy Local Authority" in await issuer(edge_setup.entrypoint(), name)
        assert (await edge_setup.entrypoint().get(name, "/")).status == 200
    assert edge_setup.asked == [name]


class Authority:
    """An ACME authority that tries HTTP-01, always fails, and records the requests."""

    def __init__(self, http_port: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.visits: list[str] = []
        self.ordered: set[str] = set()
        self.challenged: asyncio.Future[tuple[str, str]] = (
            asyncio.get_running_loop().create_future()
        )
        self._http_port = http_port
        self._state = "pending"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = await read_head(reader)
        length = next(
            (int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0
        )
        jws = json.loads(await reader.readexactly(length) or "{}")
        payload = base64.urlsafe_b64decode(jws.get("payload", "") + "===")
        path = lines[0].split(" ")[1]
        self.visits.append(path)
        status, document = await self._answer(path, json.loads(payload or "{}"))
        body = json.dumps(document).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nReplay-Nonce:"
            f" {base64.urlsafe_b64encode(os.urandom(9)).decode()}\r\nLocation:"
            f" {self.url}/{'account/1' if path == '/account' else 'order/1'}\r\nContent-Type:"
            f" application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + (b"" if lines[0].startswith("HEAD") else body)
        )
        writer.close()

    async def _answer(self, path: str, payload: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        challenge = {
            "type": "http-01",
            "url": f"{self.url}/challenge",
            "token": "tok-en",
            "status": self._state,
        }
        if path == "/directory":
            return 200, {
                key: f"{self.url}/{key[3:].lower()}"
                for key in ("newNonce", "newAccount", "newOrder")
            }
        if path == "/account":
            return 201, {"status": "valid"}
        if path == "/challenge":
            await self._fetch_token()
            return 200, {**challenge, "status": self._state}
        if path == "/authorization":
            identifier = {"type": "dns", "value": "public.example.com"}
            return 200, {"status": self._state, "identifier": identifier, "challenges": [challenge]}
        if path == "/order":
            self.ordered.update(identifier["value"] for identifier in payload["identifiers"])
        order = {
            "status": self._state,
            "identifiers": payload.get("identifiers", []),
            "authorizations": [f"{self.url}/authorization"],
            "finalize": f"{self.url}/finalize",
        }
        return (201 if path == "/order" else 200), order

    async def _fetch_token(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._http_port)
        writer.write(
            b"GET /.well-known/acme-challenge/tok-en HTTP/1.1\r\nHost:"
            b" public.example.com\r\nConnection: close\r\n\r\n"
        )
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        self._state = "invalid"
        if not self.challenged.done():
            self.challenged.set_result((head, body))


async def test_public_names_go_to_acme_and_its_challenge_is_answered_beside_the_redirect(
    edge_setup: EdgeSetup,
) -> None:
    authority = Authority(edge_setup.http_port)
    config = edge_setup.config(
        acme={"ca_url": f"{authority.url}/directory", "email": "admin@example.com"}
    )
    async with (
        await asyncio.start_server(authority.serve, "127.0.0.1", authority.port),
        Edge(config),
    ):
        handshake = asyncio.create_task(issuer(edge_setup.entrypoint(), "public.example.com"))
        async with asyncio.timeout(20):
            head, body = await authority.challenged
        assert head.startswith("HTTP/1.1 200 ")
        assert re.fullmatch(r"tok-en\.[\w-]{43}", body)
        handshake.cancel()
        await asyncio.wait([handshake])


async def test_a_thousand_random_names_cause_no_order(
    edge_setup: EdgeSetup, measured: Measured
) -> None:
    """Only the name that is served causes an order at the public authority."""
    authority, registry, tasks = Authority(edge_setup.http_port), Registry(), Tasks()
    served = ServiceRegistration(
        join(registry, "home", None), "app", b"app", ("public.example.com",), True, None, USUAL
    )
    registry.register(served)
    granted = GrantTable()
    granted.replace("file", [("home", "public.example.com")])
    decides = TlsPermission(registry, granted, CertificateBudget(Limits()))
    permission = HttpListener(
        WriteCoalescer(asyncio.get_running_loop()), decides, tasks, name="test", most=lambda: 256
    )
    asks, port = asyncio.Semaphore(20), free_port()
    dice = random.Random(6)
    names = [
        "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=12)) + ".example.com"
        for _ in range(1000)
    ]
    config = edge_setup.config(
        acme={"ca_url": f"{authority.url}/directory", "email": "a@example.com"},
        permission_addr=f"127.0.0.1:{port}",
    )

    async def connect(entrypoint: Entrypoint, name: str) -> None:
        async with asks:
            with pytest.raises(ssl.SSLError, match="internal error"):
                await entrypoint.open(name)

    async with (
        await asyncio.start_server(authority.serve, "127.0.0.1", authority.port),
        permission.listen(f"127.0.0.1:{port}", key="caddy.permission_addr"),
        Edge(config),
    ):
        entrypoint = edge_setup.entrypoint()
        begun_at = time.monotonic()
        await asyncio.gather(*(connect(entrypoint, name) for name in names))
        seconds = time.monotonic() - begun_at
        assert "/order" not in authority.visits
        ordering = asyncio.create_task(issuer(entrypoint, "public.example.com"))
        # To the end of the challenge: Caddy is still needed for it.
        async with asyncio.timeout(20):
            await authority.challenged
        assert "/order" in authority.visits
        ordering.cancel()
        await asyncio.wait([ordering])
    await tasks.close()
    measured(
        "1,000 handshakes with random names: none got a certificate, no order was made, in"
        f" {seconds:.1f} s"
    )


async def test_names_of_a_wildcard_cause_only_so_many_orders(edge_setup: EdgeSetup) -> None:
    """The agent "mallory" serves 30 names of its wildcard grant, and clients request them all."""
    authority, registry, tasks, granted = (
        Authority(edge_setup.http_port),
        Registry(),
        Tasks(),
        GrantTable(),
    )
    granted.replace("file", [("mallory", "*.example.com"), ("home", "public.example.com")])
    names = [f"x{number}.example.com" for number in range(30)]
    for agent, hosts in (("mallory", tuple(names)), ("home", ("public.example.com",))):
        session = join(registry, agent, None)
        registry.register(ServiceRegistration(session, "app", b"app", hosts, True, None, USUAL))
    budget, port = CertificateBudget(Limits(certificates_per_domain=3)), free_port()
    permission = HttpListener(
        WriteCoalescer(asyncio.get_running_loop()),
        TlsPermission(registry, granted, budget),
        tasks,
        name="test",
        most=lambda: 256,
    )
    config = edge_setup.config(
        acme={"ca_url": f"{authority.url}/directory", "email": "a@example.com"},
        permission_addr=f"127.0.0.1:{port}",
    )

    async def is_refused(entrypoint: Entrypoint, name: str) -> bool:
        """Caddy ends the handshake at once; for a permitted name it waits for its certificate."""
        try:
            async with asyncio.timeout(5):
                await entrypoint.open(name)
        except ssl.SSLError:
            return True
        except TimeoutError:
            return False
        raise AssertionError("the authority issues nothing")

    async with (
        await asyncio.start_server(authority.serve, "127.0.0.1", authority.port),
        permission.listen(f"127.0.0.1:{port}", key="caddy.permission_addr"),
        Edge(config),
    ):
        entrypoint = edge_setup.entrypoint()
        refused = await asyncio.gather(*(is_refused(entrypoint, name) for name in names))
        assert refused.count(True) == 27
        assert budget.permitted == {"mallory": 3}
        assert len(authority.ordered - {"public.example.com"}) == 3
        assert not await is_refused(entrypoint, "public.example.com")
        assert "public.example.com" in authority.ordered
    await tasks.close()


async def test_private_names_of_any_depth_never_reach_a_public_authority(
    edge_setup: EdgeSetup,
) -> None:
    authority = Authority(edge_setup.http_port)
    config = edge_setup.config(acme={"ca_url": f"{authority.url}/directory"})
    async with (
        await asyncio.start_server(authority.serve, "127.0.0.1", authority.port),
        Edge(config),
    ):
        for name in (
            "single",
            "x.local",
            "i.h.g.f.e.d.c.b.a.test",
            "a." * 40 + "TEST",
            "a." * 12 + "home.arpa",
        ):
            try:
                found = await issuer(edge_setup.entrypoint(), name)
            except OSError:
                assert name.count(".") > 8
            else:
                assert "Caddy Local Authority" in found
        assert authority.visits == []
    assert edge_setup.asked == ["single", "x.local"]


async def test_a_refused_name_gets_no_certificate(edge_setup: EdgeSetup) -> None:
    edge_setup.refused.add("stranger.test")
    async with Edge(edge_setup.config()):
        with pytest.raises(ssl.SSLError, match="internal error"):
            await edge_setup.entrypoint().get("stranger.test", "/")
        assert (await edge_setup.entrypoint().get("friend.test", "/")).status == 200
    assert "stranger.test" in edge_setup.asked


async def test_certificates_of_ones_own(edge_setup: EdgeSetup, authority: TunnelAuthority) -> None:
    certificate, key = authority.server()
    own = {"cert_file": str(certificate), "key_file": str(key)}
    async with Edge(edge_setup.config(certificates=[own])):
        response = await Entrypoint(edge_setup.https_port, root=authority.root).get(
            "localhost", "/"
        )
        assert response.status == 200
        assert edge_setup.asked == []
        assert "Caddy Local Authority" in await issuer(edge_setup.entrypoint(), "other.test")


async def test_a_certificate_that_is_not_there_is_named(edge_setup: EdgeSetup) -> None:
    own = {
        "cert_file": str(edge_setup.folder / "no.crt"),
        "key_file": str(edge_setup.folder / "no.key"),
    }
    with pytest.raises(CaddyError, match=r"no\.crt"):
        await Edge(edge_setup.config(certificates=[own])).__aenter__()


async def test_what_a_client_says_about_itself_is_not_passed_on(edge_setup: EdgeSetup) -> None:
    async with Edge(edge_setup.config()):
        response = await edge_setup.entrypoint().get(
            "app.test",
            "/",
            ("Forwarded", "for=6.6.6.6"),
            ("X-Real-IP", "6.6.6.6"),
            ("x-real-ip", "7.7.7.7"),
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Custom", "stays"),
            ("Connection", "X-Real-IP, X-Forwarded-For, X-Forwarded-Proto"),
        )
    fields = [(name.lower(), value) for name, value in response.json()["fields"]]
    for name, value in {
        "x-real-ip": "127.0.0.1",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": (
            f"app.test:{edge_setup.https_port}" if (":" in dict(fields)["host"]) else "app.test"
        ),
        "x-custom": "stays",
    }.items():
        assert [v for n, v in fields if n == name] == [value]
    assert not [n for n, _ in fields if n == "forwarded"]


async def test_websocket_over_http1(edge_setup: EdgeSetup) -> None:
    async with Edge(edge_setup.config()), edge_setup.entrypoint().websocket("ws.test") as socket:
        assert socket.response and socket.response.status_code == 101
        for message in ("text", b"\x00\xff" * 300_000):
            await socket.send(message)
            assert await socket.recv() == message


class Http2:
    """One HTTP/2 connection with at most one stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8")
        )
        self.connection.initiate_connection()

    async def until(self, kind: type[h2.events.Event]) -> Any:
        """Return the next event of the kind; drop the ones before it."""
        while True:
            self._writer.write(self.connection.data_to_send())
            data = await self._reader.read(65536)
            assert data, f"the connection ended before {kind.__name__}"
            for event in self.connection.receive_data(data):
                if isinstance(event, kind):
                    return event


async def test_websocket_over_http2(edge_setup: EdgeSetup) -> None:
    async with Edge(edge_setup.config()), asyncio.timeout(20):
        tls = trusting(edge_setup.root_certificate, "h2")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", edge_setup.https_port, ssl=tls, server_hostname="ws.test"
        )
        client = Http2(reader, writer)
        settings = await client.until(h2.events.RemoteSettingsChanged)
        code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
        assert settings.changed_settings[code].new_value == 1
        client.connection.send_headers(
            1,
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", "ws.test"),
                ("sec-websocket-version", "13"),
            ],
        )
        response = await client.until(h2.events.ResponseReceived)
        assert dict(response.headers)[":status"] == "200"
        client.connection.send_data(1, b"\x82\x85\x00\x00\x00\x00hello")
        assert (await client.until(h2.events.DataReceived)).data == b"\x82\x05hello"
        writer.close()


@pytest.mark.parametrize("target", ["/a%2Fb/%7Ec//d?x=%20y&z&&", "/?", "//other.test/..%2f", "/"])
async def test_http_is_handed_over_and_said_to_be_http(edge_setup: EdgeSetup, target: str) -> None:
    pretended = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Scheme", "https"),
        ("X-Real-IP", "6.6.6.6"),
    ]
    async with Edge(edge_setup.config()):
        response = await Entrypoint(edge_setup.http_port).get(
            "app.test", target, *pretended, ("Connection", "X-Forwarded-Proto")
        )
    assert (response.status, response.json()["path"]) == (200, target)
    fields = [(name.lower(), value) for name, value in response.json()["fields"]]
    assert [value for name, value in fields if name == "x-forwarded-proto"] == ["http"]
    assert [value for name, value in fields if name == "x-real-ip"] == ["127.0.0.1"]


async def test_websocket_over_plain_http(edge_setup: EdgeSetup) -> None:
    async with (
        Edge(edge_setup.config()),
        Entrypoint(edge_setup.http_port).websocket("ws.test") as socket,
    ):
        await socket.send("text")
        assert await socket.recv() == "text"


@pytest.mark.parametrize("key", ["https_port", "http_port"])
async def test_a_busy_port_is_one_clear_line(edge_setup: EdgeSetup, key: str) -> None:
    port = getattr(edge_setup, key)
    with capture_logs() as lines:
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port):
            with pytest.raises(CaddyError) as caught:
                await Edge(edge_setup.config()).__aenter__()
    assert (
        str(caught.value)
        == f"TCP port {port} on 127.0.0.1 is in use by another program; stop it, or choose another"
        f" caddy.{key}"
    )
    assert not [line for line in lines if line["event"] == "caddy started"]


async def test_a_second_edge_on_the_same_ports_does_not_split_the_traffic(
    edge_setup: EdgeSetup,
) -> None:
    async with Edge(edge_setup.config()):
        other = edge_setup.config(config_dir=str(edge_setup.folder / "other"))
        with pytest.raises(CaddyError, match=r"in use.*caddy\.https_port"):
            await Edge(other).__aenter__()
        with pytest.raises(CaddyError, match=r"another server.*caddy\.config_dir"):
            await Edge(edge_setup.config(https_port=free_port(), http_port=0)).__aenter__()
        assert (await edge_setup.entrypoint().get("app.test", "/")).status == 200


async def test_a_configuration_that_caddy_refuses_is_told_at_the_start(
    edge_setup: EdgeSetup,
) -> None:
    with pytest.raises(CaddyError, match=r"Caddy did not start: .*superspace"):
        await Edge(edge_setup.config(logging=CONTRADICTION)).__aenter__()


async def test_a_killed_caddy_is_started_again(edge_setup: EdgeSetup) -> None:
    async with Edge(edge_setup.config()) as edge:
        entrypoint = edge_setup.entrypoint()
        assert (await entrypoint.get("app.test", "/")).status == 200
        first = edge.pid
        assert first

        def restarted(before: int) -> bool:
            return edge.pid not in (None, before)

        for _ in range(2):
            before = edge.pid
            assert before
            os.kill(before, signal.SIGKILL)
            await eventually(partial(restarted, before), "another Caddy runs", 20)
            await edge.apply(edge_setup.config(acme={"email": f"after-{before}@example.com"}))
            assert (await entrypoint.get("app.test", "/")).status == 200
            assert not alive(before)
        last = edge.pid
    assert last and not alive(last)


async def test_the_same_configuration_is_not_sent(edge_setup: EdgeSetup) -> None:
    with capture_logs() as lines:
        async with Edge(edge_setup.config()) as edge:
            before = len(lines)
            await edge.apply(edge_setup.config())
            assert not [line for line in lines[before:] if line.get("uri") == "/load"]
            async with AdminApi(f"unix/{edge_setup.folder}/caddy/admin.sock|0600") as admin:
                await admin.load(render(edge_setup.config()))
            await eventually(
                lambda: [line for line in lines if line["event"] == "config is unchanged"],
                "unchanged",
            )


async def test_a_change_drops_no_websocket(edge_setup: EdgeSetup) -> None:
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(Edge(edge_setup.config()))
        entrypoint = edge_setup.entrypoint()
        sockets = [
            await stack.enter_async_context(entrypoint.websocket(f"ws{number}.test"))
            for number in range(5)
        ]
        pid, port = edge.pid, free_port()
        for change in (
            {"acme": {"email": "someone@example.com"}},
            {"logging": {"level": "debug"}},
            {"https_port": port, "http_port": 0},
            {},
        ):
            await edge.apply(edge_setup.config(**change))
            for socket in sockets:
                await socket.send(str(change))
                assert await asyncio.wait_for(socket.recv(), 10) == str(change)
            current = edge_setup.entrypoint(change.get("https_port"))  # type: ignore[arg-type]
            assert (await current.get("app.test", "/")).status == 200
        assert edge.pid == pid


async def test_a_refused_change_leaves_the_old_configuration(edge_setup: EdgeSetup) -> None:
    async with Edge(edge_setup.config()) as edge:
        with pytest.raises(CaddyError, match=r"Caddy refused POST /load: .*superspace"):
            await edge.apply(edge_setup.config(logging=CONTRADICTION))
        async with await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0
        ) as other:
            busy = other.sockets[0].getsockname()[1]
            with pytest.raises(CaddyError, match=rf"TCP port {busy} .*caddy\.https_port"):
                await edge.apply(edge_setup.config(https_port=busy))
        with pytest.raises(CaddyError, match=r"caddy\.config_dir needs a restart"):
            await edge.apply(edge_setup.config(config_dir=str(edge_setup.folder / "other")))
        assert (await edge_setup.entrypoint().get("app.test", "/")).status == 200


async def test_a_leftover_socket_does_not_matter(edge_setup: EdgeSetup) -> None:
    folder = edge_setup.folder / "caddy"
    folder.mkdir()
    (
        await asyncio.start_unix_server(lambda _, writer: writer.close(), folder / "admin.sock")
    ).close()
    assert (folder / "admin.sock").exists()
    async with Edge(edge_setup.config()):
        assert (await edge_setup.entrypoint().get("app.test", "/")).status == 200


async def test_requests_wait_for_a_server_that_restarts(tmp_path: Path) -> None:
    edge_setup = EdgeSetup(tmp_path)
    async with await asyncio.start_server(
        edge_setup.permission, "127.0.0.1", edge_setup.permission_port
    ):
        async with Edge(edge_setup.config()):
            entrypoint = edge_setup.entrypoint()
            async with await entrypoint.open("app.test") as client:
                await client.send_head("GET", "/waited")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.reader.read(1), 0.5)
                async with upstream(edge_setup.api_port):
                    assert (await client.read_head()).status == 200


CHILD = """
import asyncio, sys
from zerotrust.caddy.edge import Edge
from zerotrust.model.server import ServerConfig

async def main():
    async with Edge(ServerConfig.model_validate_json(sys.stdin.readline())) as edge:
        print("pid", edge.pid, flush=True)
        await asyncio.Event().wait()

if sys.argv[1] == "uvloop":
    import uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_killed_server_leaves_no_caddy(edge_setup: EdgeSetup, loop: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        loop,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin and child.stdout
    child.stdin.write(edge_setup.config().model_dump_json().encode() + b"\n")
    try:
        line = b""
        async with asyncio.timeout(40):
            while not line.startswith(b"pid "):
                line = await child.stdout.readline()
                assert line, "the child ended"
        pid = int(line.split()[1])
        assert alive(pid)
    finally:
        child.kill()
        await child.wait()
    await eventually(lambda: not alive(pid), "Caddy is gone")
    async with Edge(edge_setup.config()):
        assert (await edge_setup.entrypoint().get("app.test", "/")).status == 200


@asynccontextmanager
async def somebody_elses_caddy(folder: Path, document: dict[str, Any]) -> AsyncIterator[None]:
    folder.mkdir()
    file = folder / "caddy.json"
    file.write_text(json.dumps(document))
    environment = {
        **os.environ,
        **dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder)),
    }
    child = await asyncio.create_subprocess_exec(
        locate(), "run", "--config", file, stderr=asyncio.subprocess.DEVNULL, env=environment
    )
    try:
        yield
    finally:
        child.kill()
        await child.wait()


async def test_an_external_caddy_is_replaced_only_when_that_is_wanted(
    edge_setup: EdgeSetup,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    foreign = {
        "admin": {"listen": address, "config": {"persist": False}},
        "storage": {
            "module": "file_system",
            "root": str(edge_setup.folder / "foreign" / "storage"),
        },
        "apps": {"http": {"servers": {"blog": {"listen": [f"127.0.0.1:{free_port()}"]}}}},
    }
    config = edge_setup.config(mode="external", admin_api=f"http://{address}")
    async with (
        somebody_elses_caddy(edge_setup.folder / "foreign", foreign),
        AdminApi(address) as admin,
    ):
        await eventually(admin.ready, "the foreign Caddy runs")
        with pytest.raises(CaddyError, match=r"not 0Trust's.*replace_existing_config: true"):
            await Edge(config).__aenter__()
        assert await admin.config() == foreign
        allowed = edge_setup.config(
            mode="external", admin_api=f"http://{address}", replace_existing_config=True
        )
        async with Edge(allowed):
            document = await admin.config()
            assert document
            assert document["admin"] == foreign["admin"]
            assert document["storage"] == foreign["storage"]
        root = edge_setup.folder / "foreign/storage/pki/authorities/local/root.crt"
        assert (
            await Entrypoint(edge_setup.https_port, root=root).get("app.test", "/")
        ).status == 200
        async with Edge(config) as edge:  # ours by now: no permission needed
            assert await admin.config() == document
            await edge.apply(
                edge_setup.config(mode="external", admin_api=f"http://{address}", http_port=0)
            )
            assert await admin.config() != document


async def test_an_external_caddy_that_forgot_is_told_again(edge_setup: EdgeSetup) -> None:
    address = f"127.0.0.1:{free_port()}"
    blank = {"admin": {"listen": address, "config": {"persist": False}}}
    config = edge_setup.config(
        mode="external", admin_api=address, storage_dir=str(edge_setup.folder / "storage")
    )
    async with AdminApi(address) as admin:
        async with somebody_elses_caddy(edge_setup.folder / "first", blank):
            await eventually(admin.ready, "Caddy runs")
            edge = await ExternalCaddy(config, watch_interval=0.1).__aenter__()
        try:
            async with somebody_elses_caddy(edge_setup.folder / "second", blank):
                root = edge_setup.folder / "storage/pki/authorities/local/root.crt"
                entrypoint = Entrypoint(edge_setup.https_port, root=root)
                await eventually(lambda: responds(entrypoint), "our configuration is back")
        finally:
            await edge.__aexit__(None, None, None)


async def responds(entrypoint: Entrypoint) -> bool:
    try:
        return (await entrypoint.get("app.test", "/")).status == 200
    except OSError:
        return False


async def test_the_end_does_not_wait_for_open_streams(edge_setup: EdgeSetup) -> None:
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(Edge(edge_setup.config()))
        pid = edge.pid
        await stack.enter_async_context(edge_setup.entrypoint().websocket("ws.test"))
        async with asyncio.timeout(STOP_TIMEOUT + 3):
            await edge.__aexit__(None, None, None)
        assert pid and not alive(pid)


async def test_no_edge(edge_setup: EdgeSetup) -> None:
    async with Edge(edge_setup.config(mode="none")) as edge:
        await edge.apply(edge_setup.config(mode="none", http_port=0))
        assert edge.pid is None
    assert not (edge_setup.folder / "caddy").exists()


async def test_an_error_in_the_body_comes_out_as_it_is(edge_setup: EdgeSetup) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with Edge(edge_setup.config()) as edge:
            pid = edge.pid
            raise LookupError("mine")
    assert pid and not alive(pid)


@pytest.mark.parametrize("patience", [0.05, 0.2, 0.35])
async def test_a_start_that_is_given_up_leaves_nothing(
    edge_setup: EdgeSetup, patience: float
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(patience), Edge(edge_setup.config()):
            await asyncio.Event().wait()
    async with Edge(edge_setup.config()):  # its ports and its socket are free
        assert (await edge_setup.entrypoint().get("app.test", "/")).status == 200
