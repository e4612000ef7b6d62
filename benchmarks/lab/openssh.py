"""`ssh -R` with an sshd and a client of our own, as a tunnel to compare with.

Keys are temporary, ports are unprivileged, and the user's configuration is not read.
"""

import os
import pwd
import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from benchmarks.lab.loopback import ADDRESS, free_port, wait_port
from benchmarks.lab.processes import Processes
from zerotrust.errors import BenchError

_SSHD_CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding remote
LogLevel ERROR
"""


async def start(processes: Processes, ports: Mapping[str, int]) -> dict[str, int]:
    """Forward local ports through ssh; return the forwarded port of each name.

    Raises:
        BenchError: OpenSSH is not installed or failed.
    """
    sshd, ssh = _program("sshd"), _program("ssh")
    folder = processes.folder / "ssh"
    folder.mkdir(mode=0o700)
    host_key, port = _make_key(folder / "host"), free_port()
    _make_key(folder / "user")
    (folder / "known_hosts").write_text(f"[{ADDRESS}]:{port} {host_key}\n")
    config = folder / "sshd_config"
    config.write_text(_SSHD_CONFIG.format(address=ADDRESS, port=port, folder=folder))
    server = await processes.start("sshd", [sshd, "-D", "-e", "-f", config])
    await wait_port(port, server)
    forwarded = {name: free_port() for name in ports}
    options = [
        f"-oUserKnownHostsFile={folder}/known_hosts",
        "-oBatchMode=yes",
        "-oExitOnForwardFailure=yes",
    ]
    for name, target in ports.items():
        options.append(f"-R{ADDRESS}:{forwarded[name]}:{ADDRESS}:{target}")
    user = pwd.getpwuid(os.geteuid()).pw_name
    command: list[str | Path] = [
        ssh,
        "-F",
        "none",
        "-N",
        "-T",
        "-i",
        folder / "user",
        "-p",
        str(port),
        *options,
        f"{user}@{ADDRESS}",
    ]
    client = await processes.start("ssh", command)
    for far in forwarded.values():
        await wait_port(far, client)
    return forwarded


def _program(name: str) -> str:
    """Return the absolute path of a program: sshd refuses to start by a relative one."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchError(f"OpenSSH's {name} is not installed")
    return found


def _make_key(path: Path) -> str:
    """Write a new key pair; return the public key."""
    key = ed25519.Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path.with_suffix(".pub").write_bytes(public + b"\n")
    return public.decode()
