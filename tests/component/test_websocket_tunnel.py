"""Tests of tunnels through Caddy: an agent for which only port 443 is open."""

import asyncio
import base64
import contextlib
import datetime
import hashlib
import os
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from websockets.asyncio.client import connect

from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.client import Client
from tests.support.commands import Commands, run_product
from tests.support.network import Network
from tests.support.pattern import pattern_bytes
from tests.support.ports import closed_port
from tests.support.processes import PRODUCT, Process
from tests.support.proxy_server import ProxyServer
from tests.support.stack import DEFAULT_API, Agent, Authority, Stack, service
from tests.support.waiting import eventually
from zerotrust.net.handshake_limiter import MAX_HANDSHAKES
from zerotrust.pki import ca_directory
from zerotrust.tunnel.codes import ALPN

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("websocket_tunnel"),
]

APP, WS = "app.localhost", "ws.localhost"
PATH = "/.0trust/tunnel"
LARGE = 8 * 1024 * 1024


@pytest.fixture(scope="module")
async def origin(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Origin]:
    async with Origin(tmp_path_factory.mktemp("origin")) as origin:
        yield origin


@pytest.fixture(scope="module")
async def ws_echo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WsEcho]:
    async with WsEcho(tmp_path_factory.mktemp("echo")) as echo:
        yield echo


@contextlib.asynccontextmanager
async def closed_network(
    folder: Path,
    authority: Authority,
    services: list[dict[str, Any]],
    proxy: ProxyServer | None = None,
    **server: Any,
) -> AsyncIterator[tuple[Stack, Agent, Network]]:
    """A stack whose agent reaches Caddy through a network, and nothing else.

    `server` are keys of the agent's `server`.
    """
    stack = Stack(
        folder / "stack", authority, agents={"home": services}, sections={"api": DEFAULT_API}
    )
    async with Network(stack.https_port) as network:
        agent = stack.agents["home"]
        way = {
            "address": f"127.0.0.1:{closed_port()}",
            "websocket_address": f"localhost:{network.port}",
            "connections": 1,
            **server,
        }
        if proxy is not None:
            proxy.names["localhost"] = network.port
            way |= {"address": "tunnel.test:8443", "proxy": proxy.url}
        agent.set_up(server=agent.config["server"] | way)
        async with stack:
            yield stack, agent, network


async def run(*words: str | Path) -> str:
    """Run a command of the agent's machine; return its output."""
    return (await run_product(*words)).out


async def status(agent: Agent) -> str:
    return await run("agent", "status", "--config", agent.path)


async def transfer(stack: Stack, size: int = LARGE) -> None:
    """Send a body through Caddy and fetch one."""
    body = random.randbytes(size)
    sent = await stack.caddy.request(APP, "POST", "/upload", [], body)
    assert (sent.status, sent.json()["sha256"]) == (200, hashlib.sha256(body).hexdigest())
    fetched = await stack.caddy.get(APP, f"/bytes/{size}")
    assert (fetched.status, fetched.body == pattern_bytes(size)) == (200, True)


@pytest.mark.parametrize("transport", ["auto", "websocket"])
async def test_everything_passes_port_443(
    transport: str, origin: Origin, ws_echo: WsEcho, tmp_path: Path, authority: Authority
) -> None:
    services = [service(APP, origin.port), service(WS, ws_echo.port)]
    async with closed_network(tmp_path, authority, services, transport=transport) as (
        stack,
        agent,
        network,
    ):
        await stack.wait_published(WS)
        assert network.connections == 1
        assert "(by WebSocket)" in await status(agent)
        await asyncio.gather(
            transfer(stack), transfer(stack), *(transfer(stack, 100) for _ in range(50))
        )
        async with stack.caddy.websocket(WS, max_size=None) as socket:
            for message in ("hello", random.randbytes(3_000_000)):
                await socket.send(message)
                assert await socket.recv() == message
        refused = "using a WebSocket: no direct connection"
        assert (refused in agent.process.text()) is (transport == "auto")
        # The server knows the address of the agent, not that of Caddy's connection.
        assert "peer=127.0.0.1:websocket" in stack.server.text()


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_proxy_that_lets_port_443_pass(
    kind: Literal["http", "socks5"], origin: Origin, tmp_path: Path, authority: Authority
) -> None:
    services = [service(APP, origin.port)]
    async with (
        ProxyServer(kind) as proxy,
        closed_network(tmp_path, authority, services, proxy) as (stack, agent, network),
    ):
        assert proxy.asked == ["tunnel.test:8443", f"localhost:{network.port}"]
        assert "(by WebSocket)" in await status(agent)
        await transfer(stack)
        proxy.reset()
        await transfer(stack)
        assert "reconnected" in agent.process.text()


async def test_a_broken_link_is_resumed(
    origin: Origin, ws_echo: WsEcho, tmp_path: Path, authority: Authority
) -> None:
    services = [service(APP, origin.port), service(WS, ws_echo.port)]
    async with closed_network(tmp_path, authority, services) as (stack, agent, network):
        await stack.wait_published(WS)
        async with stack.caddy.websocket(WS) as socket:
            for number in range(3):
                sending = asyncio.ensure_future(transfer(stack))
                network.reset()
                await sending
                await socket.send(str(number))
                assert await socket.recv() == str(number)
        assert agent.process.text().count("reconnected") >= 1
        assert "disconnected" not in agent.process.text()


async def test_a_session_moves_to_a_direct_connection(
    origin: Origin, ws_echo: WsEcho, tmp_path: Path, authority: Authority
) -> None:
    """While a WebSocket is open and a body is sent, the port opens: neither notices."""
    services = [service(APP, origin.port), service(WS, ws_echo.port)]
    stack = Stack(tmp_path / "stack", authority, agents={"home": services})
    async with Network(stack.tunnel_port) as direct:
        direct.swallow()
        agent = stack.agents["home"]
        way = {
            "address": f"127.0.0.1:{direct.port}",
            "websocket_address": f"localhost:{stack.https_port}",
        }
        agent.set_up(server=agent.config["server"] | way)
        async with stack, contextlib.AsyncExitStack() as open_sockets:
            await stack.wait_published(WS)
            socket = await open_sockets.enter_async_context(stack.caddy.websocket(WS))
            direct.give_back()
            number = 0

            async def has_moved() -> bool:
                nonlocal number
                number += 1
                await socket.send(str(number))
                assert await socket.recv() == str(number)
                await transfer(stack, 200_000)
                return "(by WebSocket)" not in await status(agent)

            await eventually(has_moved, "all sessions have moved", 60)
            await transfer(stack)
            assert "using a direct connection to the server again" in agent.process.text()
            assert "disconnected" not in agent.process.text()
            assert direct.connections


async def test_a_revoked_agent_is_cut_off(
    origin: Origin, tmp_path: Path, authority: Authority
) -> None:
    services = [service(APP, origin.port)]
    async with closed_network(tmp_path, authority, services, transport="websocket") as (
        stack,
        agent,
        _,
    ):
        command = Commands(stack.folder / "state" / "admin.sock")
        assert (await command("agents", "revoke", "home")).code == 0
        await agent.process.wait_line("disconnected.*NOT_ALLOWED")
        await stack.server.wait_line("agent refused|home.*revoked")
        response = await stack.plain.get(APP, "/")
        assert response.status in (404, 503)


async def test_joining_and_coming_back_by_port_443(
    origin: Origin, tmp_path: Path, authority: Authority
) -> None:
    issuer = {
        "cert_file": str(authority.folder / "issuer.crt"),
        "key_file": str(authority.folder / "issuer.key"),
        "agent_lifetime": "10s",
    }
    stack = Stack(tmp_path / "stack", authority, agents={}, sections={"authority": issuer})
    token, folder = tmp_path / "token", tmp_path / "machine"
    async with stack:
        command = Commands(stack.folder / "state" / "admin.sock")
        address = f"localhost:{closed_port()}"
        invited = await command(
            "tokens", "create", "--agent", "new", "--host", APP, "--server", address
        )
        token.write_text(invited.out)
        web_server = f"localhost:{stack.https_port}"
        way = ("--token-file", token, "--websocket-address", web_server)
        await run("agent", "join", *way, "--dir", folder)
        path = folder / "agent.yaml"
        text = path.read_text()
        assert f'\n  websocket_address: "{web_server}"\n' in text
        entry = f'services:\n  - hostname: "{APP}"\n    backend: "127.0.0.1:{origin.port}"\n'
        path.write_text(text.replace("services: []\n", entry))
        ends_at = ca_directory.load_certificate(folder / "agent.crt").not_valid_after_utc
        await eventually(
            lambda: datetime.datetime.now(datetime.UTC) > ends_at, "the certificate has expired", 20
        )
        words: list[str | Path] = [PRODUCT, "agent", "run", "--config", path]
        async with Process("new", words, log=tmp_path / "new.log") as process:
            await process.wait_line("certificate renewed")
            await stack.wait_published(APP, process=process)
            assert (await stack.caddy.get(APP, "/")).status == 200


# Clients that are no agents


@pytest.fixture(scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("strangers")
    async with Stack(folder / "stack", authority, agents={}) as stack:
        yield stack


def upgrade(**fields: str) -> list[tuple[str, str]]:
    """Return the fields of an opening handshake, with changes."""
    usual = {
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "0trust-tunnel-v1",
    }
    changed = {name.replace("_", "-"): value for name, value in fields.items()}
    return [*(usual | changed).items()]


async def opened(stack: Stack, *fields: tuple[str, str]) -> Client:
    """Return a client of the proxy API with an open WebSocket."""
    client = await stack.api.open("localhost")
    sent = [("Upgrade", "websocket"), ("Connection", "Upgrade"), *upgrade(), *fields]
    await client.send_head("GET", PATH, sent)
    assert (await client.read_head()).status == 101
    return client


async def test_no_websocket_no_tunnel(server: Stack) -> None:
    assert (await server.caddy.get("localhost", PATH)).status == 426
    # The address is reserved at the server's own host names only.
    assert (await server.api.get("elsewhere.localhost", PATH)).error_code == "unknown_host"
    assert (await server.api.get("localhost", PATH + "/")).error_code == "unknown_host"
    async with await server.api.open("localhost") as client:
        response = await client.upgrade(PATH, *upgrade(Sec_WebSocket_Protocol="chat"))
        assert response.status == 426


async def test_a_websocket_has_nothing_but_the_handshake(server: Stack) -> None:
    """Anything but TLS ends the connection, at once or after the time for a handshake."""
    hello = b"GET /metrics HTTP/1.1\r\n\r\n"
    inputs = {
        "another protocol": bytes((0x82, 0x80 | len(hello))) + bytes(4) + hello,
        "text": bytes((0x81, 0x84)) + bytes(4) + b"text",
        "no mask": bytes((0x82, 0x04)) + b"data",
        "a close frame": bytes((0x88, 0x80)) + bytes(4),
        "the end": b"",
        "silence": bytes((0x89, 0x80)) + bytes(4),
    }
    for name, data in inputs.items():
        async with await opened(server) as client:
            await client.send(data)
            if name == "the end":
                client.write_eof()
            await asyncio.wait_for(client.wait_end(), 30)
    await server.server.wait_line(r"agent refused.*127\.0\.0\.1 \(WebSocket\)")


async def test_an_identity_in_fields_counts_for_nothing(server: Stack) -> None:
    """The TLS inside a WebSocket asks for a certificate, whatever the request said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.authority.root)
    context.set_alpn_protocols([ALPN])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    caddy = ssl.create_default_context(cafile=server.caddy_root)
    async with connect(
        f"wss://localhost:{server.https_port}{PATH}",
        ssl=caddy,
        subprotocols=["0trust-tunnel-v1"],  # type: ignore[list-item]
        additional_headers={"X-Agent": "home", "X-0Trust-Agent": "home"},
    ) as socket:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await socket.send(outgoing.read())
                answer = await socket.recv()
                assert isinstance(answer, bytes)
                incoming.write(answer)
        await socket.send(outgoing.read())
        await asyncio.wait_for(socket.wait_closed(), 30)
    await server.server.wait_line("agent refused.*certificate")


async def test_a_flood_is_bounded(server: Stack, measured: Measured) -> None:
    """One network opens WebSockets that say nothing; another one still gets its handshakes."""
    flood = ("X-Real-IP", "192.0.2.66")
    clients = [await opened(server, flood) for _ in range(MAX_HANDSHAKES)]
    async with await opened(server, ("X-Real-IP", "198.51.100.7")) as other:
        # It has taken the place of the oldest one of the flood.
        await asyncio.wait_for(clients[0].wait_end(), 30)
        await other.send(bytes((0x89, 0x81)) + bytes(4) + b"?")
        assert await other.read_exactly(3) == bytes((0x8A, 0x01)) + b"?"
    measured(f"of {len(clients)} WebSockets without a handshake the oldest was cut for another")
    for client in clients:
        client.abort()
