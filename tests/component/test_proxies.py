"""Tests of agents that reach their server through a proxy only: HTTP CONNECT and SOCKS5."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.backends import Origin, WsEcho
from tests.support.commands import Commands, run_product
from tests.support.config_file import REFUSED, RELOADED, ConfigFile
from tests.support.ports import closed_port
from tests.support.processes import PRODUCT, Process
from tests.support.proxy_server import ProxyServer
from tests.support.stack import Authority, Service, Stack, service
from tests.support.waiting import eventually
from zerotrust.pki import ca_directory
from zerotrust.pki.issuer import ServerNames

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("proxies"),
]

APP, WS = "app.localhost", "ws.localhost"
SERVER = "tunnel.test"
"""Name of the server, which only proxies resolve."""
USER, PASSWORD = "anna", "pr0xy s3cret"
LIFE = "10s"
"""Lifetime of the certificates that the server issues."""
HTTPS = ("X-Forwarded-Proto", "https")
CONNECTIONS = 2

Kind = Literal["http", "socks5"]


class ProxiedStack(Stack):
    """A stack whose agent knows its server by a name that only proxies resolve."""

    def __init__(self, folder: Path, services: Mapping[str, Sequence[Service]]) -> None:
        authority = Authority(folder / "pki")
        names = ServerNames(dns=["localhost", SERVER], ip=["127.0.0.1"])
        ca_directory.issue_server(authority.folder, "server", names)
        issuer, key = map(str, authority.issuer)
        super().__init__(
            folder / "stack",
            authority,
            agents=services,
            with_caddy=False,
            sections={"authority": {"cert_file": issuer, "key_file": key, "agent_lifetime": LIFE}},
        )

    @property
    def address(self) -> str:
        return f"{SERVER}:{self.tunnel_port}"

    def connect_through(self, proxy: ProxyServer | None, **keys: Any) -> None:
        """Write the proxy into the agent's file."""
        agent = self.agents["agent-1"]
        server = {**agent.config["server"], "address": self.address, **keys}
        if proxy is not None:
            proxy.names[SERVER] = self.tunnel_port
            server["proxy"] = proxy.url
            if proxy.credentials is not None:
                path = self.folder / "proxy.password"
                path.write_text(f"{proxy.credentials[1]}\n")
                path.chmod(0o600)
                server["proxy_password_file"] = str(path)
        agent.set_up(server=server)


async def status_of(stack: Stack) -> str:
    """Return what `0trust agent status` prints."""
    done = await run_product("agent", "status", "--config", stack.agents["agent-1"].path)
    return done.out + done.err


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_the_tunnel_through_a_proxy(tmp_path: Path, kind: Kind) -> None:
    """A broken connection to the proxy costs a WebSocket nothing."""
    async with (
        Origin(tmp_path) as origin,
        WsEcho(tmp_path) as ws,
        ProxyServer(kind, credentials=(USER, PASSWORD)) as proxy,
    ):
        services = [service(APP, origin.port), service(WS, ws.port)]
        stack = ProxiedStack(tmp_path, {"agent-1": services})
        stack.connect_through(proxy)
        async with stack, stack.api.websocket(WS) as socket:
            await eventually(lambda: proxy.carried == CONNECTIONS, "both connections")
            assert set(proxy.asked) == {stack.address}
            for turn in range(3):
                carried = proxy.carried
                await socket.send(f"before {turn}")
                proxy.reset()
                await socket.send(f"after {turn}")
                assert [await socket.recv(), await socket.recv()] == [
                    f"before {turn}",
                    f"after {turn}",
                ]
                assert (await stack.api.get(APP, "/bytes/500000", HTTPS)).status == 200
                assert proxy.carried > carried
            said = await status_of(stack)
            assert f"through proxy {kind}://{USER}@127.0.0.1:{proxy.port} (server.proxy)" in said
            agent = stack.agents["agent-1"].process
            command_line = Path(f"/proc/{agent.pid}/cmdline").read_text()
            assert PASSWORD not in said + agent.text() + command_line
            assert "using a proxy" in agent.text()


async def test_the_environment_names_the_proxy(tmp_path: Path) -> None:
    async with Origin(tmp_path) as origin, ProxyServer(credentials=(USER, "p@ss")) as proxy:
        stack = ProxiedStack(tmp_path, {"agent-1": [service(APP, origin.port)]})
        stack.connect_through(None)
        proxy.names[SERVER] = stack.tunnel_port
        agent = stack.agents["agent-1"]
        url = f"http://{USER}:p%40ss@127.0.0.1:{proxy.port}"
        agent.process = Process(
            "agent-1",
            agent.process.argv,
            log=agent.process.log,
            env={"https_proxy": url, "no_proxy": "example.com,10.0.0.0/8"},
        )
        async with stack:
            assert (await stack.api.get(APP, "/bytes/5", HTTPS)).status == 200
            assert proxy.asked
            assert "(https_proxy)" in await status_of(stack)
            assert "p%40ss" not in agent.process.text() and "p@ss" not in agent.process.text()


@pytest.fixture(scope="module")
async def refused(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProxiedStack]:
    """A running server; each test starts the agent, with a proxy of its own."""
    folder = tmp_path_factory.mktemp("refused")
    async with Origin(folder) as origin:
        stack = ProxiedStack(folder, {"agent-1": [service(APP, origin.port)]})
        async with stack.server:
            await stack.wait_server()
            yield stack


@pytest.mark.parametrize(
    ("kind", "answer", "said"),
    [
        ("http", b"HTTP/1.1 407 No\r\n\r\n", "refuses the user or the password (407)"),
        ("http", b"HTTP/1.1 403 No\r\n\r\n", "does not allow tunnel.test:"),
        ("http", b"HTTP/1.1 502 No\r\n\r\n", "cannot connect to tunnel.test:"),
        ("http", b"", "refuses the user or the password (407)"),
        ("socks5", b"", "refuses the user or the password"),
        ("socks5", b"\x05\x00\x05\x02\x00", "does not allow tunnel.test:"),
    ],
)
async def test_a_refusal_is_one_line_and_the_agent_tries_again(
    refused: ProxiedStack, kind: Kind, answer: bytes, said: str
) -> None:
    """Without a given answer, the proxy knows another password."""
    async with ProxyServer(kind, credentials=(USER, PASSWORD), answer=answer) as proxy:
        refused.connect_through(proxy)
        proxy.credentials = (USER, "another")
        agent = refused.agents["agent-1"].process
        begins = agent.position()
        async with agent:
            line = (await agent.wait_line(r"cannot connect.*", since=begins)).group()
            assert f"proxy {proxy.url} (server.proxy) {said}" in line
            proxy.answer, proxy.credentials = b"", (USER, PASSWORD)
            await refused.wait_published(APP, process=agent)
            text = agent.text(begins)
            assert "Traceback" not in text and PASSWORD not in text


async def test_a_proxy_that_hangs(tmp_path: Path) -> None:
    async with Origin(tmp_path) as origin, ProxyServer(hangs=True) as proxy:
        stack = ProxiedStack(tmp_path, {"agent-1": [service(APP, origin.port)]})
        # With a second address, an attempt takes 4 s at most.
        stack.connect_through(proxy, addresses=[f"{SERVER}:1"])
        agent = stack.agents["agent-1"].process
        async with stack.server, agent:
            await stack.wait_server()
            await agent.wait_line(r"cannot connect.*did not connect to tunnel.test:\d+ within 4 s")
            proxy.hangs = False
            proxy.reset()
            await stack.wait_published(APP, process=agent)


@dataclass
class Reloaded:
    """A stack with a WebSocket, a proxy that it uses, and another one."""

    stack: ProxiedStack
    file: ConfigFile
    used: ProxyServer
    other: ProxyServer


@contextlib.asynccontextmanager
async def reloaded(folder: Path) -> AsyncIterator[Reloaded]:
    async with (
        WsEcho(folder) as ws,
        ProxyServer(credentials=(USER, PASSWORD)) as used,
        ProxyServer("socks5") as other,
    ):
        stack = ProxiedStack(folder, {"agent-1": [service(WS, ws.port)]})
        stack.connect_through(used)
        other.names = used.names
        agent = stack.agents["agent-1"]
        file = ConfigFile(agent.process, agent.path, agent.config)
        async with stack:
            await eventually(lambda: used.carried == CONNECTIONS, "both connections")
            yield Reloaded(stack, file, used, other)


async def test_a_reload_changes_the_proxy(tmp_path: Path) -> None:
    async with reloaded(tmp_path) as case, case.stack.api.websocket(WS) as socket:
        server = case.file.config["server"]
        password = server.pop("proxy_password_file")
        server["proxy"] = case.other.url
        await case.file.tell(case.file.replace, RELOADED)
        await eventually(lambda: case.other.carried >= CONNECTIONS, "the other proxy is used")
        assert f"proxy {case.other.url} (server.proxy)" in await status_of(case.stack)
        await socket.send("still here")
        assert await socket.recv() == "still here"

        server["proxy"] = f"http://127.0.0.1:{closed_port()}"
        (line,) = await case.file.tell(case.file.replace, REFUSED)
        assert "cannot be reached: connection refused" in str(line)
        await socket.send("still here")
        assert await socket.recv() == "still here"

        server |= {"proxy": case.used.url, "proxy_password_file": password}
        carried = case.used.carried
        await case.file.tell(case.file.replace, RELOADED)
        await eventually(lambda: case.used.carried > carried, "the first proxy is used again")


async def test_a_new_password_is_taken_up(tmp_path: Path) -> None:
    async with reloaded(tmp_path) as case:
        carried = case.used.carried
        case.used.credentials = (USER, "another")
        path = Path(case.file.config["server"]["proxy_password_file"])
        await case.file.tell(lambda: path.write_text("another\n"), RELOADED)
        await eventually(lambda: case.used.carried >= carried + CONNECTIONS, "by the new password")
        assert "another" not in case.stack.agents["agent-1"].process.text()


async def join(
    folder: Path, token: str, *options: str, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Join with the token on standard input; return exit status and output."""
    words = ["agent", "join", "-", "--dir", str(folder), *options]
    done = await run_product(*words, stdin=token, env=env)
    return done.code, done.out + done.err


def agent_of(folder: Path) -> Process:
    """Return an agent that runs with the files that joining wrote."""
    command: list[str | Path] = [PRODUCT, "agent", "run", "--config", folder / "agent.yaml"]
    return Process("home", command, log=folder.with_suffix(".log"))


async def token_for(stack: ProxiedStack, agent: str) -> str:
    command = Commands(stack.folder / "state" / "admin.sock")
    words = ["--agent", agent, "--host", f"{agent}.example", "--server", stack.address]
    return (await command("tokens", "create", *words)).out


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_joining_and_an_expired_certificate(tmp_path: Path, kind: Kind) -> None:
    """The files that joining writes make the agent use the proxy, also for an expired renewal."""
    async with (
        Origin(tmp_path) as origin,
        ProxyServer(kind, credentials=(USER, PASSWORD)) as proxy,
    ):
        stack = ProxiedStack(tmp_path, {})
        proxy.names[SERVER] = stack.tunnel_port
        async with stack:
            token, folder = await token_for(stack, "home"), tmp_path / "home"
            code, said = await join(folder, token, "--proxy", proxy.url)
            assert code == 1 and "\n" not in said.strip() and "Traceback" not in said
            assert f"proxy {proxy.url} (server.proxy) refuses the user or the password" in said
            (tmp_path / "password").write_text(f"{PASSWORD}\n")
            options = ["--proxy-password-file", str(tmp_path / "password")]
            code, said = await join(folder, token, "--proxy", proxy.url, *options)
            assert code == 0, said
            assert PASSWORD not in said + (folder / "agent.yaml").read_text()

            certificate = ca_directory.load_certificate(folder / "agent.crt")
            await eventually(
                lambda: datetime.now(UTC) > certificate.not_valid_after_utc, "it has expired", 30
            )
            text = (folder / "agent.yaml").read_text()
            entry = f"[{{hostname: home.example, backend: '127.0.0.1:{origin.port}'}}]"
            (folder / "agent.yaml").write_text(
                text.replace("\nservices: []", f"\nservices: {entry}")
            )
            asked = len(proxy.asked)
            async with agent_of(folder) as agent:
                await agent.wait_line("certificate renewed")
                await stack.wait_published("home.example", process=agent)
            assert len(proxy.asked) > asked + 1


async def test_joining_by_the_environment(tmp_path: Path) -> None:
    async with ProxyServer(credentials=(USER, PASSWORD)) as proxy:
        stack = ProxiedStack(tmp_path, {})
        proxy.names[SERVER] = stack.tunnel_port
        async with stack:
            token, folder = await token_for(stack, "home"), tmp_path / "home"
            url = f"http://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{proxy.port}"
            code, said = await join(folder, token, env={"ALL_PROXY": url})
            assert code == 0, said
            assert f"proxy {proxy.url} (ALL_PROXY): written to" in said
            async with agent_of(folder) as agent:
                await agent.wait_line("connected")
