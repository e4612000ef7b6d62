"""Tests of benchmarks.lab.peers."""

import base64
import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519

from benchmarks.lab.loopback import free_port
from benchmarks.lab.peers import PEERS, SSH, PeerProgram, start
from benchmarks.lab.plan import Part, Plan
from benchmarks.lab.processes import Processes
from zerotrust.errors import BenchError

pytestmark = pytest.mark.anyio

BACKENDS = {"web.localhost": 1001, "stream.localhost": 1002}

FAKE = """\
#!{python}
import socket, sys
if sys.argv[1:] == ["--version"]:
    sys.exit("fake tunnel, built 2026-11-30T11:56:34.80Z: v1.22.3-rc1 (go1.99)")
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True: listening.accept()
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def install(programs: Path, name: str, text: str) -> None:
    path = programs / name
    path.write_text(text)
    path.chmod(0o755)


def fake(plan_port: int) -> PeerProgram:
    def plan(folder: Path, found: Mapping[str, str], backends: Mapping[str, int]) -> Plan:
        command = (found["fake-tunnel"], str(plan_port))
        return Plan((Part("server", command, (plan_port,)),), dict.fromkeys(backends, plan_port))

    return PeerProgram(name="fake", programs=("fake-tunnel",), version=("--version",), plan=plan)


async def test_a_peer_is_started_and_named_with_its_version(programs: Path, tmp_path: Path) -> None:
    install(programs, "fake-tunnel", FAKE.format(python=sys.executable))
    port = free_port()
    async with Processes(tmp_path) as processes:
        name, hosts = await start(fake(port), processes, BACKENDS)
    assert name == "fake 1.22.3"
    assert hosts == dict.fromkeys(BACKENDS, port)


async def test_a_peer_that_is_not_installed(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        with pytest.raises(BenchError, match=r"^fake-tunnel is not installed$"):
            await start(fake(1), processes, BACKENDS)


async def test_a_peer_that_fails(programs: Path, tmp_path: Path) -> None:
    install(programs, "fake-tunnel", "#!/bin/sh\necho no such option\nexit 1\n")
    async with Processes(tmp_path) as processes:
        with pytest.raises(BenchError, match="fake server has ended with status 1: no such option"):
            await start(fake(free_port()), processes, BACKENDS)


@pytest.mark.parametrize("peer", [SSH, *PEERS], ids=lambda peer: peer.name)
def test_each_plan_publishes_all_backends(peer: PeerProgram, tmp_path: Path) -> None:
    plan = peer.plan(tmp_path, {name: f"/bin/{name}" for name in peer.programs}, BACKENDS)
    assert plan.hosts.keys() == BACKENDS.keys()
    assert {part.command[0] for part in plan.parts} == {f"/bin/{name}" for name in peer.programs}
    opened = [port for part in plan.parts for port in part.opens]
    assert set(plan.hosts.values()) <= set(opened)
    said = [word for part in plan.parts for word in part.command]
    said += [
        path.read_text()
        for path in tmp_path.iterdir()
        if path.suffix in (".json", ".toml", ".yaml")
    ]
    for port in (*BACKENDS.values(), *opened):
        assert any(str(port) in text for text in said)


def test_the_keys_of_noise_belong_together(tmp_path: Path) -> None:
    (rathole,) = (peer for peer in PEERS if peer.name == "rathole")
    rathole.plan(tmp_path, {"rathole": "/bin/rathole"}, BACKENDS)
    server, client = (
        tomllib.loads((tmp_path / f"{end}.toml").read_text())[end] for end in ("server", "client")
    )
    assert server["services"].keys() == client["services"].keys() == BACKENDS.keys()
    private = base64.b64decode(server["transport"]["noise"]["local_private_key"])
    public = base64.b64decode(client["transport"]["noise"]["remote_public_key"])
    assert x25519.X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == (
        public
    )


def test_frp_has_one_proxy_for_each_backend(tmp_path: Path) -> None:
    (frp,) = (peer for peer in PEERS if peer.name == "frp")
    plan = frp.plan(tmp_path, {"frps": "/bin/frps", "frpc": "/bin/frpc"}, BACKENDS)
    client = json.loads((tmp_path / "frpc.json").read_text())
    assert {
        proxy["name"]: (proxy["localPort"], proxy["remotePort"]) for proxy in client["proxies"]
    } == {host: (port, plan.hosts[host]) for host, port in BACKENDS.items()}
