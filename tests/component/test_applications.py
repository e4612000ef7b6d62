"""Tests of well-known applications: each works through Caddy, server and agent as it does directly.

Litmus tests a WebDAV server, git pushes and clones, Socket.IO changes from long polling to a
WebSocket, and `ws` of Node compresses large messages.
"""

import asyncio
import os
import random
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import node_packages
from tests.support.backends import Backend
from tests.support.node_packages import NodeServer
from tests.support.ports import free_port
from tests.support.stack import Authority, Stack, service

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("applications"),
]


class WsgiBackend(Backend):
    """`tests.support.wsgi_backend`."""

    module = "tests.support.wsgi_backend"


@pytest.fixture(scope="module")
def node() -> Path:
    """Return the folder with the programs of Node."""
    return node_packages.install()


async def run(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a program to its end; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in command),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(240):
        printed, _ = await process.communicate()
    text = printed.decode(errors="replace")
    assert process.returncode == 0, text
    return text


def results(litmus: str) -> list[str]:
    """Return the results of all tests of litmus, without its progress and times."""
    return re.findall(r"^(?:\s*\d+\. .*|<- summary .*|-> .*)$", litmus.replace("\r", "\n"), re.M)


async def test_webdav(tmp_path: Path, authority: Authority) -> None:
    """Litmus resolves only real names, so the service has the name localhost, over http."""
    (tmp_path / "files").mkdir()
    async with WsgiBackend(tmp_path, "--folder", str(tmp_path / "files"), "dav") as dav:
        services = [service("localhost", dav.port, listen_on="http")]
        async with Stack(tmp_path / "s", authority, agents={"agent-1": services}) as stack:
            direct = results(
                await run("litmus", "-k", f"http://localhost:{dav.port}/", cwd=tmp_path)
            )
            through = results(await run("litmus", "-k", stack.plain.url("localhost"), cwd=tmp_path))
    assert len([line for line in direct if line.startswith("<- summary")]) == 5
    assert not [line for line in direct if "FAIL" in line]
    assert through == direct


async def test_git(tmp_path: Path, authority: Authority) -> None:
    """A push of 16 MB is one chunked request; a clone is one chunked answer."""
    (tmp_path / "bare").mkdir()
    await run("git", "init", "-q", "--bare", tmp_path / "bare/app.git")
    work, content = tmp_path / "work", random.randbytes(16_000_000)
    await run("git", "init", "-q", work)
    (work / "content").write_bytes(content)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.compression=0"]
    await run(*git, "add", "content", cwd=work)
    await run(*git, "commit", "-q", "-m", "16 MB", cwd=work)
    async with WsgiBackend(tmp_path, "--folder", str(tmp_path / "bare"), "git") as backend:
        services = [service("git.localhost", backend.port)]
        async with Stack(tmp_path / "s", authority, agents={"agent-1": services}) as stack:
            url = stack.caddy.url("git.localhost", "/app.git")
            env = {"GIT_SSL_CAINFO": str(stack.caddy_root), "GIT_TERMINAL_PROMPT": "0"}
            await run(*git, "push", "-q", url, "HEAD:refs/heads/main", cwd=work, env=env)
            await run(
                *git, "clone", "-q", "-b", "main", url, tmp_path / "cloned", cwd=tmp_path, env=env
            )
    assert (tmp_path / "cloned/content").read_bytes() == content


async def test_socket_io_over_two_upstreams(
    tmp_path: Path, authority: Authority, node: Path
) -> None:
    ports = [free_port(), free_port()]
    async with (
        NodeServer(tmp_path, node / "socketio_server.js", ports[0], "one"),
        NodeServer(tmp_path, node / "socketio_server.js", ports[1], "two"),
    ):
        entry = service("io.localhost", ports[0], load_balancing={"session_affinity": True}) | {
            "upstreams": [{"address": f"127.0.0.1:{port}"} for port in ports]
        }
        async with Stack(tmp_path / "s", authority, agents={"agent-1": [entry]}) as stack:
            printed = await run(
                "node",
                node / "socketio_client.js",
                stack.caddy.url("io.localhost"),
                "8",
                env={"NODE_EXTRA_CA_CERTS": str(stack.caddy_root)},
            )
    visits = [line.split() for line in printed.splitlines()]
    assert {polled for polled, *_ in visits} == {"one", "two"}, "both upstreams had clients"
    assert visits == [[polled, polled, "websocket", "equal"] for polled, *_ in visits]
    assert len(visits) == 8


async def test_compressed_messages_of_40_mib(
    tmp_path: Path, authority: Authority, node: Path
) -> None:
    port = free_port()
    async with NodeServer(tmp_path, node / "ws_echo.js", port):
        services = [service("ws.localhost", port)]
        async with Stack(tmp_path / "s", authority, agents={"agent-1": services}) as stack:
            client: list[str | Path] = ["node", node / "ws_client.js"]
            direct = await run(*client, f"ws://ws.localhost:{port}/")
            through = await run(
                *client,
                stack.caddy.url("ws.localhost").replace("https:", "wss:"),
                env={"NODE_EXTRA_CA_CERTS": str(stack.caddy_root)},
            )
    assert direct.splitlines()[-2:] == [f"{40 << 20} bytes: equal", "closed: 1000"]
    assert direct.startswith("extensions: permessage-deflate")
    assert through == direct
