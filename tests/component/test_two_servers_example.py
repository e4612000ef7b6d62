"""Test of the example with two servers and two agents: its files run as processes."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.databases import Cluster
from tests.support.entrypoint import Entrypoint
from tests.support.ports import free_port
from tests.support.processes import PRODUCT, ROOT, Process, wait_port
from tests.support.recording_backend import RecordingBackend
from tests.support.stack import Authority
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.component,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("servers"),
    pytest.mark.slow,
]

SOURCE = ROOT / "examples" / "two-servers"
APP = "app.localhost"
BOTH = (1, 2)


def compose() -> dict[str, Any]:
    """The compose file."""
    read: dict[str, Any] = yaml.safe_load((SOURCE / "compose.yaml").read_text())
    return read


@dataclass
class Edge:
    """The processes, by number, and a copy of the example's folders."""

    folder: Path
    servers: dict[int, Process]
    agents: dict[int, Process]
    entrypoints: dict[int, Entrypoint]
    backends: dict[int, RecordingBackend]

    async def serves(self, *numbers: int) -> None:
        """Wait until these servers serve the application."""

        async def all_do() -> bool:
            try:
                answers = [await self.entrypoints[number].get(APP, "/") for number in numbers]
            except OSError:  # Caddy has no certificate before an agent serves the name
                return False
            return [one.status for one in answers] == [200] * len(numbers)

        await eventually(all_do, f"servers {numbers} serve it", 30)

    def command(self, name: str, *words: str) -> str:
        """Run a command in the container of this name, which is a folder here."""
        done = subprocess.run(
            [PRODUCT, *words],
            cwd=self.folder / name,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def server_text(number: int, tunnels: dict[int, int], https: int, storage: Path) -> str:
    """server.yaml of a server, with ports of this machine and its folder for certificates."""
    edge = f'caddy:\n  bind: ["127.0.0.1"]\n  http_port: 0\n  https_port: {https}\n'
    edge += f'  permission_addr: "127.0.0.1:{free_port()}"\n'
    text = (SOURCE / f"server-{number}" / "server.yaml").read_text()
    places = {
        '":8443"': f'"127.0.0.1:{tunnels[number]}"',
        f"server-{number}.example.com:8443": f"localhost:{tunnels[number]}",
        "caddy:\n": edge,
        "/storage": str(storage),
    }
    for before, after in places.items():
        assert before in text
        text = text.replace(before, after)
    return text


def copy_example(folder: Path, authority: Authority, database: str, backends: list[int]) -> Edge:
    """Copy the example; addresses, ports and host names differ."""
    tunnels = {number: free_port() for number in BOTH}
    made = Edge(folder, {}, {}, {}, {})
    storage = folder / "storage"
    for number in BOTH:
        own, https = folder / f"server-{number}", free_port()
        (own / "certs").mkdir(parents=True)
        names = authority.server(f"server-{number}.example.com")
        for file in (authority.root, *authority.issuer, *names):
            shutil.copy(file, own / "certs" / file.name)
        (own / "database-url").write_text(database)
        (own / "server.yaml").write_text(server_text(number, tunnels, https, storage))
        agent = folder / f"agent-{number}"
        agent.mkdir()
        text = (SOURCE / f"agent-{number}" / "agent.yaml").read_text()
        text = text.replace(f"server-{number}.example.com:8443", f"localhost:{tunnels[number]}")
        text = text.replace("app:80", f"127.0.0.1:{backends[number - 1]}")
        (agent / "agent.yaml").write_text(text.replace("app.example.com", APP))
        for role, processes in (("server", made.servers), ("agent", made.agents)):
            where = folder / f"{role}-{number}"
            words: list[str | Path] = [PRODUCT, role, "run", "--config", where / f"{role}.yaml"]
            processes[number] = Process(f"{role}-{number}", words, log=where / f"{role}.log")
        made.entrypoints[number] = Entrypoint(https)
    return made


async def start(edge: Edge, root: Path) -> None:
    """Start the servers, let the agents join at one of them, and start these."""
    for number in BOTH:  # in turn: Caddys that share a folder must not both make the root there
        edge.servers[number].start()
        port = edge.entrypoints[number].port
        await wait_port(port, process=edge.servers[number], timeout=60)
        await eventually(root.exists, "Caddy has made its root certificate", 60)
        edge.entrypoints[number] = Entrypoint(port, root=root)
    for number in BOTH:
        create = ("tokens", "create", "--agent", f"agent-{number}", "--host", APP)
        token = await asyncio.to_thread(edge.command, "server-1", *create, "-c", "server.yaml")
        join = ("agent", "join", token.strip(), "--force", "--dir", ".")
        await asyncio.to_thread(edge.command, f"agent-{number}", *join)
        edge.agents[number].start()
    for number in BOTH:
        await edge.agents[number].wait_line("(service registered(.*\n)*.*){2}", timeout=60)


@pytest.fixture(scope="module")
async def edge(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> AsyncIterator[Edge]:
    folder = tmp_path_factory.mktemp("two-servers")
    backends = {number: RecordingBackend(f"app-{number}") for number in BOTH}
    cluster = Cluster()
    processes: list[Process] = []
    try:
        for backend in backends.values():
            await backend.start()
        ports = [backend.port for backend in backends.values()]
        made = copy_example(folder, authority, cluster.migrated(), ports)
        made.backends = backends
        processes += [*made.agents.values(), *made.servers.values()]
        await start(made, folder / "storage" / "pki" / "authorities" / "local" / "root.crt")
        yield made
    finally:
        await asyncio.gather(*(process.stop() for process in processes))
        await asyncio.gather(*(backend.stop() for backend in backends.values()))
        cluster.close()


def test_the_compose_file_starts_what_the_files_name() -> None:
    services = compose()["services"]
    assert set(services) == {"server-1", "server-2", "database", "agent-1", "agent-2", "app"}
    for name in ("server-1", "server-2", "agent-1", "agent-2"):
        assert services[name]["command"] == [name.partition("-")[0], "run"]
        assert f"./{name}:/config" in services[name]["volumes"]
        assert (SOURCE / name).is_dir()
    for number in BOTH:
        name = f"server-{number}"
        server = yaml.safe_load((SOURCE / name / "server.yaml").read_text())
        (alias,) = services[name]["networks"]["default"]["aliases"]
        assert server["server"]["member_addr"] == f"{alias}:8443"
        assert f"./storage:{server['caddy']['storage_dir']}" in services[name]["volumes"]
        ports = [re.sub(r"\$\{ADDRESS_\d:-[^}]*\}:", "", port) for port in services[name]["ports"]]
        assert ports == ["80:80", "443:443", "443:443/udp", "8443:8443"]
    agents = [
        yaml.safe_load((SOURCE / f"agent-{number}" / "agent.yaml").read_text()) for number in BOTH
    ]
    assert [agent["server"]["address"] for agent in agents] == [
        f"server-{number}.example.com:8443" for number in BOTH
    ]
    assert agents[0]["services"] == agents[1]["services"]


async def test_what_is_left_goes_on(edge: Edge) -> None:
    await edge.serves(*BOTH)
    members = edge.command("server-2", "server", "members", "--config", "server.yaml")
    assert len(members.splitlines()) == 3
    status = edge.command("agent-2", "agent", "status", "--config", "agent.yaml")
    assert "FURTHER SERVER" in status
    assert "connected" in status

    edge.servers[1].kill()
    socket = await edge.entrypoints[2].websocket(APP)
    await edge.agents[1].stop()
    await edge.serves(2)
    bodies = {(await edge.entrypoints[2].get(APP, "/")).body for _ in range(4)}
    assert bodies == {b"app-2"}
    await socket.close()

    edge.servers[1].start()
    await wait_port(edge.entrypoints[1].port, process=edge.servers[1], timeout=60)
    await edge.serves(*BOTH)
