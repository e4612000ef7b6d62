"""Run Caddy, server, agent and a small private service on this machine, until Ctrl-C.

The demo uses the commands of a real set-up in one temporary folder, and removes the folder at the
end. `ZEROTRUST_DEMO_PORT` sets the port of the page; the default is 8443, or else a free one.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.children import Child, Children, DemoError

HOST: Final = "demo.localhost"
AUTH_HOST: Final = "auth.demo.localhost"
ADMIN_HOST: Final = "admin.demo.localhost"
PREFERRED_PORT: Final = 8443
READY_TIMEOUT: Final = 60.0
FOLDER_BYTES: Final = 85
"""The sockets of Caddy and server are below the folder; the system allows 107 bytes for a path."""
COMMAND: Final = Path(sys.executable).with_name("0trust")

SERVER_YAML: Final = """\
server:
  listen_addr: "127.0.0.1:{tunnel}"
  public_addr: "localhost:{tunnel}"
  cert_file: "{folder}/certs/server.crt"
  key_file: "{folder}/certs/server.key"
  ca_file: "{folder}/certs/ca.crt"
authority:
  cert_file: "{folder}/certs/issuer.crt"
  key_file: "{folder}/certs/issuer.key"
grants:
  demo-agent: ["{host}"]
access:
  auth_host: "{auth_host}"
  admin_host: "{admin_host}"
  admins: [{{ group: admins }}]
  rules:
    - {{ hosts: ["{host}"], allow: anyone }}
caddy:
  mode: managed
  config_dir: "{folder}/caddy"
  bind: ["127.0.0.1"]
  http_port: 0
  https_port: {https}
  permission_addr: "127.0.0.1:{permission}"
"""

AGENT_YAML: Final = """\
agent:
  id: "demo-agent"
server:
  address: "127.0.0.1:{tunnel}"
  server_name: "localhost"
  ca_cert: "{folder}/certs/ca.crt"
  cert: "{folder}/certs/demo-agent.crt"
  key: "{folder}/certs/demo-agent.key"
services:
  - id: "demo"
    hostname: "{host}"
    websocket: true
    upstreams:
      - address: "127.0.0.1:{backend}"
    access:
      inspection: payload
"""

RUNNING: Final = """\

The 0Trust demo is running.

  Caddy      127.0.0.1:{https:<6} public edge, with a TLS certificate of its own authority
  server     127.0.0.1:{tunnel:<6} agents connect here; a unix socket gets requests from Caddy
  agent      demo-agent       connects to the server with its certificate; has no open port
  backend    127.0.0.1:{backend:<6} the private service: a page and its WebSockets

Open this page. The browser warns once, because it does not know Caddy's root certificate:

  https://{host}:{https}/

The dashboard shows agents, services and people. This link signs you in as its administrator, once,
within 10 minutes; then open the dashboard:

  {link}
  https://{admin_host}:{https}/

Another link: {command} user invite admin --sign-in --config {folder}/server.yaml

Or use curl. The second command upgrades to a WebSocket and prints "101 Switching Protocols":

  curl --cacert {root} https://{host}:{https}/

  curl -sv --http1.1 --max-time 3 -o /dev/null --cacert {root} \\
    -H 'Connection: Upgrade' -H 'Upgrade: websocket' \\
    -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H 'Sec-WebSocket-Version: 13' \\
    https://{host}:{https}/

Caddy's root certificate: {root}
Configuration and logs:   {folder}
Ctrl-C stops everything and removes the folder.
"""


@dataclass(frozen=True)
class Plan:
    """Folder and ports of one run."""

    folder: Path
    https: int
    tunnel: int
    permission: int
    backend: int

    def fill(self, template: str, **more: str) -> str:
        return template.format(
            **vars(self),
            **more,
            host=HOST,
            auth_host=AUTH_HOST,
            admin_host=ADMIN_HOST,
            root=self.root,
            command=COMMAND,
        )

    @property
    def root(self) -> Path:
        return self.folder / "caddy" / "storage" / "pki" / "authorities" / "local" / "root.crt"


def is_free(port: int) -> bool:
    """Return True if the port is free, for TCP and for UDP (HTTP/3)."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_ports(count: int) -> list[int]:
    """Return distinct free ports, below the range of outgoing connections."""
    free = [port for port in random.sample(range(20000, 32000), 200) if is_free(port)]
    if len(free) < count:
        raise DemoError("no free TCP ports between 20000 and 32000 on 127.0.0.1")
    return free[:count]


def page_port() -> int:
    wish = os.environ.get("ZEROTRUST_DEMO_PORT")
    if not wish:
        return PREFERRED_PORT if is_free(PREFERRED_PORT) else free_ports(1)[0]
    if not (wish.isascii() and wish.isdigit() and 0 < int(wish) < 65536):
        raise DemoError(
            f'ZEROTRUST_DEMO_PORT is "{wish}"; it must be a port number, for example 8443'
        )
    if not is_free(int(wish)):
        raise DemoError(
            f"port {wish} on 127.0.0.1 is in use or not permitted; stop the program that uses it,"
            " or choose another: ZEROTRUST_DEMO_PORT=9000 make demo"
        )
    return int(wish)


async def prepare(plan: Plan, children: Children) -> None:
    """Create the certificates, by the commands of the product, and the configuration files."""
    certs = plan.folder / "certs"
    await children.run(COMMAND, "ca", "init", "--dir", certs)
    names = ("--dns", "localhost", "--ip", "127.0.0.1")
    await children.run(COMMAND, "ca", "issue", "server", "server", "--dir", certs, *names)
    await children.run(COMMAND, "ca", "issue", "agent", "demo-agent", "--dir", certs)
    (plan.folder / "server.yaml").write_text(plan.fill(SERVER_YAML))
    (plan.folder / "agent.yaml").write_text(plan.fill(AGENT_YAML))


async def start(plan: Plan, children: Children) -> list[Child]:
    backend = [sys.executable, "-m", "demo.backend", "--port", str(plan.backend)]
    return [
        await children.start("demo backend", *backend),
        await children.start(
            "server", COMMAND, "server", "run", "--config", plan.folder / "server.yaml"
        ),
        await children.start(
            "agent", COMMAND, "agent", "run", "--config", plan.folder / "agent.yaml"
        ),
    ]


async def administrator_link(plan: Plan, children: Children) -> str:
    """Return a link that signs in as the administrator of the dashboard."""
    config = ("--config", plan.folder / "server.yaml")
    wanted = ("user", "invite", "admin", "--group", "admins", "--sign-in")
    return (await children.run(COMMAND, *wanted, *config)).split()[-1]


async def answers(plan: Plan) -> bool:
    """Return True if the service answers through all hops, with a certificate of Caddy's root."""
    trust = ssl.create_default_context(cafile=plan.root)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", plan.https, ssl=trust, server_hostname=HOST
    )
    try:
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        return b" 200 " in await reader.readline()
    finally:
        writer.transport.abort()


async def become_ready(plan: Plan, processes: list[Child]) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            while True:
                with contextlib.suppress(OSError):
                    if await answers(plan):
                        return
                await asyncio.sleep(0.1)
    except TimeoutError:
        logs = "\n".join(f"  {child.name}:\n{child.tail()}" for child in processes)
        raise DemoError(
            f"not ready after {READY_TIMEOUT:.0f} s; the last lines of each:\n{logs}"
        ) from None


async def serve(plan: Plan, children: Children) -> None:
    """Run the demo until it is cancelled.

    Raises:
        DemoError: a process ended, or the demo did not become ready.
    """
    await prepare(plan, children)
    processes = await start(plan, children)
    death = asyncio.create_task(children.first_death())
    ready = asyncio.create_task(become_ready(plan, processes))
    try:
        done, _ = await asyncio.wait((death, ready), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        print(plan.fill(RUNNING, link=await administrator_link(plan, children)), flush=True)
        await death
    finally:
        death.cancel()
        ready.cancel()


async def run(folder: Path) -> None:
    """Run the demo until a signal arrives."""
    if len(os.fsencode(folder)) > FOLDER_BYTES:
        raise DemoError(
            f"the path of the temporary folder is too long for a socket ({folder}); set TMPDIR to a"
            " shorter one"
        )
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    https = page_port()
    plan = Plan(folder, https, *[port for port in free_ports(4) if port != https][:3])
    async with Children(folder) as children:
        serving = asyncio.create_task(serve(plan, children))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if serving.done():
            serving.result()
        print("\nStopping.", flush=True)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def main() -> None:
    if not COMMAND.exists():
        sys.exit(f"demo: {COMMAND} is missing; `make demo` installs it")
    try:
        folder = Path(tempfile.mkdtemp(prefix="0trust-demo-"))
    except OSError as error:
        sys.exit(
            f"demo: cannot make a temporary folder ({error}); set TMPDIR to one that can be written"
        )
    try:
        asyncio.run(run(folder))
    except (DemoError, OSError) as error:
        sys.exit(f"demo: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
