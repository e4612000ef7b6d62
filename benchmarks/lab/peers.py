"""Other tunnels to compare with: how each is configured and started, and how it tells its version.

Each of them publishes the same backends on ports of this machine, and has a Caddy of its own in
front. The tunnel is encrypted where the program can do that with keys of this run.
"""

import asyncio
import base64
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from benchmarks.lab.loopback import ADDRESS, free_port, wait_port
from benchmarks.lab.openssh import ssh
from benchmarks.lab.plan import Part, Plan
from benchmarks.lab.processes import Processes
from zerotrust.errors import BenchError

_VERSION: Final = re.compile(r"(?<![0-9.:])[0-9]+(?:\.[0-9]+)+(?:p[0-9]+)?(?![0-9A-Za-z.])")
"""A version, and no part of a time: rathole prints the time of its build first."""
_VERSION_TIMEOUT: Final = 10.0
_TOKEN: Final = "bench"  # noqa: S105 - it protects nothing: all listeners are on loopback
_OTHER_PLACES: Final = "/usr/sbin:/usr/local/sbin"
"""Folders of programs that are not in a user's PATH, for sshd."""


@dataclass(frozen=True, kw_only=True)
class PeerProgram:
    """A tunnel to compare with.

    Attributes:
        programs: names of its executables; without all of them it is left out.
        version: arguments of the first executable that print the version.
        plan: writes the configuration into a folder, and returns the processes to start. Its
            arguments are the folder, the path of each executable, and the backends' ports by host
            name.
    """

    name: str
    programs: tuple[str, ...]
    version: tuple[str, ...]
    plan: Callable[[Path, Mapping[str, str], Mapping[str, int]], Plan]


async def start(
    peer: PeerProgram, processes: Processes, backends: Mapping[str, int]
) -> tuple[str, dict[str, int]]:
    """Start a peer; return its name with its version, and the port of each host name.

    Raises:
        BenchError: a program is not installed, or has failed.
    """
    programs = {name: _locate(name) for name in peer.programs}
    version = await _version([programs[peer.programs[0]], *peer.version])
    folder = processes.folder / f"peer-{peer.name.replace(' ', '-')}"
    folder.mkdir(mode=0o700)
    plan = peer.plan(folder, programs, backends)
    for part in plan.parts:
        child = await processes.start(f"{peer.name} {part.name}", part.command)
        for port in part.opens:
            await wait_port(port, child)
    return f"{peer.name} {version}", dict(plan.hosts)


def _locate(program: str) -> str:
    """Return the absolute path of a program: sshd refuses to start by a relative one."""
    found = shutil.which(program) or shutil.which(program, path=_OTHER_PLACES)
    if found is None:
        raise BenchError(f"{program} is not installed")
    return found


async def _version(command: list[str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(_VERSION_TIMEOUT):
            told, _ = await process.communicate()
    except (OSError, TimeoutError) as error:
        raise BenchError(f"{command[0]} does not tell its version: {error}") from error
    found = _VERSION.search(told.decode(errors="replace"))
    return found[0] if found else "of unknown version"


# ---- the programs


def _chisel(folder: Path, programs: Mapping[str, str], backends: Mapping[str, int]) -> Plan:
    """SSH in a WebSocket; it is always encrypted."""
    port, hosts = free_port(), {host: free_port() for host in backends}
    server = (programs["chisel"], "server", "--reverse", "--host", ADDRESS, "--port", str(port))
    forwards = [f"R:{ADDRESS}:{hosts[host]}:{ADDRESS}:{to}" for host, to in backends.items()]
    client = (programs["chisel"], "client", f"http://{ADDRESS}:{port}", *forwards)
    return Plan(
        (Part("server", server, (port,)), Part("client", client, tuple(hosts.values()))), hosts
    )


def _frp(folder: Path, programs: Mapping[str, str], backends: Mapping[str, int]) -> Plan:
    """TCP proxies over TLS, its default."""
    port, hosts = free_port(), {host: free_port() for host in backends}
    auth = {"token": _TOKEN}
    server = {"bindAddr": ADDRESS, "bindPort": port, "proxyBindAddr": ADDRESS, "auth": auth}
    proxies = [
        {
            "name": host,
            "type": "tcp",
            "localIP": ADDRESS,
            "localPort": to,
            "remotePort": hosts[host],
        }
        for host, to in backends.items()
    ]
    client = {"serverAddr": ADDRESS, "serverPort": port, "auth": auth, "proxies": proxies}
    return Plan(
        (
            Part("server", (programs["frps"], "-c", _json(folder / "frps.json", server)), (port,)),
            Part(
                "client",
                (programs["frpc"], "-c", _json(folder / "frpc.json", client)),
                tuple(hosts.values()),
            ),
        ),
        hosts,
    )


def _piko(folder: Path, programs: Mapping[str, str], backends: Mapping[str, int]) -> Plan:
    """An HTTP proxy that selects the endpoint by the first label of the host name.

    Its tunnel is not encrypted here: TLS needs a certificate that the agent's system trusts.
    """
    proxy, upstream, admin, gossip, agent = (free_port() for _ in range(5))
    server = {
        "proxy": {"bind_addr": f"{ADDRESS}:{proxy}"},
        "upstream": {"bind_addr": f"{ADDRESS}:{upstream}"},
        "admin": {"bind_addr": f"{ADDRESS}:{admin}"},
        "gossip": {"bind_addr": f"{ADDRESS}:{gossip}"},
        "log": {"level": "warn"},
    }
    listeners = [
        {"endpoint_id": host.partition(".")[0], "addr": f"{ADDRESS}:{to}"}
        for host, to in backends.items()
    ]
    client = {
        "listeners": listeners,
        "connect": {"url": f"http://{ADDRESS}:{upstream}"},
        "server": {"bind_addr": f"{ADDRESS}:{agent}"},
        "log": {"level": "warn"},
    }
    program = programs["piko"]
    first = (program, "server", "--config.path", _json(folder / "server.yaml", server))
    second = (program, "agent", "start", "--config.path", _json(folder / "agent.yaml", client))
    return Plan(
        (Part("server", first, (proxy, upstream)), Part("agent", second, (agent,))),
        dict.fromkeys(backends, proxy),
    )


def _rathole(folder: Path, programs: Mapping[str, str], backends: Mapping[str, int]) -> Plan:
    """TCP services over Noise."""
    port, hosts = free_port(), {host: free_port() for host in backends}
    private, public = _noise_keys()
    (folder / "server.toml").write_text(
        f'[server]\nbind_addr = "{ADDRESS}:{port}"\ndefault_token = "{_TOKEN}"\n'
        '[server.transport]\ntype = "noise"\n[server.transport.noise]\n'
        f'local_private_key = "{private}"\n'
        + "".join(
            f'[server.services."{host}"]\nbind_addr = "{ADDRESS}:{hosts[host]}"\n'
            for host in backends
        )
    )
    (folder / "client.toml").write_text(
        f'[client]\nremote_addr = "{ADDRESS}:{port}"\ndefault_token = "{_TOKEN}"\n'
        '[client.transport]\ntype = "noise"\n[client.transport.noise]\n'
        f'remote_public_key = "{public}"\n'
        + "".join(
            f'[client.services."{host}"]\nlocal_addr = "{ADDRESS}:{to}"\n'
            for host, to in backends.items()
        )
    )
    program = programs["rathole"]
    return Plan(
        (
            Part("server", (program, "--server", str(folder / "server.toml")), (port,)),
            Part(
                "client",
                (program, "--client", str(folder / "client.toml")),
                tuple(hosts.values()),
            ),
        ),
        hosts,
    )


SSH: Final = PeerProgram(name="ssh -R", programs=("ssh", "sshd"), version=("-V",), plan=ssh)
PEERS: Final = (
    PeerProgram(name="chisel", programs=("chisel",), version=("--version",), plan=_chisel),
    PeerProgram(name="frp", programs=("frps", "frpc"), version=("--version",), plan=_frp),
    PeerProgram(name="piko", programs=("piko",), version=("--version",), plan=_piko),
    PeerProgram(name="rathole", programs=("rathole",), version=("--version",), plan=_rathole),
)


def _json(path: Path, content: object) -> str:
    """Write JSON, which all YAML parsers read too; return the path."""
    path.write_text(json.dumps(content))
    return str(path)


def _noise_keys() -> tuple[str, str]:
    """Return a new private key and its public key, in base64."""
    key = x25519.X25519PrivateKey.generate()
    raw = serialization.Encoding.Raw
    private = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    return base64.b64encode(private).decode(), base64.b64encode(public).decode()
