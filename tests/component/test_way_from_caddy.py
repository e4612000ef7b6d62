"""Tests of the way from Caddy to the server: nobody else on the machine can pose as Caddy."""

import asyncio
import json
import os
import re
import signal
import ssl
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import Origin, WsEcho
from tests.support.client import Client
from tests.support.entrypoint import Entrypoint
from tests.support.ports import free_port
from tests.support.processes import PRODUCT, ROOT, Process, wait_port
from tests.support.stack import DEFAULT_API, Authority, Stack, service
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("way_from_caddy"),
]

APP, WS, HTTP = "app.localhost", "ws.localhost", "http.localhost"
CLIENT = "127.0.0.5"
"""Address from which tests connect to Caddy, to tell it from Caddy's own."""
FORGED = [("X-Forwarded-For", "1.2.3.4"), ("X-Real-IP", "1.2.3.4"), ("X-Forwarded-Proto", "https")]
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@asynccontextmanager
async def serving(folder: Path, api: Mapping[str, Any], **caddy: Any) -> AsyncIterator[Stack]:
    """Run a stack with services for https, for http and for WebSockets.

    Args:
        api: keys that replace those of a stack; None stands for the default.
        caddy: keys that are added to the section of the managed Caddy.
    """
    async with Origin(folder) as origin, WsEcho(folder) as ws:
        services = [
            service(APP, origin.port),
            service(HTTP, origin.port, listen_on="http"),
            service(WS, ws.port),
        ]
        stack = Stack(
            folder / "stack",
            Authority(folder / "pki"),
            agents={"agent-1": services},
            sections={"api": api},
        )
        path = stack.folder / "server.yaml"
        config = json.loads(path.read_text())
        config["caddy"] |= caddy
        path.write_text(json.dumps(config))
        async with stack:
            yield stack


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    """A server with the defaults, in folders that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="0trust-way-") as name:
        folder = Path(name)
        async with serving(folder, DEFAULT_API) as stack:
            for one in (folder, stack.folder, stack.folder / "state"):
                one.chmod(0o755)
            yield stack


@pytest.fixture(scope="module")
async def at_a_port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server with a port for Caddy, as files before had it; Caddy logs everything."""
    folder = tmp_path_factory.mktemp("port")
    logging = {"level": "DEBUG", "output": str(folder / "caddy.log")}
    async with serving(folder, {"trusted_proxies": None}, logging=logging) as stack:
        yield stack


def secret_of(stack: Stack) -> str:
    return (stack.folder / "state" / "proxy-secret").read_text()


async def seen(client: Client, *fields: tuple[str, str]) -> dict[str, list[str]]:
    """Return the fields that the backend gets of a request; name its status if it is not 200."""
    response = await client.get("/any", *fields)
    if response.status != 200:
        return {"status": [str(response.status)]}
    found: dict[str, list[str]] = {}
    for name, value in response.json()["fields"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def told(fields: dict[str, list[str]]) -> tuple[list[str], list[str], list[str]]:
    """Return what a backend is told about its client."""
    return fields["x-forwarded-for"], fields["x-real-ip"], fields["x-forwarded-proto"]


async def works(stack: Stack) -> None:
    """Check that clients of Caddy are what they are, by HTTP and WebSocket."""
    async with await stack.caddy.open(APP, address=CLIENT) as client:
        assert told(await seen(client, *FORGED)) == ([CLIENT], [CLIENT], ["https"])
    async with await stack.plain.open(HTTP, address=CLIENT) as client:
        assert told(await seen(client, *FORGED)) == ([CLIENT], [CLIENT], ["http"])
    async with stack.caddy.websocket(WS) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


# The socket, by default


async def test_by_default_caddy_comes_by_a_socket(stack: Stack) -> None:
    path = stack.folder / "state" / "api.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConnectionRefusedError):
        await Client.open(stack.api.port, host=APP)
    await works(stack)


@as_root
async def test_another_user_cannot_open_the_socket(stack: Stack) -> None:
    path = stack.folder / "state" / "api.sock"
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    connect = ["/usr/bin/env", "python3", "-c", code]
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    assert subprocess.run(connect, check=False).returncode == 0
    done = subprocess.run([*become, *connect], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


async def test_a_second_server_takes_nothing_from_the_first(stack: Stack) -> None:
    config = json.loads((stack.folder / "server.yaml").read_text())
    config["server"]["listen_addr"] = f"127.0.0.1:{free_port()}"
    path = stack.folder / "second.yaml"
    path.write_text(json.dumps(config))
    command: list[str | Path] = [PRODUCT, "server", "run", "--config", path]
    async with Process("second", command, log=stack.folder / "second.log") as second:
        assert await second.wait_exit() == 1
    socket = stack.folder / "state" / "api.sock"
    assert (
        f"api.listen_addr: cannot listen on unix:{socket}: another process listens there"
        in second.text()
    )
    await works(stack)


async def test_a_restart_after_a_crash(stack: Stack) -> None:
    path = stack.folder / "state" / "api.sock"
    stack.server.kill()
    assert path.is_socket(), "a crash leaves it"
    await start_again(stack)
    await works(stack)
    stack.server.send_signal(signal.SIGTERM)
    assert await stack.server.wait_exit() == 0
    assert not path.exists()
    await start_again(stack)
    await works(stack)


async def start_again(stack: Stack) -> None:
    """Start the server; the log says when its Caddy runs, and not the one of before."""
    since = stack.server.position()
    stack.server.start()
    await stack.server.wait_line("server ready", since=since, timeout=60)
    await stack.wait_agent(stack.agents["agent-1"])


async def test_a_folder_with_too_long_a_path(tmp_path: Path) -> None:
    stack = Stack(
        tmp_path / ("deep" * 25),
        Authority(tmp_path / "pki"),
        agents={},
        sections={"api": DEFAULT_API},
    )
    async with stack.server as server:
        assert await server.wait_exit() == 1
    assert re.search(
        r"api\.listen_addr: cannot listen on unix:.*/state/api\.sock: the path has \d+ bytes, and"
        r" the system allows 107; write a shorter one, or a shorter state\.dir$",
        server.text(),
        re.MULTILINE,
    )


# A port


async def test_at_a_port_caddy_is_believed_and_nobody_else(at_a_port: Stack) -> None:
    await works(at_a_port)
    secret = secret_of(at_a_port)
    wrong = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    since = at_a_port.server.position()
    for shown in ([], [wrong], [wrong], [secret, secret], [""]):
        fields = [*FORGED, *(("X-0Trust-Proxy-Secret", one) for one in shown)]
        async with await at_a_port.api.open(APP) as client:
            assert await seen(client, *fields) == {"status": ["301"]}
        async with await at_a_port.api.open(HTTP) as client:
            assert told(await seen(client, *fields)) == (["127.0.0.1"], ["127.0.0.1"], ["http"])
    log = at_a_port.server.text(since)
    assert log.count("a proxy sent a wrong secret, and counts as a client") == 1
    assert wrong not in log


async def test_whoever_has_the_secret_is_believed(at_a_port: Stack) -> None:
    shown = ("X-0Trust-Proxy-Secret", secret_of(at_a_port))
    async with await at_a_port.api.open(APP) as client:
        fields = await seen(client, *FORGED, shown)
        assert told(fields) == (["1.2.3.4"], ["1.2.3.4"], ["https"])
        assert not [name for name in fields if "secret" in name]
        # One connection of Caddy carries many clients: each request counts for itself.
        assert await seen(client, *FORGED) == {"status": ["301"]}


async def test_the_secret_is_shown_to_the_server_alone(at_a_port: Stack) -> None:
    secret = secret_of(at_a_port)
    async with await at_a_port.caddy.open(APP) as client:
        assert secret not in str(await seen(client, ("X-0Trust-Proxy-Secret", "mine")))
    assert (await at_a_port.plain.get("unknown.localhost", "/")).status == 404
    await eventually(
        lambda: "upstream roundtrip" in log_of_caddy(at_a_port), "Caddy logs its requests"
    )
    assert secret not in log_of_caddy(at_a_port)
    assert secret not in at_a_port.server.text()
    file = at_a_port.folder / "server.yaml"
    for words in (("caddy", "render"), ("config", "check", "--verbose")):
        given = [file] if words[0] == "config" else ["--config", file]
        done = subprocess.run(
            [PRODUCT, *words, *given], capture_output=True, text=True, timeout=60, check=True
        )
        assert secret not in done.stdout + done.stderr
    pids = subprocess.run(["pgrep", "-f", str(at_a_port.folder)], capture_output=True, check=False)
    for pid in pids.stdout.decode().split():
        assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert stat.S_IMODE((at_a_port.folder / "state" / "proxy-secret").stat().st_mode) == 0o600


def log_of_caddy(stack: Stack) -> str:
    return (stack.folder.parent / "caddy.log").read_text()


# A Caddy that runs on its own


@asynccontextmanager
async def running_caddy(folder: Path, port: int, config: Path, *more: str) -> AsyncIterator[None]:
    """Run a Caddy that belongs to no server, and wait until it listens at a port."""
    folder.mkdir(exist_ok=True)
    command: list[str | Path] = [PRODUCT.with_name("caddy"), "run", "--config", config, *more]
    home = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    async with Process("caddy", command, log=folder / "caddy.log", env=home) as caddy:
        await wait_port(port, process=caddy)
        yield


@asynccontextmanager
async def own_caddy(folder: Path, port: int, config: Path, *more: str) -> AsyncIterator[Entrypoint]:
    """Run a Caddy with an authority of its own."""
    async with running_caddy(folder, port, config, *more):
        root = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        await eventually(root.exists, "Caddy has made its root certificate")
        edge = Entrypoint(port, root=root)
        await eventually(lambda: has_certificate(edge), "Caddy has a certificate")
        yield edge


async def has_certificate(edge: Entrypoint) -> bool:
    try:
        (await edge.open(APP)).abort()
    except ssl.SSLError:
        return False
    return True


async def test_an_external_caddy_gets_the_secret_before_its_first_request(tmp_path: Path) -> None:
    admin = free_port()
    config = tmp_path / "caddy.json"
    config.write_text(
        json.dumps({"admin": {"listen": f"127.0.0.1:{admin}", "config": {"persist": False}}})
    )
    async with AsyncExitStack() as exits:
        await exits.enter_async_context(running_caddy(tmp_path / "caddy", admin, config))
        stack = await exits.enter_async_context(
            serving(
                tmp_path,
                {"trusted_proxies": None},
                mode="external",
                admin_api=f"http://127.0.0.1:{admin}",
                storage_dir=str(tmp_path / "stack" / "caddy" / "storage"),
            )
        )
        await works(stack)
        secret = secret_of(stack)
        # A request that waits in Caddy, because the server is down, has it already.
        for lost in (False, True):
            stack.server.send_signal(signal.SIGTERM)
            assert await stack.server.wait_exit() == 0
            if lost:
                (stack.folder / "state" / "proxy-secret").unlink()
            async with await stack.caddy.open(APP, patience=40) as client:
                waiting = asyncio.create_task(client.get("/any"))
                stack.server.start()
                # Caddy gives up the requests that wait when it gets another configuration.
                assert (await waiting).status in ((200, 502) if lost else (200,))
            await stack.wait_server()
            await stack.wait_agent(stack.agents["agent-1"])
            await works(stack)
        assert secret_of(stack) != secret


REFERENCE_HANDLER = """
{
  "handler": "reverse_proxy",
  "upstreams": [{"dial": "127.0.0.1:9443"}],
  "headers": {
    "request": {
      "set": {"Upgrade": ["{http.request.header.Upgrade}"], "Connection": ["upgrade"]}
    }
  },
  "handle_response": [
    {
      "match": {"status_code": [101]},
      "routes": [
        {
          "handle": [
            {
              "handler": "headers",
              "response": {"set": {"Connection": ["upgrade"], "Upgrade": ["websocket"]}}
            }
          ]
        }
      ]
    }
  ]
}
"""
"""The handler of the document that 0Trust was born from."""


def with_reference_handler(folder: Path, port: int, api: int) -> Path:
    """Write the configuration of a Caddy with that handler."""
    handler = json.loads(REFERENCE_HANDLER.replace("9443", str(api)))
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"match": [{"host": [APP]}], "handle": [handler]}],
        "automatic_https": {"disable_redirects": True},
    }
    document = {
        "admin": {"disabled": True},
        "apps": {
            "http": {"https_port": port, "servers": {"edge": server}},
            "tls": {"automation": {"policies": [{"issuers": [{"module": "internal"}]}]}},
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }
    file = folder / "reference.json"
    file.write_text(json.dumps(document))
    return file


def with_documented_caddyfile(folder: Path, port: int, api: int, secret: Path) -> Path:
    """Write the Caddyfile of docs/caddy.md, with the line for the secret."""
    text = (ROOT / "docs" / "caddy.md").read_text()
    shown, *others = re.findall(r"```caddyfile\n(.*?)```", text, re.DOTALL)
    (line,) = (one.strip() for one in others if "X-0Trust-Proxy-Secret" in one)
    options = ("admin off", "skip_install_trust", "local_certs", "auto_https disable_redirects")
    for before, after in (
        ("{\n", "{\n\t" + "\n\t".join(options) + "\n"),
        ("app.example.com, grafana.example.com {", f"https://{APP}:{port} {{\n\tbind 127.0.0.1"),
        ("127.0.0.1:9443", f"127.0.0.1:{api}"),
        ("\t\theader_up X-Real-IP", f"\t\t{line}\n\t\theader_up X-Real-IP"),
        ("/config/state/proxy-secret", str(secret)),
    ):
        assert before in shown, before
        shown = shown.replace(before, after, 1)
    file = folder / "Caddyfile"
    file.write_text(shown)
    return file


async def client_of(edge: Entrypoint) -> dict[str, list[str]]:
    """Return what the backend gets of a client of a Caddy."""
    async with await edge.open(APP, address=CLIENT) as client:
        return await seen(client, *(field for field in FORGED if field[0] != "X-Real-IP"))


async def test_a_caddy_of_ones_own(tmp_path: Path) -> None:
    """It needs no secret, unless the file says so."""
    reference, documented = free_port(), free_port()
    async with AsyncExitStack() as exits:
        origin = await exits.enter_async_context(Origin(tmp_path))
        stack = Stack(
            tmp_path / "stack",
            Authority(tmp_path / "pki"),
            agents={"agent-1": [service(APP, origin.port)]},
            with_caddy=False,
            sections={"api": {"trusted_proxies": None}},
        )
        await exits.enter_async_context(stack)
        secret, api = stack.folder / "state" / "proxy-secret", stack.api.port
        first = with_reference_handler(tmp_path, reference, api)
        second = with_documented_caddyfile(tmp_path, documented, api, secret)
        edges = [
            await exits.enter_async_context(own_caddy(tmp_path / "first", reference, first)),
            await exits.enter_async_context(
                own_caddy(tmp_path / "second", documented, second, "--adapter", "caddyfile")
            ),
        ]
        for edge in edges:
            assert told(await client_of(edge)) == ([CLIENT], [CLIENT], ["https"])
        path = stack.folder / "server.yaml"
        config = json.loads(path.read_text())
        config["api"]["trusted_proxies"] = []
        path.write_text(json.dumps(config))
        stack.server.send_signal(signal.SIGHUP)
        await stack.server.wait_line("configuration reloaded")
        assert await client_of(edges[0]) == {"status": ["301"]}
        assert told(await client_of(edges[1])) == ([CLIENT], [CLIENT], ["https"])
