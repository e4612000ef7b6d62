"""Tests of agents: connect, disconnect, reconnect, authentication, changing services."""

import asyncio
import re
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.conftest import Measured
from tests.support.backends import Origin, WsEcho
from tests.support.client import Response
from tests.support.ports import free_port
from tests.support.stack import Agent, Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(60),
    pytest.mark.xdist_group("agents"),
]

APP, WS = "app.localhost", "ws.localhost"


@pytest.fixture(scope="module")
async def origin(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Origin]:
    async with Origin(tmp_path_factory.mktemp("origin")) as origin:
        yield origin


@pytest.fixture(scope="module")
async def ws(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WsEcho]:
    async with WsEcho(tmp_path_factory.mktemp("ws")) as ws:
        yield ws


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, origin: Origin, ws: WsEcho
) -> AsyncIterator[Stack]:
    services = [service(APP, origin.port), service(WS, ws.port)]
    # Agents that are killed here are to be missed soon.
    short = {"server": {"resume_timeout": "3s"}, "api": {"hold_timeout": "1s"}}
    folder = tmp_path_factory.mktemp("agents")
    async with Stack(folder, authority, agents={"agent-1": services}, sections=short) as stack:
        yield stack


@pytest.fixture
async def agent(stack: Stack) -> AsyncIterator[Agent]:
    """The agent, running; a test that ends it need not start it again."""
    agent = stack.agents["agent-1"]
    if not agent.process.is_alive:
        agent.process.start()
    await stack.wait_agent(agent)
    yield agent


async def wait_status(stack: Stack, host: str, status: int, *, timeout: float = 10.0) -> Response:
    async def look() -> Response | None:
        response = await stack.api.get(host, "/bytes/1")
        return response if response.status == status else None

    found = await eventually(look, f"{host} answers {status}", timeout)
    assert found
    return found


async def echoes(socket: ClientConnection, message: str) -> bool:
    async with asyncio.timeout(10):
        await socket.send(message)
        return await socket.recv() == message


# Coming and going


async def test_agent_killed_and_returned(stack: Stack, agent: Agent) -> None:
    assert (await stack.caddy.get(APP, "/bytes/1")).status == 200  # Caddy has its certificate now
    waiting = await stack.api.open(APP)
    await waiting.send_head("GET", "/never")
    async with stack.caddy.websocket(WS) as socket:
        assert await echoes(socket, "before")
        agent.process.kill()
        async with asyncio.timeout(8):
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012, "come back, when the agent has not"
    assert (await waiting.read_response()).error_code == "agent_lost"
    waiting.abort()
    assert (await wait_status(stack, APP, 503)).error_code == "no_agent"
    assert (await stack.caddy.get(APP, "/bytes/1")).status == 503
    agent.process.start()
    await wait_status(stack, APP, 200)
    async with stack.caddy.websocket(WS) as socket:
        assert await echoes(socket, "after")


async def test_agent_stops_politely(stack: Stack, agent: Agent) -> None:
    begun_at = time.monotonic()
    assert await agent.process.stop() == 0
    assert time.monotonic() - begun_at < 10
    await wait_status(stack, APP, 503, timeout=2)


async def test_agent_that_falls_silent_is_noticed(stack: Stack, agent: Agent) -> None:
    """No FIN and no RST, as if a router lost its state: missed pings detect it within 15 s."""
    agent.process.send_signal(signal.SIGSTOP)
    try:
        begun_at = time.monotonic()
        async with await stack.api.open(APP, patience=25) as client:
            response = await client.get("/bytes/1")
        assert response.error_code in ("agent_lost", "no_agent")
        await wait_status(stack, APP, 503, timeout=5)
        assert time.monotonic() - begun_at < 21
    finally:
        agent.process.send_signal(signal.SIGCONT)
    await wait_status(stack, APP, 200)


async def test_newest_session_of_an_agent_wins(
    stack: Stack, agent: Agent, origin: Origin, tmp_path: Path
) -> None:
    """The first process hangs; a second one with its certificate takes over and stays."""
    async with Origin(tmp_path) as other:
        second = stack.make_agent("agent-1", [service(APP, other.port)], file="agent-1-again")
        agent.process.send_signal(signal.SIGSTOP)
        try:
            async with second.process:

                async def served_by_second() -> bool:
                    async with await stack.api.open(APP, patience=1) as client:
                        try:
                            await client.get("/echo")
                        except TimeoutError:
                            return False
                    return bool((await other.stats())["requests"])

                await eventually(served_by_second, "the second process serves", 10)
                agent.process.send_signal(signal.SIGCONT)
                before = (await origin.stats())["requests"]
                for _ in range(20):
                    assert (await stack.api.get(APP, "/echo")).status == 200
                    await asyncio.sleep(0.1)
                agent.process.kill()
                for _ in range(10):
                    assert (await stack.api.get(APP, "/echo")).status == 200
                    await asyncio.sleep(0.05)
                assert (await origin.stats())["requests"] == before, "the sessions took turns"
                second.process.kill()
                await wait_status(stack, APP, 503)
        finally:
            agent.process.kill()


async def test_server_killed_and_returned(stack: Stack, agent: Agent) -> None:
    stack.server.kill()
    stack.server.start()
    await stack.wait_server()
    await stack.wait_agent(agent)
    assert (await stack.caddy.get(APP, "/bytes/1")).status == 200
    async with stack.caddy.websocket(WS) as socket:
        assert await echoes(socket, "after")


async def test_agents_share_a_host_and_one_that_is_lost_takes_nothing_along(
    stack: Stack, agent: Agent, origin: Origin, tmp_path: Path
) -> None:
    async with Origin(tmp_path) as other:
        second = stack.make_agent(
            "agent-2", [service(APP, other.port), service("only-2.localhost", other.port)]
        )
        async with second.process:
            await stack.wait_published("only-2.localhost")
            before = (await origin.stats())["served"].get("echo", 0)
            for _ in range(10):
                await stack.api.get(APP, "/echo")
            assert (await origin.stats())["served"]["echo"] == before + 5
            assert (await other.stats())["served"]["echo"] == 5
            agent.process.kill()
            await stack.server.wait_line("agent disconnected; session kept for resume.*agent-1")
            for _ in range(10):
                assert (await stack.api.get(APP, "/echo")).status == 200
            assert (await other.stats())["served"]["echo"] == 15


# Backends


async def test_backend_comes_later(stack: Stack, agent: Agent, tmp_path: Path) -> None:
    port = free_port()
    services = agent.services
    agent.set_services([*services, service("later.localhost", port)])
    await stack.wait_published("later.localhost")
    assert (await stack.api.get("later.localhost", "/bytes/1")).error_code == "upstream_unreachable"
    async with Origin(tmp_path, port=port):
        assert (await stack.caddy.get("later.localhost", "/bytes/1")).status == 200
    assert (await stack.api.get("later.localhost", "/bytes/1")).status == 502
    agent.set_services(services)
    assert (await wait_status(stack, "later.localhost", 404)).error_code == "unknown_host"


# Trust


def connect(
    port: int, authority: Authority, credentials: tuple[Path, Path] | None, **changes: object
) -> str:
    """Connect to the agent listener as a stranger; return how the server ends it, "" for EOF."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.root)
    context.set_alpn_protocols(["0trust/1"])
    if credentials:
        context.load_cert_chain(*credentials)
    for name, value in changes.items():
        setattr(context, name, value)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as tls:
                heard = tls.recv(100)
                assert not heard, f"the server spoke to a stranger: {heard!r}"
    except (ssl.SSLError, ConnectionError) as error:
        return str(error)
    return ""


async def refusals(stack: Stack, since: int) -> list[str]:
    await stack.server.wait_line("agent refused", since=since)
    return re.findall(r".*agent refused.*", stack.server.text(since))


async def test_no_certificate(stack: Stack, authority: Authority) -> None:
    since = stack.server.position()
    await asyncio.to_thread(connect, stack.tunnel_port, authority, None)
    (line,) = await refusals(stack, since)
    assert "certificate" in line.lower()


async def test_certificate_of_a_foreign_authority(
    stack: Stack, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The name is right, the issuer is not."""
    foreign = Authority(tmp_path_factory.mktemp("foreign"))
    since = stack.server.position()
    await asyncio.to_thread(connect, stack.tunnel_port, authority, foreign.agent("agent-1"))
    (line,) = await refusals(stack, since)
    assert "certificate" in line.lower()


async def test_certificate_of_a_server(stack: Stack, authority: Authority) -> None:
    """Our own authority issued it, but not to an agent."""
    since = stack.server.position()
    await asyncio.to_thread(connect, stack.tunnel_port, authority, authority.server())
    (line,) = await refusals(stack, since)
    assert "certificate" in line.lower() or "purpose" in line.lower()


async def test_old_tls(stack: Stack, authority: Authority) -> None:
    since = stack.server.position()
    credentials = authority.agent("agent-1")
    old = ssl.TLSVersion.TLSv1_2
    assert await asyncio.to_thread(
        connect, stack.tunnel_port, authority, credentials, maximum_version=old
    )
    assert len(await refusals(stack, since)) == 1


async def test_intruding_agent_is_told_why(
    stack: Stack, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An agent with a foreign certificate logs the reason, and its host is not served."""
    foreign = Authority(tmp_path_factory.mktemp("intruder"))
    intruder = stack.make_agent(
        "intruder",
        [service("intruder.localhost", origin.port)],
        credentials=foreign.agent("intruder"),
    )
    async with intruder.process:
        await intruder.process.wait_line(r"(?i)certificate|refused|authority")
        assert (await stack.api.get("intruder.localhost", "/")).error_code == "unknown_host"


async def test_agent_with_another_agents_id(stack: Stack, authority: Authority) -> None:
    impostor = stack.make_agent(
        "agent-1", [], credentials=authority.agent("agent-3"), file="impostor"
    )
    async with impostor.process:
        assert await impostor.process.wait_exit() != 0
    text = impostor.process.text()
    assert "agent-1" in text
    assert "agent-3" in text
    assert "Traceback" not in text


# Services come and go


async def keep_talking(socket: ClientConnection, stop: asyncio.Event) -> int:
    """Echoes until told to stop; raises if the connection drops."""
    count = 0
    while not stop.is_set():
        assert await echoes(socket, f"message {count}")
        count += 1
        await asyncio.sleep(0.5)
    assert await echoes(socket, "the last")
    return count


@pytest.mark.timeout(150)
async def test_hundred_services_come_and_go_beside_two_hundred_sockets(
    stack: Stack, agent: Agent, origin: Origin, measured: Measured
) -> None:
    base = agent.services
    extra = [service(f"extra-{number}.localhost", origin.port) for number in range(100)]
    sockets = [await stack.caddy.websocket(WS) for _ in range(200)]
    stop = asyncio.Event()
    talks = [asyncio.create_task(keep_talking(one, stop)) for one in sockets]
    for count in range(10, 101, 10):
        agent.set_services([*base, *extra[:count]])
        await stack.wait_published(f"extra-{count - 1}.localhost")
        assert (await stack.caddy.get(f"extra-{count - 1}.localhost", "/bytes/1")).status == 200
    for number in (0, 37, 99):
        assert (await stack.api.get(f"extra-{number}.localhost", "/bytes/1")).status == 200
    for count in range(90, -1, -10):
        agent.set_services([*base, *extra[:count]])
        await wait_status(stack, f"extra-{count}.localhost", 404)
    stop.set()
    counts = await asyncio.gather(*talks)
    assert len(counts) == 200
    measured(
        f"100 services added and removed; 200 WebSockets through Caddy: none dropped, {sum(counts)}"
        " echoes"
    )
    for one in sockets:
        await one.close()


async def test_service_with_a_wrong_part_keeps_its_last_good_version(
    stack: Stack, agent: Agent
) -> None:
    services = agent.services
    since = agent.process.position()
    agent.set_services([{**services[0], "upstreams": 7}, *services[1:]])
    try:
        await agent.process.wait_line(r"keep their last good version.*upstreams", since=since)
        assert (await stack.api.get(APP, "/bytes/1")).status == 200
    finally:
        agent.set_services(services)
    await stack.wait_agent(agent)


async def test_file_that_cannot_be_read_changes_nothing(stack: Stack, agent: Agent) -> None:
    good = agent.path.read_text()
    since = agent.process.position()
    agent.path.write_text("services: [{hostname: app.localhost, upstreams: 7}]\n")
    agent.process.send_signal(signal.SIGHUP)
    try:
        await agent.process.wait_line(r"not reloaded, the last good one stays", since=since)
        assert agent.process.is_alive
        assert (await stack.api.get(APP, "/bytes/1")).status == 200
    finally:
        agent.path.write_text(good)
    agent.set_services(agent.services)
    await stack.wait_agent(agent)
